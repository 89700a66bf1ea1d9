//! ExecutionStatus: every field, while it runs and afterwards.

use serde_json::{Value, json};

use crate::support::{Function, Gate, Server};

const FIELDS: [&str; 15] = [
    "executionId",
    "functionName",
    "status",
    "attempt",
    "output",
    "error",
    "lastError",
    "coldStart",
    "initDurationMs",
    "createdAtMillis",
    "dispatchedAtMillis",
    "startedAtMillis",
    "finishedAtMillis",
    "startedAt",
    "finishedAt",
];

#[track_caller]
fn expect_fields(status: &Value) {
    let keys: Vec<_> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, FIELDS, "{status}");
}

fn millis(status: &Value, field: &str) -> i64 {
    status[field].as_i64().unwrap_or_else(|| panic!("{field} in {status}"))
}

#[track_caller]
fn expect_same_instant(status: &Value, text: &str, ms: &str) {
    let instant: jiff::Timestamp = status[text].as_str().expect("text").parse().expect("RFC 3339");
    assert_eq!(instant.as_millisecond(), millis(status, ms), "{status}");
}

#[test]
fn every_field_of_a_status() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!({ "x": 1 }));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let enqueue = || {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
        response.json()["executionId"].as_str().expect("an id").to_owned()
    };
    let before = jiff::Timestamp::now().as_millisecond();
    let (running, queued) = (enqueue(), enqueue());
    gate.await_arrivals(1);

    let status = server.execution(&queued);
    expect_fields(&status);
    assert_eq!((&status["status"], &status["functionName"]), (&json!("queued"), &json!("f")));
    for field in ["output", "error", "lastError", "initDurationMs", "dispatchedAtMillis", "startedAtMillis"] {
        assert_eq!(status[field], Value::Null, "{field} in {status}");
    }

    let response = server.get(&format!("/v1/executions/{running}"));
    assert_eq!(response.header("x-execution-id"), Some(running.as_str()));
    let status = response.json();
    expect_fields(&status);
    assert_eq!((&status["executionId"], &status["status"]), (&json!(running), &json!("running")));
    assert_eq!((&status["attempt"], &status["coldStart"]), (&json!(1), &json!(false)));
    expect_same_instant(&status, "startedAt", "startedAtMillis");
    for field in ["output", "error", "lastError", "finishedAtMillis", "finishedAt"] {
        assert_eq!(status[field], Value::Null, "{field} in {status}");
    }

    gate.open();
    let status = server.ended(&running);
    expect_fields(&status);
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!({ "x": 1 })));
    expect_same_instant(&status, "startedAt", "startedAtMillis");
    expect_same_instant(&status, "finishedAt", "finishedAtMillis");
    let times = ["createdAtMillis", "dispatchedAtMillis", "startedAtMillis", "finishedAtMillis"];
    let mut times: Vec<_> = times.iter().map(|field| millis(&status, field)).collect();
    times.insert(0, before);
    times.push(jiff::Timestamp::now().as_millisecond());
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(server.ended(&queued)["status"], "success");
}
