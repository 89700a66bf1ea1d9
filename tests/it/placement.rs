//! How threads are laid out is nobody's business: the same requests get the same answers from both placements.

use serde_json::{Value, json};

use crate::support::{Client, Function, Reply, Response, Server, eventually, pace};

const NAMES: [&str; 8] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

/// Headers that are part of an answer's meaning.
const HEADERS: [&str; 8] = [
    "allow",
    "connection",
    "content-type",
    "location",
    "retry-after",
    "x-execution-error",
    "x-execution-status",
    "x-queue-reject-reason",
];

/// A conversation with one server, written down without what differs from run to run.
struct Transcript<'a> {
    client: Client,
    port: String,
    lines: Vec<String>,
    server: &'a Server,
}

impl Transcript<'_> {
    fn say(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [&[("content-type", "application/json")], headers].concat();
        let response = self.client.send(method, path, &headers, &body);
        let mut line = format!("{method} {path} → {}", response.status);
        for header in HEADERS {
            if let Some(value) = response.header(header) {
                line.push_str(&format!(" {header}: {value};"));
            }
        }
        line.push_str(&format!(" id: {}; ", response.header("x-execution-id").is_some()));
        line.push_str(&response.text());
        self.lines.push(self.without_chance(&line));
        response
    }

    /// Ids, instants and ports by their kind.
    fn without_chance(&self, line: &str) -> String {
        let mut text = String::new();
        for (position, part) in
            line.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '-')).enumerate()
        {
            let word = part.trim_end_matches(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
            let is_id = word.len() == 36 && word.matches('-').count() == 4;
            let is_instant = word.len() == 13 && word.bytes().all(|byte| byte.is_ascii_digit());
            let shown = if word == self.port {
                // A whole word: the digits of a port turn up in an instant now and then.
                part.replace(word, "<port>")
            } else if is_id || (is_instant && position > 0) {
                part.replace(word, "<some>")
            } else {
                part.to_owned()
            };
            text.push_str(&shown);
        }
        // RFC 3339 instants fall apart into words above: what is left of them is cut out by their quotes.
        let mut parts: Vec<&str> = text.split('"').collect();
        for part in &mut parts {
            if part.ends_with('Z') && part.contains('T') && part.contains(':') {
                *part = "<instant>";
            }
        }
        parts.join("\"")
    }
}

fn script(server: &Server, function: &Function) -> Vec<String> {
    let port = function.address.port().to_string();
    let mut talk = Transcript { client: server.client(), port, lines: Vec::new(), server };
    for (number, name) in NAMES.iter().enumerate() {
        let spec = if number % 2 == 0 {
            json!({ "name": name, "executionMode": "LOCAL" })
        } else {
            json!({ "name": name, "executionMode": "POOL", "endpointUrl": function.url(), "timeoutMs": 300, "maxRetries": 2 })
        };
        talk.say("POST", "/v1/functions", &[], &spec);
        talk.say("POST", "/v1/functions", &[], &spec);
        talk.say("GET", &format!("/v1/functions/{name}"), &[], &Value::Null);
        talk.say("GET", &format!("/v1/functions/{name}/replicas"), &[], &Value::Null);
        talk.say("PUT", &format!("/v1/functions/{name}/replicas"), &[], &json!({ "replicas": 2 }));
    }
    talk.say("GET", "/v1/functions", &[], &Value::Null);
    for name in NAMES {
        let invoke = format!("/v1/functions/{name}:invoke");
        for input in ["echo", "fail", "refuse", "garbage", "hang", "text"] {
            let body = json!({ "input": input, "metadata": { "k": "v" } });
            let response = talk.say("POST", &invoke, &[("x-timeout-ms", "5000")], &body);
            let id = response.header("x-execution-id").expect("an id").to_owned();
            talk.say("GET", &format!("/v1/executions/{id}"), &[], &Value::Null);
            talk.say("DELETE", &format!("/v1/executions/{id}"), &[], &Value::Null);
            let complete = format!("/v1/internal/executions/{id}:complete");
            talk.say("POST", &complete, &[], &json!({ "success": true, "output": 1 }));
        }
        talk.say("POST", &invoke, &[("x-timeout-ms", "50")], &json!({ "input": "hang" }));
        talk.say("POST", &invoke, &[("x-timeout-ms", "0")], &json!({ "input": 1 }));
        talk.say("POST", &invoke, &[], &json!({ "output": 1 }));
        talk.say("POST", &invoke, &[("content-type", "text/html")], &json!("raw"));
        let first = talk.say("POST", &invoke, &[("idempotency-key", "k")], &json!({ "input": 7 })).json();
        let second = talk.say("POST", &invoke, &[("idempotency-key", "k")], &json!({ "input": 7 })).json();
        assert_eq!(first["executionId"], second["executionId"]);
        talk.say("POST", &invoke, &[("idempotency-key", "k")], &json!({ "input": 8 }));
        let accepted =
            talk.say("POST", &format!("/v1/functions/{name}:enqueue"), &[], &json!({ "input": "echo" }));
        let status = format!("/v1/executions/{}", accepted.json()["executionId"].as_str().expect("an id"));
        eventually("it has ended", || talk.server.get(&status).json()["status"] == "success");
        talk.say("GET", &status, &[], &Value::Null);
    }
    for name in NAMES {
        talk.say("DELETE", &format!("/v1/functions/{name}"), &[], &Value::Null);
        talk.say("DELETE", &format!("/v1/functions/{name}"), &[], &Value::Null);
        talk.say("POST", &format!("/v1/functions/{name}:invoke"), &[], &json!({ "input": 1 }));
    }
    talk.say("GET", "/v1/functions", &[], &Value::Null);
    talk.say("GET", "/nowhere", &[], &Value::Null);
    talk.say("PATCH", "/v1/functions", &[], &Value::Null);
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
    talk.lines
}

