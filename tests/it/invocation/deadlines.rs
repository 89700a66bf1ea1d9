//! Deadlines of callers: 408 with the stage at which they passed, and what becomes of the execution.

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Response, Server, eventually, pace};

/// Checks the envelope of a 408; the execution's id.
#[track_caller]
fn expect_timeout(response: &Response, stage: &str, limit_ms: u32) -> String {
    assert_eq!(response.status, 408, "{}", response.text());
    let body = response.json();
    let id = response.header("x-execution-id").expect("an id");
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains(&format!("{limit_ms} ms")), "{message}");
    let error = json!({ "code": "TIMEOUT", "message": message, "stage": stage });
    let expected = json!({ "executionId": id, "status": "timeout", "output": null, "error": error });
    assert_eq!(response.text(), expected.to_string());
    id.to_owned()
}

fn held() -> (Gate, Function) {
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!("late"));
    (gate, function)
}

#[test]
fn when_attempt_and_deadline_end_together_the_caller_gets_408() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "timeoutMs": 150, "maxRetries": 3 }));
    let id = expect_timeout(&server.invoke("f", json!(1)), "function", 150);
    let status = server.execution(&id);
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("timeout"), &json!("TIMEOUT")));
    assert_eq!(status["attempt"], 1);
    assert_eq!(server.metric("function_timeout_total{function=\"f\"}"), 1.0);
    // The attempt's time was over as well: its slot is free although the function never answers.
    eventually("the slot comes back", || server.metric("function_in_flight{function=\"f\"}") == 0.0);
    gate.open();
    assert_eq!(function.calls(), 1);
}

#[test]
fn the_slot_of_a_call_whose_caller_left_is_held_until_the_function_answers() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let response = server.begin("f", &[("x-timeout-ms", "100")], json!(1)).read().expect("an answer");
    let id = expect_timeout(&response, "function", 100);
    assert_eq!(server.metric("function_in_flight{function=\"f\"}"), 1.0);
    let next = server.begin("f", &[("x-timeout-ms", "100")], json!(1)).read().expect("an answer");
    expect_timeout(&next, "queue", 100);
    gate.open();
    eventually("the slot comes back", || server.metric("function_in_flight{function=\"f\"}") == 0.0);
    // What came late changed nothing, and was counted.
    let status = server.execution(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("timeout"), &Value::Null));
    assert_eq!(server.metric("function_late_completion_total{function=\"f\"}"), 1.0);
    assert_eq!(server.invoke("f", json!(1)).json()["output"], "late");
    assert_eq!(function.calls(), 2, "what timed out in the queue was called");
}

#[test]
fn a_deadline_that_passes_in_the_queue_frees_the_place() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 1 }));
    let mut running = server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    for _ in 0..3 {
        let response = server.begin("f", &[("x-timeout-ms", "60")], json!(1)).read().expect("an answer");
        let status = server.execution(&expect_timeout(&response, "queue", 60));
        assert_eq!(status["status"], "timeout");
        assert_eq!((&status["dispatchedAtMillis"], &status["startedAt"]), (&Value::Null, &Value::Null));
        assert!(status["finishedAtMillis"].is_u64(), "{status}");
    }
    assert_eq!(server.metric("function_queue_depth{function=\"f\"}"), 0.0);
    assert_eq!(server.metric("function_queue_rejected_total{function=\"f\"}"), 0.0);
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
    assert_eq!(function.calls(), 1);
}

#[test]
fn a_call_that_was_never_sent_is_in_stage_dispatch() {
    // It takes the connection and never says a word: the TLS handshake does not end.
    let function = Function::raw(|stream| {
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let server = Server::start(&["http-client.max-connections-per-endpoint=1"]);
    let url = format!("https://{}/invoke", function.address);
    server.register(
        json!({ "name": "tls", "executionMode": "POOL", "endpointUrl": url, "timeoutMs": 200, "maxRetries": 1 }),
    );
    expect_timeout(&server.invoke("tls", json!(1)), "dispatch", 200);

    // It waits for the only connection.
    let (gate, function) = held();
    server.pool("busy", &function, json!({ "concurrency": 2 }));
    let mut running = server.begin("busy", &[], json!(1));
    gate.await_arrivals(1);
    let response = server.begin("busy", &[("x-timeout-ms", "100")], json!(1)).read().expect("an answer");
    expect_timeout(&response, "dispatch", 100);
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
}

#[test]
fn the_function_is_told_the_smaller_of_its_own_time_and_the_callers() {
    let server = Server::start(&[]);
    let function = Function::start(|call| {
        let left = call.header("x-deadline-ms").and_then(|text| text.parse::<u32>().ok());
        Reply::json(json!(left.expect("milliseconds")))
    });
    server.pool("f", &function, json!({ "timeoutMs": 8000 }));
    for (header, least, most) in [(None, 4000, 8000), (Some("5000"), 1000, 5000), (Some("60000"), 4000, 8000)]
    {
        let headers: Vec<_> = header.map(|value| ("x-timeout-ms", value)).into_iter().collect();
        let response = server.begin("f", &headers, json!(1)).read().expect("an answer");
        let left = response.json()["output"].as_u64().expect("a number");
        assert!((least..=most).contains(&left), "{header:?}: {left}");
    }
}

#[test]
fn time_in_the_queue_is_taken_off_what_the_function_has() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        door.pass();
        Reply::json(json!(call.header("x-deadline-ms").and_then(|text| text.parse::<u32>().ok())))
    });
    server.pool("f", &function, json!({ "concurrency": 1, "timeoutMs": 60_000 }));
    let mut running = server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    let mut queued = server.begin("f", &[("x-timeout-ms", "10000")], json!(1));
    eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    pace(std::time::Duration::from_millis(300));
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
    let left = queued.read().expect("an answer").json()["output"].as_u64().expect("a number");
    assert!((1..=9700).contains(&left), "{left}");
}
