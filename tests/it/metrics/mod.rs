//! The exposition: its form, and when series come and go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Server, eventually};

/// A sample: name, labels as written, value.
type Sample = (String, String, f64);

/// Reads an exposition strictly; panics at the first line that is not one.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = "";
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and words");
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none() && helped.contains(name), "{line}");
            family = name;
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
                None => (series, ""),
            };
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("outside its family: {line}"));
            match kinds[family] {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                "summary" => assert!(["", "_sum", "_count", "_max"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, text) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(!label.is_empty() && text.ends_with('"'), "{line}");
            }
            assert!(seen.insert(series.to_owned()), "twice: {line}");
            assert!(kinds[family] == "gauge" || value >= 0.0, "{line}");
            samples.push((name.to_owned(), labels.to_owned(), value));
        }
    }
    samples
}

/// Bucket counts grow with their bounds, and the last one is the count.
fn check_histograms(samples: &[Sample]) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, labels, count) in samples.iter().filter(|(name, ..)| name.ends_with("_bucket")) {
        let (labels, bound) = labels.rsplit_once("le=\"").expect("a bound");
        let bound: f64 = bound.trim_end_matches('"').replace("+Inf", "inf").parse().expect("a number");
        let series = format!("{}{{{}}}", name.trim_end_matches("_bucket"), labels.trim_end_matches(','));
        let before = last.insert(series.clone(), (bound, *count));
        assert!(before.is_none_or(|(less, fewer)| less < bound && fewer <= *count), "{series} {bound}");
    }
    assert!(!last.is_empty(), "no histogram at all");
    for (series, (bound, count)) in last {
        assert_eq!(bound, f64::INFINITY, "{series}");
        let (name, labels) = series.split_once('{').expect("labels");
        let labels = labels.trim_end_matches('}');
        let total =
            samples.iter().find(|(other, with, _)| *other == format!("{name}_count") && with == labels);
        assert_eq!(total.map(|(_, _, total)| *total), Some(count), "{series}");
    }
}

fn of(samples: &[Sample], function: &str) -> BTreeMap<String, f64> {
    let label = format!("function=\"{function}\"");
    let own = samples.iter().filter(|(_, labels, _)| *labels == label);
    own.map(|(name, _, value)| (name.clone(), *value)).collect()
}

fn scrape(server: &Server) -> Vec<Sample> {
    parse(&server.manage("/actuator/prometheus").text())
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
    let samples = parse(&response.text());
    check_histograms(&samples);
    let value = |name: &str| samples.iter().find(|(other, ..)| other == name).map(|(_, _, value)| *value);
    assert_eq!(value("nanofaas_accounting_drift"), Some(0.0));
    assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    assert!(value("process_start_time_seconds").is_some_and(|seconds| seconds > 1.7e9));
    let own = of(&samples, "a.b-c_D");
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
    assert!(of(&scrape(&server), "f").is_empty());
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let gauges =
        ["function_effective_concurrency", "function_inFlight", "function_in_flight", "function_queue_depth"];
    assert_eq!(of(&scrape(&server), "f").into_keys().collect::<Vec<_>>(), gauges);
    server.invoke("nope", json!(1)).expect_error(404, "NOT_FOUND");
    assert_eq!(server.send("POST", "/v1/functions/f:invoke", &json!({})).status, 400);
    assert_eq!(of(&scrape(&server), "f").len(), gauges.len(), "a refusal is not an event");
    assert!(of(&scrape(&server), "nope").is_empty(), "a caller made up a label");
    server.invoke("f", json!(1));
    let series = of(&scrape(&server), "f");
    assert_eq!(series.get("function_invocation_total"), Some(&1.0));
    assert_eq!(series.get("function_latency_seconds_count"), Some(&1.0));
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    let text = server.manage("/actuator/prometheus").text();
    assert!(!text.contains("function=\"f\""), "{text}");
    // Registered again it starts from nothing.
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    assert_eq!(of(&scrape(&server), "f").into_keys().collect::<Vec<_>>(), gauges);
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
    let mut running = server.begin("f", &[], json!(1));
    let mut timed_out = server.begin("f", &[("x-timeout-ms", "100")], json!(1));
    gate.await_arrivals(2);
    assert_eq!(timed_out.read().expect("an answer").status, 408);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &Value::Null).status, 204);
    server.pool("g", &function, json!({}));
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
    eventually("all attempts come home", || {
        let attempts = scrape(&server).into_iter().filter(|(name, ..)| name == "nanofaas_shard_attempts");
        attempts.map(|(_, _, value)| value).sum::<f64>() == 0.0
    });
    let text = server.manage("/actuator/prometheus").text();
    assert!(!text.contains("function=\"f\""), "{text}");
    assert_eq!(of(&parse(&text), "g").len(), 4, "the new function inherited something");
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
    let samples = scrape(&server);
    check_histograms(&samples);
    for (function, calls) in [("a", Some(1.0)), ("b", Some(1.0)), ("c", None), ("_other", Some(3.0))] {
        let series = of(&samples, function);
        assert_eq!(series.get("function_invocation_total").copied(), calls, "{function}");
        assert_eq!(series.get("function_latency_seconds_count").copied(), calls, "{function}");
    }
}

#[test]
fn the_server_runs_with_the_placement_of_the_environment() {
    let server = Server::start(&[]);
    let split = std::env::var("NANOFAAS_PLACEMENT").is_ok_and(|placement| placement == "split");
    let samples = scrape(&server);
    let idle = samples
        .iter()
        .any(|(name, labels, _)| name == "nanofaas_shard_turns_total" && labels.contains("shard=\"none\""));
    assert_eq!(idle, split, "threads without a shard");
}
