//! The sync queue: synchronous calls are refused early, and told when to come back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Function, Gate, Reply, Response, Server, eventually, pace};

const ON: &str = "sync-queue.enabled=true";

/// A function that takes as many milliseconds as its input says; with 0, until the gate lets it through.
fn gated() -> (Function, Gate) {
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        match call.json()["input"].as_u64() {
            Some(ms) if ms > 0 => pace(Duration::from_millis(ms)),
            _ => door.pass(),
        }
        Reply::json(json!(1))
    });
    (function, gate)
}

/// Fills the only slot of `f`, and its queue with this many calls.
fn fill(server: &Server, gate: &Gate, waiting: usize) -> Vec<Client> {
    let mut clients = vec![server.begin("f", &[], json!(0))];
    gate.await_arrivals(1);
    for number in 1..=waiting {
        clients.push(server.begin("f", &[], json!(0)));
        await_queued(server, number);
    }
    clients
}

fn await_queued(server: &Server, count: usize) {
    let series = "function_queue_depth{function=\"f\"}";
    eventually("calls wait", || server.metric(series) == count as f64);
}

/// Checks a refusal; its body and `Retry-After`.
#[track_caller]
fn rejected(response: &Response, reason: &str) -> (Value, u32) {
    let error = response.expect_error(429, "SYNC_QUEUE_REJECTED");
    let mut keys: Vec<&String> = error.as_object().expect("an object").keys().collect();
    // Said last, and only when calls have shown how long they take.
    keys.pop_if(|key| *key == "est_wait");
    assert_eq!(keys, ["error", "message", "function", "reason", "queue_depth"]);
    assert_eq!((&error["function"], &error["reason"]), (&json!("f"), &json!(reason)));
    assert_eq!(response.header("x-queue-reject-reason"), Some(reason));
    assert_eq!(response.header("x-execution-id"), None);
    let seconds = response.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
    (error, seconds)
}

fn finish(gate: &Gate, clients: Vec<Client>) {
    gate.open();
    for mut client in clients {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
}

fn metric(server: &Server, name: &str) -> f64 {
    server.metric(&format!("{name}{{function=\"f\"}}"))
}

fn rejections(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("sync_queue_rejected_total{{function=\"f\",reason=\"{reason}\"}}"))
}

#[test]
fn it_is_off_unless_switched_on() {
    let server = Server::start(&["sync-queue.max-depth=1", "sync-queue.max-queue-wait=50ms"]);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let clients = fill(&server, &gate, 2);
    // A caller waits to its own deadline.
    let mut late = server.begin("f", &[("x-timeout-ms", "300")], json!(0));
    assert_eq!(late.read().expect("an answer").status, 408);
    finish(&gate, clients);
    assert_eq!(metric(&server, "sync_queue_admitted_total"), 0.0);
}

#[test]
fn the_environment_switches_it_on_and_depth_is_bounded() {
    let settings = ["sync-queue.max-depth=2", "sync-queue.max-queue-wait=1h", "async-queue.enabled=true"];
    let server = Server::start_limited(&settings, "export NANOFAAS_SYNC_QUEUE_ENABLED=true");
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let clients = fill(&server, &gate, 2);
    let (error, retry_after_s) = rejected(&server.invoke("f", json!(0)), "depth");
    assert_eq!(error["queue_depth"], 2);
    assert_eq!(retry_after_s, 2, "nothing is known of the function: the least that is sent");
    // What is accepted waits in the same queue, but is not refused by these bounds.
    assert_eq!(server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 0 })).status, 202);
    assert_eq!(metric(&server, "sync_queue_depth"), 2.0);
    assert_eq!(metric(&server, "function_queue_depth"), 3.0);
    assert_eq!(metric(&server, "sync_queue_admitted_total"), 3.0);
    assert_eq!(rejections(&server, "depth"), 1.0);
    assert_eq!(metric(&server, "function_invocation_total"), 4.0, "a refusal leaves no trace");
    finish(&gate, clients);
    eventually("waits were measured", || metric(&server, "sync_queue_wait_seconds_count") == 3.0);
    assert_eq!(server.invoke("f", json!(1)).status, 200);
}

#[test]
fn estimated_waits_below_a_second_are_bounded() {
    let server = Server::start(&[ON, "sync-queue.max-estimated-wait=500ms", "sync-queue.max-queue-wait=1h"]);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    // Without any history calls are admitted.
    assert_eq!(server.invoke("f", json!(400)).status, 200);
    let clients = fill(&server, &gate, 2);
    let (error, _) = rejected(&server.invoke("f", json!(0)), "est_wait");
    let est_wait = error["est_wait"].as_f64().expect("seconds");
    assert!(est_wait >= 0.8, "two are ahead, of 400 ms each: {est_wait}");
    assert_eq!(rejections(&server, "est_wait"), 1.0);
    finish(&gate, clients);
}

