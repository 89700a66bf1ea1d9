//! Whether what runs is what a file describes.
//!
//! The server answers the resolved spec: with defaults, without nulls, with an effective endpoint. So both sides
//! are resolved here by the same rules, and only fields of a spec are compared. What the server decides (its own
//! defaults of three fields) is asked for; where it does not tell, the value that runs is taken for its default,
//! because replacing a function on a guess would throw away what waits for it.

use serde_json::{Map, Value, json};

use crate::json::equal;

/// Fields whose default is the server's, their name in its runtime configuration, and the documented default.
const SERVER_DEFAULTS: [(&str, &str, u64); 3] = [
    ("timeoutMs", "defaultTimeoutMs", 30_000),
    ("concurrency", "defaultConcurrency", 4),
    ("queueSize", "defaultQueueSize", 100),
];
/// The other fields of a spec.
const FIELDS: [&str; 25] = [
    "name",
    "image",
    "command",
    "env",
    "resources",
    "maxRetries",
    "retryBackoffMs",
    "rateLimitPerSecond",
    "endpointUrl",
    "executionMode",
    "runtimeMode",
    "runtimeCommand",
    "workingDir",
    "scalingConfig",
    "imagePullSecrets",
    "containerPort",
    "healthPath",
    "nodeSelector",
    "tolerations",
    "topologySpreadConstraints",
    "annotations",
    "labels",
    "serviceAccountName",
    "readOnlyRootFilesystem",
    "volumes",
];
/// Fields that say nothing when they are empty.
const EMPTY_IS_ABSENT: [&str; 8] = [
    "resources",
    "imagePullSecrets",
    "nodeSelector",
    "tolerations",
    "topologySpreadConstraints",
    "annotations",
    "labels",
    "volumes",
];

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Fields that differ.
    pub(super) changed: Vec<&'static str>,
    /// Fields that the file leaves to the server and that run with another value than the documented default.
    pub(super) guessed: Vec<&'static str>,
}

/// Compares a spec with a FunctionResponse. `server` is the server's runtime configuration, when it tells.
pub(super) fn compare(
    posted: &Map<String, Value>,
    running: &Map<String, Value>,
    server: Option<&Map<String, Value>>,
) -> Comparison {
    let (mut wanted, mut found) = (resolve(posted), resolve(running));
    // The endpoint of a deployed function is the backend's, whatever was posted.
    if running.get("effectiveExecutionMode").and_then(Value::as_str) == Some("DEPLOYMENT") {
        wanted.remove("endpointUrl");
        found.remove("endpointUrl");
    }
    let mut comparison = Comparison { changed: Vec::new(), guessed: Vec::new() };
    for field in FIELDS {
        if !same(wanted.get(field), found.get(field)) {
            comparison.changed.push(field);
        }
    }
    for (field, setting, documented) in SERVER_DEFAULTS {
        let default = server.and_then(|server| server.get(setting));
        match (wanted.get(field).or(default), found.get(field)) {
            (None, Some(found)) if !equal(found, &json!(documented)) => comparison.guessed.push(field),
            (None, _) => {}
            (wanted, found) if same(wanted, found) => {}
            _ => comparison.changed.push(field),
        }
    }
    comparison
}

fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => equal(left, right),
        (None, None) => true,
        _ => false,
    }
}

