//! Functions: registered, listed, read back, removed, registered again.

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Server, eventually};

#[test]
fn the_list_is_sorted_over_all_shards() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/v1/functions").text(), "[]");
    let mut names: Vec<String> = (0..40).map(|number| format!("f{}", number * 7919 % 1000)).collect();
    names.extend(["B", "a", "a-b", "a.b", "a_b", "Z9", "z"].map(str::to_owned));
    let mut documents = Vec::new();
    for name in &names {
        documents.push(server.register(json!({ "name": name, "executionMode": "LOCAL" })));
    }
    documents.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
    let listed = server.get("/v1/functions");
    assert_eq!((listed.status, listed.header("content-type")), (200, Some("application/json")));
    assert_eq!(listed.json(), Value::Array(documents.clone()));
    for document in &documents {
        let path = format!("/v1/functions/{}", document["name"].as_str().expect("a name"));
        assert_eq!(server.get(&path).json(), *document);
    }
    for name in &names {
        assert_eq!(server.send("DELETE", &format!("/v1/functions/{name}"), &Value::Null).status, 204);
    }
    assert_eq!(server.get("/v1/functions").text(), "[]");
}

#[test]
fn a_response_is_the_resolved_spec_without_nulls() {
    let server = Server::start(&["defaults.timeout-ms=1234", "defaults.concurrency=7"]);
    let spec = json!({ "name": "f", "executionMode": "LOCAL", "image": null });
    let expected = json!({
        "name": "f",
        "command": [],
        "env": {},
        "timeoutMs": 1234,
        "concurrency": 7,
        "queueSize": 100,
        "retryBackoffMs": 100,
        "executionMode": "LOCAL",
        "requestedExecutionMode": "LOCAL",
        "effectiveExecutionMode": "LOCAL",
        "runtimeMode": "HTTP",
    });
    assert_eq!(server.register(spec), expected);
    let by_alias = json!({ "name": "g", "executionMode": "LOCAL", "timeoutMillis": 77 });
    assert_eq!(server.register(by_alias)["timeoutMs"], 77);
}

#[test]
fn a_response_can_be_posted_again() {
    let server = Server::start(&[]);
    let function = Function::start(|_| Reply::json(json!("same")));
    for spec in [
        json!({ "name": "f", "executionMode": "LOCAL" }),
        json!({ "name": "f", "executionMode": "POOL", "endpointUrl": format!("http://{}", function.address) }),
        json!({
            "name": "f", "executionMode": "POOL", "endpointUrl": function.url(), "image": "a/b:c",
            "command": ["run", "--fast"], "env": { "B": "1", "A": "" }, "timeoutMs": 5000, "concurrency": 2,
            "queueSize": 3, "maxRetries": 0, "retryBackoffMs": 9, "rateLimitPerSecond": 1000,
            "runtimeMode": "STDIO", "runtimeCommand": "sh -c 'true'", "workingDir": "/tmp",
            "resources": { "cpu": "250m", "memory": "1Gi" }, "imagePullSecrets": ["s"],
        }),
        // Degraded to POOL.
        json!({ "name": "f", "image": "a/b:c", "endpointUrl": function.url() }),
    ] {
        let first = server.register(spec);
        assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
        let again = server.register(first.clone());
        assert_eq!(again, first);
        assert_eq!(server.invoke("f", json!("same")).json()["output"], "same");
        assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    }
}

/// A function whose calls wait at the gate.
fn held() -> (Gate, Function) {
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        door.pass();
        Reply::json(call.json()["input"].clone())
    });
    (gate, function)
}

