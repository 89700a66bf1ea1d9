//! Logs that are not as they were written.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{ON, enqueue};
use crate::support::{DataDir, Server, eventually};

/// A killed server's directory with one execution after the other in its log, and the file that they are in. It never had
/// the time to say how far everything is on disk.
fn filled(data: &DataDir) -> (Vec<String>, PathBuf) {
    let server = Server::durable(data, &[ON]);
    let head = data.path().join("store/HEAD");
    let known = fs::read(&head).expect("it is there");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let ids = (0..20).map(|number| {
        let id = enqueue(&server, "f", json!(number));
        server.ended(&id);
        id
    });
    let ids = ids.collect();
    server.kill();
    fs::write(head, known).expect("writable");
    (ids, data.log_files().remove(0))
}

fn whole(data: &DataDir) -> (bool, Value) {
    let store = data.store("verify");
    let answer: Value = serde_json::from_slice(&store.stdout).unwrap_or_else(|_| panic!("{store:?}"));
    assert_eq!(store.status.success(), answer["whole"] == json!(true), "{store:?}");
    (store.status.success(), answer)
}

#[test]
fn a_torn_last_record_is_cut_off() {
    let before = DataDir::new();
    let (ids, file) = filled(&before);
    let bytes = fs::read(&file).expect("readable");
    for cut in [3, 11, 20] {
        let data = DataDir::copy_of(before.path());
        fs::write(&data.log_files()[0], &bytes[..bytes.len() - cut]).expect("writable");
        let (sound, told) = whole(&data);
        assert!(sound && told["faults"][0]["torn"] == json!(true), "{told}");
        let offset = told["faults"][0]["offset"].as_u64().expect("a number") as usize;
        let server = Server::durable(&data, &[ON]);
        for id in &ids[..19] {
            assert_eq!(server.execution(id)["status"], "success");
        }
        // The end of the last one may have been cut off: then it runs again.
        assert_eq!(server.ended(&ids[19])["status"], "success");
        server.logged(&["torn", "calls that were accepted in that moment are lost"]);
        let copy = fs::read(data.path().join("store/TORN")).expect("what was cut off is kept");
        assert_eq!(copy, &bytes[offset..bytes.len() - cut]);
        let id = enqueue(&server, "f", json!("more"));
        server.ended(&id);
        server.kill();
        assert!(whole(&data).0);
    }
}

#[test]
fn a_bit_of_the_last_record_is_not_taken_for_a_torn_end() {
    let data = DataDir::new();
    let (_, file) = filled(&data);
    let mut bytes = fs::read(&file).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    assert!(code == Some(1) && log.contains("is corrupt at offset "), "{code:?}: {log}");
    assert_eq!(fs::read(&file).expect("it is there"), bytes, "nothing was cut off");
}

#[test]
fn what_was_on_disk_when_the_server_rested_or_ended_may_not_be_cut() {
    for ends in [false, true] {
        let data = DataDir::new();
        let mut server = Server::durable(&data, &[ON]);
        let head = || fs::read_to_string(data.path().join("store/HEAD")).expect("it is there");
        let first = head();
        server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
        if ends {
            server.signal("TERM");
            assert_eq!(server.wait(), Some(0));
            assert!(head().contains("state closed"), "{}", head());
        } else {
            eventually("it rests", || head() != first);
            server.kill();
        }
        let file = data.log_files().remove(0);
        let bytes = fs::read(&file).expect("readable");
        fs::write(&file, &bytes[..bytes.len() - 3]).expect("writable");
        let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
        assert!(code == Some(1) && log.contains("is corrupt at offset "), "{code:?}: {log}");
    }
}

/// What a caller can know of the format: everything but the key of the file.
fn frames_of(data: &DataDir) -> Vec<u8> {
    fs::read(&data.log_files()[0]).expect("readable").split_off(128)
}