/// The fields of a spec with every default that does not depend on the server.
fn resolve(spec: &Map<String, Value>) -> Map<String, Value> {
    let mut resolved = without_nulls(spec);
    if let Some(timeout) = resolved.remove("timeoutMillis") {
        resolved.entry("timeoutMs").or_insert(timeout);
    }
    if let Some(mode) = resolved.remove("requestedExecutionMode") {
        resolved.entry("executionMode").or_insert(mode);
    }
    for (field, default) in [
        ("command", json!([])),
        ("env", json!({})),
        ("retryBackoffMs", json!(100)),
        ("executionMode", json!("DEPLOYMENT")),
        ("runtimeMode", json!("HTTP")),
    ] {
        resolved.entry(field).or_insert(default);
    }
    for field in EMPTY_IS_ABSENT {
        if resolved.get(field).is_some_and(is_empty) {
            resolved.remove(field);
        }
    }
    for (list, field, default) in [
        ("topologySpreadConstraints", "maxSkew", json!(1)),
        ("topologySpreadConstraints", "whenUnsatisfiable", json!("DoNotSchedule")),
        ("volumes", "readOnly", json!(false)),
    ] {
        let elements = resolved.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for element in elements.filter_map(Value::as_object_mut) {
            element.entry(field).or_insert_with(|| default.clone());
        }
    }
    if let Some(Value::String(url)) = resolved.get_mut("endpointUrl") {
        *url = callable(url);
    }
    // Resolved wherever it is given, and always there for a deployed function.
    let deployed = resolved.get("executionMode").and_then(Value::as_str) == Some("DEPLOYMENT");
    if deployed || resolved.contains_key("scalingConfig") {
        let scaling = resolved.get("scalingConfig").and_then(Value::as_object).cloned().unwrap_or_default();
        resolved.insert("scalingConfig".to_owned(), Value::Object(resolve_scaling(scaling)));
    }
    resolved
}

fn resolve_scaling(mut scaling: Map<String, Value>) -> Map<String, Value> {
    if scaling.get("metrics").is_none_or(is_empty) {
        scaling.insert("metrics".to_owned(), json!([{ "type": "queue_depth", "target": "5" }]));
    }
    for metric in scaling.get_mut("metrics").and_then(Value::as_array_mut).into_iter().flatten() {
        // YAML files say `target: 5`, the server keeps a text.
        if let Some(target @ Value::Number(_)) = metric.get_mut("target") {
            *target = Value::String(target.to_string());
        }
    }
    for (field, default) in
        [("strategy", json!("INTERNAL")), ("minReplicas", json!(1)), ("maxReplicas", json!(10))]
    {
        scaling.entry(field).or_insert(default);
    }
    let control = scaling.get("concurrencyControl").and_then(Value::as_object).cloned().unwrap_or_default();
    scaling.insert("concurrencyControl".to_owned(), Value::Object(resolve_control(control)));
    scaling
}

/// The reference of the server's concurrency control: FIXED drops everything else, the others have bounds.
fn resolve_control(mut control: Map<String, Value>) -> Map<String, Value> {
    let mode = control.get("mode").and_then(Value::as_str).unwrap_or("FIXED").to_owned();
    if mode == "FIXED" {
        return Map::from_iter([("mode".to_owned(), json!(mode))]);
    }
    let number = |name: &str| control.get(name).and_then(Value::as_i64);
    let high = number("maxTargetInFlightPerPod").map_or(8, |value| value.max(1));
    let low = number("minTargetInFlightPerPod").map_or(1, |value| value.max(1)).min(high);
    let target = number("targetInFlightPerPod").unwrap_or(2).clamp(low, high);
    for (field, value) in [
        ("maxTargetInFlightPerPod", high),
        ("minTargetInFlightPerPod", low),
        ("targetInFlightPerPod", target),
    ] {
        control.insert(field.to_owned(), json!(value));
    }
    for (field, default) in [
        ("upscaleCooldownMs", json!(30_000)),
        ("downscaleCooldownMs", json!(60_000)),
        ("highLoadThreshold", json!(0.85)),
        ("lowLoadThreshold", json!(0.35)),
    ] {
        control.entry(field).or_insert(default);
    }
    control
}

/// An endpoint as the server calls it: `/invoke` when it has no path, lower-case scheme, no fragment.
fn callable(url: &str) -> String {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return url.to_owned() };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return url.to_owned() };
    let path = if matches!(uri.path(), "" | "/") { "/invoke" } else { uri.path() };
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{}://{authority}{path}{query}", scheme.to_ascii_lowercase())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Nulls say nothing, at any depth.
fn without_nulls(object: &Map<String, Value>) -> Map<String, Value> {
    let kept = object.iter().filter(|(_, value)| !value.is_null());
    kept.map(|(name, value)| (name.clone(), strip(value))).collect()
}

