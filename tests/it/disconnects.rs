//! Clients that leave.

use serde_json::json;

use crate::support::{Client, Function, Gate, Reply, Server, client::encode, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn thousands_that_leave_while_queued_leave_nothing_behind() {
    const CLIENTS: usize = 3000;
    const AT_ONCE: usize = 200;
    let gate = Gate::default();
    let held = gate.clone();
    let function = Function::start(move |_| {
        held.pass();
        Reply::json(json!("done"))
    });
    let server = Server::start(&[]);
    server.register(json!({
        "name": "f", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1, "queueSize": 1000,
    }));
    let depth = || server.metric("function_queue_depth{function=\"f\"}");
    let memory = || server.metric("process_resident_memory_bytes");
    let mut first = server.client();
    first.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":0}"#));
    eventually("one runs", || function.in_flight() == 1);

    let body = json!({ "input": "x".repeat(30_000) }).to_string();
    let call = encode("POST", "/v1/functions/f:invoke", &[JSON], body.as_bytes());
    let wave = || {
        let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| server.client()).collect();
        for client in &mut clients {
            client.write(&call);
        }
        eventually("all of them wait", || depth() == AT_ONCE as f64);
        drop(clients);
        eventually("none of them waits", || depth() == 0.0);
    };
    // What a wave needs is allocated once, and allocators take a few waves to settle.
    const WARM_UP: usize = 4;
    for _ in 0..WARM_UP {
        wave();
    }
    let before = memory();
    for _ in WARM_UP..CLIENTS / AT_ONCE + WARM_UP {
        wave();
    }
    // 90 MB of payloads went through the queue in the meantime.
    assert!(memory() < before + 45e6, "{before} became {}", memory());
    assert_eq!(server.metric("function_in_flight{function=\"f\"}"), 1.0);
    let executions: f64 =
        (0..2).map(|shard| server.metric(&format!("nanofaas_shard_executions{{shard=\"{shard}\"}}"))).sum();
    assert_eq!(executions, 1.0, "no record is kept of who left before anything was done");

    gate.open();
    assert_eq!(first.read().expect("an answer").json()["output"], "done");
    assert_eq!(function.calls(), 1, "nothing was done for those who left");
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn what_runs_goes_on_when_its_caller_leaves() {
    let gate = Gate::default();
    let held = gate.clone();
    let (sender, receiver) = std::sync::mpsc::channel::<String>();
    let sender = std::sync::Mutex::new(sender);
    let function = Function::start(move |call| {
        let id = call.header("x-execution-id").expect("an id").to_owned();
        sender.lock().expect("no panic").send(id).expect("the test listens");
        held.pass();
        Reply::json(json!("done"))
    });
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "POOL", "endpointUrl": function.url() }));
    let mut client = server.client();
    client.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":0}"#));
    let id = receiver.recv_timeout(crate::support::PATIENCE).expect("a call");
    drop(client);
    gate.open();
    let read = || server.get(&format!("/v1/executions/{id}")).json();
    eventually("it ends as if somebody waited", || read()["status"] == "success");
    assert_eq!(read()["output"], "done");
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}