#[test]
fn a_payload_cannot_bring_anything_in() {
    let foreign = DataDir::new();
    let server = Server::durable(&foreign, &[ON]);
    for number in 0..5 {
        server.register(json!({ "name": format!("forged-{number}"), "executionMode": "LOCAL" }));
    }
    server.kill();
    let payload = frames_of(&foreign).repeat(20);

    let data = DataDir::new();
    let server = Server::durable(&data, &[ON, "background-scheduler.enabled=false"]);
    let head = fs::read(data.path().join("store/HEAD")).expect("it is there");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let safe = enqueue(&server, "f", json!(1));
    let headers = [("content-type", "application/octet-stream")];
    let response = server.client().send("POST", "/v1/functions/f:enqueue", &headers, &payload);
    assert_eq!(response.status, 202, "{}", response.text());
    server.kill();
    fs::write(data.path().join("store/HEAD"), head).expect("writable");
    let file = data.log_files().remove(0);
    let bytes = fs::read(&file).expect("readable");
    fs::write(&file, &bytes[..bytes.len() - payload.len() / 2]).expect("writable");

    let torn = DataDir::copy_of(data.path());
    assert!(torn.store("repair").status.success());
    for data in [data, torn] {
        let server = Server::durable(&data, &[ON]);
        let functions = server.get("/v1/functions").json();
        let names: Vec<_> = functions.as_array().expect("a list").iter().map(|spec| &spec["name"]).collect();
        assert_eq!(names, [&json!("f")]);
        assert_eq!(server.ended(&safe)["output"], 1);
    }
}

