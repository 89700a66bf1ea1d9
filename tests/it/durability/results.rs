//! Results of accepted calls that memory does not hold are read from disk, however the server came to be.

use serde_json::{Value, json};

use super::{ON, enqueue, enqueue_once, settle};
use crate::support::{DataDir, Server, eventually};

const CALLS: usize = 300;
/// Bytes of results in memory that a server may hold, and that one of them has.
const MEMORY_BYTES: usize = 100_000;
const RESULT_BYTES: usize = 10_000;

/// One worker: one shard has all of the memory.
const SETTINGS: [&str; 4] = [ON, "workers=1", "executions.max-bytes=100000", "rate.max-per-second=0"];

fn result(number: usize) -> Value {
    json!(format!("{number} {}", "x".repeat(RESULT_BYTES)))
}

/// Checks that all results can be read, and that memory holds few of them.
#[track_caller]
fn all_can_be_read(server: &Server, ids: &[String]) {
    for (number, id) in ids.iter().enumerate() {
        let execution = server.ended(id);
        assert_eq!(execution["status"], "success", "{execution}");
        assert!(execution["output"] == result(number), "{number} has another result");
    }
    let bytes = |name: &str| server.metric(&format!("nanofaas_shard_{name}{{shard=\"0\"}}")) as usize;
    eventually("memory holds few of them", || bytes("retained_bytes") <= MEMORY_BYTES);
    let on_disk = bytes("retained_disk_bytes");
    assert!(on_disk >= CALLS * RESULT_BYTES - MEMORY_BYTES, "{on_disk} bytes are on disk");
}

#[test]
fn results_beyond_memory_are_read_from_disk_also_after_a_kill_and_a_compaction() {
    let data = DataDir::new();
    let server = Server::durable(&data, &SETTINGS);
    server.register(json!({ "name": "f", "executionMode": "LOCAL", "concurrency": 10, "queueSize": 1000 }));
    let mut client = server.client();
    let first = enqueue_once(&mut client, "f", "k", result(0));
    let others = (1..CALLS).map(|number| enqueue(&server, "f", result(number)));
    let ids: Vec<String> = std::iter::once(first).chain(others).collect();
    all_can_be_read(&server, &ids);
    // Who repeats a key is told the result as well.
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let body = json!({ "input": result(0) }).to_string();
    let again = client.send("POST", "/v1/functions/f:invoke", &headers, body.as_bytes());
    assert_eq!(again.status, 200, "{}", again.text());
    assert!(again.json()["output"] == result(0), "another result");
    settle(&server);
    server.kill();

    let server = Server::durable(&data, &SETTINGS);
    all_can_be_read(&server, &ids);
    server.kill();

    let compacted = data.store("compact");
    assert!(compacted.status.success(), "{compacted:?}");
    let server = Server::durable(&data, &SETTINGS);
    all_can_be_read(&server, &ids);
}

#[test]
fn what_may_not_be_on_disk_only_is_forgotten_when_memory_is_full() {
    let data = DataDir::new();
    let server = Server::durable(&data, &[&SETTINGS[..], &["executions.max-disk-bytes=0"]].concat());
    server.register(json!({ "name": "f", "executionMode": "LOCAL", "concurrency": 1, "queueSize": 1000 }));
    let ids: Vec<String> = (0..30).map(|number| enqueue(&server, "f", result(number))).collect();
    eventually("the newest can be read", || {
        server.get(&format!("/v1/executions/{}", ids[29])).json()["status"] == "success"
    });
    server.get(&format!("/v1/executions/{}", ids[0])).expect_error(404, "NOT_FOUND");
}
