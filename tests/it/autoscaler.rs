//! Replicas follow the load: up, down, to zero, and from zero with callers held. Real processes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Server, eventually};

/// Decisions come fast and are held back shortly.
const SETTINGS: [&str; 5] = [
    "autoscaler.enabled=true",
    // Callers queue up for longer than it would let them.
    "sync-queue.enabled=false",
    "scaling.poll-interval-ms=50",
    "scaling.upscale-cooldown-ms=100",
    "scaling.downscale-cooldown-ms=300",
];

fn register(server: &Server, name: &str, command: &str, scaling: Value, fields: Value) {
    let mut spec = json!({
        "name": name, "executionMode": "DEPLOYMENT", "runtimeMode": "STDIO", "runtimeCommand": command,
        "scalingConfig": scaling,
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    server.register(spec);
}

fn replicas(server: &Server, name: &str) -> (u64, u64) {
    let status = server.get(&format!("/v1/functions/{name}/replicas")).json();
    (status["desired"].as_u64().expect("a number"), status["ready"].as_u64().expect("a number"))
}

fn scaling(server: &Server, name: &str) -> Value {
    let response = server.get(&format!("/v1/functions/{name}/scaling"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[test]
fn a_function_sleeps_when_idle_and_is_woken_by_a_call() {
    let server = Server::dev(&SETTINGS);
    register(&server, "f", "cat", json!({ "minReplicas": 0 }), json!({}));
    assert_eq!(replicas(&server, "f"), (0, 0), "none is needed yet");
    // Callers that come together are held until the first replica is there.
    let mut callers: Vec<_> = (0..3).map(|input| server.begin("f", &[], json!(input))).collect();
    for (input, caller) in callers.iter_mut().enumerate() {
        let answer = caller.read().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["output"]["input"], json!(input));
    }
    eventually("it goes to sleep", || replicas(&server, "f") == (0, 0));
    eventually("the last decision says so", || scaling(&server, "f")["result"] == 0);
    let asleep = scaling(&server, "f");
    assert_eq!((&asleep["enabled"], &asleep["replicas"]["min"]), (&json!(true), &json!(0)), "{asleep}");
    assert_eq!(asleep["inputs"][0]["metric"], "queue_depth", "{asleep}");
    let started = Instant::now();
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    let woken = scaling(&server, "f");
    assert!(woken["replicas"]["ready"] == 1 || started.elapsed() > Duration::from_millis(300), "{woken}");
}

#[test]
fn replicas_come_with_the_load_and_go_with_it() {
    let server = Server::dev(&SETTINGS);
    let scaling_config = json!({
        "minReplicas": 1, "maxReplicas": 3, "metrics": [{ "type": "queue_depth", "target": "1" }],
        "concurrencyControl": { "mode": "STATIC_PER_POD", "targetInFlightPerPod": 1 },
    });
    let fields = json!({ "concurrency": 3, "queueSize": 50, "timeoutMs": 60_000 });
    register(&server, "f", "sh -c 'sleep 0.2; cat'", scaling_config, fields);
    let effective = || server.metric("function_effective_concurrency{function=\"f\"}");
    assert_eq!(effective(), 1.0, "one slot for one replica");
    let mut callers: Vec<_> = (0..30).map(|input| server.begin("f", &[], json!(input))).collect();
    eventually("there are three", || replicas(&server, "f") == (3, 3));
    eventually("and as many slots", || effective() == 3.0);
    let explained = scaling(&server, "f");
    assert_eq!(explained["concurrency"]["mode"], "STATIC_PER_POD", "{explained}");
    assert!(explained["reason"].as_str().is_some_and(|reason| reason.contains("queue_depth")), "{explained}");
    for caller in &mut callers {
        assert_eq!(caller.read().expect("an answer").status, 200, "a replica that goes takes no call along");
    }
    eventually("one is left", || replicas(&server, "f") == (1, 1));
    assert_eq!(effective(), 1.0);
}

#[test]
fn without_an_autoscaler_a_caller_that_waits_for_a_replica_learns_how_to_start_one() {
    let server = Server::dev(&["autoscaler.enabled=false"]);
    register(&server, "f", "cat", json!({ "minReplicas": 0 }), json!({}));
    let timeout = [("content-type", "application/json"), ("x-timeout-ms", "50")];
    let answer = server.client().send("POST", "/v1/functions/f:invoke", &timeout, br#"{"input":1}"#);
    assert_eq!(answer.status, 408, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["stage"], "queue", "{error}");
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("nanofaas fn scale")),
        "{error}"
    );
    assert_eq!(replicas(&server, "f"), (0, 0));

    // What is set by hand serves the next one.
    let mut caller = server.begin("f", &[], json!(2));
    let scaled = server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 1 }));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    assert_eq!(caller.read().expect("an answer").status, 200);
}

#[test]
fn what_is_not_scaled_by_the_server_says_why() {
    let server = Server::dev(&["autoscaler.enabled=false"]);
    register(&server, "off", "cat", json!({ "minReplicas": 1 }), json!({}));
    let off = scaling(&server, "off");
    assert_eq!((&off["enabled"], &off["rule"]), (&json!(false), &Value::Null), "{off}");
    assert!(off["reason"].as_str().is_some_and(|reason| reason.contains("NANOFAAS_AUTOSCALER_ENABLED")));
    register(&server, "none", "cat", json!({ "strategy": "NONE" }), json!({}));
    assert!(scaling(&server, "none")["reason"].as_str().is_some_and(|reason| reason.contains("fn scale")));
    server.register(json!({ "name": "local", "executionMode": "LOCAL" }));
    server.get("/v1/functions/local/scaling").expect_error(400, "NOT_SCALABLE");
    server.get("/v1/functions/nobody/scaling").expect_error(404, "NOT_FOUND");
}
