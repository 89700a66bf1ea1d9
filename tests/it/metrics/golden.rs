//! A scenario in which everything happens once, and the whole exposition after it, held to `golden.txt`.
//!
//! What depends on time or on the machine is written as `_`: durations (not their counts), everything about threads,
//! shards and the process, and answers, of which a client that waits asks for any number. `NANOFAAS_GOLDEN=write` writes the file anew, to be read before it is committed.

use std::{collections::BTreeSet, fmt::Write, path::Path, sync::mpsc};

use serde_json::{Value, json};

use super::exposition::{Exposition, Family, Sample};
use crate::support::{Client, Function, Gate, PATIENCE, Reply, Server, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn the_exposition_after_a_scenario() {
    let exposition = Exposition::of(&scenario());
    exposition.check();
    compare(&normal_form(&exposition));
}

/// A server that everything has happened to.
pub(super) fn scenario() -> Server {
    let server = Server::start(&["async-queue.enabled=true", "deployment.backends=process"]);
    local_and_failing_functions(&server);
    queue_full_and_timeout(&server);
    callbacks(&server);
    accepted_calls(&server);
    replicas(&server);
    server
}

/// Successes, retries, a cold start, an answer that is no JSON.
fn local_and_failing_functions(server: &Server) {
    server.register(json!({ "name": "local", "executionMode": "LOCAL" }));
    for input in 0..3 {
        assert_eq!(server.invoke("local", json!(input)).status, 200);
    }
    server.register(json!({ "name": "idle", "executionMode": "LOCAL", "concurrency": 7 }));
    let function = Function::obedient();
    server.pool("failing", &function, json!({ "maxRetries": 3, "retryBackoffMs": 0 }));
    server.invoke("failing", json!({ "status": 500 }));
    server.pool("cold", &function, json!({}));
    let headers = json!({ "x-cold-start": "true", "x-init-duration-ms": "30" });
    server.invoke("cold", json!({ "type": "application/json", "body": "1", "headers": headers }));
    server.invoke("cold", json!({ "type": "application/json", "body": "1" }));
    server.pool("babbling", &function, json!({ "maxRetries": 1 }));
    server.invoke("babbling", json!({ "type": "application/json", "body": "{" }));
}

/// One call runs, one waits, one finds no place, and the caller of the one that runs leaves too early.
fn queue_full_and_timeout(server: &Server) {
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("slow", &function, json!({ "concurrency": 1, "queueSize": 1 }));
    let mut running = server.begin("slow", &[("x-timeout-ms", "400")], json!(1));
    gate.await_arrivals(1);
    let mut waiting = server.begin("slow", &[], json!(2));
    eventually("the second call waits", || server.metric("function_queue_depth{function=\"slow\"}") == 1.0);
    server.invoke("slow", json!(3)).expect_error(429, "QUEUE_FULL");
    assert_eq!(running.read().expect("an answer").status, 408);
    gate.open();
    assert_eq!(waiting.read().expect("an answer").status, 200);
}

/// A promise that is kept, twice, and one that is not.
fn callbacks(server: &Server) {
    let (sender, ids) = mpsc::sync_channel(8);
    let function = Function::start(move |call| {
        let _ = sender.send(call.header("x-execution-id").expect("an id").to_owned());
        Reply::new(202, "", b"").with("x-nanofaas-async", "true")
    });
    server.pool("promising", &function, json!({}));
    let mut caller = server.begin("promising", &[], json!(1));
    let id = ids.recv_timeout(PATIENCE).expect("a call");
    for _ in 0..2 {
        let path = format!("/v1/internal/executions/{id}:complete");
        let report =
            Client::connect(server.api).send("POST", &path, &[JSON], br#"{"success":true,"output":1}"#);
        assert_eq!(report.status, 204, "{}", report.text());
    }
    assert_eq!(caller.read().expect("an answer").status, 200);
    server.pool("forgetful", &function, json!({ "timeoutMs": 50, "maxRetries": 1 }));
    assert_eq!(server.invoke("forgetful", json!(1)).status, 408);
}

/// Accepted calls: one succeeds, one becomes a dead letter.
fn accepted_calls(server: &Server) {
    let enqueue = |name: &str, input: Value| {
        let body = json!({ "input": input }).to_string();
        let path = format!("/v1/functions/{name}:enqueue");
        let response = server.client().send("POST", &path, &[JSON], body.as_bytes());
        assert_eq!(response.status, 202, "{}", response.text());
        response.header("x-execution-id").expect("an id").to_owned()
    };
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        door.pass();
        Reply::new(call.json()["input"].as_u64().unwrap_or(200) as u16, "application/json", b"1")
    });
    server.pool("queued", &function, json!({ "concurrency": 1, "maxRetries": 1 }));
    let success = enqueue("queued", json!(200));
    gate.await_arrivals(1);
    let failed = enqueue("queued", json!(500));
    gate.open();
    assert_eq!(server.ended(&success)["status"], "success");
    assert_eq!(server.ended(&failed)["status"], "error");
}

/// A function whose replicas the server runs.
fn replicas(server: &Server) {
    server.register(json!({ "name": "managed", "runtimeCommand": "cat", "runtimeMode": "STDIO" }));
    let series = "function_replicas{function=\"managed\",state=\"ready\"}";
    eventually("a replica is ready", || server.metric(series) == 1.0);
}

/// The text with what varies taken out, one line per series and, for buckets, per histogram.
fn normal_form(exposition: &Exposition) -> String {
    let mut text = String::new();
    for family in &exposition.0 {
        let Family { name, kind, help, samples } = family;
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string");
        let lines = samples.iter().map(|sample| normal_line(family, sample));
        let mut seen = BTreeSet::new();
        for line in lines.filter(|line| seen.insert(line.clone())) {
            writeln!(text, "{line}").expect("a string");
        }
    }
    text
}

fn normal_line(family: &Family, sample: &Sample) -> String {
    let of_server = ["nanofaas_shard_", "nanofaas_http_responses_", "process_"]
        .iter()
        .any(|prefix| family.name.starts_with(prefix));
    let measures = family.name.ends_with("_seconds") || family.name.ends_with("_seconds_max");
    let varies = of_server || measures && !sample.name.ends_with("_count");
    let labels: Vec<String> = sample
        .labels
        .iter()
        .map(|(label, value)| match label.as_str() {
            "le" | "shard" | "thread" => format!("{label}=\"_\""),
            _ => format!("{label}=\"{value}\""),
        })
        .collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let value = if varies { "_".to_owned() } else { sample.value.to_string() };
    format!("{}{labels} {value}", sample.name)
}

#[track_caller]
fn compare(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/metrics/golden.txt");
    if std::env::var_os("NANOFAAS_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, text).expect("a file that can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file");
    let (told, expected): (BTreeSet<_>, BTreeSet<_>) = (text.lines().collect(), golden.lines().collect());
    let missing: Vec<_> = expected.difference(&told).collect();
    let surplus: Vec<_> = told.difference(&expected).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not told: {missing:#?}\ntold and not expected: {surplus:#?}\nwhen that is right, write the file anew with \
         NANOFAAS_GOLDEN=write and look at what changes"
    );
    assert_eq!(text, golden, "the same lines in another order");
}
