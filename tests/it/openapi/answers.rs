//! Every described answer is given, and is as described.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::document::Document;
use crate::support::{Function, Gate, Reply, Response, Server, client::encode, eventually};

const FUNCTIONS: &str = "/v1/functions";
const FUNCTION: &str = "/v1/functions/{name}";
const REPLICAS: &str = "/v1/functions/{name}/replicas";
const SCALING: &str = "/v1/functions/{name}/scaling";
const INVOKE: &str = "/v1/functions/{name}:invoke";
const ENQUEUE: &str = "/v1/functions/{name}:enqueue";
const EXECUTION: &str = "/v1/executions/{executionId}";
const LETTERS: &str = "/v1/functions/{name}/dead-letters";
const LETTER: &str = "/v1/functions/{name}/dead-letters/{executionId}";
const REPLAY: &str = "/v1/functions/{name}/dead-letters/{executionId}:replay";
const DRAIN_ONCE: &str = "/v1/internal/functions/{name}:drain-once";
const CONFIG: &str = "/v1/admin/runtime-config";
const VALIDATE: &str = "/v1/admin/runtime-config/validate";
const COMPLETE: &str = "/v1/internal/executions/{executionId}:complete";
/// The longest body that the server of these tests takes.
const REQUEST_BYTES_MAX: usize = 4096;

/// What no test can provoke, and why.
fn is_beyond_reach(path: &str, method: &str, status: u16) -> bool {
    match (path, method, status) {
        // Faults of the server or its machine.
        (_, _, 500) => true,
        // Every thread's mailbox full, or the moment of a shutdown.
        (_, _, 503) => (path, method) != (FUNCTIONS, "POST") && !is_health(path),
        // Images are looked at by backends that this version does not have.
        (FUNCTIONS, "POST", 422 | 424) => true,
        // Asked of every path in `routes`.
        (_, _, 405) => true,
        _ => false,
    }
}

fn is_health(path: &str) -> bool {
    path.starts_with("/actuator/health") || path == "/healthz" || path == "/readyz"
}

/// A server, its document, and the answers that were checked so far.
struct Probe {
    server: Server,
    document: Document,
    seen: BTreeSet<(String, String, u16)>,
}

impl Probe {
    fn start(server: Server) -> Probe {
        Probe { document: Document::of(&server), server, seen: BTreeSet::new() }
    }

