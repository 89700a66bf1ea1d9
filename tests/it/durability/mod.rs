//! What survives the end of a server: a kill, a power failure that tears the last record, a disk that fills up.

mod damage;
mod disk;
mod doors;
mod restart;
mod results;
mod upgrade;

use serde_json::{Value, json};

use crate::support::{Client, Server};

/// Settings of every server here.
const ON: &str = "async-queue.enabled=true";

/// Accepts a call; its execution's id.
#[track_caller]
fn enqueue(server: &Server, function: &str, input: Value) -> String {
    let response =
        server.send("POST", &format!("/v1/functions/{function}:enqueue"), &json!({ "input": input }));
    assert_eq!(response.status, 202, "{}", response.text());
    response.json()["executionId"].as_str().expect("an id").to_owned()
}

/// The same with a key.
#[track_caller]
fn enqueue_once(client: &mut Client, function: &str, key: &str, input: Value) -> String {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = json!({ "input": input }).to_string();
    let response =
        client.send("POST", &format!("/v1/functions/{function}:enqueue"), &headers, body.as_bytes());
    assert_eq!(response.status, 202, "{}", response.text());
    response.json()["executionId"].as_str().expect("an id").to_owned()
}

/// Has everything on disk that was written so far: ends are written without anybody waiting for it.
fn settle(server: &Server) {
    server.register(json!({ "name": "settled", "executionMode": "LOCAL" }));
}

/// Ids of the dead letters of a function, newest first.
fn letters(server: &Server, function: &str) -> Vec<String> {
    let response = server.get(&format!("/v1/functions/{function}/dead-letters"));
    assert_eq!(response.status, 200, "{}", response.text());
    let id = |letter: &Value| letter["executionId"].as_str().expect("an id").to_owned();
    response.json().as_array().expect("a list").iter().map(id).collect()
}
