//! Callers that leave before their answer.

use serde_json::json;

use crate::support::{Function, Gate, Reply, Server, eventually};

#[test]
fn a_caller_that_leaves_the_queue_frees_its_place_and_is_not_called() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        door.pass();
        Reply::json(call.json()["input"].clone())
    });
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 2 }));
    let depth = || server.metric("function_queue_depth{function=\"f\"}");
    let mut running = server.begin("f", &[], json!("running"));
    gate.await_arrivals(1);
    let leaves = server.begin("f", &[], json!("leaves"));
    eventually("one waits", || depth() == 1.0);
    let mut stays = server.begin("f", &[], json!("stays"));
    eventually("two wait", || depth() == 2.0);
    drop(leaves);
    eventually("its place is free", || depth() == 1.0);
    let mut next = server.begin("f", &[], json!("next"));
    eventually("another took it", || depth() == 2.0);
    gate.open();
    for (client, output) in [(&mut running, "running"), (&mut stays, "stays"), (&mut next, "next")] {
        assert_eq!(client.read().expect("an answer").json()["output"], output);
    }
    assert_eq!(function.calls(), 3);
}

#[test]
fn an_execution_goes_on_without_its_caller_and_can_be_read_later() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let ids: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
    let seen = std::sync::Arc::clone(&ids);
    let function = Function::start(move |call| {
        seen.lock().expect("no panic").extend(call.header("x-execution-id").map(str::to_owned));
        door.pass();
        Reply::json(json!("done"))
    });
    server.pool("f", &function, json!({}));
    let client = server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    drop(client);
    let id = ids.lock().expect("no panic")[0].clone();
    assert_eq!(server.execution(&id)["status"], "running");
    gate.open();
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!("done")));
}
