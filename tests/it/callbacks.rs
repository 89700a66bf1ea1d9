//! Completion callbacks: a function answers 202 with a promise and reports later, or earlier, or never.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use serde_json::{Value, json};

use crate::support::{Client, Function, Gate, Reply, Response, Server, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

fn promise() -> Reply {
    Reply::new(202, "", b"").with("x-nanofaas-async", "true")
}

fn report(address: SocketAddr, id: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let path = format!("/v1/internal/executions/{id}:complete");
    let headers = [&[JSON], headers].concat();
    Client::connect(address).send("POST", &path, &headers, body.as_bytes())
}

/// Reports and checks that the report was taken note of.
#[track_caller]
fn complete(server: &Server, id: &str, headers: &[(&str, &str)], body: &str) {
    let response = report(server.api, id, headers, body);
    assert_eq!((response.status, response.text().as_str()), (204, ""), "{body}");
    assert_eq!(response.header("x-execution-id"), Some(id));
}

fn enqueue(server: &Server, name: &str) -> String {
    let response = server.send("POST", &format!("/v1/functions/{name}:enqueue"), &json!({ "input": 1 }));
    assert_eq!(response.status, 202, "{}", response.text());
    response.header("x-execution-id").expect("an id").to_owned()
}

fn counted(server: &Server, series: &str) -> f64 {
    server.metric(&format!("{series}{{function=\"f\"}}"))
}

/// The id of the next call, as the function saw it.
struct Ids(std::sync::mpsc::Receiver<String>);

impl Ids {
    fn next(&self) -> String {
        self.0.recv_timeout(crate::support::PATIENCE).expect("a call")
    }
}

/// A function that promises a callback, and the ids of its calls.
fn promising() -> (Ids, Function) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let function = Function::start(move |call| {
        let id = call.header("x-execution-id").expect("an id").to_owned();
        let _ = sender.lock().expect("no panic").send(id);
        promise()
    });
    (Ids(receiver), function)
}

