//! What every backend does. Driven through the trait only.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use nanofaas_backends::{BackendError, LogRequest, Order, ReplicaChange, ReplicaId, ReplicaState, Version};
use serde_json::{Value, json};

use crate::{
    cluster::RealCluster,
    kubelet::ScriptedCluster,
    memory::Cluster,
    recorder::View,
    rig::{Rig, await_call, call, labels, output, try_call},
};

/// Runs each test with each backend.
macro_rules! every_backend {
    ($($test:ident),* $(,)?) => {
        mod process {
            $(#[test] fn $test() { super::$test(&super::Rig::process(stringify!($test))); })*
        }
        mod memory {
            $(#[test] fn $test() {
                super::$test(&super::Rig::memory(stringify!($test), super::Cluster::default()));
            })*
        }
        mod kubernetes {
            $(#[test] fn $test() {
                super::$test(&super::Rig::kubernetes(stringify!($test), super::ScriptedCluster::default()));
            })*
        }
        mod cluster {
            $(#[test] fn $test() {
                if let Some(cluster) = super::RealCluster::for_test(stringify!($test)) {
                    super::$test(&super::Rig::cluster(stringify!($test), cluster));
                }
            })*
        }
    };
}

every_backend!(
    a_function_is_ensured_scaled_and_torn_down,
    without_replicas_to_start_with_nothing_starts,
    calls_in_flight_finish_when_their_replica_goes,
    a_replica_with_a_call_stays_when_an_idle_one_can_go,
    what_cannot_start_leaves_nothing,
    functions_do_not_disturb_each_other,
    a_dead_replica_leaves_the_table_and_is_back_under_its_name,
    replicas_have_names_of_their_own_and_say_how_they_are,
    what_runs_already_is_adopted_and_another_version_replaced,
    what_exists_is_listed,
    what_replicas_write_can_be_read,
    shutting_down_ends_everything_and_refuses_the_rest,
    the_grace_of_shutting_down_is_a_limit,
);

/// Processes, or servers, behind endpoints.
pub(crate) fn pids(endpoints: &[Arc<str>]) -> BTreeSet<u64> {
    let pid = |endpoint: &Arc<str>| output(endpoint, &Value::Null)["pid"].as_u64().unwrap();
    endpoints.iter().map(pid).collect()
}

fn a_function_is_ensured_scaled_and_torn_down(rig: &Rig) {
    let function = rig.function(1);
    let view = rig.ensure(&function, json!({}), 2).unwrap();
    let two = view.endpoints();
    assert_eq!((two.len(), view.desired), (2, 2));
    assert_eq!(pids(&two).len(), 2, "each replica is a program of its own");

    assert_eq!(rig.scale(&function, 4), Ok(4));
    let four = rig.endpoints(&function, 4);
    assert_eq!(pids(&four).len(), 4);
    assert_eq!(rig.desired(&function), Some(4));

    assert_eq!(rig.scale(&function, 1), Ok(1));
    let one = rig.endpoints(&function, 1);
    assert!(two.contains(&one[0]), "the newest go first");
    assert_eq!(pids(&one).len(), 1);

    assert_eq!(rig.scale(&function, 0), Ok(0));
    rig.endpoints(&function, 0);
    assert_eq!(rig.desired(&function), Some(0));
    rig.gone(&function);

    assert_eq!(rig.scale(&function, 1), Ok(1));
    assert_eq!(pids(&rig.endpoints(&function, 1)).len(), 1);

    assert_eq!(rig.tear_down(&function), Ok(()));
    assert_eq!(rig.running(&function), 0, "nothing is left when the order is done");
    rig.view(&function, |view| view.replicas.is_empty());
    assert_eq!(rig.tear_down(&function), Ok(()), "what is not there is easily removed");
    assert!(matches!(rig.scale(&function, 1), Err(BackendError::Unavailable(_))));
}

fn without_replicas_to_start_with_nothing_starts(rig: &Rig) {
    let function = rig.function(1);
    let view = rig.ensure(&function, json!({}), 0).unwrap();
    assert_eq!((view.replicas.len(), view.desired), (0, 0));
    assert_eq!(rig.running(&function), 0);
    assert_eq!(rig.scale(&function, 1), Ok(1));
    rig.endpoints(&function, 1);
    assert_eq!(rig.tear_down(&function), Ok(()));
}

fn calls_in_flight_finish_when_their_replica_goes(rig: &Rig) {
    let function = rig.function(1);
    let endpoint = rig.ensure(&function, json!({}), 1).unwrap().endpoints()[0].clone();
    let slow = std::thread::spawn(move || call(&endpoint, &json!({ "sleep": 1.5 })));
    await_call(&rig.endpoints(&function, 1)[0]);
    assert_eq!(rig.scale(&function, 0), Ok(0));
    rig.endpoints(&function, 0);
    assert_eq!(slow.join().unwrap().status, 200);
    rig.gone(&function);
}

