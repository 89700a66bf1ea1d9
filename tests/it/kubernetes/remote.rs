//! Functions of mode REMOTE: a Job for each attempt, from the call to what is left of it. The image has the real watchdog.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Cluster, kubectl};
use crate::support::{Client, DataDir, Server, eventually};

/// Where Pods find what this program serves.
const MACHINE: &str = "10.10.0.2";
/// Never comes to an end by itself.
const STAYS: &str = "sleep 600";

impl Cluster {
    /// The setting with which jobs find a server of this program.
    fn callbacks() -> String {
        let free = TcpListener::bind((MACHINE, 0)).expect("the network of the cluster");
        format!("internal.bind={}", free.local_addr().expect("an address"))
    }

    /// A server to which jobs report.
    fn job_server(&self) -> Server {
        self.server(&[&Cluster::callbacks(), "async-queue.enabled=true"])
    }

    /// A function of mode REMOTE that runs `command`, with some fields replaced.
    fn remote(&self, command: &str, changes: Value) -> Value {
        let mut spec = self.spec(json!({
            "image": std::env::var("NANOFAAS_TEST_JOB_IMAGE").expect("the image of jobs"),
            "executionMode": "REMOTE", "runtimeMode": "STDIO", "runtimeCommand": command, "retryBackoffMs": 0,
            "resources": { "cpu": "50m", "memory": "64Mi" },
        }));
        for (field, value) in changes.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    }

