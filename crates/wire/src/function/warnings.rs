//! What a registration says in vain: fields that nobody knows, and fields that this server cannot honour.
//!
//! Neither makes a function invalid, but neither may pass in silence: a misspelled `maxRetries` would show only when
//! a call fails. They are told to the client as warnings, and as violations when it asks for `?strict=true`.
//!
//! A response can be posted again without a warning: what only responses have is known, and a default is no wish.
//! `image` is never in vain: the same file serves servers that run images and servers that run programs.

use serde_json::{Map, Value};

use super::{
    ExecutionMode,
    fields::{Violations, quote},
    parse::Registration,
};
use crate::suggest;

/// Fields of a function, those of its parts with the path to them.
pub const KNOWN: &[&str] = &[
    "name",
    "image",
    "command",
    "env",
    "resources",
    "timeoutMs",
    "timeoutMillis",
    "concurrency",
    "queueSize",
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
    "resources.cpu",
    "resources.memory",
    "resources.requests",
    "resources.limits",
    "resources.requests.cpu",
    "resources.requests.memory",
    "resources.limits.cpu",
    "resources.limits.memory",
    "tolerations.key",
    "tolerations.operator",
    "tolerations.value",
    "tolerations.effect",
    "tolerations.tolerationSeconds",
    "topologySpreadConstraints.maxSkew",
    "topologySpreadConstraints.topologyKey",
    "topologySpreadConstraints.whenUnsatisfiable",
    "volumes.name",
    "volumes.mountPath",
    "volumes.subPath",
    "volumes.readOnly",
    "volumes.configMap",
    "volumes.configMap.name",
    "volumes.secret",
    "volumes.secret.secretName",
    "volumes.emptyDir",
    "volumes.emptyDir.medium",
    "volumes.emptyDir.sizeLimit",
    "volumes.persistentVolumeClaim",
    "volumes.persistentVolumeClaim.claimName",
    "scalingConfig.strategy",
    "scalingConfig.minReplicas",
    "scalingConfig.maxReplicas",
    "scalingConfig.metrics",
    "scalingConfig.concurrencyControl",
    "scalingConfig.metrics.type",
    "scalingConfig.metrics.target",
    "scalingConfig.metrics.query",
    "scalingConfig.concurrencyControl.mode",
    "scalingConfig.concurrencyControl.targetInFlightPerPod",
    "scalingConfig.concurrencyControl.minTargetInFlightPerPod",
    "scalingConfig.concurrencyControl.maxTargetInFlightPerPod",
    "scalingConfig.concurrencyControl.upscaleCooldownMs",
    "scalingConfig.concurrencyControl.downscaleCooldownMs",
    "scalingConfig.concurrencyControl.highLoadThreshold",
    "scalingConfig.concurrencyControl.lowLoadThreshold",
];

/// Objects with keys that the author of a function chooses.
const KEYS_OF_AUTHORS: &[&str] = &["env", "nodeSelector", "annotations", "labels"];

/// What responses have on top; ignored in a registration.
const RESPONSE_ONLY: &[&str] = &[
    "requestedExecutionMode",
    "effectiveExecutionMode",
    "deploymentBackend",
    "degradationReason",
    "warnings",
];

/// Fields of the contract that this version does not act on. Some of them are about safety: who asks for a sandbox
/// must not believe that there is one.
const UNSUPPORTED: &[&str] = &[
    "protocol",
    "streamIdleMs",
    "streamMaxMs",
    "contentType",
    "handler",
    "minWorkers",
    "warm",
    "asyncKeepCredentials",
    "public",
    "secrets",
    "sandbox",
    "network",
    "package",
    "workingDirWritable",
];

/// Fields about a program that the server starts.
const OF_PROGRAMS: &[&str] = &[
    "command",
    "env",
    "resources",
    "runtimeMode",
    "runtimeCommand",
    "workingDir",
    "scalingConfig",
    "imagePullSecrets",
];

