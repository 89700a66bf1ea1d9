//! The exposition: its form, when series come and go, what it says after a scenario, and what is written about it.

mod dashboard;
mod document;
mod exposition;
mod golden;

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Server, eventually};
use exposition::Exposition;

/// Gauges that every function has, if they have no further label.
const GAUGES: [&str; 7] = [
    "function_dead_letters",
    "function_effective_concurrency",
    "function_inFlight",
    "function_in_flight",
    "function_queue_depth",
    "function_target_inflight_per_pod",
    "sync_queue_depth",
];

fn names(exposition: &Exposition, function: &str) -> Vec<String> {
    exposition.of_function(function).into_keys().map(str::to_owned).collect()
}

#[test]
fn every_line_can_be_read() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let function = Function::obedient();
    server.pool("a.b-c_D", &function, json!({ "maxRetries": 2 }));
    server.register(json!({ "name": "idle", "executionMode": "LOCAL" }));
    for input in [
        json!({}),
        json!({ "status": 500 }),
        json!({ "body": "x", "headers": { "x-cold-start": "true", "x-init-duration-ms": "3" } }),
    ] {
        server.invoke("a.b-c_D", input);
    }
    let response = server.manage("/actuator/prometheus");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let exposition = Exposition::parse(&response.text());
    exposition.check();
    assert!(exposition.value("process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 1e6));
    assert!(exposition.value("process_start_time_seconds", &[]).is_some_and(|seconds| seconds > 1.7e9));
    let own = exposition.of_function("a.b-c_D");
    for (name, expected) in [
        ("function_invocation_total", 3.0),
        ("function_dispatch_total", 4.0),
        ("function_success_total", 2.0),
        ("function_error_total", 1.0),
        ("function_retry_total", 1.0),
        ("function_bad_output_total", 1.0),
        ("function_cold_start_total", 1.0),
        ("function_warm_start_total", 2.0),
        ("function_latency_seconds_count", 3.0),
        ("function_e2e_latency_seconds_count", 3.0),
        ("function_queue_wait_seconds_count", 3.0),
        ("function_init_duration_seconds_count", 1.0),
        ("function_queue_depth", 0.0),
        ("function_in_flight", 0.0),
        ("function_inFlight", 0.0),
        ("function_effective_concurrency", 4.0),
    ] {
        assert_eq!(own.get(name), Some(&expected), "{name}: {own:?}");
    }
}

#[test]
fn gauges_come_with_the_registration_and_everything_goes_with_the_function() {
    let server = Server::start(&[]);
    assert!(names(&Exposition::of(&server), "f").is_empty());
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    assert_eq!(names(&Exposition::of(&server), "f"), GAUGES);
    server.invoke("nope", json!(1)).expect_error(404, "NOT_FOUND");
    assert_eq!(server.send("POST", "/v1/functions/f:invoke", &json!({})).status, 400);
    let refused = Exposition::of(&server);
    assert_eq!(names(&refused, "f"), GAUGES, "a refusal is not an event");
    assert!(names(&refused, "nope").is_empty(), "a caller made up a label");
    server.invoke("f", json!(1));
    let called = Exposition::of(&server);
    let series = called.of_function("f");
    assert_eq!(series.get("function_invocation_total"), Some(&1.0));
    assert_eq!(series.get("function_latency_seconds_count"), Some(&1.0));
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    let text = server.manage("/actuator/prometheus").text();
    assert!(!text.contains("function=\"f\""), "{text}");
    // Registered again it starts from nothing.
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    assert_eq!(names(&Exposition::of(&server), "f"), GAUGES);
    server.invoke("f", json!(1));
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 1.0);
}

