//! What every backend does. Driven through the trait only.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use nanofaas_backends::{Backend, BackendError, Order};
use serde_json::{Value, json};

use crate::{
    rig::{Rig, await_call, call, output, try_call},
    support::kill,
};

/// No processes.
const NONE: [u32; 0] = [];

fn scaling(min_replicas: u32) -> Value {
    json!({
        "strategy": "NONE", "minReplicas": min_replicas, "maxReplicas": 10, "metrics": [],
        "concurrencyControl": { "mode": "FIXED" },
    })
}

#[test]
fn a_function_is_provisioned_scaled_and_torn_down() {
    let rig = Rig::new("life");
    let function = rig.function(1);
    let replicas = rig.provision(&function, json!({ "scalingConfig": scaling(2) })).unwrap();
    assert_eq!((replicas.endpoints.len(), replicas.desired), (2, 2));
    let pids = |endpoints: &[std::sync::Arc<str>]| {
        endpoints
            .iter()
            .map(|endpoint| output(endpoint, &Value::Null)["pid"].as_u64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(pids(&replicas.endpoints).len(), 2, "each replica is a process of its own");

    assert_eq!(rig.scale(&function, 4), Ok(4));
    let four = rig.endpoints(&function, 4);
    assert_eq!(pids(&four).len(), 4);
    assert_eq!(rig.desired(&function), Some(4));

    assert_eq!(rig.scale(&function, 1), Ok(1));
    let one = rig.endpoints(&function, 1);
    assert!(replicas.endpoints.contains(&one[0]), "the newest go first");
    assert_eq!(pids(&one).len(), 1);

    assert_eq!(rig.scale(&function, 0), Ok(0));
    rig.endpoints(&function, 0);
    assert_eq!(rig.desired(&function), Some(0));
    function.gone();

    assert_eq!(rig.scale(&function, 1), Ok(1));
    assert_eq!(pids(&rig.endpoints(&function, 1)).len(), 1);

    assert_eq!(rig.tear_down(&function), Ok(()));
    assert_eq!(function.processes(), NONE, "nothing is left when the order is done");
    rig.endpoints(&function, 0);
    assert_eq!(rig.tear_down(&function), Ok(()), "what is not there is easily removed");
    assert!(matches!(rig.scale(&function, 1), Err(BackendError::Unavailable(_))));
}

#[test]
fn without_replicas_to_start_with_nothing_starts() {
    let rig = Rig::new("zero");
    let function = rig.function(1);
    let replicas = rig.provision(&function, json!({ "scalingConfig": scaling(0) })).unwrap();
    assert_eq!((replicas.endpoints.len(), replicas.desired), (0, 0));
    assert_eq!(function.processes(), NONE);
    assert_eq!(rig.scale(&function, 1), Ok(1));
    rig.endpoints(&function, 1);
    assert_eq!(rig.tear_down(&function), Ok(()));
}

#[test]
fn calls_in_flight_finish_when_their_replica_goes() {
    let rig = Rig::new("in-flight");
    let function = rig.function(1);
    let endpoint = rig.provision(&function, json!({})).unwrap().endpoints[0].clone();
    let slow = std::thread::spawn(move || call(&endpoint, &json!({ "sleep": 1.5 })));
    await_call(&rig.endpoints(&function, 1)[0]);
    assert_eq!(rig.scale(&function, 0), Ok(0));
    rig.endpoints(&function, 0);
    assert_eq!(slow.join().unwrap().status, 200);
    function.gone();
}

#[test]
fn what_cannot_start_is_explained_and_leaves_nothing() {
    let rig = Rig::new("refused");
    let begun = Instant::now();
    for (number, (changes, parts)) in [
        (
            json!({ "runtimeCommand": "no-such-program --fast" }),
            &["'no-such-program' was not found in PATH", "install it"][..],
        ),
        (
            json!({ "runtimeCommand": "./missing", "runtimeMode": "STDIO" }),
            &["'./missing' is not there or not executable"],
        ),
        (
            json!({ "runtimeCommand": "sh -c 'echo the reason >&2; exit 3'" }),
            &["did not become ready", "exit status: 3", "the reason", "check that `sh -c"],
        ),
        (json!({ "runtimeCommand": "sh -c true" }), &["did not become ready", "exit status: 0"]),
        (json!({ "runtimeCommand": "sh 'x" }), &["quote"]),
        (json!({ "workingDir": "/no/such/directory" }), &["workingDir '/no/such/directory'", "create it"]),
        (json!({ "scalingConfig": scaling(1001) }), &["1001 replicas", "at most 1000"]),
        (
            json!({ "runtimeCommand": "sh -c 'exit 3'", "scalingConfig": scaling(3) }),
            &["did not become ready", "exit status: 3"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let function = rig.function(number as u16);
        let error = rig.provision(&function, changes.clone()).expect_err(&changes.to_string()).to_string();
        assert!(error.contains(&function.name), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
        assert_eq!(function.processes(), NONE, "{changes}");
        assert_eq!(rig.changes(&function), 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "a dead program is no reason to wait");
}

#[test]
fn a_program_that_never_becomes_ready_is_given_up() {
    let rig = Rig::with_ready_timeout("never-ready", Duration::from_secs(1));
    let function = rig.function(1);
    let changes = json!({ "runtimeCommand": "sh -c 'echo still busy >&2; exec sleep 60'" });
    let error = rig.provision(&function, changes).unwrap_err();
    let BackendError::Provisioning(message) = error else { panic!("{error:?}") };
    for part in ["did not become ready", "still busy", "answers GET /health"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert_eq!(function.processes(), NONE);
}

#[test]
fn functions_do_not_disturb_each_other() {
    let rig = Rig::new("neighbours");
    let (steady, busy, slow) = (rig.function(1), rig.function(2), rig.function(3));
    rig.submit_provision(&slow, json!({ "runtimeCommand": "sleep 60" }));
    let endpoint = rig.provision(&steady, json!({})).unwrap().endpoints[0].clone();
    let pid = output(&endpoint, &Value::Null)["pid"].clone();
    rig.provision(&busy, json!({})).unwrap();
    rig.scale(&busy, 2).unwrap();
    rig.endpoints(&busy, 2);
    rig.tear_down(&busy).unwrap();
    assert_eq!(rig.changes(&steady), 0);
    assert_eq!(output(&endpoint, &Value::Null)["pid"], pid);
    rig.backend.shut_down(Duration::from_secs(5));
    assert!(matches!(rig.provisioned(&slow), Err(BackendError::Unavailable(_))));
}

#[test]
fn a_dead_replica_leaves_the_table_and_is_replaced() {
    let rig = Rig::new("dead");
    let function = rig.function(1);
    rig.provision(&function, json!({ "scalingConfig": scaling(2) })).unwrap();
    let before = rig.endpoints(&function, 2);
    let victim = function.guards()[0];
    kill(victim, "KILL");
    let rest = rig.endpoints(&function, 1);
    assert!(before.contains(&rest[0]));
    let after = rig.endpoints(&function, 2);
    assert!(after.contains(&rest[0]), "the other one was left alone");
    for endpoint in &after {
        output(endpoint, &Value::Null);
    }
    assert_eq!(rig.desired(&function), Some(2));
    rig.tear_down(&function).unwrap();
    assert_eq!(function.processes(), NONE);
}

#[test]
fn shutting_down_ends_everything_and_refuses_the_rest() {
    let rig = Rig::new("shutdown");
    let (first, second, pending) = (rig.function(1), rig.function(2), rig.function(3));
    rig.provision(&first, json!({ "scalingConfig": scaling(2) })).unwrap();
    rig.provision(&second, json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" })).unwrap();
    rig.submit_provision(&pending, json!({ "runtimeCommand": "sleep 60" }));
    rig.backend.shut_down(Duration::from_secs(10));
    for function in [&first, &second, &pending] {
        assert_eq!(function.processes(), NONE, "{}", function.name);
    }
    rig.endpoints(&first, 0);
    assert!(matches!(rig.provisioned(&pending), Err(BackendError::Unavailable(_))));

    let late = rig.function(4);
    assert!(matches!(rig.provision(&late, json!({})), Err(BackendError::Unavailable(_))));
    assert!(matches!(rig.scale(&first, 1), Err(BackendError::Unavailable(_))));
    rig.backend.submit(Order::Teardown { function: first.reference });
    rig.backend.shut_down(Duration::ZERO);
}

#[test]
fn the_grace_of_shutting_down_is_a_limit() {
    let rig = Rig::new("grace");
    let function = rig.function(1);
    let endpoint = rig.provision(&function, json!({})).unwrap().endpoints[0].clone();
    let called = endpoint.clone();
    let cut_off = std::thread::spawn(move || try_call(&called, &json!({ "sleep": 60 })));
    await_call(&endpoint);
    let begun = Instant::now();
    rig.backend.shut_down(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(4), "took {:?}", begun.elapsed());
    assert_eq!(function.processes(), NONE);
    assert!(!cut_off.join().unwrap().is_ok_and(|answer| answer.status == 200));
}