/// Fields about Pods.
const OF_PODS: &[&str] = &[
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

/// A function's document with one more member, when there is something to warn of. Only the answer to a registration
/// has it: the function itself is not affected.
pub fn with_warnings(mut document: Vec<u8>, warnings: &[String]) -> Vec<u8> {
    if !warnings.is_empty() && document.pop() == Some(b'}') {
        document.extend_from_slice(b",\"warnings\":");
        document.extend_from_slice(Value::from(warnings).to_string().as_bytes());
        document.push(b'}');
    }
    document
}

/// Everything that `members` says in vain. `mode` is `None` when it could not be read: then only unknown fields can
/// be told.
pub(super) fn collect(
    members: &Map<String, Value>,
    mode: Option<ExecutionMode>,
    registration: &Registration,
    warnings: &mut Violations,
) {
    unknown(members, "", "", warnings);
    for field in UNSUPPORTED {
        if members.get(*field).is_some_and(is_a_wish) {
            warnings.push(field, "has no effect: this version does not support it");
        }
    }
    let mut in_vain = |fields: &[&str], reason: &str| {
        for field in fields {
            if members.get(*field).is_some_and(is_a_wish) {
                warnings.push(field, &format!("has no effect: {reason}"));
            }
        }
    };
    if mode == Some(ExecutionMode::Remote) {
        in_vain(&["scalingConfig"], "a REMOTE function has a job for each attempt, and no replicas");
        in_vain(&["endpointUrl"], "the server starts a job for each attempt of a REMOTE function");
        if registration.pods {
            in_vain(&["containerPort", "healthPath"], "a job serves nothing");
        }
    }
    match mode {
        Some(ExecutionMode::Local) => {
            in_vain(OF_PROGRAMS, "the server itself answers the calls of a LOCAL function");
            in_vain(OF_PODS, "the server itself answers the calls of a LOCAL function");
            in_vain(&["endpointUrl"], "the server itself answers the calls of a LOCAL function");
        }
        Some(ExecutionMode::Pool) => {
            in_vain(OF_PROGRAMS, "the server starts nothing for a POOL function");
            in_vain(OF_PODS, "the server starts nothing for a POOL function");
        }
        // With both backends it is not known here which of them runs it.
        Some(mode @ (ExecutionMode::Deployment | ExecutionMode::Remote))
            if registration.image_optional && !registration.pods =>
        {
            in_vain(&["resources"], "the process backend limits neither CPU nor memory");
            in_vain(&["command", "imagePullSecrets"], "the process backend runs programs, not images");
            in_vain(OF_PODS, "the process backend runs programs, not Pods");
            let strategy = members.get("scalingConfig").and_then(|scaling| scaling.get("strategy"));
            if mode == ExecutionMode::Deployment && strategy == Some(&"HPA".into()) {
                warnings.push(
                    "scalingConfig.strategy",
                    "HPA has no effect with the process backend: use INTERNAL or NONE",
                );
            }
        }
        Some(ExecutionMode::Deployment | ExecutionMode::Remote) | None => {}
    }
}

/// Unknown fields of an object and of the objects in it. `shown` is the path to it as messages give it, `path` the
/// same without positions in arrays.
fn unknown(members: &Map<String, Value>, shown: &str, path: &str, warnings: &mut Violations) {
    for (key, value) in members {
        let name = format!("{path}{key}");
        let shown = format!("{shown}{}", quote(key));
        let ignored =
            path.is_empty() && (RESPONSE_ONLY.contains(&key.as_str()) || UNSUPPORTED.contains(&key.as_str()));
        if !KNOWN.contains(&name.as_str()) {
            if !ignored {
                warnings.push(&shown, &complaint(&name));
            }
            continue;
        }
        let (below, path) = (format!("{shown}."), format!("{name}."));
        match value {
            // The names of variables and labels are the author's.
            Value::Object(_) if KEYS_OF_AUTHORS.contains(&name.as_str()) => {}
            Value::Object(members) => unknown(members, &below, &path, warnings),
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    if let Value::Object(members) = element {
                        unknown(members, &format!("{shown}[{index}]."), &path, warnings);
                    }
                }
            }
            _ => {}
        }
    }
}