#[test]
fn both_placements_give_the_same_answers() {
    let function = Function::start(|call| {
        let document: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        match document["input"].as_str() {
            Some("fail") => Reply::new(500, "text/plain", b"no"),
            Some("refuse") => Reply::new(422, "application/json", b"{\"no\":1}"),
            Some("garbage") => Reply::new(200, "application/json", b"{\"no\":"),
            Some("text") => Reply::new(200, "text/plain", b"words"),
            Some("hang") => {
                pace(std::time::Duration::from_millis(600));
                Reply::json(json!("late"))
            }
            _ => Reply::new(200, "application/json", &call.body),
        }
    });
    let run = |placement: &str, workers: &str| {
        // Of two flags that set the same, the later one holds.
        script(&Server::start(&[placement, workers, "async-queue.enabled=true"]), &function)
    };
    let colocated = run("placement=colocated", "workers=2");
    for (placement, workers) in [
        ("placement=split", "workers=2"),
        ("placement=split", "workers=3"),
        ("placement=colocated", "workers=1"),
    ] {
        let other = run(placement, workers);
        for (one, other) in colocated.iter().zip(&other) {
            assert_eq!(one, other, "{placement}, {workers}");
        }
        assert_eq!(colocated.len(), other.len());
    }
}

#[test]
fn health_is_reported_by_either_placement() {
    for placement in ["placement=colocated", "placement=split"] {
        let server = Server::start(&[placement]);
        for path in ["/actuator/health", "/actuator/health/liveness", "/actuator/health/readiness"] {
            let response = server.manage(path);
            assert_eq!(
                (response.status, &response.json()["status"]),
                (200, &json!("UP")),
                "{placement} {path}"
            );
            let mut client = Client::connect(server.management);
            client.send("POST", path, &[], b"").expect_error(405, "METHOD_NOT_ALLOWED");
        }
        server.manage("/actuator/nothing").expect_error(404, "NOT_FOUND");
        assert_eq!(server.manage("/actuator/prometheus").status, 200);
        // Every loop turns by itself, without traffic.
        let turns = |server: &Server| -> Vec<f64> {
            let text = server.manage("/actuator/prometheus").text();
            let lines = text.lines().filter(|line| line.starts_with("nanofaas_shard_loop_idle_seconds{"));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect()
        };
        let idle = turns(&server);
        assert!(!idle.is_empty() && idle.iter().all(|seconds| *seconds < 5.0), "{placement}: {idle:?}");
    }
}