#[test]
fn who_waited_too_long_is_refused_whoever_joined_too() {
    let server = Server::start(&[ON, "sync-queue.max-queue-wait=300ms", "sync-queue.retry-after-seconds=1"]);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let running = fill(&server, &gate, 0);
    let key = [("idempotency-key", "k")];
    let mut first = server.begin("f", &key, json!(0));
    let mut second = server.begin("f", &key, json!(0));
    for client in [&mut first, &mut second] {
        let response = client.read().expect("an answer");
        rejected(&response, "timeout");
    }
    assert_eq!(rejections(&server, "timeout"), metric(&server, "sync_queue_timedout_total"));
    assert_eq!(metric(&server, "function_queue_depth"), 0.0);
    assert_eq!(metric(&server, "sync_queue_depth"), 0.0);
    finish(&gate, running);
    // The key is free: another payload may use it.
    let again = server.begin("f", &key, json!(7)).read().expect("an answer");
    assert_eq!(again.status, 200, "{}", again.text());
}

#[test]
fn retry_after_follows_the_functions_pace() {
    let settings = [
        ON,
        "sync-queue.max-depth=1",
        "sync-queue.retry-after-seconds=1",
        "sync-queue.max-queue-wait=1h",
        "sync-queue.max-estimated-wait=1h",
    ];
    let server = Server::start(&settings);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    assert_eq!(server.invoke("f", json!(1200)).status, 200);
    let clients = fill(&server, &gate, 1);
    let seconds: Vec<u32> = (0..4).map(|_| rejected(&server.invoke("f", json!(0)), "depth").1).collect();
    // One place every 1.2 s or a little more, counted from the first refusal.
    assert!(seconds[0] == 2 && seconds.is_sorted() && seconds[3] >= 4, "{seconds:?}");
    finish(&gate, clients);
}

#[test]
fn other_functions_notice_nothing() {
    let server = Server::start(&[ON, "sync-queue.max-depth=2", "sync-queue.max-queue-wait=1h"]);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    for name in ["a", "b", "c", "d"] {
        server.pool(name, &function, json!({ "concurrency": 1 }));
    }
    let clients = fill(&server, &gate, 2);
    rejected(&server.invoke("f", json!(0)), "depth");
    for name in ["a", "b", "c", "d"] {
        assert_eq!(server.invoke(name, json!(1)).status, 200);
        assert_eq!(server.metric(&format!("sync_queue_depth{{function=\"{name}\"}}")), 0.0);
    }
    finish(&gate, clients);
}

#[test]
fn waiting_for_a_first_replica_is_no_waiting_for_a_slot() {
    let server = Server::start(&[ON, "sync-queue.max-queue-wait=100ms", "deployment.backends=process"]);
    server.register(json!({ "name": "f", "runtimeMode": "STDIO", "runtimeCommand": "cat" }));
    let replicas = "/v1/functions/f/replicas";
    assert_eq!(server.send("PUT", replicas, &json!({ "replicas": 0 })).status, 200);
    eventually("it has no replica", || server.get(replicas).json()["ready"] == 0);
    let mut waiting = server.begin("f", &[], json!("here"));
    await_queued(&server, 1);
    pace(Duration::from_millis(300));
    assert_eq!(server.send("PUT", replicas, &json!({ "replicas": 1 })).status, 200);
    let response = waiting.read().expect("an answer");
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn it_is_switched_on_and_off_while_calls_wait() {
    let settings = [
        "admin.runtime-config.enabled=true",
        "sync-queue.max-queue-wait=100ms",
        "sync-queue.max-estimated-wait=100ms",
    ];
    let server = Server::start(&settings);
    let (function, gate) = gated();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut clients = fill(&server, &gate, 1);
    let mut waiting = clients.pop().expect("one waits");
    let switch = |on: bool| {
        let response = server.send("PUT", "/v1/admin/runtime-config", &json!({ "syncQueueEnabled": on }));
        assert_eq!(response.status, 200, "{}", response.text());
    };
    switch(true);
    rejected(&waiting.read().expect("an answer"), "timeout");
    switch(false);
    let mut late = server.begin("f", &[("x-timeout-ms", "500")], json!(0));
    assert_eq!(late.read().expect("an answer").status, 408);
    finish(&gate, clients);
}