    /// Jobs that are not asked to go and have not ended.
    fn jobs(&self) -> Vec<String> {
        let all: Value = serde_json::from_str(&self.kubectl(&["get", "jobs", "-o", "json"])).expect("JSON");
        let jobs = all["items"].as_array().expect("Jobs").iter();
        let live = jobs.filter(|job| {
            job["metadata"]["deletionTimestamp"].is_null() && job["status"]["conditions"].is_null()
        });
        live.map(|job| job["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits until a program of a job runs.
    fn runs(&self) {
        eventually("the program of a job runs", || {
            let running = "status.phase=Running";
            !self.kubectl(&["get", "pods", "-o", "name", "--field-selector", running]).trim().is_empty()
        });
    }

    /// Waits until no job is left, nor a Pod that runs.
    fn is_quiet(&self) {
        let running = "status.phase!=Succeeded,status.phase!=Failed";
        eventually("no job is left", || {
            self.jobs().is_empty()
                && self.kubectl(&["get", "pods", "-o", "name", "--field-selector", running]).trim().is_empty()
        });
    }
}

#[track_caller]
fn enqueue(server: &Server) -> String {
    let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    assert_eq!(response.status, 202, "{}", response.text());
    response.header("x-execution-id").expect("an id").to_owned()
}

fn created(server: &Server) -> f64 {
    server.metric("nanofaas_job_created_total{function=\"f\"}")
}

#[test]
fn a_call_is_a_job_whose_callback_answers_it() {
    let Some(cluster) = Cluster::for_test("remote") else { return };
    kubectl(&["label", "namespace", "remote", "pod-security.kubernetes.io/enforce=restricted"]);
    let server = cluster.job_server();
    let registered = server.register(cluster.remote("cat", json!({})));
    assert_eq!((&registered["deploymentBackend"], registered.get("warnings")), (&json!("k8s"), None));
    let response = server.invoke("f", json!({ "x": ["$(PATH)", "$$"] }));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["output"]["input"], json!({ "x": ["$(PATH)", "$$"] }));
    // An environment does not hold this.
    let long = "x".repeat(200_000);
    assert_eq!(server.invoke("f", json!(long)).json()["output"]["input"], long);
    let secrets =
        cluster.kubectl(&["get", "secrets", "-o", "jsonpath={.items[*].metadata.ownerReferences[*].kind}"]);
    assert_eq!(secrets.trim(), "Job");
    let status = server.ended(&enqueue(&server));
    assert_eq!((&status["status"], &status["output"]["input"]), (&json!("success"), &json!(1)), "{status}");
    assert_eq!(created(&server), 3.0);
    cluster.is_quiet();
    // Kubernetes removes what has ended, and the Secret with it.
    cluster.kubectl(&["delete", "jobs", "--all"]);
    eventually("the Secret is gone", || cluster.kubectl(&["get", "secrets", "-o", "name"]).trim().is_empty());
}

#[test]
fn a_job_without_a_callback_fails_with_what_kubernetes_says() {
    let Some(cluster) = Cluster::for_test("failed-jobs") else { return };
    let server = cluster.job_server();
    for (changes, parts) in [
        // It is out of memory.
        (json!({ "command": ["/tail", "/dev/zero"] }), &["137 (OOMKilled)"][..]),
        (json!({ "command": ["/sh", "-c", "echo the reason >&2; exit 4"] }), &["status 4", "the reason"]),
        (json!({ "image": "registry:5000/nothing:1" }), &["Image not found in registry"]),
        (json!({ "image": "registry:5001/secret:1" }), &["Image pull authentication failed"]),
    ] {
        server.register(cluster.remote("cat", changes.clone()));
        let begun = Instant::now();
        let status = server.ended(&enqueue(&server));
        assert_eq!(status["error"]["code"], "JOB_FAILED", "{changes}: {status}");
        for part in parts {
            assert!(status["error"]["message"].to_string().contains(part), "{part}: {status}");
        }
        assert!(begun.elapsed() < Duration::from_secs(12), "{changes}: not at the deadline");
        assert_eq!(server.send("DELETE", "/v1/functions/f", &json!(null)).status, 204);
        cluster.is_quiet();
    }
    // A function that says itself that it failed.
    server.register(cluster.remote("sh -c 'echo the reason >&2; exit 3'", json!({})));
    let status = server.ended(&enqueue(&server));
    assert_eq!(status["error"]["code"], "FUNCTION_ERROR", "{status}");
    assert!(status["error"]["message"].to_string().contains("the reason"), "{status}");
    // A Pod that somebody takes away: a node that is to be emptied does the same.
    assert_eq!(server.send("DELETE", "/v1/functions/f", &json!(null)).status, 204);
    server.register(cluster.remote(STAYS, json!({})));
    let id = enqueue(&server);
    cluster.runs();
    let running = "status.phase=Running";
    cluster.kubectl(&["delete", "pods", "--field-selector", running, "--wait=false"]);
    let status = server.ended(&id);
    assert_eq!(status["error"]["code"], "JOB_FAILED", "{status}");
    cluster.is_quiet();
}

#[test]
fn a_job_that_the_cluster_does_not_take_fails_its_attempt() {
    let Some(cluster) = Cluster::for_test("refused-jobs") else { return };
    let server = cluster.job_server();
    server.register(cluster.remote("cat", json!({ "maxRetries": 1 })));
    let answer = server.invoke("f", json!("x".repeat(950_000)));
    let text = answer.text();
    assert!(text.contains("JOB_CREATE_FAILED") && text.contains("takes 921600 at most"), "{text}");
    cluster.kubectl(&["create", "quota", "tight", "--hard=pods=0"]);
    let status = server.ended(&enqueue(&server));
    assert_eq!(
        (&status["error"]["code"], &status["attempt"]),
        (&json!("JOB_CREATE_FAILED"), &json!(1)),
        "{status}"
    );
    assert!(status["error"]["message"].to_string().contains("exceeded quota: tight"), "{status}");
    assert_eq!(created(&server), 0.0);
    cluster.kubectl(&["delete", "quota", "tight"]);
    eventually("there is room again", || server.invoke("f", json!(2)).status == 200);
    cluster.is_quiet();
}

#[test]
fn a_function_whose_image_cannot_be_had_is_not_registered() {
    let Some(cluster) = Cluster::for_test("checked-jobs") else { return };
    let settings = [&*Cluster::callbacks(), "image-validator.enabled=true"];
    let server = cluster.server(&settings);
    for (image, status, code) in [
        ("registry:5000/nothing:1", 422, "IMAGE_NOT_FOUND"),
        ("registry:5001/secret:1", 424, "IMAGE_PULL_AUTH_REQUIRED"),
    ] {
        let spec = cluster.remote("cat", json!({ "image": image }));
        server.send("POST", "/v1/functions", &spec).expect_error(status, code);
        assert_eq!(server.get("/v1/functions/f").status, 404);
    }
    server.register(cluster.remote("cat", json!({})));
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    assert_eq!(cluster.kubectl(&["get", "pods", "-o", "name"]).lines().count(), 1, "only that of the call");
}

#[test]
fn a_job_that_nobody_waits_for_is_removed() {
    let Some(cluster) = Cluster::for_test("unwanted-jobs") else { return };
    let server = cluster.job_server();
    server.register(cluster.remote(STAYS, json!({ "timeoutMs": 4000, "concurrency": 1 })));
    // No callback by the deadline.
    assert_eq!(server.ended(&enqueue(&server))["status"], "timeout");
    assert_eq!(server.metric("function_orphaned_total{function=\"f\"}"), 1.0);
    cluster.is_quiet();
    // The caller's time is over.
    let path = "/v1/functions/f:invoke";
    let headers = [("content-type", "application/json"), ("x-timeout-ms", "2500")];
    let response = Client::connect(server.api).send("POST", path, &headers, b"{\"input\":1}");
    assert_eq!(response.status, 408, "{}", response.text());
    cluster.is_quiet();
    // What waits can be cancelled; and the function is removed.
    assert_eq!(server.send("DELETE", "/v1/functions/f", &json!(null)).status, 204);
    server.register(cluster.remote(STAYS, json!({ "timeoutMs": 60_000, "concurrency": 1 })));
    let (running, waiting) = (enqueue(&server), enqueue(&server));
    cluster.runs();
    let cancelled = server.send("DELETE", &format!("/v1/executions/{waiting}"), &json!(null));
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    assert_eq!(cluster.jobs().len(), 1, "one slot, one Job");
    assert_eq!(server.send("DELETE", "/v1/functions/f", &json!(null)).status, 204);
    assert_eq!(server.ended(&running)["error"]["code"], "FUNCTION_REMOVED");
    cluster.is_quiet();
}

#[test]
fn the_next_server_goes_on_with_the_jobs_of_accepted_calls() {
    let Some(cluster) = Cluster::for_test("killed-jobs") else { return };
    let (data, callbacks) = (DataDir::new(), Cluster::callbacks());
    let start = || cluster.durable(&data, &[&callbacks, "async-queue.enabled=true"]);
    let server = start();
    // It ends when there is a server again: a result is posted for some seconds only.
    server.register(cluster.remote("sh -c 'sleep 10; echo 7'", json!({ "maxRetries": 2, "concurrency": 1 })));
    let id = enqueue(&server);
    cluster.runs();
    let first = cluster.jobs();
    server.kill();
    let server = start();
    assert_eq!(cluster.jobs(), first, "it is neither ended nor made again");
    let status = server.ended(&id);
    assert_eq!(
        (&status["status"], &status["output"], &status["attempt"]),
        (&json!("success"), &json!(7), &json!(1))
    );
    cluster.is_quiet();
    // The next server hears of one that ended without a server, and the attempt has failed.
    let id = enqueue(&server);
    cluster.runs();
    server.kill();
    let running = "status.phase=Running";
    cluster.kubectl(&["delete", "pods", "--field-selector", running, "--wait=false"]);
    cluster.is_quiet();
    let server = start();
    let status = server.ended(&id);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("success"), &json!(2)), "{status}");
    cluster.is_quiet();
}