    /// Sends a request and checks its answer, which must have this status.
    #[track_caller]
    fn expect(
        &mut self,
        status: u16,
        method: &str,
        described: &str,
        name: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Response {
        // A path with two parameters is given both, one per line; a query may follow the last one.
        let (name, id) = name.split_once('\n').unwrap_or((name, name));
        let (id, query) = id.split_once('?').unwrap_or((id, ""));
        let name = name.split('?').next().unwrap_or_default();
        let mut path = described.replace("{name}", name).replace("{executionId}", id);
        if !query.is_empty() {
            path = format!("{path}?{query}");
        }
        let typed = [headers, &[("content-type", "application/json")]].concat();
        let has_type = body.as_ref().is_empty() || headers.iter().any(|(name, _)| *name == "content-type");
        let headers = if has_type { headers } else { &typed };
        let answer = self.document.send(&self.server, described, (method, &path), headers, body.as_ref());
        self.record(status, method, described, answer)
    }

    #[track_caller]
    fn record(&mut self, status: u16, method: &str, described: &str, answer: Response) -> Response {
        assert_eq!(answer.status, status, "{method} {described}: {}", answer.text());
        self.document.check(described, method, &answer);
        self.seen.insert((described.to_owned(), method.to_owned(), status));
        answer
    }

    /// A function in mode POOL with one slot and one place in its queue.
    fn register_pool(&mut self, name: &str, url: &str) {
        let spec = json!({ "name": name, "executionMode": "POOL", "endpointUrl": url, "concurrency": 1,
            "queueSize": 1, "maxRetries": 1, "timeoutMs": 60_000 });
        self.expect(201, "POST", FUNCTIONS, "", &[], spec.to_string());
    }
}

#[test]
fn every_described_answer_is_given_as_described() {
    let limit = format!("limits.request-bytes={REQUEST_BYTES_MAX}");
    let response_limit = format!("limits.response-bytes={REQUEST_BYTES_MAX}");
    let settings = ["async-queue.enabled=true", &limit, &response_limit];
    let mut probe = Probe::start(Server::dev(&settings));
    registration(&mut probe);
    replicas(&mut probe);
    bodies_that_are_refused(&mut probe);
    invocation(&mut probe);
    results_by_callback(&mut probe);
    dead_letters(&mut probe);
    runtime_config(&mut probe);
    about_the_server(&mut probe);
    other_sites(&mut probe);
    let mut seen = probe.seen;
    let document = probe.document;
    seen.extend(without_modules());
    seen.extend(replay_beside_the_next_call_with_its_key());
    sync_queue();
    seen.extend(while_shutting_down());

    let missing: Vec<_> = document
        .answers()
        .into_iter()
        .filter(|answer| !seen.contains(answer))
        .filter(|(path, method, status)| !is_beyond_reach(path, method, *status))
        .collect();
    assert!(missing.is_empty(), "described, but not provoked: {missing:#?}");
}

#[test]
fn every_example_is_as_its_schema_says() {
    let document = Document::of(&Server::start(&[]));
    let count = document.check_examples();
    assert!(count > 50, "only {count} examples were found");
}

fn registration(probe: &mut Probe) {
    let local = json!({ "name": "echo", "executionMode": "LOCAL" }).to_string();
    probe.expect(200, "GET", FUNCTIONS, "", &[], "");
    let registered = probe.expect(201, "POST", FUNCTIONS, "", &[], &local);
    assert_eq!(registered.header("location"), Some("/v1/functions/echo"));
    probe.expect(409, "POST", FUNCTIONS, "", &[], &local);
    probe.expect(400, "POST", FUNCTIONS, "", &[], "{");
    probe.expect(400, "POST", FUNCTIONS, "", &[], "{}");
    let full = json!({
        "name": "full", "executionMode": "DEPLOYMENT", "runtimeMode": "STDIO", "runtimeCommand": "cat",
        "env": { "A": "b" }, "command": ["x"], "imagePullSecrets": ["s"], "rateLimitPerSecond": 7,
        "containerPort": 80, "healthPath": "", "nodeSelector": { "a": "b" }, "annotations": { "a": "b" },
        "labels": { "a": "b" }, "tolerations": [{ "key": "a", "effect": "NoExecute", "tolerationSeconds": 1 }],
        "topologySpreadConstraints": [{ "topologyKey": "zone" }], "serviceAccountName": "a",
        "readOnlyRootFilesystem": false, "volumes": [
            { "name": "a", "mountPath": "/a", "configMap": { "name": "a" } },
            { "name": "b", "mountPath": "/b", "subPath": "b", "readOnly": true, "emptyDir": { "sizeLimit": "1Mi" } },
        ],
        "resources": { "cpu": "250m", "limits": { "memory": "1Gi" } }, "workingDir": "/", "image": "registry.example.org/full:1",
        "scalingConfig": {
            "strategy": "INTERNAL", "minReplicas": 1,
            "concurrencyControl": { "mode": "ADAPTIVE_PER_POD", "targetInFlightPerPod": 3 },
        },
    });
    probe.expect(201, "POST", FUNCTIONS, "", &[], full.to_string());
    let broken = json!({ "name": "broken", "runtimeMode": "HTTP", "runtimeCommand": "false" });
    probe.expect(503, "POST", FUNCTIONS, "", &[], broken.to_string());
    let listed = probe.expect(200, "GET", FUNCTIONS, "", &[], "");
    let names: Vec<Value> =
        listed.json().as_array().expect("a list").iter().map(|f| f["name"].clone()).collect();
    assert_eq!(names, ["echo", "full"]);
    probe.expect(200, "GET", FUNCTION, "full", &[], "");
    probe.expect(404, "GET", FUNCTION, "nobody", &[], "");
    probe.expect(404, "DELETE", FUNCTION, "nobody", &[], "");
}

fn replicas(probe: &mut Probe) {
    probe.expect(200, "GET", REPLICAS, "full", &[], "");
    probe.expect(400, "GET", REPLICAS, "echo", &[], "");
    probe.expect(404, "GET", REPLICAS, "nobody", &[], "");
    probe.expect(200, "GET", SCALING, "full", &[], "");
    probe.expect(400, "GET", SCALING, "echo", &[], "");
    probe.expect(404, "GET", SCALING, "nobody", &[], "");
    probe.expect(200, "PUT", REPLICAS, "full", &[], r#"{"replicas":2}"#);
    probe.expect(404, "PUT", REPLICAS, "nobody", &[], r#"{"replicas":2}"#);
    for bad in [r#"{"replicas":-1}"#, "{}", "["] {
        probe.expect(400, "PUT", REPLICAS, "full", &[], bad);
    }
    probe.expect(400, "PUT", REPLICAS, "echo", &[], r#"{"replicas":2}"#);
    probe.expect(204, "DELETE", FUNCTION, "full", &[], "");
}

fn bodies_that_are_refused(probe: &mut Probe) {
    let long = format!(r#"{{"name":"x","input":"{}"}}"#, "x".repeat(REQUEST_BYTES_MAX));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (method, path) in
        [("POST", FUNCTIONS), ("PUT", REPLICAS), ("POST", INVOKE), ("POST", ENQUEUE), ("POST", COMPLETE)]
    {
        probe.expect(413, method, path, "echo", &[], &long);
        probe.expect(415, method, path, "echo", &form, "a=b");
    }
    for path in [INVOKE, ENQUEUE] {
        for bad in ["{", "{}"] {
            probe.expect(400, "POST", path, "echo", &[], bad);
        }
        probe.expect(404, "POST", path, "nobody", &[], r#"{"input":1}"#);
    }
    probe.expect(400, "POST", INVOKE, "echo", &[("x-timeout-ms", "soon")], r#"{"input":1}"#);
    let key = [("idempotency-key", "k")];
    probe.expect(200, "POST", INVOKE, "echo", &key, r#"{"input":1}"#);
    probe.expect(422, "POST", INVOKE, "echo", &key, r#"{"input":2}"#);
    probe.expect(422, "POST", ENQUEUE, "echo", &key, r#"{"input":2}"#);
}

/// Calls that succeed, fail, wait, are refused and are cancelled.
fn invocation(probe: &mut Probe) {
    let gate = Arc::new(Mutex::new(()));
    let inner = Arc::clone(&gate);
    let function = Function::start(move |call| {
        match call.body.as_slice() {
            body if body.windows(4).any(|word| word == b"hold") => drop(inner.lock()),
            body if body.windows(4).any(|word| word == b"fail") => {
                return Reply::new(400, "text/plain", b"no such page");
            }
            _ => {}
        }
        Reply::json(json!({ "text": "hello" }))
    });
    probe.register_pool("f", &function.url());
    let raw = [("content-type", "application/octet-stream")];
    for body in [r#"{"input":1}"#, r#"{"input":"fail"}"#] {
        let answer = probe.expect(200, "POST", INVOKE, "f", &[], body);
        let id = answer.header("x-execution-id").expect("checked").to_owned();
        probe.expect(200, "GET", EXECUTION, &id, &[], "");
        let error = probe.expect(409, "DELETE", EXECUTION, &id, &[], "");
        error.expect_error(409, "NOT_CANCELLABLE");
    }
    probe.expect(200, "POST", INVOKE, "f", &raw, "1");
    probe.expect(502, "POST", INVOKE, "f", &raw, "fail");

    let held = gate.lock().expect("nothing panics with it");
    let running = probe.expect(202, "POST", ENQUEUE, "f", &[], r#"{"input":"hold"}"#);
    eventually("the function has the call", || function.in_flight() == 1);
    let queued = probe.expect(202, "POST", ENQUEUE, "f", &[], r#"{"input":"wait"}"#);
    for path in [INVOKE, ENQUEUE] {
        probe.expect(429, "POST", path, "f", &[], r#"{"input":2}"#).expect_error(429, "QUEUE_FULL");
    }
    let id_of = |answer: &Response| answer.header("x-execution-id").expect("checked").to_owned();
    for answer in [&running, &queued] {
        probe.expect(200, "GET", EXECUTION, &id_of(answer), &[], "");
    }
    probe.expect(409, "DELETE", EXECUTION, &id_of(&running), &[], "");
    let cancelled = probe.expect(202, "DELETE", EXECUTION, &id_of(&queued), &[], "").json();
    assert_eq!((&cancelled["status"], &cancelled["error"]["code"]), (&json!("error"), &json!("CANCELLED")));
    let hurry = [("x-timeout-ms", "20")];
    let late = probe.expect(408, "POST", INVOKE, "f", &hurry, r#"{"input":1}"#);
    assert_eq!(late.json()["error"]["stage"], "queue");
    let raw_hurry = [raw[0], hurry[0]];
    probe.expect(408, "POST", INVOKE, "f", &raw_hurry, "1");
    drop(held);
    for method in ["GET", "DELETE"] {
        probe.expect(404, method, EXECUTION, "0", &[], "");
    }
    let soon = format!("{}?wait=soon", id_of(&running));
    probe.expect(400, "GET", EXECUTION, &soon, &[], "");
    limited(probe);
}

/// A function that takes one call per second.
fn limited(probe: &mut Probe) {
    let spec = json!({ "name": "slow", "executionMode": "LOCAL", "rateLimitPerSecond": 1 });
    probe.expect(201, "POST", FUNCTIONS, "", &[], spec.to_string());
    let mut refused = None;
    // Two calls may fall into two seconds, three in a row hardly do.
    eventually("the limit is reached", || {
        let answer = probe.server.invoke("slow", json!(1));
        (answer.status == 429).then(|| refused = Some(answer)).is_some()
    });
    let refused = probe.record(429, "POST", INVOKE, refused.expect("found above"));
    refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
}

fn results_by_callback(probe: &mut Probe) {
    let function =
        Function::start(|_| Reply::new(202, "application/json", b"").with("x-nanofaas-async", "true"));
    probe.register_pool("later", &function.url());
    let bad = [("x-callback-url", "http://127.0.0.1/")];
    probe.expect(400, "POST", ENQUEUE, "later", &bad, r#"{"input":1}"#);
    // A name that leads nowhere (RFC 2606): the delivery is described, whatever becomes of it.
    let headers = [("x-callback-url", "http://receiver.invalid/"), ("x-max-age-ms", "60000")];
    let accepted = probe.expect(202, "POST", ENQUEUE, "later", &headers, r#"{"input":1}"#);
    let id = accepted.header("x-execution-id").expect("checked").to_owned();
    eventually("the function has the call", || function.calls() == 1);
    for bad in ["{", r#"{"success":"yes"}"#] {
        probe.expect(400, "POST", COMPLETE, &id, &[], bad);
    }
    probe.expect(404, "POST", COMPLETE, "0", &[], r#"{"success":true}"#);
    probe.expect(204, "POST", COMPLETE, &id, &[], r#"{"success":true,"output":7}"#);
    let status = probe.expect(200, "GET", EXECUTION, &id, &[], "").json();
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!(7)));
    assert!(status["delivery"].is_object(), "{status}");
}

/// An execution that fails for good, and a queue that has no place for it.
fn dead_letters(probe: &mut Probe) {
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        if call.body.windows(4).any(|word| word == b"hold") {
            door.pass();
        }
        Reply::new(400, "text/plain", b"no such page")
    });
    probe.register_pool("dead", &function.url());
    let accepted = probe.expect(202, "POST", ENQUEUE, "dead", &[], r#"{"input":1}"#);
    let id = accepted.header("x-execution-id").expect("checked").to_owned();
    probe.server.ended(&id);
    let of = |id: &str| format!("dead\n{id}");
    let letters = probe.expect(200, "GET", LETTERS, "dead", &[], "").json();
    assert_eq!(letters[0]["executionId"], json!(id));
    probe.expect(400, "GET", LETTERS, "dead?limit=0", &[], "");
    probe.expect(404, "GET", LETTERS, "nobody", &[], "");
    probe.expect(404, "POST", REPLAY, &of("0"), &[], "");
    probe.expect(404, "DELETE", LETTER, &of("0"), &[], "");
    for _ in 0..2 {
        probe.expect(202, "POST", ENQUEUE, "dead", &[], r#"{"input":"hold"}"#);
        gate.await_arrivals(1);
    }
    probe.expect(429, "POST", REPLAY, &of(&id), &[], "");
    gate.open();
    eventually("there is a place", || {
        let path = format!("/v1/functions/dead/dead-letters/{id}:replay");
        probe.server.send("POST", &path, &Value::Null).status == 202
    });
    probe.server.ended(&id);
    probe.expect(202, "POST", REPLAY, &of(&id), &[], "");
    probe.server.ended(&id);
    probe.expect(204, "DELETE", LETTER, &of(&id), &[], "");
    probe.expect(200, "POST", DRAIN_ONCE, "dead", &[], "");
    probe.expect(404, "POST", DRAIN_ONCE, "nobody", &[], "");
}

fn runtime_config(probe: &mut Probe) {
    probe.expect(200, "GET", CONFIG, "", &[], "");
    probe.expect(200, "PUT", CONFIG, "", &[], r#"{"syncQueueMaxQueueWait":"PT3S"}"#);
    probe.expect(200, "PATCH", CONFIG, "", &[], r#"{"expectedRevision":1,"defaultQueueSize":50}"#);
    probe.expect(200, "POST", VALIDATE, "", &[], "{}");
    probe.expect(400, "PATCH", CONFIG, "", &[], "{}");
    for (method, path) in [("PUT", CONFIG), ("PATCH", CONFIG), ("POST", VALIDATE)] {
        probe.expect(400, method, path, "", &[], "{");
        let body = |field: &str| format!(r#"{{"expectedRevision":1,{field}}}"#);
        probe.expect(400, method, path, "", &[], body(r#""syncQueueMaxQueueWait":"5s""#));
        probe.expect(422, method, path, "", &[], body(r#""defaultConcurrency":0"#));
        let form = [("content-type", "text/plain")];
        probe.expect(415, method, path, "", &form, "{}");
        probe.expect(413, method, path, "", &[], "x".repeat(REQUEST_BYTES_MAX + 1));
        if path == CONFIG {
            probe.expect(409, method, path, "", &[], body(r#""rateMaxPerSecond":5"#));
        }
    }
}

fn about_the_server(probe: &mut Probe) {
    for path in [
        "/modules/build-metadata",
        "/openapi.yaml",
        "/actuator",
        "/actuator/health",
        "/actuator/health/liveness",
        "/actuator/health/readiness",
        "/actuator/prometheus",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        probe.expect(200, "GET", path, "", &[], "");
    }
}

/// Requests of pages of other origins, and by another server's name.
fn other_sites(probe: &mut Probe) {
    for (path, method, status) in probe.document.answers() {
        match status {
            403 => {
                let page = [("origin", "https://site.example")];
                let refused = probe.expect(403, &method, &path, "nobody", &page, "{}");
                refused.expect_error(403, "ORIGIN_NOT_ALLOWED");
            }
            421 => {
                let refused = probe.expect(421, &method, &path, "nobody", &[("host", "site.example")], "{}");
                refused.expect_error(421, "MISDIRECTED_REQUEST");
            }
            _ => {}
        }
    }
}

/// A server without async queue and without backend.
fn without_modules() -> BTreeSet<(String, String, u16)> {
    let mut probe = Probe::start(Server::start(&[]));
    let local = json!({ "name": "echo", "executionMode": "LOCAL" }).to_string();
    probe.expect(201, "POST", FUNCTIONS, "", &[], local);
    probe.expect(501, "POST", ENQUEUE, "echo", &[], r#"{"input":1}"#);
    for (method, path) in [("GET", CONFIG), ("PUT", CONFIG), ("PATCH", CONFIG), ("POST", VALIDATE)] {
        probe.expect(404, method, path, "", &[], "{}");
    }
    probe.expect(501, "POST", DRAIN_ONCE, "echo", &[], "");
    let homeless = json!({ "name": "homeless", "image": "i" }).to_string();
    let refused = probe.expect(503, "POST", FUNCTIONS, "", &[], homeless);
    refused.expect_error(503, "NO_DEPLOYMENT_BACKEND");
    let degraded = json!({ "name": "d", "image": "i", "endpointUrl": "http://127.0.0.1:1/" }).to_string();
    let degraded = probe.expect(201, "POST", FUNCTIONS, "", &[], degraded).json();
    assert_eq!(degraded["effectiveExecutionMode"], "POOL");
    probe.seen
}

/// A dead letter whose key was free again, and is that of a call that runs.
fn replay_beside_the_next_call_with_its_key() -> BTreeSet<(String, String, u16)> {
    let mut probe = Probe::start(Server::start(&["async-queue.enabled=true", "idempotency.ttl=100ms"]));
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |call| {
        if call.body.windows(4).any(|word| word == b"hold") {
            door.pass();
        }
        Reply::new(400, "text/plain", b"no such page")
    });
    probe.register_pool("keyed", &function.url());
    let key = [("idempotency-key", "k"), ("content-type", "application/json")];
    let dead = probe.expect(202, "POST", ENQUEUE, "keyed", &key, r#"{"input":1}"#);
    let id = dead.header("x-execution-id").expect("checked").to_owned();
    probe.server.ended(&id);
    let mut client = probe.server.client();
    eventually("the key is free", || {
        client.send("POST", "/v1/functions/keyed:enqueue", &key, br#"{"input":"hold"}"#).status == 202
    });
    gate.await_arrivals(1);
    probe.expect(409, "POST", REPLAY, &format!("keyed\n{id}"), &[], "").expect_error(409, "CONFLICT");
    gate.open();
    probe.seen
}

/// A third kind of 429 that an invocation can have, for each of its reasons.
fn sync_queue() {
    let settings = ["sync-queue.enabled=true", "sync-queue.max-depth=1", "sync-queue.max-queue-wait=1s"];
    let mut probe = Probe::start(Server::start(&settings));
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    probe.register_pool("f", &function.url());
    let _running = probe.server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    let mut waiting = probe.server.begin("f", &[], json!(1));
    eventually("it waits", || probe.server.metric("sync_queue_depth{function=\"f\"}") == 1.0);
    let full = probe.expect(429, "POST", INVOKE, "f", &[], r#"{"input":1}"#);
    assert_eq!(full.expect_error(429, "SYNC_QUEUE_REJECTED")["reason"], "depth");
    let late = probe.record(429, "POST", INVOKE, waiting.read().expect("an answer"));
    assert_eq!(late.expect_error(429, "SYNC_QUEUE_REJECTED")["reason"], "timeout");
    gate.open();
}

/// A server that has been told to end, and lets a call finish.
fn while_shutting_down() -> BTreeSet<(String, String, u16)> {
    let mut probe = Probe::start(Server::start(&[]));
    let gate = Arc::new(Mutex::new(()));
    let inner = Arc::clone(&gate);
    let function = Function::start(move |_| {
        drop(inner.lock());
        Reply::json(json!(1))
    });
    probe.register_pool("f", &function.url());
    let held = gate.lock().expect("nothing panics with it");
    let mut caller = probe.server.client();
    caller.write(&encode("POST", "/v1/functions/f:invoke", &[], br#"{"input":1}"#));
    eventually("the function has the call", || function.in_flight() == 1);
    probe.server.signal("TERM");
    eventually("it is not ready", || probe.server.manage("/actuator/health/readiness").status == 503);
    probe.expect(503, "GET", "/actuator/health/readiness", "", &[], "");
    probe.expect(503, "GET", "/readyz", "", &[], "");
    probe.expect(503, "GET", "/actuator/health", "", &[], "");
    probe.expect(200, "GET", "/actuator/health/liveness", "", &[], "");
    // A stuck shard cannot be made from outside; the shape is that of readiness.
    for path in ["/actuator/health/liveness", "/healthz"] {
        probe.seen.insert((path.to_owned(), "GET".to_owned(), 503));
    }
    drop(held);
    assert_eq!(caller.read().expect("the call in progress is answered").status, 200);
    assert_eq!(probe.server.wait(), Some(0));
    probe.seen
}
