//! Stores that an earlier version wrote.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{ON, letters};
use crate::support::{Client, DataDir, Server};

/// Whatever is in the store stays, however long ago it was written.
const FOR_EVER: [&str; 3] = ["executions.ttl=8760h", "executions.payload-ttl=8760h", "idempotency.ttl=8760h"];

/// A store of that format with every kind of record in it: see the README beside it.
fn old(format: u32) -> (DataDir, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-{format}"));
    let expected = fs::read(folder.join("expected.json")).expect("readable");
    (DataDir::copy_of(&folder), serde_json::from_slice(&expected).expect("JSON"))
}

fn stats(data: &DataDir) -> Value {
    serde_json::from_slice(&data.store("stats").stdout).expect("JSON")
}

#[test]
fn a_store_of_format_1_opens_with_everything_in_it() {
    opens_with_everything_in_it(1);
}

#[test]
fn a_store_of_format_2_that_an_earlier_version_wrote_opens_with_everything_in_it() {
    opens_with_everything_in_it(2);
}

#[track_caller]
fn opens_with_everything_in_it(format: u32) {
    let (data, expected) = old(format);
    let verified = data.store("verify");
    assert!(verified.status.success(), "{verified:?}");
    let before = stats(&data);
    for (what, count) in [("functions", 4), ("queued", 4), ("finished", 9), ("deadLetters", 1)] {
        assert_eq!(before[what], json!(count), "{what} of {before}");
    }
    let settings: Vec<&str> =
        [ON, "background-scheduler.enabled=false"].into_iter().chain(FOR_EVER).collect();
    for _ in 0..2 {
        let server = Server::durable(&data, &settings);
        look(&server, &expected);
        // It goes on, and another server finds what it wrote.
        let registered = server.get("/v1/functions/later").status;
        if registered == 404 {
            server.register(json!({ "name": "later", "executionMode": "LOCAL" }));
        }
        server.kill();
        let format = fs::read_to_string(data.path().join("store/FORMAT")).expect("readable");
        assert_eq!(format, "nanofaas-store 2\n");
    }
    let compacted = data.store("compact");
    assert!(compacted.status.success(), "{compacted:?}");
    let server = Server::durable(&data, &settings);
    look(&server, &expected);
    assert_eq!(server.get("/v1/functions/later").status, 200);
}

/// Everything that was in it is there.
#[track_caller]
fn look(server: &Server, expected: &Value) {
    let id = |name: &str| expected[name].as_str().expect("an id").to_owned();
    let functions = server.get("/v1/functions").json();
    let mut names: Vec<_> =
        functions.as_array().expect("a list").iter().filter_map(|spec| spec["name"].as_str()).collect();
    names.sort_unstable();
    names.retain(|name| *name != "later");
    assert_eq!(names, ["again", "old", "pool", "slow"]);
    assert_eq!(server.get("/v1/functions/again").json()["concurrency"], 7);
    for (name, before) in expected["statuses"].as_object().expect("an object") {
        let mut now = server.execution(&id(name));
        if name == "interrupted" || name == "interrupted2" {
            // What was running waits again; its attempt keeps its number.
            assert_eq!((&now["status"], &before["status"]), (&json!("queued"), &json!("running")));
            continue;
        }
        // This version may say more.
        now.as_object_mut().expect("an object").retain(|key, _| before.get(key).is_some());
        if now["status"] == "queued" {
            // Numbers that servers before may have used are left out.
            assert!(now["attempt"].as_u64() >= before["attempt"].as_u64(), "{name}: {now}");
            now["attempt"] = before["attempt"].clone();
        }
        assert_eq!(now, *before, "{name}");
    }
    assert_eq!(letters(server, "pool"), [id("dead")]);
    let mut client = server.client();
    for (key, name, input) in [
        ("key-1", "keyed", "with a key"),
        ("key-2", "kept", "sync first"),
        ("key-3", "after_full", "after the full disk"),
    ] {
        assert_eq!(enqueue_again(&mut client, "pool", key, input), id(name), "{key}");
    }
    assert_eq!(enqueue_again(&mut client, "slow", "key-4", "waits"), id("queued"));
}

/// Repeats a call byte by byte, as it was sent then; its execution's id.
fn enqueue_again(client: &mut Client, function: &str, key: &str, input: &str) -> String {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = format!("{{\"input\": \"{input}\"}}");
    let path = format!("/v1/functions/{function}:enqueue");
    let response = client.send("POST", &path, &headers, body.as_bytes());
    assert_eq!(response.status, 202, "{key}: {}", response.text());
    response.json()["executionId"].as_str().expect("an id").to_owned()
}

#[test]
fn an_old_store_that_was_torn_goes_on_and_takes_nothing_from_a_payload() {
    let (data, _) = old(1);
    let file = data.log_files().pop().expect("a file");
    let bytes = fs::read(&file).expect("readable");
    fs::write(&file, &bytes[..bytes.len() - 5]).expect("writable");
    let server = Server::durable(&data, &[ON]);
    server.logged(&["torn"]);
    server.kill();
    assert!(data.store("verify").status.success());

    // A bit of one in the middle is no torn end.
    let (data, _) = old(1);
    let file = data.log_files().pop().expect("a file");
    let mut bytes = fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    assert!(code == Some(1) && log.contains("is corrupt at offset "), "{code:?}: {log}");
    assert!(data.store("repair").status.success());
    assert!(data.store("verify").status.success());
    Server::durable(&data, &[ON]).kill();
}
