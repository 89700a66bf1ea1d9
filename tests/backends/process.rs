//! What only local processes show: their environment, their deaths, and that none outlives the server.

use std::time::Duration;

use nanofaas_backends::Backend;
use serde_json::{Value, json};

use crate::{
    rig::{Rig, call, output},
    support::{alive, children_of, eventually, kill},
};

#[test]
fn a_program_sees_its_own_environment_only() {
    let rig = Rig::new("environment");
    let function = rig.function(1);
    let env = json!({ "GREETING": "hello", "FUNCTION_NAME": "mine", "TIMEOUT_MS": "1", "WARM_PORT": "1" });
    let replicas = rig.provision(&function, json!({ "env": env, "runtimeMode": "HTTP" })).unwrap();
    let seen = output(&replicas.endpoints[0], &Value::Null);
    assert_eq!(seen["cwd"], std::fs::canonicalize(rig.folder.path("")).unwrap().to_str().unwrap());
    let seen = seen["env"].as_object().unwrap();
    for (name, expected) in [
        ("GREETING", "hello"),
        ("FUNCTION_NAME", function.name.as_str()),
        ("TIMEOUT_MS", "10000"),
        ("EXECUTION_MODE", "HTTP"),
        ("WATCHDOG_CONCURRENCY", "4"),
        ("CALLBACK_URL", "http://127.0.0.1:1/v1/internal/executions"),
        ("HOME", &std::env::var("HOME").unwrap()),
    ] {
        assert_eq!(seen[name], expected, "{name}");
    }
    // Cargo gives the test some that are nobody's business.
    let leaked = |name: &&String| name.starts_with("CARGO") || name.starts_with("NANOFAAS");
    assert_eq!(seen.keys().find(leaked), None);
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn a_program_per_call_is_ready_at_once() {
    let rig = Rig::new("stdio");
    let function = rig.function(1);
    let changes = json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" });
    let replicas = rig.provision(&function, changes).unwrap();
    assert_eq!(output(&replicas.endpoints[0], &json!({ "x": 1 }))["input"], json!({ "x": 1 }));
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn a_replica_whose_program_is_down_is_out_of_the_table() {
    let rig = Rig::new("down");
    let function = rig.function(1);
    let before = rig.provision(&function, json!({})).unwrap().endpoints;
    std::fs::write(rig.folder.path("slow"), "").unwrap();
    assert_ne!(call(&before[0], &json!("die")).status, 200);
    rig.endpoints(&function, 0);
    let after = rig.endpoints(&function, 1);
    assert_eq!(before, after, "the watchdog restarts its program by itself");
    output(&after[0], &Value::Null);
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn a_replica_that_hangs_is_replaced() {
    let rig = Rig::new("hangs");
    let function = rig.function(1);
    let changes = json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" });
    let before = rig.provision(&function, changes).unwrap().endpoints;
    let watchdog = children_of(function.guards()[0])[0];
    kill(watchdog, "STOP");
    rig.endpoints(&function, 0);
    let after = rig.endpoints(&function, 1);
    assert_ne!(before, after);
    assert!(!alive(watchdog));
    assert_eq!(output(&after[0], &json!(1))["input"], 1);
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn a_replica_is_tried_again_until_its_program_is_back() {
    let rig = Rig::new("back");
    let function = rig.function(1);
    rig.provision(&function, json!({})).unwrap();
    let (here, away) = (rig.folder.path("server.py"), rig.folder.path("away.py"));
    std::fs::rename(&here, &away).unwrap();
    kill(function.guards()[0], "KILL");
    rig.endpoints(&function, 0);
    // Each try is a process of its own; three of them have failed when a fourth is seen.
    let mut tries = std::collections::BTreeSet::new();
    eventually("it is tried again and again", || {
        tries.extend(function.guards());
        (tries.len() >= 4).then_some(())
    });
    std::fs::rename(&away, &here).unwrap();
    output(&rig.endpoints(&function, 1)[0], &Value::Null);
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn dropping_the_backend_ends_its_processes() {
    let rig = Rig::new("dropped");
    let function = rig.function(1);
    rig.provision(&function, json!({})).unwrap();
    assert!(!function.processes().is_empty());
    drop(rig);
    function.gone();
}

#[test]
fn unsuitable_functions_are_refused_with_a_reason() {
    let rig = Rig::new("unsuitable");
    let function = rig.function(1);
    for (changes, expected) in [
        (json!({}), None),
        (json!({ "runtimeCommand": " " }), Some("runtimeCommand")),
        (json!({ "runtimeCommand": null, "image": "echo:1" }), Some("runtimeCommand")),
        (json!({ "executionMode": "REMOTE" }), Some("REMOTE")),
    ] {
        let refusal = rig.backend.supports(&rig.spec(&function, changes.clone())).err();
        match (refusal, expected) {
            (None, None) => {}
            (Some(refusal), Some(part)) if refusal.contains(part) => {}
            (refusal, _) => panic!("{changes}: {refusal:?}"),
        }
    }
}
