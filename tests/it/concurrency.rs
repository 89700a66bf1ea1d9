//! Slots, races between registrations, between callbacks and answers, between callers of one key.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Client, Function, Gate, PATIENCE, Reply, Server, client::encode, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

fn pool(name: &str, function: &Function, more: Value) -> Value {
    let mut spec = json!({ "name": name, "executionMode": "POOL", "endpointUrl": function.url() });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    spec
}

fn settled(server: &Server, name: &str) {
    eventually("slots and queue are empty", || {
        server.metric(&format!("function_in_flight{{function=\"{name}\"}}")) == 0.0
            && server.metric(&format!("function_queue_depth{{function=\"{name}\"}}")) == 0.0
    });
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn sixty_four_callers_share_four_slots() {
    let function = Function::start(|call| {
        thread::park_timeout(Duration::from_millis(5));
        Reply::json(call.json()["input"].clone())
    });
    let server = Server::start(&[]);
    server.register(pool("f", &function, json!({ "concurrency": 4 })));
    let rounds = 5;
    thread::scope(|scope| {
        for caller in 0..64 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..rounds {
                    let input = json!({ "input": [caller, round] }).to_string();
                    let response = client.send("POST", "/v1/functions/f:invoke", &[JSON], input.as_bytes());
                    assert_eq!(response.status, 200, "{}", response.text());
                    assert_eq!(response.json()["output"], json!([caller, round]));
                }
            });
        }
    });
    assert_eq!(function.calls(), 64 * rounds);
    assert_eq!(function.most_in_flight(), 4, "all four slots were used, and never more");
    // Arrival order: nobody waits for more than everybody else's turn.
    settled(&server, "f");
}