#[test]
fn both_body_forms_and_none() {
    let server = Server::start(&[]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let failed = "The function reported a failure by callback without saying why";
    let late = "The function reported by callback that it ran out of time";
    for (body, expected) in [
        (r#"{"success":true,"output":{"a": 1.0}}"#, Ok(r#"{"a": 1.0}"#)),
        (r#"{"success":true}"#, Ok("null")),
        (r#"{"success":true,"output":null,"error":null}"#, Ok("null")),
        (r#"{"success":true,"output":"x","more":[1]}"#, Ok("\"x\"")),
        (r#"{"status":"SUCCESS","output":[1]}"#, Ok("[1]")),
        (r#"{"status":"success"}"#, Ok("null")),
        (r#"{"status":"Success","output":1e400}"#, Ok("1e400")),
        (r#"{"output":7}"#, Ok("7")),
        (r#"{"output":7,"error":null}"#, Ok("7")),
        (r#"{}"#, Ok("null")),
        (r#"{"success":false}"#, Err(("FUNCTION_ERROR", failed))),
        (r#"{"success":false,"error":{"code":"C","message":"m"}}"#, Err(("C", "m"))),
        (r#"{"success":false,"error":{"message":"m"}}"#, Err(("FUNCTION_ERROR", "m"))),
        (r#"{"success":false,"error":{"code":"C"}}"#, Err(("C", failed))),
        (r#"{"status":"ERROR","output":1,"error":{"code":"C","message":"m"}}"#, Err(("C", "m"))),
        (r#"{"status":"error"}"#, Err(("FUNCTION_ERROR", failed))),
        (r#"{"status":"TIMEOUT"}"#, Err(("FUNCTION_TIMEOUT", late))),
        (r#"{"status":"timeout","error":{"code":"C","message":"m"}}"#, Err(("FUNCTION_TIMEOUT", "m"))),
        (r#"{"error":{"code":"C","message":"m"}}"#, Err(("C", "m"))),
    ] {
        let mut caller = server.begin("f", &[], json!(1));
        let id = ids.next();
        complete(&server, &id, &[], body);
        let response = caller.read().expect("an answer");
        assert_eq!((response.status, response.header("x-execution-id")), (200, Some(id.as_str())));
        let expected = match expected {
            Ok(output) => {
                format!(r#"{{"executionId":"{id}","status":"success","output":{output},"error":null}}"#)
            }
            Err((code, message)) => {
                let error = json!({ "code": code, "message": message });
                json!({ "executionId": id, "status": "error", "output": null, "error": error }).to_string()
            }
        };
        assert_eq!(response.text(), expected, "{body}");
    }
    // A promise that comes after its callback is not a late answer.
    eventually("all promises arrive", || counted(&server, "function_in_flight") == 0.0);
    assert_eq!(counted(&server, "function_late_completion_total"), 0.0);
}

#[test]
fn a_202_without_a_promise_is_a_result() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({}));
    for headers in [json!({}), json!({ "x-nanofaas-async": "false" })] {
        let input = json!({ "status": 202, "type": "application/json", "body": "5", "headers": headers });
        assert_eq!(server.invoke("f", input).json()["output"], 5);
    }
}

#[test]
fn malformed_reports_change_nothing() {
    let server = Server::start(&[]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({}));
    let mut caller = server.begin("f", &[], json!(1));
    let id = ids.next();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "1",
        r#"{"success":"yes"}"#,
        r#"{"success":1}"#,
        r#"{"status":1}"#,
        r#"{"status":"DONE"}"#,
        r#"{"status":"running"}"#,
        r#"{"status":""}"#,
        r#"{"success":false,"error":"boom"}"#,
        r#"{"success":false,"error":{"code":1}}"#,
        r#"{"success":true,"output":}"#,
        r#"{"success":true}}"#,
    ] {
        let response = report(server.api, &id, &[], body);
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        assert!(response.json()["message"].is_string());
        assert_eq!(server.execution(&id)["status"], "running", "{body}");
    }
    complete(&server, &id, &[], r#"{"success":true,"output":"fine"}"#);
    assert_eq!(caller.read().expect("an answer").json()["output"], "fine");
}

#[test]
fn only_reports_of_the_current_attempt_count() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({ "maxRetries": 3 }));
    let id = enqueue(&server, "f");
    assert_eq!(ids.next(), id);
    complete(
        &server,
        &id,
        &[("x-dispatch-attempt", "1")],
        r#"{"success":false,"error":{"code":"C","message":"one"}}"#,
    );
    assert_eq!(ids.next(), id, "a failure by callback is retried");
    for stale in ["1", "3", "4294967295"] {
        complete(&server, &id, &[("x-dispatch-attempt", stale)], r#"{"success":true,"output":"stale"}"#);
    }
    let status = server.execution(&id);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("running"), &json!(2)));
    assert_eq!(status["lastError"], json!({ "code": "C", "message": "one" }));
    assert_eq!(counted(&server, "function_late_completion_total"), 3.0);
    complete(&server, &id, &[("x-dispatch-attempt", "2")], r#"{"success":true,"output":"two"}"#);
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!("two")));
    // What comes afterwards is ignored, attempt or not.
    complete(&server, &id, &[("x-dispatch-attempt", "2")], r#"{"success":false}"#);
    complete(&server, &id, &[], r#"{"success":true,"output":"again"}"#);
    assert_eq!(server.execution(&id), status);
    assert_eq!(counted(&server, "function_late_completion_total"), 5.0);
    server.logged(&["WARN", &id]);
}

#[test]
fn an_attempt_that_is_not_a_positive_number_counts_as_absent() {
    let server = Server::start(&[]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({}));
    for garbage in ["abc", "0", "-1", "1.0", "", "99999999999999999999", "é"] {
        let mut caller = server.begin("f", &[], json!(1));
        complete(&server, &ids.next(), &[("x-dispatch-attempt", garbage)], r#"{"output":1}"#);
        assert_eq!(caller.read().expect("an answer").json()["output"], 1, "{garbage:?}");
    }
}

#[test]
fn a_report_on_a_queued_execution_is_ignored() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let (running, queued) = (enqueue(&server, "f"), enqueue(&server, "f"));
    assert_eq!(ids.next(), running);
    complete(&server, &queued, &[], r#"{"success":true}"#);
    complete(&server, &queued, &[("x-dispatch-attempt", "1")], r#"{"success":true}"#);
    assert_eq!(server.execution(&queued)["status"], "queued");
    assert_eq!(counted(&server, "function_late_completion_total"), 2.0);
    // A promise holds the slot until the callback.
    assert_eq!(
        (counted(&server, "function_in_flight"), counted(&server, "function_queue_depth")),
        (1.0, 1.0)
    );
    complete(&server, &running, &[], "{}");
    assert_eq!(ids.next(), queued);
    complete(&server, &queued, &[], "{}");
    assert_eq!(server.ended(&queued)["status"], "success");
}

#[test]
fn a_callback_before_the_answer_wins() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let (door, ids) = (gate.clone(), Arc::new(OnceLock::new()));
    let seen = Arc::clone(&ids);
    let function = Function::start(move |call| {
        let _ = seen.set(call.header("x-execution-id").expect("an id").to_owned());
        door.pass();
        Reply::json(json!("answer"))
    });
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut caller = server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    let id = ids.get().expect("just set").clone();
    complete(&server, &id, &[("x-dispatch-attempt", "1")], r#"{"output":"callback"}"#);
    assert_eq!(caller.read().expect("an answer").json()["output"], "callback");
    let status = server.execution(&id);
    assert_eq!(counted(&server, "function_in_flight"), 0.0, "the slot is given back once, by the callback");
    gate.open();
    eventually("the answer is late", || counted(&server, "function_late_completion_total") == 1.0);
    assert_eq!(server.execution(&id), status);
    assert_eq!(server.invoke("f", json!(1)).json()["output"], "answer");
}

#[test]
fn a_callback_together_with_the_answer_gives_one_result() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let api = server.api;
    // Reports while it answers: sometimes one is first, sometimes the other.
    let function = Function::start(move |call| {
        let id = call.header("x-execution-id").expect("an id").to_owned();
        let input = call.json()["input"].as_u64().unwrap_or(0);
        let reporter = std::thread::spawn(move || {
            assert_eq!(
                report(api, &id, &[("x-dispatch-attempt", "1")], r#"{"output":"callback"}"#).status,
                204
            );
        });
        if input % 2 == 0 {
            let _ = reporter.join();
        }
        if input % 3 == 0 { promise() } else { Reply::json(json!("answer")) }
    });
    server.pool("f", &function, json!({ "concurrency": 8 }));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for number in 0..30 {
                    let response = server.invoke("f", json!(number + thread));
                    let body = response.json();
                    assert_eq!((response.status, &body["status"]), (200, &json!("success")), "{body}");
                    let status = server.execution(body["executionId"].as_str().expect("an id"));
                    assert_eq!(status["output"], body["output"], "the result changed");
                    assert_eq!(status["attempt"], 1);
                }
            });
        }
    });
    assert_eq!(counted(&server, "function_success_total"), 120.0);
    eventually("all slots come back", || counted(&server, "function_in_flight") == 0.0);
}

#[test]
fn a_promise_that_is_not_kept_is_an_orphan() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (_ids, function) = promising();
    server.pool("f", &function, json!({ "maxRetries": 2, "timeoutMs": 150 }));
    // The caller waits longer than both attempts: the last of them ends the execution.
    let response = server.begin("f", &[("x-timeout-ms", "20000")], json!(1)).read().expect("an answer");
    let id = expect_orphan(&server, &response);
    assert_eq!(server.execution(&id)["attempt"], 2);
    assert_eq!(counted(&server, "function_orphaned_total"), 2.0);
    assert_eq!(counted(&server, "function_retry_total"), 1.0);
    // Nobody waits.
    let id = enqueue(&server, "f");
    let status = server.ended(&id);
    assert_eq!(
        (&status["status"], &status["lastError"]["code"]),
        (&json!("timeout"), &json!("FUNCTION_TIMEOUT"))
    );
    assert_eq!(counted(&server, "function_orphaned_total"), 4.0);
    assert_eq!(function.calls(), 4);
    // A late callback is late.
    complete(&server, &id, &[], "{}");
    assert_eq!(server.execution(&id), status);
    assert_eq!(counted(&server, "function_late_completion_total"), 1.0);
    assert_eq!(counted(&server, "function_in_flight"), 0.0);
}

#[test]
fn a_lost_callback_counts_also_when_the_caller_left_at_the_same_time() {
    let server = Server::start(&[]);
    let (_ids, function) = promising();
    server.pool("f", &function, json!({ "maxRetries": 3, "timeoutMs": 150 }));
    let response = server.invoke("f", json!(1));
    assert_eq!(response.status, 408, "{}", response.text());
    assert_eq!(response.json()["error"]["stage"], "function");
    eventually("it is counted", || counted(&server, "function_orphaned_total") == 1.0);
    assert_eq!((counted(&server, "function_in_flight"), function.calls()), (0.0, 1));
}

#[track_caller]
fn expect_orphan(server: &Server, response: &Response) -> String {
    let body = response.json();
    assert_eq!((response.status, &body["status"]), (408, &json!("timeout")), "{body}");
    assert_eq!((&body["error"]["code"], &body["error"]["stage"]), (&json!("TIMEOUT"), &json!("function")));
    let id = body["executionId"].as_str().expect("an id").to_owned();
    let status = server.execution(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("timeout"), &Value::Null));
    assert_eq!(status["lastError"]["code"], "FUNCTION_TIMEOUT", "{status}");
    id
}

#[test]
fn a_promise_keeps_what_it_said_about_its_replica() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let function =
        Function::start(|_| promise().with("x-cold-start", "true").with("x-init-duration-ms", "40"));
    server.pool("f", &function, json!({}));
    let id = enqueue(&server, "f");
    let cold = |status: &Value| (status["coldStart"].clone(), status["initDurationMs"].clone());
    eventually("the promise arrives", || cold(&server.execution(&id)) == (json!(true), json!(40)));
    complete(&server, &id, &[], "{}");
    let status = server.ended(&id);
    assert_eq!((&status["status"], cold(&status)), (&json!("success"), (json!(true), json!(40))));
    assert_eq!(counted(&server, "function_cold_start_total"), 1.0);
}

#[test]
fn callbacks_move_to_a_listener_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = Server::start(&[&format!("internal.bind={free}")]);
    let (ids, function) = promising();
    server.pool("f", &function, json!({}));
    let mut caller = server.begin("f", &[], json!(1));
    let id = ids.next();
    report(server.api, &id, &[], "{}").expect_error(404, "NOT_FOUND");
    assert_eq!(server.execution(&id)["status"], "running");
    for (method, path) in
        [("GET", "/v1/functions"), ("POST", "/v1/functions/f:invoke"), ("GET", "/openapi.yaml")]
    {
        let body = br#"{"input":1}"#;
        Client::connect(free).send(method, path, &[JSON], body).expect_error(404, "NOT_FOUND");
    }
    assert_eq!(report(free, &id, &[], r#"{"output":"inside"}"#).status, 204);
    assert_eq!(caller.read().expect("an answer").json()["output"], "inside");
}