#[test]
fn a_late_completion_brings_nothing_back() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |_| {
        door.pass();
        Reply::json(json!(1)).with("x-cold-start", "true").with("x-init-duration-ms", "9")
    });
    server.pool("f", &function, json!({}));
    server.pool("again", &function, json!({}));
    let mut running = server.begin("f", &[], json!(1));
    let mut replaced = server.begin("again", &[], json!(1));
    let mut timed_out = server.begin("f", &[("x-timeout-ms", "100")], json!(1));
    gate.await_arrivals(3);
    assert_eq!(timed_out.read().expect("an answer").status, 408);
    for name in ["f", "again"] {
        assert_eq!(server.send("DELETE", &format!("/v1/functions/{name}"), &Value::Null).status, 204);
    }
    server.pool("g", &function, json!({}));
    server.pool("again", &function, json!({}));
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
    assert_eq!(replaced.read().expect("an answer").status, 200);
    eventually("all attempts come home", || {
        let exposition = Exposition::of(&server);
        let attempts = exposition.samples().filter(|sample| sample.name == "nanofaas_shard_attempts");
        attempts.map(|sample| sample.value).sum::<f64>() == 0.0
    });
    let exposition = Exposition::of(&server);
    let of_f: Vec<_> = exposition.samples().filter(|sample| sample.label("function") == Some("f")).collect();
    assert!(of_f.is_empty(), "{of_f:?}");
    for name in ["g", "again"] {
        assert_eq!(names(&exposition, name), GAUGES, "{name} inherited something");
    }
}