#[test]
fn of_ten_registrations_of_one_name_one_wins() {
    let server = Server::start(&[]);
    for round in 0..5 {
        let name = format!("f{round}");
        let statuses: Vec<(u16, Value)> = thread::scope(|scope| {
            let register = |number: u32| {
                let spec = json!({ "name": name, "executionMode": "LOCAL", "timeoutMs": 1000 + number });
                let response = server.send("POST", "/v1/functions", &spec);
                (response.status, response.json())
            };
            let threads: Vec<_> = (0..10).map(|number| scope.spawn(move || register(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let winners: Vec<_> = statuses.iter().filter(|(status, _)| *status == 201).collect();
        assert_eq!(winners.len(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|(status, _)| [201, 409].contains(status)), "{statuses:?}");
        assert_eq!(server.get(&format!("/v1/functions/{name}")).json(), winners[0].1);
    }
}

#[test]
fn a_full_function_does_not_hold_up_another_one() {
    let gate = Gate::default();
    let held = gate.clone();
    let slow = Function::start(move |_| {
        held.pass();
        Reply::json(json!("slow"))
    });
    let quick = Function::start(|_| Reply::json(json!("quick")));
    // One worker: both functions live on one shard.
    let server = Server::start(&["workers=1"]);
    server.register(pool("slow", &slow, json!({ "concurrency": 1, "queueSize": 50 })));
    server.register(pool("quick", &quick, json!({})));
    let mut callers: Vec<Client> = (0..51).map(|_| server.client()).collect();
    for caller in &mut callers {
        caller.write(&encode("POST", "/v1/functions/slow:invoke", &[JSON], br#"{"input":1}"#));
    }
    eventually("the slow one is full", || server.metric("function_queue_depth{function=\"slow\"}") == 50.0);
    for _ in 0..50 {
        assert_eq!(server.invoke("quick", json!(1)).json()["output"], "quick");
    }
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.read().expect("an answer").status, 200);
    }
    settled(&server, "slow");
}

/// Sends a callback and returns its status.
fn complete(server: std::net::SocketAddr, id: &str, attempt: Option<&str>, body: Value) -> u16 {
    let mut headers = vec![JSON];
    headers.extend(attempt.map(|attempt| ("x-dispatch-attempt", attempt)));
    let path = format!("/v1/internal/executions/{id}:complete");
    Client::connect(server).send("POST", &path, &headers, body.to_string().as_bytes()).status
}

#[test]
fn a_callback_before_with_and_after_the_answer_gives_one_result() {
    let server = Server::start(&[]);
    let api = server.api;
    let (late, after) = mpsc::channel::<String>();
    let late = Mutex::new(late);
    let function = Function::start(move |call| {
        let id = call.header("x-execution-id").expect("an id").to_owned();
        let report = json!({ "success": true, "output": "callback" });
        match call.json()["input"].as_str().expect("a word") {
            "before" => assert_eq!(complete(api, &id, Some("1"), report), 204),
            "with" => {
                thread::spawn(move || complete(api, &id, Some("1"), report));
            }
            _ => late.lock().expect("no panic").send(id).expect("the test listens"),
        }
        Reply::json(json!("answer"))
    });
    server.register(pool("f", &function, json!({ "concurrency": 8 })));

    let before = server.invoke("f", json!("before"));
    assert_eq!(before.json()["output"], "callback", "the first one wins");
    for _ in 0..20 {
        let with = server.invoke("f", json!("with"));
        assert_eq!(with.status, 200);
        let output = with.json()["output"].clone();
        assert!(output == "callback" || output == "answer", "{output}");
        let id = with.header("x-execution-id").expect("an id").to_owned();
        // What was answered stays, whatever comes afterwards.
        let stored = || server.get(&format!("/v1/executions/{id}")).json()["output"].clone();
        assert_eq!(stored(), output);
        assert_eq!(complete(api, &id, None, json!({ "success": false })), 204);
        assert_eq!(stored(), output);
    }
    let answered = server.invoke("f", json!("after"));
    assert_eq!(answered.json()["output"], "answer");
    let id = after.recv_timeout(PATIENCE).expect("an id");
    assert_eq!(complete(api, &id, Some("1"), json!({ "success": true, "output": "too late" })), 204);
    assert_eq!(server.get(&format!("/v1/executions/{id}")).json()["output"], "answer");
    settled(&server, "f");
    assert_eq!(server.metric("function_success_total{function=\"f\"}"), 22.0);
    assert!(server.metric("function_late_completion_total{function=\"f\"}") >= 21.0);
}

#[test]
fn a_promise_is_kept_by_callback_or_ends_as_orphan() {
    let server = Server::start(&[]);
    let api = server.api;
    let function = Function::start(move |call| {
        let id = call.header("x-execution-id").expect("an id").to_owned();
        match call.json()["input"].as_str() {
            Some("status form") => {
                thread::spawn(move || {
                    complete(api, &id, None, json!({ "status": "Success", "output": [1] }))
                });
            }
            Some("fails") => {
                let error = json!({ "code": "OUT_OF_PAPER", "message": "no paper" });
                thread::spawn(move || {
                    complete(api, &id, Some("1"), json!({ "success": false, "error": error }))
                });
            }
            Some("stale") => {
                thread::spawn(move || {
                    assert_eq!(
                        complete(api, &id, Some("7"), json!({ "success": true, "output": "wrong" })),
                        204
                    );
                    assert_eq!(complete(api, &id, Some("junk"), json!({ "output": "right" })), 204);
                });
            }
            _ => {}
        }
        Reply::new(202, "", b"").with("X-Nanofaas-Async", "true")
    });
    server.register(pool("f", &function, json!({ "timeoutMs": 10_000, "maxRetries": 1 })));
    assert_eq!(server.invoke("f", json!("status form")).json()["output"], json!([1]));
    let failed = server.invoke("f", json!("fails"));
    assert_eq!((failed.status, &failed.json()["status"]), (200, &json!("error")));
    assert_eq!(failed.json()["error"], json!({ "code": "OUT_OF_PAPER", "message": "no paper" }));
    assert_eq!(server.invoke("f", json!("stale")).json()["output"], "right");

    server.register(pool("never", &function, json!({ "timeoutMs": 300, "maxRetries": 1 })));
    let body = br#"{"input":"never"}"#;
    let headers = [JSON, ("x-timeout-ms", "15000")];
    let orphan = server.client().send("POST", "/v1/functions/never:invoke", &headers, body);
    assert_eq!(orphan.status, 408, "{}", orphan.text());
    assert_eq!(orphan.json()["error"]["stage"], "function");
    let id = orphan.header("x-execution-id").expect("an id");
    let status = server.get(&format!("/v1/executions/{id}")).json();
    assert_eq!(
        (&status["status"], &status["lastError"]["code"]),
        (&json!("timeout"), &json!("FUNCTION_TIMEOUT"))
    );
    assert_eq!(server.metric("function_orphaned_total{function=\"never\"}"), 1.0);
    settled(&server, "f");
}

#[test]
fn fifty_callers_of_one_key_are_one_execution() {
    let gate = Gate::default();
    let held = gate.clone();
    let seen = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let keys = Arc::clone(&seen);
    let function = Function::start(move |call| {
        held.pass();
        let key = call.header("idempotency-key").unwrap_or("none").to_owned();
        *keys.lock().expect("no panic").entry(key).or_default() += 1;
        Reply::json(json!(42))
    });
    let server = Server::start(&[]);
    server.register(pool("f", &function, json!({ "concurrency": 10 })));
    let headers = [JSON, ("idempotency-key", "order-1")];
    let body = br#"{"input":{"order":1}}"#;
    let mut callers: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for caller in &mut callers {
        caller.write(&encode("POST", "/v1/functions/f:invoke", &headers, body));
    }
    // One that has less patience than the others.
    let short = [JSON, ("idempotency-key", "order-1"), ("x-timeout-ms", "50")];
    let impatient = server.client().send("POST", "/v1/functions/f:invoke", &short, body);
    assert_eq!(impatient.status, 408, "{}", impatient.text());
    let other = server.client().send("POST", "/v1/functions/f:invoke", &headers, br#"{"input":{"order":2}}"#);
    other.expect_error(422, "IDEMPOTENCY_KEY_REUSED");
    gate.open();
    let answers: Vec<_> = callers.iter_mut().map(|caller| caller.read().expect("an answer")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert_eq!(impatient.header("x-execution-id"), answers[0].header("x-execution-id"));
    let again = server.client().send("POST", "/v1/functions/f:invoke", &headers, body);
    assert_eq!(again.body, answers[0].body, "the stored outcome");
    assert_eq!(*seen.lock().expect("no panic"), BTreeMap::from([("order-1".to_owned(), 1)]));
    settled(&server, "f");
}

#[test]
fn retries_keep_the_id_and_count() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&attempts);
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let function = Function::start(move |call| {
        let header = |name: &str| call.header(name).unwrap_or("-").to_owned();
        let line = [header("x-execution-id"), header("x-dispatch-attempt"), header("idempotency-key")];
        log.lock().expect("no panic").push(line);
        match call.json()["input"].as_str() {
            Some("second") if count.fetch_add(1, Ordering::SeqCst) == 0 => {
                Reply::new(500, "text/plain", b"first fails")
            }
            Some("never") => Reply::new(503, "text/plain", b"always fails"),
            Some("final") => Reply::new(422, "text/plain", b"no use"),
            _ => Reply::json(json!("ok")),
        }
    });
    let server = Server::start(&[]);
    server.register(pool("f", &function, json!({ "maxRetries": 3 })));
    let headers = [JSON, ("idempotency-key", "k")];
    let response = server.client().send("POST", "/v1/functions/f:invoke", &headers, br#"{"input":"second"}"#);
    assert_eq!(response.json()["output"], "ok");
    let id = response.header("x-execution-id").expect("an id").to_owned();
    let line = |attempt: &str, key: &str| [id.clone(), attempt.to_owned(), key.to_owned()];
    assert_eq!(std::mem::take(&mut *attempts.lock().expect("no panic")), [line("1", "k"), line("2", "-")]);
    let status = server.get(&format!("/v1/executions/{id}")).json();
    assert_eq!((&status["attempt"], &status["lastError"]["message"]), (&json!(2), &json!("first fails")));

    let failed = server.invoke("f", json!("never")).json();
    assert_eq!((&failed["status"], &failed["output"]), (&json!("error"), &Value::Null));
    assert_eq!(failed["error"], json!({ "code": "FUNCTION_ERROR", "message": "always fails" }));
    assert_eq!(std::mem::take(&mut *attempts.lock().expect("no panic")).len(), 3);
    assert_eq!(server.invoke("f", json!("final")).json()["error"]["message"], "no use");
    assert_eq!(attempts.lock().expect("no panic").len(), 1, "422 is never retried");
    assert_eq!(server.metric("function_retry_total{function=\"f\"}"), 3.0);
    settled(&server, "f");
}

#[test]
fn a_deleted_function_ends_what_waits_and_lets_finish_what_runs() {
    let gate = Gate::default();
    let held = gate.clone();
    let function = Function::start(move |_| {
        held.pass();
        Reply::json(json!("finished"))
    });
    let server = Server::start(&[]);
    server.register(pool("f", &function, json!({ "concurrency": 1 })));
    let (mut running, mut waiting) = (server.client(), server.client());
    running.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":1}"#));
    eventually("one runs", || function.in_flight() == 1);
    waiting.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":2}"#));
    eventually("one waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    let removed = waiting.read().expect("an answer");
    assert_eq!((removed.status, &removed.json()["error"]["code"]), (200, &json!("FUNCTION_REMOVED")));
    server.get("/v1/functions/f").expect_error(404, "NOT_FOUND");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    assert_eq!(server.invoke("f", json!(3)).json()["output"], 3, "the name is free for another one");
    gate.open();
    let finished = running.read().expect("an answer");
    assert_eq!(finished.json()["output"], "finished");
    let id = finished.header("x-execution-id").expect("an id");
    assert_eq!(server.get(&format!("/v1/executions/{id}")).json()["status"], "success");
    assert_eq!(
        server.metric("function_success_total{function=\"f\"}"),
        1.0,
        "the old function's call is not the new one's"
    );
    settled(&server, "f");
}
