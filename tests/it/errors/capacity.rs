//! Calls that are understood and not admitted: rates, queues, bytes, connections, cancellation.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{JSON, keys, local, retry_after};
use crate::support::{Client, Function, Gate, Reply, Response, Server, client::encode, eventually, pace};

#[test]
fn rate_limits_say_whose_they_are() {
    let server = Server::start(&["rate.max-per-second=20", "async-queue.enabled=true"]);
    for name in ["a", "b", "c", "d"] {
        server.register(local(name));
    }
    server.register(json!({ "name": "slow", "executionMode": "LOCAL", "rateLimitPerSecond": 2 }));
    let mut client = server.client();
    let mut invoke = |path: &str| client.send("POST", path, &[JSON], br#"{"input":1}"#);
    let refused = until_refused(&mut || invoke("/v1/functions/slow:invoke"), 20);
    assert!(retry_after(&refused) == 1);
    let error = refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(keys(&error), ["error", "message", "scope", "limitPerSecond"]);
    assert_eq!((&error["scope"], &error["limitPerSecond"]), (&json!("function"), &json!(2)));
    // Server: over all functions and shards, also for those that are unknown, and for both actions.
    let paths = ["a:invoke", "b:invoke", "c:enqueue", "d:invoke", "nope:invoke"];
    let mut number = 0;
    let refused = until_refused(
        &mut || {
            number += 1;
            invoke(&format!("/v1/functions/{}", paths[number % paths.len()]))
        },
        200,
    );
    assert_eq!(retry_after(&refused), 1);
    let error = refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!((&error["scope"], &error["limitPerSecond"]), (&json!("global"), &json!(20)));
    // Only calls count: reading goes on.
    assert_eq!(server.get("/v1/functions").status, 200);
    eventually("the next second admits again", || invoke("/v1/functions/a:invoke").status == 200);
}

/// A second begins when calls are admitted again, and lasts at least until one after the last refusal was sent.
#[test]
fn one_second_admits_exactly_the_limit_over_all_shards() {
    let server = Server::start(&["rate.max-per-second=20"]);
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        server.register(local(name));
    }
    let mut client = server.client();
    let mut number = 0;
    let mut is_admitted = || {
        number += 1;
        let path = format!("/v1/functions/{}:invoke", names[number % names.len()]);
        client.send("POST", &path, &[JSON], br#"{"input":1}"#).status == 200
    };
    for _ in 0..20 {
        eventually("the second is used up", || !is_admitted());
        let mut refused_at = Instant::now();
        eventually("the next one begins", || {
            let asked_at = Instant::now();
            let admitted = is_admitted();
            refused_at = if admitted { refused_at } else { asked_at };
            admitted
        });
        let admitted = 1 + (0..60).filter(|_| is_admitted()).count();
        if refused_at.elapsed() < Duration::from_secs(1) {
            assert_eq!(admitted, 20);
            return;
        }
    }
    panic!("60 calls never fitted into one second");
}

fn until_refused(call: &mut dyn FnMut() -> Response, calls_max: usize) -> Response {
    (0..calls_max).map(|_| call()).find(|response| response.status == 429).expect("a refusal")
}

#[test]
fn a_full_queue_says_how_long_it_is() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 2 }));
    let mut waiting = vec![server.begin("f", &[], json!(0))];
    gate.await_arrivals(1);
    for _ in 0..2 {
        waiting.push(server.begin("f", &[], json!(0)));
    }
    eventually("two wait", || server.metric("function_queue_depth{function=\"f\"}") == 2.0);
    for action in ["invoke", "enqueue"] {
        let response = server.send("POST", &format!("/v1/functions/f:{action}"), &json!({ "input": 1 }));
        assert_eq!(response.header("x-execution-id"), None);
        let error = response.expect_error(429, "QUEUE_FULL");
        // No call has ended yet: nobody can say how long they take.
        assert_eq!(retry_after(&response), 1);
        assert_eq!(keys(&error), ["error", "message", "function", "queue_depth"]);
        assert_eq!((&error["function"], &error["queue_depth"]), (&json!("f"), &json!(2)));
    }
    assert_eq!(server.metric("function_queue_rejected_total{function=\"f\"}"), 2.0);
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 3.0);
    gate.open();
    for mut client in waiting {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
}

