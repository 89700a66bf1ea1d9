//! The async queue: accepted now, run later, read with patience, tried again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Response, Server, client::encode, eventually};

const ON: &str = "async-queue.enabled=true";

fn enqueue(server: &Server, function: &str, input: Value) -> String {
    let response =
        server.send("POST", &format!("/v1/functions/{function}:enqueue"), &json!({ "input": input }));
    assert_eq!(response.status, 202, "{}", response.text());
    let id = response.json()["executionId"].as_str().expect("an id").to_owned();
    assert_eq!(response.header("location"), Some(&*format!("/v1/executions/{id}")));
    assert_eq!(response.header("x-execution-id"), Some(&*id));
    id
}

fn letters(server: &Server, function: &str) -> Vec<Value> {
    let response = server.get(&format!("/v1/functions/{function}/dead-letters"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().as_array().expect("a list").clone()
}

fn replay(server: &Server, function: &str, id: &str) -> Response {
    server.send("POST", &format!("/v1/functions/{function}/dead-letters/{id}:replay"), &Value::Null)
}

/// Fails until told otherwise.
fn failing(gate: &Gate) -> Function {
    let gate = gate.clone();
    Function::start(move |_| match gate.is_open() {
        true => Reply::json(json!("mended")),
        false => Reply::new(500, "text/plain", b"broken"),
    })
}

#[test]
fn a_reader_waits_for_the_end() {
    let server = Server::start(&[ON]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(7));
    server.pool("f", &function, json!({}));
    let id = enqueue(&server, "f", json!(1));
    gate.await_arrivals(1);
    let started = Instant::now();
    let early = server.get(&format!("/v1/executions/{id}?wait=50ms")).json();
    assert_eq!(early["status"], "running");
    assert!(started.elapsed() >= Duration::from_millis(50), "it did not wait");

    let mut reader = server.client();
    reader.write(&encode("GET", &format!("/v1/executions/{id}?wait=60s"), &[], b""));
    gate.open();
    let status = reader.read().expect("an answer").json();
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!(7)));
    // What has ended is not waited for.
    assert_eq!(server.get(&format!("/v1/executions/{id}?wait=1h")).json(), status);
}

#[test]
fn a_wait_that_is_no_duration_is_refused() {
    let server = Server::start(&[ON]);
    for wait in ["soon", "-1s", "", "5x", "1e99s"] {
        let response = server.get(&format!("/v1/executions/{}?wait={wait}", "0".repeat(36)));
        let message = response.expect_error(400, "BAD_REQUEST")["message"].to_string();
        assert!(message.contains("wait"), "{message}");
    }
}

#[test]
fn a_dead_letter_is_listed_replayed_and_ends_well_under_its_id() {
    let server = Server::start(&[ON]);
    let mended = Gate::closed();
    let function = failing(&mended);
    server.pool("f", &function, json!({ "maxRetries": 2 }));
    // One after the other: together, either could be the first to fail for good.
    let [id, other] = [json!({ "page": 3 }), json!(2)].map(|input| {
        let id = enqueue(&server, "f", input);
        let status = server.ended(&id);
        assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(2)), "{status}");
        id
    });
    let listed = letters(&server, "f");
    let ids: Vec<&str> = listed.iter().filter_map(|letter| letter["executionId"].as_str()).collect();
    assert_eq!(ids, [&*other, &*id], "newest first");
    let letter = &listed[1];
    assert_eq!(letter["error"], json!({ "code": "FUNCTION_ERROR", "message": "broken" }));
    assert_eq!(letter["payloadBytes"], json!(10));
    assert!(letter["deadAtMillis"].as_u64() >= letter["createdAtMillis"].as_u64());
    let limited = server.get("/v1/functions/f/dead-letters?limit=1").json();
    assert_eq!(limited.as_array().map(Vec::len), Some(1));

    // Still broken: it comes back as a dead letter, with the attempts of both lives.
    assert_eq!(replay(&server, "f", &id).status, 202);
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(4)), "{status}");
    assert_eq!(letters(&server, "f")[0]["executionId"], json!(id), "it is the newest now");

    mended.open();
    let response = replay(&server, "f", &id);
    assert_eq!(response.status, 202, "{}", response.text());
    assert_eq!(response.json()["executionId"], json!(id));
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("success"), &json!(5)), "{status}");
    assert_eq!(status["lastError"]["code"], "FUNCTION_ERROR");
    assert_eq!(letters(&server, "f").len(), 1);
    replay(&server, "f", &id).expect_error(404, "NOT_FOUND");

    let path = format!("/v1/functions/f/dead-letters/{other}");
    assert_eq!(server.send("DELETE", &path, &Value::Null).status, 204);
    assert_eq!(server.send("DELETE", &path, &Value::Null).status, 404);
    assert!(letters(&server, "f").is_empty());
    assert_eq!(server.execution(&other)["status"], "error", "its record stays");
}