fn a_replica_with_a_call_stays_when_an_idle_one_can_go(rig: &Rig) {
    let function = rig.function(1);
    let view = rig.ensure(&function, json!({}), 4).unwrap();
    let (ids, all) = (view.ids(), view.endpoints());
    let called = all[3].clone();
    let in_flight = std::thread::spawn(move || call(&called, &json!({ "sleep": 1 })));
    await_call(&all[3]);
    // The newest stays: others are named, and that in their order.
    assert_eq!(rig.scale_down(&function, 3, vec![ids[0].clone(), ids[1].clone()]), Ok(3));
    assert_eq!(rig.endpoints(&function, 3), all[1..]);
    assert_eq!(rig.scale_down(&function, 1, vec![ids[2].clone(), ids[1].clone()]), Ok(1));
    assert_eq!(rig.endpoints(&function, 1), all[3..]);
    assert_eq!(in_flight.join().unwrap().status, 200);
    output(&all[3], &Value::Null);
    rig.tear_down(&function).unwrap();
}

fn what_cannot_start_leaves_nothing(rig: &Rig) {
    let function = rig.function(1);
    let changes = json!({ "runtimeCommand": "sh -c 'echo the reason >&2; exit 3'" });
    let error = rig.ensure(&function, changes, 2).unwrap_err();
    let BackendError::Provisioning(message) = error else { panic!("{error:?}") };
    for part in [function.name.as_str(), "did not become ready", "the reason", "check that `sh -c"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert_eq!(rig.running(&function), 0);
    assert_eq!(rig.changes(&function), []);
    assert_eq!(rig.list().unwrap(), []);
    // The name is free for something better.
    assert_eq!(rig.ensure(&function, json!({}), 1).unwrap().endpoints().len(), 1);
    rig.tear_down(&function).unwrap();
}

fn functions_do_not_disturb_each_other(rig: &Rig) {
    let (steady, busy, slow) = (rig.function(1), rig.function(2), rig.function(3));
    rig.submit_ensure(&slow, json!({ "runtimeCommand": "sleep 60" }), 1);
    let endpoint = rig.ensure(&steady, json!({}), 1).unwrap().endpoints()[0].clone();
    let before = pids(std::slice::from_ref(&endpoint));
    rig.ensure(&busy, json!({}), 1).unwrap();
    rig.scale(&busy, 2).unwrap();
    rig.endpoints(&busy, 2);
    rig.tear_down(&busy).unwrap();
    assert_eq!(rig.changes(&steady), []);
    assert_eq!(pids(&[endpoint]), before);
    rig.backend.shut_down(Duration::from_secs(5));
    assert!(matches!(rig.ensured(&slow), Err(BackendError::Unavailable(_))));
}

fn a_dead_replica_leaves_the_table_and_is_back_under_its_name(rig: &Rig) {
    let function = rig.function(1);
    let before = rig.ensure(&function, json!({}), 2).unwrap();
    let dead = pids(&before.endpoints());
    rig.crash(&function);
    rig.failed(&function);
    let after = rig.view(&function, |view| view.endpoints().len() == 2);
    assert_eq!(before.ids(), after.ids());
    let kept = before.endpoints().iter().filter(|old| after.endpoints().contains(old)).count();
    assert!(kept >= 1, "the other one was left alone");
    assert_eq!(pids(&after.endpoints()).intersection(&dead).count(), 1);
    assert_eq!(rig.desired(&function), Some(2));
    rig.tear_down(&function).unwrap();
    assert_eq!(rig.running(&function), 0);
}

fn replicas_have_names_of_their_own_and_say_how_they_are(rig: &Rig) {
    let function = rig.function(1);
    let mut seen: BTreeSet<ReplicaId> = BTreeSet::new();
    let version = Version::of(&rig.spec(&function, json!({})));
    for _ in 0..2 {
        let view = rig.ensure(&function, json!({}), 1).unwrap();
        rig.scale(&function, 2).unwrap();
        let ids = rig.view(&function, |view| view.endpoints().len() == 2).ids();
        assert_eq!(ids[0], view.replicas[0].id);
        assert!(ids.iter().all(|id| seen.insert(id.clone())), "{ids:?} were given before");
        rig.tear_down(&function).unwrap();
        // What happened to each of them is told in order, and its end as well.
        for id in &ids {
            let told: Vec<ReplicaChange> =
                rig.changes(&function).into_iter().filter(|c| is_of(c, id)).collect();
            let [.., ReplicaChange::Now(last), ReplicaChange::Gone(_)] = told.as_slice() else {
                panic!("{told:?}")
            };
            assert_eq!((&last.state, &last.version), (&ReplicaState::Draining, &version));
        }
    }
}

fn is_of(change: &ReplicaChange, id: &ReplicaId) -> bool {
    match change {
        ReplicaChange::Now(replica) => replica.id == *id,
        ReplicaChange::Gone(gone) => gone == id,
    }
}

fn what_runs_already_is_adopted_and_another_version_replaced(rig: &Rig) {
    let function = rig.function(1);
    let first = rig.ensure(&function, json!({}), 2).unwrap();
    let running = pids(&first.endpoints());
    rig.scale(&function, 3).unwrap();
    let three = rig.view(&function, |view| view.endpoints().len() == 3);

    let again = rig.ensure(&function, json!({}), 1).unwrap();
    assert_eq!((again.desired, again.ids()), (3, three.ids()), "it keeps what it had");
    assert!(pids(&again.endpoints()).is_superset(&running));

    let other = rig.ensure(&function, json!({ "env": { "A": "1" } }), 1).unwrap();
    let new: Vec<_> = other.replicas.iter().filter(|replica| replica.endpoint().is_some()).collect();
    assert_eq!((new.len(), other.desired), (3, 3));
    assert!(new.iter().all(|replica| !three.ids().contains(&replica.id)), "{new:?}");
    let settled = rig.view(&function, |view| view.replicas.len() == new.len());
    assert!(pids(&settled.endpoints()).is_disjoint(&running));
    rig.tear_down(&function).unwrap();
    assert_eq!(rig.running(&function), 0);
}

fn what_exists_is_listed(rig: &Rig) {
    assert_eq!(rig.list().unwrap(), []);
    let (one, two) = (rig.function(1), rig.function(2));
    let View { replicas, .. } = rig.ensure(&one, json!({}), 1).unwrap();
    rig.ensure(&two, json!({}), 0).unwrap();
    let mut found = rig.list().unwrap();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let [first, second] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&first.name, first.desired, &first.labels), (&one.name, 1, &labels()));
    assert_eq!(first.replicas, replicas);
    assert_eq!((&second.name, second.desired), (&two.name, 0));
    rig.tear_down(&one).unwrap();
    rig.tear_down(&two).unwrap();
    assert_eq!(rig.list().unwrap(), []);
}