#[test]
fn delete_ends_what_waits_and_lets_run_what_runs() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let enqueue = |input: Value| {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": input }));
        assert_eq!(response.status, 202, "{}", response.text());
        response.header("x-execution-id").expect("an id").to_owned()
    };
    let mut running = server.begin("f", &[], json!("running"));
    gate.await_arrivals(1);
    let mut waiting = server.begin("f", &[], json!("waiting"));
    eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    let queued = enqueue(json!("queued"));

    let response = server.send("DELETE", "/v1/functions/f", &Value::Null);
    assert_eq!((response.status, response.text().as_str()), (204, ""));

    // What waited has ended, for its caller and for readers.
    let answer = waiting.read().expect("an answer");
    let body = answer.json();
    assert_eq!((answer.status, &body["status"]), (200, &json!("error")));
    assert_eq!(body["error"]["code"], "FUNCTION_REMOVED");
    for id in [answer.header("x-execution-id").expect("an id"), &queued] {
        let status = server.execution(id);
        assert_eq!(
            (&status["status"], &status["error"]["code"]),
            (&json!("error"), &json!("FUNCTION_REMOVED"))
        );
        assert!(status["finishedAtMillis"].is_u64());
    }
    // It is invisible at once.
    server.get("/v1/functions/f").expect_error(404, "NOT_FOUND");
    server.invoke("f", json!(1)).expect_error(404, "NOT_FOUND");
    server.send("DELETE", "/v1/functions/f", &Value::Null).expect_error(404, "NOT_FOUND");
    assert_eq!(server.get("/v1/functions").text(), "[]");
    // What ran goes on and stays readable.
    gate.open();
    let answer = running.read().expect("an answer");
    assert_eq!((answer.status, &answer.json()["output"]), (200, &json!("running")));
    let status = server.execution(answer.header("x-execution-id").expect("an id"));
    assert_eq!((&status["status"], &status["functionName"]), (&json!("success"), &json!("f")));
    assert_eq!(function.calls(), 1);
}

#[test]
fn a_removed_function_is_not_retried() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |_| {
        door.pass();
        Reply::new(503, "text/plain", b"no").with("retry-after", "60")
    });
    server.pool("f", &function, json!({ "concurrency": 1, "maxRetries": 5 }));
    // One waits for its time, one runs.
    let mut backing_off = server.begin("f", &[], json!(1));
    gate.admit(1);
    eventually("the retry waits", || server.metric("function_retry_total{function=\"f\"}") == 1.0);
    let mut running = server.begin("f", &[], json!(2));
    gate.await_arrivals(2);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    let removed = backing_off.read().expect("an answer").json();
    assert_eq!(removed["error"]["code"], "FUNCTION_REMOVED", "{removed}");
    gate.open();
    let answer = running.read().expect("an answer").json();
    assert_eq!(answer["error"], json!({ "code": "FUNCTION_ERROR", "message": "no" }));
    assert_eq!(function.calls(), 2);
}

#[test]
fn a_name_that_is_registered_again_is_a_new_function() {
    let server = Server::start(&[]);
    let (old_gate, old) = held();
    let (new_gate, new) = held();
    server.pool("f", &old, json!({ "concurrency": 1, "queueSize": 1, "rateLimitPerSecond": 1000 }));
    let mut old_call = server.begin("f", &[], json!("old"));
    old_gate.await_arrivals(1);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    server.pool("f", &new, json!({ "concurrency": 1, "queueSize": 1 }));
    // Its slot is its own: the old one's attempt does not count.
    let mut new_call = server.begin("f", &[], json!("new"));
    new_gate.await_arrivals(1);
    let mut queued = server.begin("f", &[], json!("queued"));
    eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    old_gate.open();
    let answer = old_call.read().expect("an answer");
    assert_eq!(answer.json()["output"], "old");
    assert_eq!(
        server.metric("function_in_flight{function=\"f\"}"),
        1.0,
        "the old attempt gave a new slot back"
    );
    assert_eq!(server.metric("function_queue_depth{function=\"f\"}"), 1.0);
    assert_eq!(server.metric("function_success_total{function=\"f\"}"), 0.0);
    new_gate.open();
    assert_eq!(new_call.read().expect("an answer").json()["output"], "new");
    assert_eq!(queued.read().expect("an answer").json()["output"], "queued");
    assert_eq!((old.calls(), new.calls()), (1, 2));
    let id = answer.header("x-execution-id").expect("an id");
    assert_eq!(server.execution(id)["output"], "old");
}

#[test]
fn a_callback_arrives_after_its_function_was_removed() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let function = Function::start(|_| Reply::new(202, "", b"").with("x-nanofaas-async", "true"));
    server.pool("f", &function, json!({}));
    let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    let id = response.header("x-execution-id").expect("an id");
    eventually("it was called", || function.calls() == 1);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    assert_eq!(server.execution(id)["status"], "running");
    let path = format!("/v1/internal/executions/{id}:complete");
    assert_eq!(server.send("POST", &path, &json!({ "success": true, "output": 5 })).status, 204);
    assert_eq!(server.ended(id)["output"], 5);
}
