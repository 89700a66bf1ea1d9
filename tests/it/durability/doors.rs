//! Who may use a data directory, and what is said while it is being read.

use std::fs;

use serde_json::json;

use super::{ON, enqueue};
use crate::support::{Client, DataDir, Server, eventually};

#[test]
fn a_directory_is_used_by_one_server() {
    let data = DataDir::new();
    let server = Server::durable(&data, &[ON]);
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    let path = data.path().display().to_string();
    assert!(code == Some(1) && log.contains("in use") && log.contains(&path), "{code:?}: {log}");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let store = data.store("stats");
    assert!(String::from_utf8_lossy(&store.stderr).contains("in use"), "{store:?}");
}

#[test]
fn a_server_waits_for_the_one_before_if_it_is_told_to() {
    let data = DataDir::new();
    let start = |wait: &str| {
        let wait = format!("data-dir-wait={wait}");
        Server::start_up("serve", &[ON, &wait], "true", Some(&data))
    };
    let first = Server::durable(&data, &[ON]);
    first.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let impatient = start("200ms");
    let (code, log) = impatient.end();
    assert!(
        code == Some(1) && log.contains("waiting for its end") && log.contains("in use"),
        "{code:?}: {log}"
    );
    let waits = start("60s");
    waits.logged("waiting for its end");
    // A signal ends the wait.
    let told_to_end = start("60s");
    told_to_end.logged("waiting for its end");
    told_to_end.terminate();
    assert_eq!(told_to_end.end().0, Some(0));
    first.kill();
    assert_eq!(waits.ready().get("/v1/functions/f").status, 200);
}

#[test]
fn a_directory_that_cannot_be_written_stops_the_start() {
    let data = DataDir::new();
    // Also for root, whom permissions do not stop.
    fs::write(data.path(), "a file").expect("writable");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    let path = data.path().display().to_string();
    assert!(code == Some(1) && log.contains("cannot be written") && log.contains(&path), "{code:?}: {log}");
    fs::remove_file(data.path()).expect("it is there");
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let data = DataDir::new();
    Server::durable(&data, &[ON]).kill();
    let path = data.path().join("store/FORMAT");
    for other in ["nanofaas-store 3\n", "something else"] {
        fs::write(&path, other).expect("writable");
        let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
        assert!(code == Some(1) && log.contains(other.trim()), "{code:?}: {log}");
        assert!(log.contains("FORMAT") && log.contains("nothing was changed"), "{log}");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), other);
    }
    // A file of the log says it too.
    fs::write(&path, "nanofaas-store 2\n").expect("writable");
    let file = data.log_files().remove(0);
    let mut bytes = fs::read(&file).expect("readable");
    bytes[8] = 9;
    fs::write(&file, &bytes).expect("writable");
    let (code, log) = Server::start_up("serve", &[ON], "true", Some(&data)).end();
    assert!(code == Some(1) && log.contains("format '9'"), "{code:?}: {log}");
    assert_eq!(fs::read(&file).expect("it is there"), bytes);
}

#[test]
fn a_start_that_meets_a_failing_disk_goes_on_when_it_works_and_readiness_says_why() {
    let data = DataDir::new();
    let server = Server::durable(&data, &[ON]);
    server.register(json!({ "name": "other", "executionMode": "LOCAL" }));
    server.kill();
    let server = Server::durable(&data, &[ON]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let id = enqueue(&server, "f", json!(1));
    server.kill();
    // What cannot be read now, but may be in a moment.
    let first = data.log_files().remove(0);
    let aside = data.path().join("aside");
    fs::rename(&first, &aside).expect("it is there");
    fs::create_dir(&first).expect("a directory");

    let starting = Server::start_up("serve", &[ON], "true", Some(&data));
    let mut management = None;
    eventually("it says where it is managed", || {
        let log = starting.log();
        let mut events =
            log.iter().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let told = events.find(|event| event["message"] == "recovering");
        management = told.and_then(|event| event["management"].as_str()?.parse().ok());
        management.is_some()
    });
    let management = management.expect("an address");
    let name = first.display().to_string();
    for path in ["/actuator/health/readiness", "/actuator/health"] {
        eventually("it says what is in the way", || {
            let response = Client::connect(management).send("GET", path, &[], b"");
            let body = response.json();
            assert_eq!((response.status, &body["status"]), (503, &json!("OUT_OF_SERVICE")));
            let details = body["details"].as_str().unwrap_or_default();
            assert!(details.starts_with("recovering, "), "{body}");
            details.contains(&name) && details.contains("cannot be read")
        });
    }
    let liveness = Client::connect(management).send("GET", "/actuator/health/liveness", &[], b"");
    assert_eq!(liveness.status, 200);
    fs::remove_dir(&first).expect("it is empty");
    fs::rename(&aside, &first).expect("it is there");
    let server = starting.ready();
    assert_eq!(server.manage("/actuator/health/readiness").json(), json!({ "status": "UP" }));
    assert_eq!(server.ended(&id)["status"], "success");
}