#[test]
fn retry_after_of_a_full_queue_follows_the_functions_pace() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        match call.json()["input"].as_u64() {
            Some(ms) if ms > 0 => pace(Duration::from_millis(ms)),
            _ => door.pass(),
        }
        Reply::json(json!(1))
    });
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 1 }));
    assert_eq!(server.invoke("f", json!(1200)).status, 200);
    let running = server.begin("f", &[], json!(0));
    gate.await_arrivals(1);
    let queued = server.begin("f", &[], json!(0));
    eventually("one waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    let response = server.invoke("f", json!(0));
    assert_eq!(retry_after(&response), 2);
    let est_wait = response.expect_error(429, "QUEUE_FULL")["est_wait"].as_f64().expect("seconds");
    assert!(est_wait > 2.0, "two are ahead, of 1.2 s each: {est_wait}");
    gate.open();
    for mut client in [running, queued] {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
}

#[test]
fn payloads_that_wait_have_a_budget() {
    let server =
        Server::start(&["limits.request-bytes=2000", "limits.queued-bytes=3000", "async-queue.enabled=true"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 100 }));
    let big = json!("x".repeat(1000));
    let mut clients = vec![server.begin("f", &[], big.clone())];
    gate.await_arrivals(1);
    for waiting in 1..=2 {
        clients.push(server.begin("f", &[], big.clone()));
        let depth = f64::from(waiting);
        eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == depth);
    }
    for action in ["invoke", "enqueue"] {
        let response = server.send("POST", &format!("/v1/functions/f:{action}"), &json!({ "input": big }));
        retry_after(&response);
        let error = response.expect_error(503, "OVERLOADED");
        assert_eq!(keys(&error), ["error", "message"]);
    }
    clients.push(server.begin("f", &[], json!(1)));
    eventually("a small one fits", || server.metric("function_queue_depth{function=\"f\"}") == 3.0);
    gate.open();
    for mut client in clients {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
    assert_eq!(server.invoke("f", big).status, 200, "the budget did not come back");
}

#[test]
fn too_many_connections_are_told_so() {
    let server = Server::start(&["limits.connections=3"]);
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..3 {
        let mut client = server.client();
        assert_eq!(client.send("GET", "/v1/functions", &[], b"").status, 200);
        held.push(client);
    }
    let mut refused = server.client();
    let response = refused.read().expect("a refusal");
    retry_after(&response);
    response.expect_error(503, "OVERLOADED");
    assert!(refused.is_closed());
    drop(held.pop());
    eventually("a place is free again", || {
        let mut client = server.client();
        client.write(&encode("GET", "/v1/functions", &[], b""));
        client.read().is_ok_and(|response| response.status == 200)
    });
    for client in &mut held {
        assert_eq!(client.send("GET", "/v1/functions", &[], b"").status, 200, "others were disturbed");
    }
}

#[test]
fn only_what_is_queued_can_be_cancelled() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let enqueue = || {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
        assert_eq!(response.status, 202, "{}", response.text());
        let id = response.header("x-execution-id").expect("an id").to_owned();
        assert_eq!(response.header("location"), Some(format!("/v1/executions/{id}").as_str()));
        let accepted = json!({ "executionId": id, "status": "queued", "output": null, "error": null });
        assert_eq!(response.text(), accepted.to_string());
        id
    };
    let (running, queued) = (enqueue(), enqueue());
    gate.await_arrivals(1);
    let refuse = |id: &str, status: &str| {
        let response = server.send("DELETE", &format!("/v1/executions/{id}"), &Value::Null);
        let error = response.expect_error(409, "NOT_CANCELLABLE");
        assert_eq!(keys(&error), ["error", "message", "status"]);
        assert_eq!(error["status"], status);
        assert_eq!(response.header("x-execution-id"), Some(id));
    };
    refuse(&running, "running");
    let response = server.send("DELETE", &format!("/v1/executions/{queued}"), &Value::Null);
    assert_eq!(response.status, 202);
    assert_eq!(response.header("x-execution-id"), Some(queued.as_str()));
    let status = response.json();
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("CANCELLED")));
    assert_eq!(server.execution(&queued), status);
    refuse(&queued, "error");
    gate.open();
    assert_eq!(server.ended(&running)["status"], "success");
    refuse(&running, "success");
    assert_eq!(function.calls(), 1, "a cancelled execution ran");
}
