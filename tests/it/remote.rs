//! Functions of mode REMOTE: a job for each attempt, end to end. What backends do with a job is tested in `tests/backends`.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Client, DataDir, Server, eventually};

/// Answers with its input.
const ECHO: &str = "python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)[\"input\"]))'";

/// The same, when there is a file `go`.
const GATED: &str = "sh -c 'while [ ! -e go ]; do sleep 0.05; done; echo 7'";

/// Registers the function `f` with these further fields.
#[track_caller]
fn register(server: &Server, command: &str, fields: Value) -> Value {
    let mut spec =
        json!({ "name": "f", "executionMode": "REMOTE", "runtimeMode": "STDIO", "runtimeCommand": command });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.register(spec)
}

#[track_caller]
fn enqueue(server: &Server) -> String {
    let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    assert_eq!(response.status, 202, "{}", response.text());
    response.header("x-execution-id").unwrap().to_owned()
}

fn jobs_created(server: &Server) -> f64 {
    server.metric("nanofaas_job_created_total{function=\"f\"}")
}

/// The guard of each job is a child of the server, whatever thread started it.
fn jobs_of(server: &Server) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    lists.flatten().map(|list| list.split_whitespace().count()).sum()
}

/// Processes with this working directory.
fn processes_in(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let links = all.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    links.filter(|directory| directory == folder).count()
}

/// A working directory of jobs, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("remote-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path.canonicalize().unwrap())
    }

    fn let_go(&self) {
        std::fs::write(self.0.join("go"), "").unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_call_is_a_job_whose_callback_answers_it() {
    let server = Server::dev(&[]);
    let registered = register(&server, ECHO, json!({}));
    assert_eq!(registered["deploymentBackend"], "process");
    assert_eq!(registered["effectiveExecutionMode"], "REMOTE");
    assert_eq!(jobs_of(&server), 0, "nothing runs before a call");
    let response = server.invoke("f", json!({ "x": [1] }));
    assert_eq!((response.status, &response.json()["output"]), (200, &json!({ "x": [1] })));
    server.logged(&["a job was created"]);
    // Its environment does not hold this.
    let long = "x".repeat(200_000);
    assert_eq!(server.invoke("f", json!(long)).json()["output"], long);
    let id = enqueue(&server);
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!(1)));
    assert_eq!(jobs_created(&server), 3.0);
    let scaled = server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 2 }));
    assert_eq!(scaled.status, 400, "{}", scaled.text());
    eventually("no job is left", || jobs_of(&server) == 0);
}

#[test]
fn a_failure_that_the_job_reports_is_that_of_the_function() {
    let server = Server::dev(&[]);
    register(&server, "sh -c 'echo the reason >&2; exit 3'", json!({ "maxRetries": 1 }));
    let status = server.ended(&enqueue(&server));
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(1)));
    assert!(status["error"]["message"].to_string().contains("the reason"), "{status}");
    assert_eq!(jobs_created(&server), 1.0);
}

#[test]
fn a_job_that_ends_without_a_callback_fails_its_attempt() {
    let server = Server::dev(&[]);
    let kills_its_watchdog = "sh -c 'echo the reason >&2; sleep 0.5; kill -9 $PPID'";
    register(&server, kills_its_watchdog, json!({ "maxRetries": 2 }));
    let status = server.ended(&enqueue(&server));
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(2)));
    assert_eq!(status["error"]["code"], "JOB_FAILED", "{status}");
    for part in ["exit status: 137", "the reason"] {
        assert!(status["error"]["message"].to_string().contains(part), "{part} in {status}");
    }
    assert_eq!(jobs_created(&server), 2.0);
    assert_eq!(server.metric("function_orphaned_total{function=\"f\"}"), 0.0);
}

#[test]
fn a_job_that_cannot_be_created_fails_its_attempt() {
    let server = Server::dev(&[]);
    register(&server, "no-such-program", json!({ "maxRetries": 2 }));
    let status = server.ended(&enqueue(&server));
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(2)));
    assert_eq!(status["error"]["code"], "JOB_CREATE_FAILED", "{status}");
    assert!(status["error"]["message"].to_string().contains("'no-such-program' was not found"), "{status}");
    assert_eq!(jobs_created(&server), 0.0);
}

#[test]
fn a_job_takes_json_only() {
    let server = Server::dev(&[]);
    register(&server, ECHO, json!({ "maxRetries": 3 }));
    let path = "/v1/functions/f:enqueue";
    let response = Client::connect(server.api).send("POST", path, &[("content-type", "text/plain")], b"1");
    assert_eq!(response.status, 202, "{}", response.text());
    let status = server.ended(response.header("x-execution-id").unwrap());
    assert_eq!((&status["error"]["code"], &status["attempt"]), (&json!("JOB_CREATE_FAILED"), &json!(1)));
}