#[test]
fn replays_and_refusals_are_no_invocations() {
    let server = Server::start(&["async-queue.enabled=true"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL", "rateLimitPerSecond": 100 }));
    let mut client = server.client();
    for _ in 0..3 {
        let headers = [("idempotency-key", "k")];
        assert_eq!(client.send("POST", "/v1/functions/f:invoke", &headers, br#"{"input":1}"#).status, 200);
    }
    assert_eq!(client.send("POST", "/v1/functions/f:enqueue", &[], br#"{"input":1}"#).status, 202);
    assert_eq!(
        client.send("POST", "/v1/functions/f:invoke", &[("idempotency-key", "k")], br#"{"input":2}"#).status,
        422
    );
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 2.0);
    assert_eq!(server.metric("function_dispatch_total{function=\"f\"}"), 2.0);
}

#[test]
fn functions_beyond_the_bound_add_up() {
    let server = Server::start(&["metrics.max-functions=2"]);
    for name in ["a", "b", "c", "d", "e"] {
        server.register(json!({ "name": name, "executionMode": "LOCAL" }));
        assert_eq!(server.invoke(name, json!(1)).status, 200);
    }
    let exposition = Exposition::of(&server);
    exposition.check();
    for (function, calls) in [("a", Some(1.0)), ("b", Some(1.0)), ("c", None), ("_other", Some(3.0))] {
        let series = exposition.of_function(function);
        assert_eq!(series.get("function_invocation_total").copied(), calls, "{function}");
        assert_eq!(series.get("function_latency_seconds_count").copied(), calls, "{function}");
        assert_eq!(series.get("function_latency_ms_seconds_count").copied(), calls, "{function}");
        assert_eq!(
            series.get("function_effective_concurrency").copied(),
            calls.map(|calls| calls * 4.0),
            "{function}"
        );
        let mode = exposition
            .value("function_concurrency_controller_mode", &[("function", function), ("mode", "FIXED")]);
        assert_eq!(mode, calls, "{function}");
    }
}

#[test]
fn a_slice_is_no_boundary() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let register = |client: &mut crate::support::Client, number: usize| {
        let spec = json!({ "name": format!("f{number}"), "executionMode": "LOCAL" }).to_string();
        let headers = [("content-type", "application/json")];
        assert_eq!(client.send("POST", "/v1/functions", &headers, spec.as_bytes()).status, 201);
    };
    // Several slices of each shard, with holes.
    (0..900).for_each(|number| register(&mut client, number));
    for number in (0..900).step_by(3) {
        assert_eq!(client.send("DELETE", &format!("/v1/functions/f{number}"), &[], b"").status, 204);
    }
    let exposition = Exposition::of(&server);
    exposition.check();
    let family = exposition.0.iter().find(|family| family.name == "function_queue_depth").expect("a family");
    let mut told: Vec<_> = family.samples.iter().filter_map(|sample| sample.label("function")).collect();
    let mut expected: Vec<String> =
        (0..900).filter(|number| number % 3 != 0).map(|number| format!("f{number}")).collect();
    expected.sort_unstable();
    assert!(told.is_sorted());
    told.dedup();
    assert_eq!(told, expected);
}

#[test]
fn what_only_grows_never_shrinks() {
    let server = Server::start(&["metrics.max-functions=3"]);
    let function = Function::obedient();
    for name in ["a", "b", "c", "d", "e"] {
        server.pool(name, &function, json!({ "maxRetries": 2 }));
    }
    let mut before = Exposition::of(&server);
    for round in 0..6 {
        for name in ["a", "b", "c", "d", "e"] {
            let status = if (round + name.len()) % 2 == 0 { 200 } else { 500 };
            server.invoke(name, json!({ "status": status, "type": "application/json", "body": "1" }));
        }
        let after = Exposition::of(&server);
        after.check();
        after.check_after(&before);
        before = after;
    }
}

#[test]
fn the_buckets_are_those_of_the_dashboards() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.invoke("f", json!(1));
    let exposition = Exposition::of(&server);
    let bounds: Vec<_> = exposition
        .samples()
        .filter(|sample| sample.name == "function_latency_seconds_bucket")
        .filter_map(|sample| sample.label("le"))
        .collect();
    let expected = [
        "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
        "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf",
    ];
    assert_eq!(bounds, expected);
}

#[test]
fn the_server_runs_with_the_placement_of_the_environment() {
    let server = Server::start(&[]);
    let split = std::env::var("NANOFAAS_PLACEMENT").is_ok_and(|placement| placement == "split");
    let exposition = Exposition::of(&server);
    let idle = exposition
        .samples()
        .any(|sample| sample.name == "nanofaas_shard_turns_total" && sample.label("shard") == Some("none"));
    assert_eq!(idle, split, "threads without a shard");
}

#[test]
fn refusals_are_counted_by_reason_and_answers_by_route_and_class() {
    let server = Server::start(&["rate.max-per-second=5"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL", "rateLimitPerSecond": 2 }));
    server.register(json!({ "name": "g", "executionMode": "LOCAL" }));
    let reasons = |reason: &str| server.metric(&format!("nanofaas_refusals_total{{reason=\"{reason}\"}}"));
    let answers = |route: &str, class: &str| {
        let labels = format!("{{route=\"{route}\",class=\"{class}\"}}");
        server.metric(&format!("nanofaas_http_responses_total{labels}"))
    };
    let invoke = "/v1/functions/{name}:invoke";
    let (mut good, mut of_function, mut of_server) = (0.0, 0.0, 0.0);
    for name in ["f", "g"] {
        eventually("a refusal", || {
            let response = server.invoke(name, json!(1));
            match response.status {
                200 => good += 1.0,
                _ if response.expect_error(429, "RATE_LIMIT_EXCEEDED")["scope"] == "function" => {
                    of_function += 1.0
                }
                _ => of_server += 1.0,
            }
            response.status == 429
        });
    }
    assert!(of_server > 0.0);
    assert_eq!((reasons("rate_limit_function"), reasons("rate_limit_server")), (of_function, of_server));
    assert_eq!((answers(invoke, "2xx"), answers(invoke, "4xx")), (good, of_function + of_server));
    assert_eq!(server.get("/v1/nowhere").status, 404);
    assert_eq!(server.get("/v1/functions/nobody").status, 404);
    assert_eq!(server.send("PUT", "/v1/functions", &json!(1)).status, 405);
    assert_eq!((reasons("not_found"), reasons("method_not_allowed"), reasons("other")), (2.0, 1.0, 0.0));
    assert_eq!((answers("other", "4xx"), answers("/v1/functions/{name}", "4xx")), (1.0, 1.0));
    assert_eq!((answers("/v1/functions", "2xx"), answers("/v1/functions", "4xx")), (2.0, 1.0));
    // Which of them is told, once, and how to change it.
    server.logged(&["WARN", "rate.max-per-second", "0 for no limit"]);
    let lines = server.log().iter().filter(|line| line.contains("rejecting calls beyond")).count();
    assert_eq!(lines, 1);
}