#[test]
fn a_function_that_was_mended_gets_its_dead_letters_back() {
    let server = Server::start(&[ON]);
    let mended = Gate::closed();
    let function = failing(&mended);
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let id = enqueue(&server, "f", json!(1));
    server.ended(&id);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    server.get("/v1/functions/f/dead-letters").expect_error(404, "NOT_FOUND");
    mended.open();
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    assert_eq!(letters(&server, "f").len(), 1);
    assert_eq!(replay(&server, "f", &id).status, 202);
    assert_eq!(server.ended(&id)["output"], "mended");
}

#[test]
fn what_a_caller_waits_for_is_no_dead_letter() {
    let server = Server::start(&[ON]);
    server.pool("f", &failing(&Gate::closed()), json!({ "maxRetries": 1 }));
    assert_eq!(server.invoke("f", json!(1)).json()["status"], "error");
    assert!(letters(&server, "f").is_empty());
}

#[test]
fn what_waited_for_a_removed_function_can_be_replayed_when_it_is_back() {
    let server = Server::start(&[ON]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let running = enqueue(&server, "f", json!(1));
    gate.await_arrivals(1);
    let queued: Vec<String> = (0..3).map(|input| enqueue(&server, "f", json!(input))).collect();
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    for id in &queued {
        let status = server.execution(id);
        assert_eq!(status["error"]["code"], "FUNCTION_REMOVED", "{status}");
    }
    gate.open();
    assert_eq!(server.ended(&running)["status"], "success", "what ran finishes");
    server.pool("f", &function, json!({}));
    let mut dead: Vec<String> = letters(&server, "f")
        .iter()
        .filter_map(|letter| Some(letter["executionId"].as_str()?.to_owned()))
        .collect();
    dead.sort_unstable();
    let mut expected = queued.clone();
    expected.sort_unstable();
    assert_eq!(dead, expected, "each of them once, and nothing that ran");
    for id in &queued {
        assert_eq!(replay(&server, "f", id).status, 202);
        assert_eq!(server.ended(id)["status"], "success");
    }
    assert!(letters(&server, "f").is_empty());
}

#[test]
fn with_the_scheduler_off_work_runs_when_it_is_drained() {
    let server = Server::start(&[ON, "background-scheduler.enabled=false"]);
    let function = Function::start(|call| match call.body.windows(4).any(|word| word == b"fail") {
        true => Reply::new(500, "text/plain", b"broken"),
        false => Reply::json(json!("done")),
    });
    server.pool("f", &function, json!({ "maxRetries": 2, "retryBackoffMs": 0 }));
    let drain = || {
        let response = server.send("POST", "/v1/internal/functions/f:drain-once", &Value::Null);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["dispatched"].clone()
    };
    assert_eq!(drain(), json!(false));
    let (first, second) = (enqueue(&server, "f", json!("fail")), enqueue(&server, "f", json!(2)));
    assert_eq!(server.invoke("f", json!(1)).json()["output"], "done", "callers that wait are served");
    assert_eq!(server.execution(&first)["status"], "queued");
    assert_eq!(drain(), json!(true));
    let status = server.execution(&first);
    assert_eq!(
        (&status["status"], &status["lastError"]["code"]),
        (&json!("queued"), &json!("FUNCTION_ERROR"))
    );
    assert_eq!(drain(), json!(true));
    assert_eq!(server.execution(&second)["status"], "success", "recorded before the answer");
    assert_eq!(drain(), json!(true));
    let status = server.execution(&first);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(2)), "{status}");
    assert_eq!(drain(), json!(false));
    assert_eq!(function.calls(), 4);
}

