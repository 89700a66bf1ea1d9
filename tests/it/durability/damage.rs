//! Logs that are not as they were written.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{ON, enqueue};
use crate::support::{DataDir, Server};

/// A killed server's directory with one execution after the other in its log, and the file that they are in.
fn filled(data: &DataDir) -> (Vec<String>, PathBuf) {
    let server = Server::durable(data, &[ON]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let ids = (0..20).map(|number| {
        let id = enqueue(&server, "f", json!(number));
        server.ended(&id);
        id
    });
    let ids = ids.collect();
    server.kill();
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
    let data = DataDir::new();
    let (ids, file) = filled(&data);
    let bytes = fs::read(&file).expect("readable");
    for cut in [3, 11, 20] {
        fs::write(&file, &bytes[..bytes.len() - cut]).expect("writable");
        let (sound, told) = whole(&data);
        assert!(sound && told["faults"][0]["torn"] == json!(true), "{told}");
        let server = Server::durable(&data, &[ON]);
        for id in &ids[..19] {
            assert_eq!(server.execution(id)["status"], "success");
        }
        // The end of the last one may have been cut off: then it runs again.
        assert_eq!(server.ended(&ids[19])["status"], "success");
        server.logged(&["torn"]);
        let id = enqueue(&server, "f", json!("more"));
        server.ended(&id);
        server.kill();
        assert!(whole(&data).0);
        for newer in &data.log_files()[1..] {
            fs::remove_file(newer).expect("it is there");
        }
    }
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
fn a_store_is_counted_and_compacted() {
    let data = DataDir::new();
    let settings = [ON, "executions.ttl=1ms", "background-scheduler.enabled=false"];
    let server = Server::durable(&data, &settings);
    server.register(json!({ "name": "kept", "executionMode": "LOCAL" }));
    server.register(json!({ "name": "gone", "executionMode": "LOCAL" }));
    let forgotten = (0..20).map(|_| enqueue(&server, "gone", json!("x".repeat(1000)))).collect::<Vec<_>>();
    let id = enqueue(&server, "kept", json!(7));
    let removed = server.send("DELETE", "/v1/functions/gone", &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.text());
    crate::support::eventually("they are forgotten", || {
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
    assert!(after["bytes"].as_u64() < Some(4000), "{before} became {after}");
    assert!(whole(&data).0);
    let server = Server::durable(&data, &[ON]);
    assert_eq!(server.ended(&id)["output"], 7);
}