#[test]
fn payloads_full_of_headers_do_not_delay_a_start() {
    let foreign = DataDir::new();
    let server = Server::durable(&foreign, &[ON]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.kill();
    // The head of a frame of any length, again and again.
    let head: Vec<u8> = [&[0, 0, 1, 0, 0, 0, 0, 0][..], &frames_of(&foreign)[8..40]].concat();
    let payload: Vec<u8> = head.iter().copied().cycle().take(1_000_000).collect();
    let data = DataDir::new();
    let server = Server::durable(&data, &[ON, "background-scheduler.enabled=false"]);
    let known = fs::read(data.path().join("store/HEAD")).expect("it is there");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let headers = [("content-type", "application/octet-stream")];
    for _ in 0..20 {
        let response = server.client().send("POST", "/v1/functions/f:enqueue", &headers, &payload);
        assert_eq!(response.status, 202, "{}", response.text());
    }
    server.kill();
    fs::write(data.path().join("store/HEAD"), known).expect("writable");
    // The header of the first of them is gone, so that everything behind it has to be looked at.
    let file = data.log_files().remove(0);
    let mut bytes = fs::read(&file).expect("readable");
    let first = bytes.windows(head.len()).position(|window| window == head).expect("it is in there");
    bytes[first - 300..first].fill(0);
    bytes.truncate(bytes.len() - 1_500_000);
    fs::write(&file, &bytes).expect("writable");
    let began = std::time::Instant::now();
    let (sound, told) = whole(&data);
    assert!(!sound, "{told}");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_corrupt_record_stops_the_start_until_it_is_repaired() {
    let data = DataDir::new();
    let (ids, file) = filled(&data);
    let mut bytes = fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&file, &bytes).expect("writable");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    let name = file.display().to_string();
    assert!(
        code == Some(1) && log.contains("is corrupt at offset ") && log.contains(&name),
        "{code:?}: {log}"
    );
    let offset: usize = log
        .split("at offset ")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{log}"));
    assert!(offset <= middle && middle - offset < 1000, "{offset} for {middle}");
    let (sound, told) = whole(&data);
    assert!(
        !sound && told["faults"][0]["offset"] == json!(offset) && told["faults"][0]["file"] == json!(name)
    );
    assert_eq!(fs::read(&file).expect("it is there"), bytes, "looking changes nothing");

    let repair = data.store("repair");
    assert!(repair.status.success(), "{repair:?}");
    let answer: Value = serde_json::from_slice(&repair.stdout).expect("JSON");
    let backup = answer["repairs"][0]["backup"].as_str().expect("a copy");
    assert_eq!(fs::read(backup).expect("the copy is there"), bytes);
    assert!(whole(&data).0);
    let server = Server::durable(&data, &[ON]);
    let lost = ids.iter().filter(|id| server.get(&format!("/v1/executions/{id}")).status == 404).count();
    assert!(lost <= 1, "one record was broken, and {lost} of {} executions are gone", ids.len());
}

#[test]
fn a_file_of_the_log_that_is_gone_is_noticed() {
    let data = DataDir::new();
    let (_, file) = filled(&data);
    Server::durable(&data, &[ON]).kill();
    fs::remove_file(&file).expect("it is there");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    let name = file.display().to_string();
    assert!(
        code == Some(1) && log.contains("is missing from the log") && log.contains(&name),
        "{code:?}: {log}"
    );
}

#[test]
fn the_newest_file_of_the_log_is_missed() {
    let data = DataDir::new();
    let (ids, file) = filled(&data);
    let server = Server::durable(&data, &[ON]);
    enqueue(&server, "f", json!("newest"));
    server.kill();
    let newest = data.log_files().pop().expect("a file");
    assert_ne!(newest, file);
    fs::remove_file(&newest).expect("it is there");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    let name = newest.display().to_string();
    assert!(
        code == Some(1) && log.contains("is missing from the log") && log.contains(&name),
        "{code:?}: {log}"
    );
    let (sound, told) = whole(&data);
    assert!(!sound && told["faults"][0]["file"] == json!(name), "{told}");
    // Who has no copy of it can go on with what is left.
    assert!(data.store("repair").status.success());
    assert!(whole(&data).0);
    let server = Server::durable(&data, &[ON]);
    assert_eq!(server.execution(&ids[0])["status"], "success");
}

#[test]
fn a_closed_file_that_was_cut_is_noticed() {
    let data = DataDir::new();
    let (_, file) = filled(&data);
    Server::durable(&data, &[ON]).kill();
    let bytes = fs::read(&file).expect("readable");
    // To its header; to 32 bytes.
    for length in [128, 32] {
        fs::write(&file, &bytes[..length]).expect("writable");
        let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
        assert!(code == Some(1) && log.contains("is corrupt at offset "), "{code:?}: {log}");
        assert!(!whole(&data).0);
    }
}

#[test]
fn a_store_is_counted_and_compacted() {
    let data = DataDir::new();
    let settings = [ON, "executions.accepted-ttl=1ms", "background-scheduler.enabled=false"];
    let server = Server::durable(&data, &settings);
    server.register(json!({ "name": "kept", "executionMode": "LOCAL" }));
    server.register(json!({ "name": "gone", "executionMode": "LOCAL" }));
    let forgotten = (0..20).map(|_| enqueue(&server, "gone", json!("x".repeat(1000)))).collect::<Vec<_>>();
    let id = enqueue(&server, "kept", json!(7));
    for id in &forgotten {
        let cancelled = server.send("DELETE", &format!("/v1/executions/{id}"), &Value::Null);
        assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    }
    let removed = server.send("DELETE", "/v1/functions/gone", &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.text());
    eventually("they are forgotten", || {
        forgotten.iter().all(|id| server.get(&format!("/v1/executions/{id}")).status == 404)
    });
    // Behind it, what was forgotten is written down.
    enqueue(&server, "kept", json!(8));
    server.kill();

    let stats = || serde_json::from_slice::<Value>(&data.store("stats").stdout).expect("JSON");
    let before = stats();
    assert_eq!((&before["functions"], &before["queued"]), (&json!(1), &json!(2)), "{before}");
    assert_eq!(before["queuedByFunction"], json!({ "kept": 2 }));
    let compacted = data.store("compact");
    assert!(compacted.status.success(), "{compacted:?}");
    let after = stats();
    assert_eq!((&after["functions"], &after["queued"], &after["files"]), (&json!(1), &json!(2), &json!(1)));
    // Twenty payloads of 1000 bytes are gone. The epochs of 256 partitions, 14 bytes each, stay.
    assert!(after["bytes"].as_u64() < Some(6000), "{before} became {after}");
    assert!(whole(&data).0);
    let server = Server::durable(&data, &[ON]);
    assert_eq!(server.ended(&id)["output"], 7);
}