#[test]
fn draining_by_hand_needs_the_module() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let drain =
        |name: &str| server.send("POST", &format!("/v1/internal/functions/{name}:drain-once"), &Value::Null);
    let message = drain("f").expect_error(501, "ASYNC_QUEUE_DISABLED")["message"].to_string();
    assert!(message.contains("NANOFAAS_ASYNC_QUEUE_ENABLED"), "{message}");
    drain("g").expect_error(404, "NOT_FOUND");
    assert!(letters(&server, "f").is_empty());
}

#[test]
fn a_server_that_ends_finishes_what_it_accepted_and_keeps_no_readers() {
    let mut server = Server::start(&[ON, "shutdown.timeout=20s"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let id = enqueue(&server, "f", json!(1));
    enqueue(&server, "f", json!(2));
    gate.await_arrivals(1);
    let mut reader = server.client();
    reader.write(&encode("GET", &format!("/v1/executions/{id}?wait=60s"), &[], b""));
    // An attempt's timeout, a sweep of nothing, and the reader.
    let timers = || {
        (0..2).map(|shard| server.metric(&format!("nanofaas_shard_timers{{shard=\"{shard}\"}}"))).sum::<f64>()
    };
    eventually("the reader waits", || timers() == 2.0);
    server.signal("TERM");
    assert_eq!(reader.read().expect("an answer").json()["status"], "running");
    gate.open();
    assert_eq!(server.wait(), Some(0));
    assert_eq!(function.calls(), 2);
}

#[test]
fn an_accepted_result_outlives_synchronous_ones_with_its_output() {
    let server = Server::start(&[ON, "executions.ttl=1ms", "executions.payload-ttl=0ms"]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let id = enqueue(&server, "echo", json!("kept"));
    let ended = server.ended(&id);
    let call = server.invoke("echo", json!(1));
    let path = format!("/v1/executions/{}", call.header("x-execution-id").expect("an id"));
    eventually("a synchronous one is forgotten", || server.get(&path).status == 404);
    assert_eq!((server.execution(&id), &ended["output"]), (ended.clone(), &json!("kept")));
}

#[test]
fn every_answer_of_an_execution_says_how_it_stands() {
    let server = Server::start(&[ON]);
    let gate = Gate::closed();
    let function = failing(&gate);
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let told = |response: &Response| {
        let header = |name| response.header(name).unwrap_or("-").to_owned();
        (response.status, header("x-execution-status"), header("x-execution-error"))
    };
    let expect = |response: Response, status: u16, state: &str, code: &str| {
        assert_eq!(told(&response), (status, state.to_owned(), code.to_owned()), "{}", response.text());
        response.header("x-execution-id").expect("an id").to_owned()
    };
    expect(server.invoke("echo", json!(1)), 200, "success", "-");
    let id = expect(server.invoke("f", json!(1)), 200, "error", "FUNCTION_ERROR");
    expect(server.get(&format!("/v1/executions/{id}")), 200, "error", "FUNCTION_ERROR");
    let cancelled = server.send("DELETE", &format!("/v1/executions/{id}"), &Value::Null);
    expect(cancelled, 409, "error", "-");
    let accepted = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    let id = expect(accepted, 202, "queued", "-");
    server.ended(&id);
    eventually("it is a dead letter", || letters(&server, "f").len() == 1);
    expect(replay(&server, "f", &id), 202, "queued", "-");
    server.ended(&id);
    let slow = Gate::closed();
    let function = Function::behind(&slow, json!(1));
    server.pool("slow", &function, json!({}));
    let mut client = server.begin("slow", &[("x-timeout-ms", "50")], json!(1));
    expect(client.read().expect("an answer"), 408, "timeout", "TIMEOUT");
    slow.open();
}