#[test]
fn a_job_without_a_callback_by_its_deadline_is_ended() {
    let (server, folder) = (Server::dev(&[]), Folder::new("deadline"));
    register(&server, GATED, json!({ "timeoutMs": 700, "maxRetries": 1, "workingDir": folder.0 }));
    let id = enqueue(&server);
    assert_eq!(server.ended(&id)["status"], "timeout");
    assert_eq!(server.metric("function_orphaned_total{function=\"f\"}"), 1.0);
    eventually("the job is gone", || jobs_of(&server) == 0 && processes_in(&folder.0) == 0);
    assert_eq!(jobs_created(&server), 1.0);
}

#[test]
fn the_job_of_a_caller_whose_time_is_over_is_ended() {
    let (server, folder) = (Server::dev(&[]), Folder::new("caller"));
    register(&server, GATED, json!({ "concurrency": 1, "workingDir": folder.0 }));
    let path = "/v1/functions/f:invoke";
    let headers = [("content-type", "application/json"), ("x-timeout-ms", "700")];
    let response = Client::connect(server.api).send("POST", path, &headers, b"{\"input\":1}");
    assert_eq!(response.status, 408, "{}", response.text());
    eventually("the job is gone", || jobs_of(&server) == 0 && processes_in(&folder.0) == 0);
    // Its slot is free.
    folder.let_go();
    assert_eq!(server.invoke("f", json!(1)).json()["output"], 7);
}

#[test]
fn removing_a_function_ends_its_jobs() {
    let (server, folder) = (Server::dev(&[]), Folder::new("removed"));
    register(&server, GATED, json!({ "concurrency": 1, "workingDir": folder.0 }));
    let (running, waiting) = (enqueue(&server), enqueue(&server));
    eventually("the job runs", || processes_in(&folder.0) > 0);
    let removed = server.send("DELETE", "/v1/functions/f", &json!(null));
    assert_eq!(removed.status, 204, "{}", removed.text());
    for id in [running, waiting] {
        let status = server.ended(&id);
        assert_eq!(status["error"]["code"], "FUNCTION_REMOVED", "{status}");
    }
    eventually("the job is gone", || jobs_of(&server) == 0 && processes_in(&folder.0) == 0);
    // The name is free.
    register(&server, ECHO, json!({}));
    assert_eq!(server.invoke("f", json!(2)).json()["output"], 2);
}

#[test]
fn there_are_no_more_jobs_than_the_function_has_slots() {
    let (server, folder) = (Server::dev(&[]), Folder::new("slots"));
    register(&server, GATED, json!({ "concurrency": 2, "workingDir": folder.0 }));
    let ids: Vec<String> = (0..5).map(|_| enqueue(&server)).collect();
    // Its process is there somewhat before the shard hears of a job.
    eventually("two jobs run", || jobs_of(&server) == 2 && jobs_created(&server) >= 2.0);
    assert_eq!(jobs_created(&server), 2.0);
    assert_eq!(server.metric("function_queue_depth{function=\"f\"}"), 3.0);
    // What waits can be cancelled, what runs cannot.
    let cancel = |id: &str| server.send("DELETE", &format!("/v1/executions/{id}"), &json!(null));
    assert_eq!(cancel(&ids[4]).status, 202);
    cancel(&ids[0]).expect_error(409, "NOT_CANCELLABLE");
    folder.let_go();
    for id in &ids[..4] {
        let status = server.ended(id);
        assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!(7)), "{status}");
    }
    assert_eq!(server.ended(&ids[4])["error"]["code"], "CANCELLED");
    assert_eq!(jobs_created(&server), 4.0);
}

#[test]
fn after_a_kill_an_accepted_job_is_made_again_and_nothing_is_left_of_the_first() {
    let (data, folder) = (DataDir::new(), Folder::new("killed"));
    let server = Server::durable_dev(&data, &[]);
    register(&server, GATED, json!({ "maxRetries": 1, "workingDir": folder.0 }));
    let id = enqueue(&server);
    eventually("the job runs", || processes_in(&folder.0) > 0);
    server.kill();
    eventually("nothing is left of it", || processes_in(&folder.0) == 0);

    let server = Server::durable_dev(&data, &[]);
    eventually("the job runs again", || processes_in(&folder.0) > 0);
    // What the first one would have said comes too late.
    let path = format!("/v1/internal/executions/{id}:complete");
    let headers = [("content-type", "application/json"), ("x-dispatch-attempt", "1")];
    let late = Client::connect(server.api).send("POST", &path, &headers, br#"{"output":"old"}"#);
    assert_eq!(late.status, 204);
    assert_eq!(server.execution(&id)["status"], "running");
    folder.let_go();
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!(7)), "{status}");
    assert_eq!(status["attempt"], 2);
    assert_eq!(server.metric("function_late_completion_total{function=\"f\"}"), 1.0);
    eventually("no job is left", || jobs_of(&server) == 0);
}
