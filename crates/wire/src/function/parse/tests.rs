//! Bodies and what becomes of them.

use serde_json::{Value, json};
use shard_core::Target;

use super::*;

mod pods;

const SERVER: Registration = Registration {
    default_timeout_ms: 30_000,
    default_concurrency: 4,
    default_queue_size: 100,
    default_max_retries: 3,
    image_optional: false,
    pods: false,
};

/// A server with the process backend.
const PROCESS: Registration = Registration { image_optional: true, ..SERVER };

fn parse(body: &Value) -> FunctionSpec {
    parse_on(body, &SERVER)
}

fn parse_on(body: &Value, registration: &Registration) -> FunctionSpec {
    FunctionSpec::parse(body.to_string().as_bytes(), registration)
        .unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn violations_on(body: &str, registration: &Registration) -> Vec<String> {
    match FunctionSpec::parse(body.as_bytes(), registration) {
        Err(SpecError::Invalid(details)) => details,
        other => panic!("{body}: {other:?}"),
    }
}

fn response(spec: &FunctionSpec) -> Value {
    serde_json::from_slice(&spec.document()).unwrap()
}

/// A POOL function with `members` on top.
fn pool(members: &Value) -> Value {
    let mut body = json!({"name": "f", "executionMode": "POOL", "endpointUrl": "http://h:1/"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

#[test]
fn defaults_are_filled_in() {
    let expected = json!({
        "name": "echo", "image": "img", "command": [], "env": {}, "timeoutMs": 30000, "concurrency": 4,
        "queueSize": 100, "retryBackoffMs": 100, "executionMode": "DEPLOYMENT",
        "requestedExecutionMode": "DEPLOYMENT", "effectiveExecutionMode": "DEPLOYMENT",
        "runtimeMode": "HTTP",
        "scalingConfig": {
            "strategy": "INTERNAL", "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{"type": "queue_depth", "target": "5", "query": null}],
            "concurrencyControl": {
                "mode": "FIXED", "targetInFlightPerPod": null, "minTargetInFlightPerPod": null,
                "maxTargetInFlightPerPod": null, "upscaleCooldownMs": null, "downscaleCooldownMs": null,
                "highLoadThreshold": null, "lowLoadThreshold": null,
            },
        },
    });
    assert_eq!(response(&parse(&json!({"name": "echo", "image": "img"}))), expected);

    let server = Registration {
        default_timeout_ms: 1,
        default_concurrency: 2,
        default_queue_size: 3,
        default_max_retries: 4,
        image_optional: false,
        pods: false,
    };
    let spec = parse_on(&json!({"name": "echo", "executionMode": "LOCAL", "timeoutMs": null}), &server);
    assert_eq!((spec.timeout_ms, spec.concurrency, spec.queue_size, spec.max_retries), (1, 2, 3, None));
    assert_eq!(spec.scaling_config, None);
    let policy = spec.policy();
    assert_eq!((policy.attempts_max, policy.sync_attempts_max), (4, 1));
}

#[test]
fn given_values_are_kept() {
    let body = json!({
        "name": "A.b_c-9", "image": "r/i:1", "command": ["a", ""], "env": {"_A1": "x", "b": ""},
        "resources": {"cpu": "250m", "memory": "128Mi"}, "timeoutMs": 86_400_000, "concurrency": 4_294_967_295u32,
        "queueSize": 1, "maxRetries": 100, "retryBackoffMs": 4_294_967_295u32, "rateLimitPerSecond": 1,
        "endpointUrl": "https://h/x", "executionMode": "POOL", "runtimeMode": "STDIO",
        "runtimeCommand": "sh -c 'cat'", "workingDir": "/srv", "imagePullSecrets": ["s"],
    });
    let mut expected = body.clone();
    expected["requestedExecutionMode"] = json!("POOL");
    expected["effectiveExecutionMode"] = json!("POOL");
    assert_eq!(response(&parse(&body)), expected);
}

#[test]
fn lenient_where_the_contract_is() {
    let bodies = [
        (pool(&json!({"timeoutMillis": 7})), "timeoutMs", json!(7)),
        (pool(&json!({"timeoutMillis": 7, "timeoutMs": 8})), "timeoutMs", json!(8)),
        (pool(&json!({"timeoutMillis": "x", "timeoutMs": 8})), "timeoutMs", json!(8)),
        (pool(&json!({"timeoutMillis": 7, "timeoutMs": null})), "timeoutMs", json!(7)),
        (pool(&json!({"unknown": {"deep": [1]}, "x-cli": 1})), "name", json!("f")),
        (pool(&json!({"maxRetries": 0})), "maxRetries", json!(0)),
        (pool(&json!({"runtimeCommand": " "})), "runtimeCommand", Value::Null),
        (pool(&json!({"resources": {"cpu": "1"}})), "resources", json!({"cpu": "1", "memory": null})),
        (pool(&json!({"name": "a".repeat(63)})), "name", json!("a".repeat(63))),
        // A server's own words are not input.
        (pool(&json!({"effectiveExecutionMode": "LOCAL"})), "effectiveExecutionMode", json!("POOL")),
        (pool(&json!({"requestedExecutionMode": 5})), "requestedExecutionMode", json!("POOL")),
        (pool(&json!({"degradationReason": "because"})), "degradationReason", Value::Null),
        (pool(&json!({"deploymentBackend": "k8s"})), "deploymentBackend", Value::Null),
        (pool(&json!({"deploymentBackend": "k8s"})), "endpointUrl", json!("http://h:1/invoke")),
    ];
    for (body, field, value) in bodies {
        assert_eq!(response(&parse(&body))[field], value, "{body}");
    }
    let twice = br#"{"name":"f","executionMode":"LOCAL","name":"g"}"#;
    assert_eq!(FunctionSpec::parse(twice, &SERVER).unwrap().name, "g");
}

#[test]
fn each_violation_names_its_field() {
    let pattern = "name: must match ^[a-zA-Z][a-zA-Z0-9._-]{0,62}$";
    let url = "endpointUrl: must be an absolute http or https URL with a host, such as http://127.0.0.1:9000/invoke";
    let modes = "executionMode: must be one of LOCAL, POOL, DEPLOYMENT, REMOTE";
    let env_key = "the key must match [A-Za-z_][A-Za-z0-9_]*";
    for (members, detail) in [
        (json!({"name": null}), "name: Function name is required"),
        (json!({"name": "  "}), "name: Function name is required"),
        (json!({"name": 5}), "name: must be a string"),
        (json!({"name": "9a"}), pattern),
        (json!({"name": "a b"}), pattern),
        (json!({"name": "é"}), pattern),
        (json!({"name": "a".repeat(64)}), pattern),
        (json!({"image": " "}), "image: must not be blank"),
        (json!({"image": []}), "image: must be a string"),
        (json!({"image": "a\0"}), "image: must not contain a NUL character"),
        (json!({"command": "x"}), "command: must be an array"),
        (json!({"command": ["x", 1]}), "command[1]: must be a string"),
        (json!({"command": [null]}), "command[0]: must be a string"),
        (json!({"env": []}), "env: must be an object"),
        (json!({"env": {"A": 1}}), "env.A: must be a string"),
        (json!({"env": {"A": null}}), "env.A: must be a string"),
        (json!({"env": {"1A": "x"}}), &format!("env.1A: {env_key}")),
        (json!({"env": {"": "x"}}), &format!("env.: {env_key}")),
        (json!({"env": {"A\n": "x"}}), &format!("env.A\\n: {env_key}")),
        (json!({"resources": "1"}), "resources: must be an object"),
        (json!({"resources": {"cpu": 1}}), "resources.cpu: must be a string"),
        (json!({"resources": {"cpu": "x"}}), "resources.cpu: must be a Kubernetes quantity such as 250m"),
        (
            json!({"resources": {"memory": "1MB"}}),
            "resources.memory: must be a Kubernetes quantity such as 128Mi",
        ),
        (json!({"timeoutMs": 0}), "timeoutMs: must be greater than or equal to 1"),
        (json!({"timeoutMs": 86_400_001}), "timeoutMs: must be less than or equal to 86400000"),
        (json!({"timeoutMs": "5"}), "timeoutMs: must be an integer"),
        (json!({"timeoutMs": 5.0}), "timeoutMs: must be an integer"),
        (json!({"timeoutMs": true}), "timeoutMs: must be an integer"),
        (json!({"timeoutMs": 1e300}), "timeoutMs: must be less than or equal to 86400000"),
        (json!({"timeoutMillis": 0}), "timeoutMillis: must be greater than or equal to 1"),
        (json!({"concurrency": -1}), "concurrency: must be greater than or equal to 1"),
        (json!({"concurrency": 4_294_967_296u64}), "concurrency: must be less than or equal to 4294967295"),
        (json!({"concurrency": u64::MAX}), "concurrency: must be less than or equal to 4294967295"),
        (json!({"queueSize": 0}), "queueSize: must be greater than or equal to 1"),
        (json!({"queueSize": 1_000_001}), "queueSize: must be less than or equal to 1000000"),
        (json!({"queueSize": i64::MIN}), "queueSize: must be greater than or equal to 1"),
        (json!({"maxRetries": -1}), "maxRetries: must be greater than or equal to 0"),
        (json!({"maxRetries": 101}), "maxRetries: must be less than or equal to 100"),
        (json!({"retryBackoffMs": -1e300}), "retryBackoffMs: must be greater than or equal to 0"),
        (json!({"rateLimitPerSecond": 0}), "rateLimitPerSecond: must be greater than or equal to 1"),
        (json!({"executionMode": "pool"}), modes),
        (json!({"executionMode": 1}), modes),
        (json!({"runtimeMode": "Http"}), "runtimeMode: must be one of HTTP, STDIO, FILE"),
        (
            json!({"endpointUrl": null}),
            "endpointUrl: is required for POOL: give the URL that calls are posted to",
        ),
        (json!({"endpointUrl": "/x"}), url),
        (json!({"endpointUrl": ""}), url),
        (json!({"endpointUrl": 5}), "endpointUrl: must be a string"),
        (
            json!({"runtimeCommand": "a 'b"}),
            "runtimeCommand: must be shell-style words: close every quote and escape",
        ),
        (json!({"runtimeCommand": "# a"}), "runtimeCommand: must name a program; a # starts a comment"),
        (json!({"workingDir": "srv"}), "workingDir: must be an absolute path"),
        (json!({"imagePullSecrets": ["a", {}]}), "imagePullSecrets[1]: must be a string"),
        (json!({"scalingConfig": 1}), "scalingConfig: must be an object"),
    ] {
        assert_eq!(violations_on(&pool(&members).to_string(), &SERVER), [detail], "{members}");
    }
}

#[test]
fn scaling_violations() {
    for (scaling, detail) in [
        (json!({"strategy": "AUTO"}), "strategy: must be one of HPA, INTERNAL, NONE"),
        (json!({"minReplicas": -1}), "minReplicas: minReplicas must be >= 0"),
        (json!({"minReplicas": 0, "maxReplicas": 0}), "maxReplicas: maxReplicas must be >= 1"),
        (json!({"minReplicas": 11}), "minReplicas: minReplicas must be <= maxReplicas"),
        (json!({"minReplicas": "1"}), "minReplicas: must be an integer"),
        (json!({"metrics": {}}), "metrics: must be an array"),
        (json!({"metrics": [1]}), "metrics[0]: must be an object"),
        (json!({"metrics": [{}]}), "metrics[0].type: is required: name the metric, such as queue_depth"),
        (json!({"metrics": [{"type": "rps", "target": 5}]}), "metrics[0].target: must be a string"),
        (
            json!({"metrics": [{"type": "rps"}, {"type": "cpu"}]}),
            "metrics[1].type: Unsupported INTERNAL scaling metric: cpu; use one of queue_depth, in_flight, rps",
        ),
        (
            json!({"concurrencyControl": {"mode": "x"}}),
            "concurrencyControl.mode: must be one of FIXED, STATIC_PER_POD, ADAPTIVE_PER_POD",
        ),
        (
            json!({"concurrencyControl": {"upscaleCooldownMs": -1}}),
            "concurrencyControl.upscaleCooldownMs: must be greater than or equal to 0",
        ),
        (
            json!({"concurrencyControl": {"highLoadThreshold": "1"}}),
            "concurrencyControl.highLoadThreshold: must be a number",
        ),
    ] {
        let body = json!({"name": "f", "image": "i", "scalingConfig": scaling});
        assert_eq!(
            violations_on(&body.to_string(), &SERVER),
            [format!("scalingConfig.{detail}")],
            "{scaling}"
        );
    }
}

#[test]
fn scaling_is_completed() {
    let scaled = |scaling: Value| {
        response(&parse(&json!({"name": "f", "image": "i", "scalingConfig": scaling})))["scalingConfig"]
            .take()
    };
    let plain = scaled(Value::Null);
    assert_eq!(scaled(json!({})), plain);
    assert_eq!(scaled(json!({"metrics": [], "concurrencyControl": {"targetInFlightPerPod": 4}})), plain);
    let hpa =
        scaled(json!({"strategy": "HPA", "minReplicas": 0, "metrics": [{"type": "cpu", "target": "80"}]}));
    assert_eq!(hpa["metrics"], json!([{"type": "cpu", "target": "80", "query": null}]));
    assert_eq!((&hpa["minReplicas"], &hpa["maxReplicas"]), (&json!(0), &json!(10)));

    for (given, [target, min, max]) in [
        (json!({}), [2, 1, 8]),
        (
            json!({"targetInFlightPerPod": 50, "minTargetInFlightPerPod": 10, "maxTargetInFlightPerPod": 3}),
            [3, 3, 3],
        ),
        (
            json!({"targetInFlightPerPod": -5, "minTargetInFlightPerPod": 0, "maxTargetInFlightPerPod": -1}),
            [1, 1, 1],
        ),
        (json!({"minTargetInFlightPerPod": 4}), [4, 4, 8]),
    ] {
        let mut control = given.clone();
        control["mode"] = json!("ADAPTIVE_PER_POD");
        let expected = json!({
            "mode": "ADAPTIVE_PER_POD", "targetInFlightPerPod": target, "minTargetInFlightPerPod": min,
            "maxTargetInFlightPerPod": max, "upscaleCooldownMs": 30000, "downscaleCooldownMs": 60000,
            "highLoadThreshold": 0.85, "lowLoadThreshold": 0.35,
        });
        assert_eq!(scaled(json!({"concurrencyControl": control}))["concurrencyControl"], expected, "{given}");
    }
}

#[test]
fn scaling_of_other_modes_is_kept_and_not_judged() {
    let given =
        json!({"strategy": "INTERNAL", "minReplicas": 9, "maxReplicas": 2, "metrics": [{"type": "cpu"}]});
    let kept = response(&parse(&pool(&json!({"scalingConfig": given}))));
    assert_eq!(kept["scalingConfig"]["minReplicas"], json!(9));
    assert_eq!(kept["scalingConfig"]["metrics"][0]["type"], json!("cpu"));
}

#[test]
fn what_runs_a_function_is_required() {
    let image = "image: is required, except for LOCAL and POOL: name a container image";
    let command = "runtimeCommand: is required without an image: name the program that runs the function";
    let cases: [(Value, &Registration, &[&str]); 10] = [
        (json!({}), &SERVER, &[image]),
        (json!({"executionMode": "REMOTE"}), &SERVER, &[image]),
        (json!({"endpointUrl": "http://h"}), &SERVER, &[image]),
        (json!({"runtimeCommand": "cat"}), &SERVER, &[image]),
        (json!({"executionMode": "LOCAL"}), &SERVER, &[]),
        (json!({}), &PROCESS, &[command]),
        (json!({"runtimeCommand": ""}), &PROCESS, &[command]),
        (json!({"executionMode": "REMOTE"}), &PROCESS, &[command]),
        (json!({"runtimeCommand": "cat"}), &PROCESS, &[]),
        (json!({"image": "i"}), &PROCESS, &[]),
    ];
    for (mut body, registration, details) in cases {
        body["name"] = json!("f");
        match FunctionSpec::parse(body.to_string().as_bytes(), registration) {
            Ok(_) => assert!(details.is_empty(), "{body}"),
            Err(SpecError::Invalid(found)) => assert_eq!(found, details, "{body}"),
            Err(other) => panic!("{body}: {other}"),
        }
    }
}

#[test]
fn all_violations_come_at_once() {
    let body = json!({
        "name": "9", "executionMode": "x", "timeoutMs": "1", "env": {"-": 1}, "endpointUrl": "x",
        "scalingConfig": {"minReplicas": "x"},
    });
    let found = violations_on(&body.to_string(), &SERVER);
    let fields: Vec<_> = found.iter().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(
        fields,
        ["name", "executionMode", "env.-", "env.-", "timeoutMs", "endpointUrl", "scalingConfig.minReplicas"]
    );
}

#[test]
fn the_list_of_violations_is_bounded() {
    let body = pool(&json!({"command": vec![1; 5000], "env": {"é".repeat(5000): "x"}}));
    let found = violations_on(&body.to_string(), &SERVER);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "body: 4901 more violations are not listed");
    let long = pool(&json!({"env": {"é".repeat(5000): "x"}}));
    assert!(violations_on(&long.to_string(), &SERVER)[0].len() < 300);
}

#[test]
fn bodies_that_are_no_object_are_explained() {
    for (body, start, place) in [
        ("", "The body is empty", "line 1 column 0"),
        (" \n", "The body is empty", "line 1 column 0"),
        ("null", "The body must be a JSON object with at least a name, not null", "line 1 column 1"),
        ("[]", "The body must be a JSON object with at least a name, not an array", "line 1 column 1"),
        ("\"a\"", "The body must be a JSON object with at least a name, not a string", "line 1 column 1"),
        ("{\"name\":\n x}", "The body is not valid JSON: ", "line 2 column 2"),
        ("{} {}", "The body is not valid JSON: ", "line 1 column 4"),
        ("{\"timeoutMs\":1e999}", "The body is not valid JSON: ", "line 1 column"),
    ] {
        match FunctionSpec::parse(body.as_bytes(), &SERVER) {
            Err(SpecError::Malformed(message)) => {
                assert!(message.starts_with(start) && message.contains(place), "{body}: {message}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(matches!(FunctionSpec::parse(b"{\"name\":\"\xff\"}", &SERVER), Err(SpecError::Malformed(_))));
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(matches!(FunctionSpec::parse(deep.as_bytes(), &SERVER), Err(SpecError::Malformed(_))));
}

fn specimens() -> Vec<FunctionSpec> {
    let control = json!({"mode": "STATIC_PER_POD", "highLoadThreshold": 1, "upscaleCooldownMs": 0});
    [
        json!({"name": "l", "executionMode": "LOCAL"}),
        json!({"name": "d", "image": "i"}),
        json!({"name": "d", "image": "i", "endpointUrl": "http://fallback"}),
        json!({"name": "d", "runtimeCommand": "python3 -u 'a b.py'", "runtimeMode": "FILE", "workingDir": "/"}),
        json!({"name": "d", "image": "i", "scalingConfig": {"minReplicas": 0, "concurrencyControl": control}}),
        json!({"name": "r", "image": "i", "executionMode": "REMOTE", "imagePullSecrets": []}),
        pool(&json!({"resources": {"memory": "1Gi"}, "rateLimitPerSecond": 9, "command": ["x"], "env": {"A": "é\n"}})),
        pool(&json!({"scalingConfig": {"strategy": "NONE", "maxReplicas": 0}, "runtimeMode": "HTTP"})),
    ]
    .iter()
    .map(|body| parse_on(body, &PROCESS))
    .collect()
}

#[test]
fn a_response_posted_again_gives_the_same_function() {
    for spec in specimens() {
        let document = spec.document();
        assert_eq!(FunctionSpec::from_document(&document).unwrap(), spec);
        assert_eq!(FunctionSpec::parse(&document, &PROCESS).unwrap().document(), document);
    }
}

#[test]
fn the_address_of_a_replica_does_not_become_a_fallback() {
    for mut spec in specimens() {
        let asked = spec.document();
        if spec.execution_mode != ExecutionMode::Deployment || spec.endpoint_url.is_some() {
            continue;
        }
        spec.deployment_backend = Some("process".to_owned());
        spec.endpoint_url = Some("http://127.0.0.1:41234/invoke".to_owned());
        assert_eq!(FunctionSpec::parse(&spec.document(), &PROCESS).unwrap().document(), asked);
    }
}

#[test]
fn a_degraded_function_posted_again_keeps_its_address() {
    let mut spec = parse(&json!({"name": "d", "image": "i", "endpointUrl": "http://fallback"}));
    let asked = spec.clone();
    spec.effective_execution_mode = ExecutionMode::Pool;
    spec.degradation_reason = Some("no backend".to_owned());
    assert_eq!(spec.target(), Target::Endpoint("http://fallback/invoke".into()));
    assert_eq!(FunctionSpec::parse(&spec.document(), &SERVER).unwrap(), asked);
}

#[test]
fn the_core_gets_numbers_and_a_target() {
    for (retries, attempts) in [(0, 1), (1, 1), (2, 2), (100, 100)] {
        let policy = parse(&pool(&json!({"maxRetries": retries}))).policy();
        assert_eq!((policy.attempts_max, policy.sync_attempts_max), (attempts, attempts));
    }
    let core = parse(&pool(&json!({"timeoutMs": 5, "rateLimitPerSecond": 6}))).core_spec();
    assert_eq!(core.name.as_str(), "f");
    assert_eq!((core.policy.timeout_ms, core.policy.rate_limit_per_second), (5, Some(6)));
    assert_eq!(core.target, Target::Endpoint("http://h:1/invoke".into()));
    let target = |mode| parse(&json!({"name": "f", "image": "i", "executionMode": mode})).target();
    assert_eq!(target("LOCAL"), Target::Local);
    assert_eq!(target("DEPLOYMENT"), Target::Backend);
    assert_eq!(target("REMOTE"), Target::Backend);
}

#[test]
fn a_document_with_another_name_is_refused() {
    let document = String::from_utf8(specimens()[0].document().to_vec()).unwrap();
    let forged = document.replace("\"name\":\"l\"", "\"name\":\"../l\"");
    assert_ne!(forged, document);
    assert!(FunctionSpec::from_document(forged.as_bytes()).is_err());
}

#[test]
fn damaged_bodies_never_panic() {
    for spec in specimens() {
        let document = spec.document().to_vec();
        for length in 0..document.len() {
            assert!(matches!(
                FunctionSpec::parse(&document[..length], &SERVER),
                Err(SpecError::Malformed(_))
            ));
            for byte in *b"\"0{\xff" {
                let mut damaged = document.clone();
                damaged[length] = byte;
                // Whatever it is taken for, it is taken for something.
                if let Ok(parsed) = FunctionSpec::parse(&damaged, &SERVER) {
                    assert_eq!(FunctionSpec::from_document(&parsed.document()).unwrap(), parsed);
                    parsed.core_spec();
                }
            }
        }
    }
}
