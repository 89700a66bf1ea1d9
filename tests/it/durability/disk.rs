//! A disk that fills up: here, a limit on the length of files, which anybody may set and lift again.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use super::{ON, enqueue};
use crate::support::{DataDir, Server, eventually};

#[test]
fn a_full_disk_refuses_what_must_be_safe_and_nothing_else() {
    let data = DataDir::new();
    // 64 blocks of 512 bytes, or of 1024: shells differ.
    let mut server = Server::durable_limited(&data, &[ON], "ulimit -S -f 64");
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let mut accepted = Vec::new();
    eventually("the disk is full", || {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": "x".repeat(1000) }));
        match response.status {
            202 => accepted.push(response.json()["executionId"].as_str().expect("an id").to_owned()),
            _ => {
                response.expect_error(503, "STORE_UNAVAILABLE");
                return true;
            }
        }
        false
    });
    assert_eq!(server.metric("nanofaas_store_refusing"), 1.0);
    // Again, and functions neither come nor go.
    let refused = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    refused.expect_error(503, "STORE_UNAVAILABLE");
    let refused = server.send("POST", "/v1/functions", &json!({ "name": "g", "executionMode": "LOCAL" }));
    refused.expect_error(503, "STORE_UNAVAILABLE");
    assert_eq!(server.get("/v1/functions/g").status, 404);
    let refused = server.send("DELETE", "/v1/functions/f", &Value::Null);
    refused.expect_error(503, "STORE_UNAVAILABLE");
    // Synchronous calls go on. What was accepted runs, and how it ended is told when that can be written down.
    let response = server.invoke("f", json!(5));
    assert_eq!((response.status, &response.json()["output"]), (200, &json!(5)));
    let newest = accepted.last().expect("some were accepted").clone();
    let status = server.get(&format!("/v1/executions/{newest}?wait=100ms")).json();
    assert!(["running", "success"].contains(&status["status"].as_str().expect("a status")), "{status}");

    lift_limit(&server);
    for id in &accepted {
        assert_eq!(server.ended(id)["status"], "success");
    }
    eventually("the store takes records again", || {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 2 }));
        if response.status == 202 {
            accepted.push(response.json()["executionId"].as_str().expect("an id").to_owned());
        }
        response.status == 202
    });
    server.register(json!({ "name": "g", "executionMode": "LOCAL" }));
    assert_eq!(server.metric("nanofaas_store_refusing"), 0.0);
    let metrics = ["nanofaas_store_commits_total", "nanofaas_store_written_bytes_total"];
    let [commits, bytes] = metrics.map(|name| server.metric(name));
    accepted.push(enqueue(&server, "g", json!(3)));
    // The record of the acceptance takes 59 bytes with its frame; what ends the execution is written in its own time.
    assert!(server.metric(metrics[0]) > commits && server.metric(metrics[1]) >= bytes + 59.0);
    server.signal("KILL");
    assert_eq!(server.wait(), None);

    let server = Server::durable(&data, &[ON]);
    for id in &accepted {
        assert_eq!(server.ended(id)["status"], "success");
    }
    assert_eq!(server.get("/v1/functions").json().as_array().map(Vec::len), Some(2));
    eventually("the size of the store is told", || server.metric("nanofaas_store_bytes") == log_bytes(&data));
}

/// Length of all files of the log.
fn log_bytes(data: &DataDir) -> f64 {
    let files = std::fs::read_dir(data.path().join("store")).expect("a folder");
    let logs = files
        .map(|file| file.expect("a file"))
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|file| file.metadata().expect("a length").len() as f64).sum()
}

#[test]
fn a_server_starts_on_a_full_disk_and_gives_back_what_is_there() {
    let data = DataDir::new();
    let server = Server::durable(&data, &[ON, "background-scheduler.enabled=false"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let waiting = enqueue(&server, "f", json!(1));
    server.kill();

    for _ in 0..2 {
        let server = Server::durable_limited(&data, &[ON], "ulimit -S -f 0");
        server.logged(&["cannot be written"]);
        // It runs when it is on disk that there is another server.
        assert_eq!(server.execution(&waiting)["status"], "queued");
        let refused = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 2 }));
        refused.expect_error(503, "STORE_UNAVAILABLE");
        assert_eq!(server.invoke("f", json!(3)).status, 200);
        server.kill();
    }

    let server = Server::durable_limited(&data, &[ON], "ulimit -S -f 0");
    lift_limit(&server);
    let mut accepted = vec![waiting];
    eventually("the store takes records", || {
        let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 4 }));
        if response.status == 202 {
            accepted.push(response.json()["executionId"].as_str().expect("an id").to_owned());
        }
        response.status == 202
    });
    server.kill();
    let server = Server::durable(&data, &[ON]);
    for id in &accepted {
        assert_eq!(server.ended(id)["status"], "success");
    }
}

/// There is room again.
fn lift_limit(server: &Server) {
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: maximum, maximum }).expect("our own process");
}