fn strip(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(without_nulls(object)),
        Value::Array(values) => values.iter().map(strip).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use nanofaas_wire::function::KNOWN;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    /// The lists are on both sides of a wire. A field that only the server knew would be changed in a file in vain.
    #[test]
    fn every_field_that_the_server_knows_is_compared() {
        let parts = |field: &&str| field.contains('.');
        // Another name of `timeoutMs`, which `resolve` turns into it.
        let known = KNOWN.iter().copied().filter(|field| !parts(field) && *field != "timeoutMillis");
        let compared = FIELDS.into_iter().chain(SERVER_DEFAULTS.map(|(field, ..)| field));
        assert_eq!(compared.collect::<BTreeSet<_>>(), known.collect::<BTreeSet<_>>());
    }

    /// Defaults are filled in by both sides, part by part.
    #[test]
    fn every_part_of_the_scaling_that_is_resolved_is_known() {
        let control = json!({"mode": "ADAPTIVE_PER_POD"});
        let resolved = resolve_scaling(object(json!({"concurrencyControl": control})));
        let metric = resolved["metrics"][0].as_object().expect("a metric");
        let control = resolved["concurrencyControl"].as_object().expect("a control");
        let paths = [("", &resolved), ("metrics.", metric), ("concurrencyControl.", control)];
        let mut parts: BTreeSet<String> = paths
            .into_iter()
            .flat_map(|(path, part)| part.keys().map(move |key| format!("scalingConfig.{path}{key}")))
            .collect();
        // The only one without a default.
        parts.insert("scalingConfig.metrics.query".to_owned());
        let known = KNOWN.iter().filter(|field| field.starts_with("scalingConfig."));
        assert_eq!(parts, known.map(|field| (*field).to_owned()).collect());
    }

    /// A resolved DEPLOYMENT function with some fields changed.
    fn running(changes: Value) -> Map<String, Value> {
        let mut response = object(json!({
            "name": "f", "image": "i", "command": [], "env": {}, "timeoutMs": 30000, "concurrency": 4,
            "queueSize": 100, "retryBackoffMs": 100, "endpointUrl": "http://127.0.0.1:9/invoke",
            "executionMode": "DEPLOYMENT", "requestedExecutionMode": "DEPLOYMENT",
            "effectiveExecutionMode": "DEPLOYMENT", "deploymentBackend": "process", "runtimeMode": "HTTP",
            "scalingConfig": {"strategy": "INTERNAL", "minReplicas": 1, "maxReplicas": 10,
                "metrics": [{"type": "queue_depth", "target": "5", "query": null}],
                "concurrencyControl": {"mode": "FIXED", "targetInFlightPerPod": null}}
        }));
        response.extend(object(changes));
        response
    }

    fn pool(url: &str) -> Map<String, Value> {
        object(json!({
            "name": "f", "command": [], "env": {}, "timeoutMs": 30000, "concurrency": 4, "queueSize": 100,
            "retryBackoffMs": 100, "endpointUrl": url, "executionMode": "POOL",
            "requestedExecutionMode": "POOL", "effectiveExecutionMode": "POOL", "runtimeMode": "HTTP"
        }))
    }

    #[test]
    fn what_was_posted_is_what_runs() {
        for (posted, found) in [
            (json!({"name": "f", "image": "i"}), running(json!({}))),
            (
                json!({"name": "f", "image": "i", "resources": {}, "imagePullSecrets": null}),
                running(json!({})),
            ),
            (json!({"name": "f", "image": "i", "timeoutMillis": 5}), running(json!({"timeoutMs": 5}))),
            (
                json!({"name": "f", "image": "i", "labels": {}, "volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}}],
                    "topologySpreadConstraints": [{"topologyKey": "zone"}]}),
                running(
                    json!({"volumes": [{"name": "v", "mountPath": "/v", "readOnly": false, "emptyDir": {}}],
                    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
                ),
            ),
            (
                json!({"name": "f", "image": "i", "executionMode": "DEPLOYMENT", "concurrency": 4.0}),
                running(json!({})),
            ),
            (json!({"name": "f", "image": "i", "unknown": 1}), running(json!({}))),
            (
                json!({"name": "f", "image": "i", "scalingConfig": {"maxReplicas": 3, "metrics": [{"type": "rps", "target": 7}]}}),
                running(json!({"scalingConfig": {"strategy": "INTERNAL", "minReplicas": 1, "maxReplicas": 3,
                    "metrics": [{"type": "rps", "target": "7"}], "concurrencyControl": {"mode": "FIXED"}}})),
            ),
            (
                json!({"name": "f", "image": "i", "scalingConfig": {"concurrencyControl":
                    {"mode": "ADAPTIVE_PER_POD", "targetInFlightPerPod": 50, "minTargetInFlightPerPod": 10, "maxTargetInFlightPerPod": 3}}}),
                running(
                    json!({"scalingConfig": {"strategy": "INTERNAL", "minReplicas": 1, "maxReplicas": 10,
                    "metrics": [{"type": "queue_depth", "target": "5"}], "concurrencyControl": {
                        "mode": "ADAPTIVE_PER_POD", "targetInFlightPerPod": 3, "minTargetInFlightPerPod": 3,
                        "maxTargetInFlightPerPod": 3, "upscaleCooldownMs": 30000, "downscaleCooldownMs": 60000,
                        "highLoadThreshold": 0.85, "lowLoadThreshold": 0.35}}}),
                ),
            ),
            (
                json!({"name": "f", "executionMode": "POOL", "endpointUrl": "http://h:1"}),
                pool("http://h:1/invoke"),
            ),
            (
                json!({"name": "f", "executionMode": "POOL", "endpointUrl": "http://h:1/"}),
                pool("http://h:1/invoke"),
            ),
            (
                json!({"name": "f", "executionMode": "POOL", "endpointUrl": "http://h:1/x"}),
                pool("http://h:1/x"),
            ),
        ] {
            let comparison = compare(&object(posted.clone()), &found, None);
            assert_eq!(comparison, Comparison { changed: vec![], guessed: vec![] }, "{posted}");
        }
    }

    #[test]
    fn a_response_is_a_spec_of_itself() {
        for found in [running(json!({})), pool("http://h:1/invoke")] {
            assert_eq!(compare(&found, &found, None), Comparison { changed: vec![], guessed: vec![] });
        }
    }

    #[test]
    fn differences_are_named() {
        for (posted, found, changed) in [
            (json!({"name": "f", "image": "j"}), running(json!({})), "image"),
            (json!({"name": "f", "image": "i", "timeoutMs": 1}), running(json!({})), "timeoutMs"),
            (json!({"name": "f", "image": "i"}), running(json!({"env": {"A": "1"}})), "env"),
            (
                json!({"name": "f", "image": "i"}),
                running(json!({"rateLimitPerSecond": 5})),
                "rateLimitPerSecond",
            ),
            (json!({"name": "f", "image": "i", "runtimeMode": "STDIO"}), running(json!({})), "runtimeMode"),
            (
                json!({"name": "f", "image": "i", "scalingConfig": {"maxReplicas": 2}}),
                running(json!({})),
                "scalingConfig",
            ),
            (
                json!({"name": "f", "executionMode": "POOL", "endpointUrl": "http://h:2"}),
                pool("http://h:1/invoke"),
                "endpointUrl",
            ),
        ] {
            assert_eq!(compare(&object(posted.clone()), &found, None).changed, [changed], "{posted}");
        }
    }

    #[test]
    fn what_the_file_leaves_to_the_server_is_the_servers_default() {
        let posted = object(json!({"name": "f", "image": "i"}));
        let found = running(json!({"timeoutMs": 60000}));
        let server = |ms: u64| object(json!({"defaultTimeoutMs": ms}));
        let guessed = Comparison { changed: vec![], guessed: vec!["timeoutMs"] };
        assert_eq!(compare(&posted, &found, None), guessed);
        assert_eq!(compare(&posted, &found, Some(&server(60000))).changed, [""; 0]);
        assert_eq!(compare(&posted, &found, Some(&server(30000))).changed, ["timeoutMs"]);
    }
}