fn what_replicas_write_can_be_read(rig: &Rig) {
    let function = rig.function(1);
    let view = rig.ensure(&function, json!({}), 2).unwrap();
    let endpoints = view.endpoints();
    for (endpoint, text) in endpoints.iter().zip(["one", "two"]) {
        output(endpoint, &json!({ "print": text }));
    }
    let request = |replica: Option<usize>, follow| LogRequest {
        function: function.name.clone(),
        replica: replica.map(|index| view.replicas[index].id.clone()),
        tail: 100,
        follow,
    };
    // A program writes when it pleases.
    let mut both = rig.backend.logs(request(None, true));
    let mut texts = BTreeSet::new();
    while !["one", "two"].iter().all(|text| texts.contains(*text)) {
        texts.insert(both.wait().expect("it goes on").text.to_string());
    }
    let mut first = rig.backend.logs(request(Some(0), false));
    let lines: Vec<_> = std::iter::from_fn(|| first.wait()).collect();
    assert!(lines.iter().all(|line| line.replica == view.replicas[0].id), "{lines:?}");
    assert!(lines.iter().any(|line| &*line.text == "one"), "{lines:?}");

    output(&endpoints[1], &json!({ "print": "three" }));
    while &*both.wait().expect("it goes on").text != "three" {}
    rig.tear_down(&function).unwrap();
    while both.wait().is_some() {}
    assert_eq!(rig.backend.logs(request(None, true)).wait(), None, "nothing is there that could write");
}

fn shutting_down_ends_everything_and_refuses_the_rest(rig: &Rig) {
    let (first, second, pending) = (rig.function(1), rig.function(2), rig.function(3));
    rig.ensure(&first, json!({}), 2).unwrap();
    rig.ensure(&second, json!({ "runtimeMode": "STDIO", "runtimeCommand": "cat -" }), 1).unwrap();
    rig.submit_ensure(&pending, json!({ "runtimeCommand": "sleep 60" }), 1);
    rig.backend.shut_down(Duration::from_secs(10));
    for function in [&first, &second, &pending] {
        assert_eq!(rig.running(function), 0, "{}", function.name);
    }
    rig.endpoints(&first, 0);
    assert!(matches!(rig.ensured(&pending), Err(BackendError::Unavailable(_))));

    let late = rig.function(4);
    assert!(matches!(rig.ensure(&late, json!({}), 1), Err(BackendError::Unavailable(_))));
    assert!(matches!(rig.scale(&first, 1), Err(BackendError::Unavailable(_))));
    assert!(matches!(rig.list(), Err(BackendError::Unavailable(_))));
    rig.backend.submit(Order::Teardown { function: first.name.clone() });
    rig.backend.shut_down(Duration::ZERO);
}

fn the_grace_of_shutting_down_is_a_limit(rig: &Rig) {
    let function = rig.function(1);
    let endpoint = rig.ensure(&function, json!({}), 1).unwrap().endpoints()[0].clone();
    let called = endpoint.clone();
    let cut_off = std::thread::spawn(move || try_call(&called, &json!({ "sleep": 60 })));
    await_call(&endpoint);
    let begun = Instant::now();
    rig.backend.shut_down(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(4), "took {:?}", begun.elapsed());
    assert_eq!(rig.running(&function), 0);
    assert!(!cut_off.join().unwrap().is_ok_and(|answer| answer.status == 200));
}