fn complaint(name: &str) -> String {
    match meant(name) {
        Some(field) => format!("unknown, did you mean {field}?"),
        None => "unknown".to_owned(),
    }
}

/// The known field that a name is nearest to, when a third of its letters at most is wrong: `maxRetry` is
/// `maxRetries`. How words are joined does not count: `max_retries` is, too.
fn meant(name: &str) -> Option<&'static str> {
    /// Longer names are no typing mistakes, and comparing takes time with their length.
    const NAME_MAX: usize = 64;
    if name.len() > NAME_MAX {
        return None;
    }
    let letters = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let name_letters = letters(name);
    let near = KNOWN.iter().filter_map(|known| {
        let known_letters = letters(known);
        let distance = suggest::distance(&name_letters, &known_letters);
        (distance <= name_letters.len().max(known_letters.len()) / 3).then_some((distance, *known))
    });
    let nearest = near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known);
    nearest.or_else(|| suggest::only_with_leaf(name, KNOWN.iter().copied()))
}

/// Whether a value says more than its absence would.
fn is_a_wish(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => members.values().any(|value| !value.is_null()),
        // `runtimeMode`'s default, and what an empty command means.
        Value::String(text) => !text.trim().is_empty() && text != "HTTP",
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::function::FunctionSpec;

    const SERVER: Registration = Registration {
        default_timeout_ms: 30_000,
        default_concurrency: 4,
        default_queue_size: 100,
        default_max_retries: 3,
        image_optional: true,
        pods: false,
    };

    fn warnings(body: &Value) -> Vec<String> {
        let parsed = FunctionSpec::parse_with_warnings(body.to_string().as_bytes(), &SERVER, false);
        parsed.unwrap_or_else(|error| panic!("{body}: {error}")).1
    }

    /// A function of `mode` that is valid, with `members` on top.
    fn function(mode: &str, members: &Value) -> Value {
        let mut body = json!({"name": "f", "executionMode": mode, "runtimeCommand": "x"});
        if mode == "POOL" {
            body = json!({"name": "f", "executionMode": mode, "endpointUrl": "http://h:1/"});
        } else if mode == "LOCAL" {
            body = json!({"name": "f", "executionMode": mode});
        }
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body
    }

    #[test]
    fn what_is_said_in_vain_is_told() {
        for (mode, members, expected) in [
            ("DEPLOYMENT", json!({}), &[][..]),
            ("DEPLOYMENT", json!({"maxRetry": 1}), &["maxRetry: unknown, did you mean maxRetries?"]),
            ("DEPLOYMENT", json!({"timeout_ms": 1}), &["timeout_ms: unknown, did you mean timeoutMs?"]),
            (
                "DEPLOYMENT",
                json!({"RATELIMITPERSECOND": 1}),
                &["RATELIMITPERSECOND: unknown, did you mean rateLimitPerSecond?"],
            ),
            ("DEPLOYMENT", json!({"colour": null}), &["colour: unknown"]),
            (
                "DEPLOYMENT",
                json!({"minReplicas": 0}),
                &["minReplicas: unknown, did you mean scalingConfig.minReplicas?"],
            ),
            (
                "DEPLOYMENT",
                json!({"scalingConfig": {"minReplica": 0}}),
                &["scalingConfig.minReplica: unknown, did you mean scalingConfig.minReplicas?"],
            ),
            (
                "DEPLOYMENT",
                json!({"scalingConfig": {"metrics": [
                    {"type": "rps", "target": "5"}, {"type": "rps", "tarqet": "5"}
                ]}}),
                &["scalingConfig.metrics[1].tarqet: unknown, did you mean scalingConfig.metrics.target?"],
            ),
            ("DEPLOYMENT", json!({"env": {"maxRetry": "1"}}), &[]),
            ("DEPLOYMENT", json!({"resources": {}, "command": [], "imagePullSecrets": null}), &[]),
            (
                "DEPLOYMENT",
                json!({"resources": {"cpu": "1"}}),
                &["resources: has no effect: the process backend limits neither CPU nor memory"],
            ),
            (
                "DEPLOYMENT",
                json!({"imagePullSecrets": ["s"]}),
                &["imagePullSecrets: has no effect: the process backend runs programs, not images"],
            ),
            (
                "DEPLOYMENT",
                json!({"scalingConfig": {"strategy": "HPA"}}),
                &["scalingConfig.strategy: HPA has no effect with the process backend: use INTERNAL or NONE"],
            ),
            (
                "REMOTE",
                json!({"resources": {"cpu": "1"}, "imagePullSecrets": ["s"], "labels": {"a": "b"}}),
                &[
                    "resources: has no effect: the process backend limits neither CPU nor memory",
                    "imagePullSecrets: has no effect: the process backend runs programs, not images",
                    "labels: has no effect: the process backend runs programs, not Pods",
                ],
            ),
            (
                "REMOTE",
                json!({"scalingConfig": {"strategy": "HPA"}}),
                &[
                    "scalingConfig: has no effect: a REMOTE function has a job for each attempt, and no replicas",
                ],
            ),
            (
                "DEPLOYMENT",
                json!({"sandbox": "strict"}),
                &["sandbox: has no effect: this version does not support it"],
            ),
            (
                "POOL",
                json!({"image": "i", "workingDir": "/tmp", "runtimeMode": "HTTP"}),
                &["workingDir: has no effect: the server starts nothing for a POOL function"],
            ),
            (
                "LOCAL",
                json!({"endpointUrl": "http://h:1/"}),
                &["endpointUrl: has no effect: the server itself answers the calls of a LOCAL function"],
            ),
        ] {
            assert_eq!(warnings(&function(mode, &members)), expected, "{mode} {members}");
        }
    }

    #[test]
    fn what_pods_have_is_a_wish_where_there_are_pods() {
        let body = function("REMOTE", &json!({"image": "i", "healthPath": "/", "nodeSelector": {"a": "b"}}));
        let server = Registration { image_optional: false, pods: true, ..SERVER };
        let parsed = FunctionSpec::parse_with_warnings(body.to_string().as_bytes(), &server, false);
        assert_eq!(parsed.unwrap().1, ["healthPath: has no effect: a job serves nothing"]);
    }

    #[test]
    fn a_strict_registration_is_told_of_everything_at_once() {
        let body = json!({"name": "f", "runtimeCommand": "x", "maxRetry": 1, "concurrency": 0});
        let parse = |strict| FunctionSpec::parse_with_warnings(body.to_string().as_bytes(), &SERVER, strict);
        let details = |strict| match parse(strict) {
            Err(crate::function::SpecError::Invalid(details)) => details,
            other => panic!("{other:?}"),
        };
        assert_eq!(details(false), ["concurrency: must be greater than or equal to 1"]);
        assert_eq!(
            details(true),
            [
                "concurrency: must be greater than or equal to 1",
                "maxRetry: unknown, did you mean maxRetries?",
            ]
        );
    }

    #[test]
    fn a_response_can_be_posted_again_without_a_warning() {
        for mode in ["DEPLOYMENT", "REMOTE", "POOL", "LOCAL"] {
            let given = function(mode, &json!({"image": "i", "rateLimitPerSecond": 1})).to_string();
            let mut spec = FunctionSpec::parse(given.as_bytes(), &SERVER).unwrap();
            spec.deployment_backend = Some("process".to_owned());
            spec.degradation_reason = Some("none was there".to_owned());
            let mut response: Value = serde_json::from_slice(&spec.document()).unwrap();
            response["warnings"] = json!([]);
            assert_eq!(warnings(&response), [""; 0], "{mode}");
        }
    }

    #[test]
    fn a_long_list_and_a_long_name_stay_short() {
        let mut body = function("LOCAL", &json!({"n".repeat(100_000): 1}));
        let quoted = format!("{}…: unknown", "n".repeat(64));
        assert_eq!(warnings(&body), [quoted]);
        for index in 0..1000 {
            body[format!("colour-{index}")] = json!(1);
        }
        assert_eq!(warnings(&body).len(), 101);
    }
}
