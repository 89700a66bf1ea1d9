//! What only local processes show: their environment, their deaths, and that none outlives the server.

use std::time::{Duration, Instant};

use nanofaas_backends::BackendError;
use serde_json::{Value, json};

use crate::{
    rig::{Rig, call, output},
    support::{alive, children_of, eventually, kill},
};

#[test]
fn a_program_sees_its_own_environment_only() {
    let rig = Rig::process("environment");
    let function = rig.function(1);
    let env = json!({ "GREETING": "hello", "FUNCTION_NAME": "mine", "TIMEOUT_MS": "1", "WARM_PORT": "1" });
    let replicas = rig.ensure(&function, json!({ "env": env, "runtimeMode": "HTTP" }), 1).unwrap();
    let seen = output(&replicas.endpoints()[0], &Value::Null);
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
    let rig = Rig::process("stdio");
    let function = rig.function(1);
    let changes = json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" });
    let replicas = rig.ensure(&function, changes, 1).unwrap();
    assert_eq!(output(&replicas.endpoints()[0], &json!({ "x": 1 }))["input"], json!({ "x": 1 }));
    rig.backend.shut_down(Duration::from_secs(5));
}

#[test]
fn a_replica_whose_program_is_down_is_out_of_the_table() {
    let rig = Rig::process("down");
    let function = rig.function(1);
    let before = rig.ensure(&function, json!({}), 1).unwrap().endpoints();
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
    let rig = Rig::process("hangs");
    let function = rig.function(1);
    let changes = json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" });
    let before = rig.ensure(&function, changes, 1).unwrap().endpoints();
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
    let rig = Rig::process("back");
    let function = rig.function(1);
    rig.ensure(&function, json!({}), 1).unwrap();
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
    let rig = Rig::process("dropped");
    let function = rig.function(1);
    rig.ensure(&function, json!({}), 1).unwrap();
    assert!(!function.processes().is_empty());
    drop(rig);
    eventually("no process is left", || function.processes().is_empty().then_some(()));
}

#[test]
fn unsuitable_functions_are_refused_with_a_reason() {
    let rig = Rig::process("unsuitable");
    let function = rig.function(1);
    for (changes, expected) in [
        (json!({}), None),
        (json!({ "runtimeCommand": " " }), Some("runtimeCommand")),
        (json!({ "runtimeCommand": null, "image": "echo:1" }), Some("runtimeCommand")),
        (json!({ "executionMode": "REMOTE" }), None),
    ] {
        let refusal = rig.backend.supports(&rig.spec(&function, changes.clone())).err();
        match (refusal, expected) {
            (None, None) => {}
            (Some(refusal), Some(part)) if refusal.contains(part) => {}
            (refusal, _) => panic!("{changes}: {refusal:?}"),
        }
    }
}

/// Too many replicas for one function.
const TOO_MANY: u32 = 1001;

#[test]
fn what_cannot_start_is_explained_and_leaves_nothing() {
    let rig = Rig::process("refused");
    let begun = Instant::now();
    for (number, (changes, replicas, parts)) in [
        (
            json!({ "runtimeCommand": "no-such-program --fast" }),
            1,
            &["'no-such-program' was not found in PATH", "install it"][..],
        ),
        (
            json!({ "runtimeCommand": "./missing", "runtimeMode": "STDIO" }),
            1,
            &["'./missing' is not there or not executable"],
        ),
        (
            json!({ "runtimeCommand": "sh -c 'echo the reason >&2; exit 3'" }),
            1,
            &["did not become ready", "exit status: 3", "the reason", "check that `sh -c"],
        ),
        (json!({ "runtimeCommand": "sh -c true" }), 1, &["did not become ready", "exit status: 0"]),
        (json!({ "runtimeCommand": "sh 'x" }), 1, &["quote"]),
        (json!({ "workingDir": "/no/such/directory" }), 1, &["workingDir '/no/such/directory'", "create it"]),
        (json!({}), TOO_MANY, &["1001 replicas", "at most 1000"]),
        (json!({ "runtimeCommand": "sh -c 'exit 3'" }), 3, &["did not become ready", "exit status: 3"]),
    ]
    .into_iter()
    .enumerate()
    {
        let function = rig.function(number as u16);
        let result = rig.ensure(&function, changes.clone(), replicas);
        let error = result.expect_err(&changes.to_string()).to_string();
        assert!(error.contains(function.name.as_str()), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
        assert!(function.processes().is_empty(), "{changes}");
        assert_eq!(rig.changes(&function), []);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "a dead program is no reason to wait");
}

#[test]
fn a_program_that_never_becomes_ready_is_given_up() {
    let rig = Rig::with_ready_timeout("never-ready", Duration::from_secs(1));
    let function = rig.function(1);
    let changes = json!({ "runtimeCommand": "sh -c 'echo still busy >&2; exec sleep 60'" });
    let error = rig.ensure(&function, changes, 1).unwrap_err();
    let BackendError::Provisioning(message) = error else { panic!("{error:?}") };
    for part in ["did not become ready", "still busy", "answers GET /health"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert!(function.processes().is_empty());
}

#[test]
fn processes_cannot_be_left_behind() {
    let rig = Rig::process("detached");
    let function = rig.function(1);
    rig.ensure(&function, json!({}), 2).unwrap();
    rig.backend.detach(Duration::from_secs(5));
    assert!(function.processes().is_empty());
}
