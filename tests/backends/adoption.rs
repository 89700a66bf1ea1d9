//! What a backend does whose replicas outlive the server: the next server goes on with them.

use std::{collections::BTreeMap, time::Duration};

use nanofaas_backends::{ReplicaId, ReplicaStatus};
use serde_json::json;

use crate::{cluster::RealCluster, conformance::pids, kubelet::ScriptedCluster, memory::Cluster, rig::Rig};

/// Time for a backend to end that leaves everything as it is.
const GRACE: Duration = Duration::from_secs(5);

/// Runs each test with each backend whose replicas outlive the server; it is given what starts a server at their cluster.
macro_rules! every_cluster {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $test() {
                let cluster = super::Cluster::default();
                super::$test(&|name| super::Rig::memory(name, cluster.clone()));
            })*
        }
        mod kubernetes {
            $(#[test] fn $test() {
                let cluster = super::ScriptedCluster::default();
                super::$test(&|name| super::Rig::kubernetes(name, cluster.clone()));
            })*
        }
        mod cluster {
            $(#[test] fn $test() {
                if let Some(cluster) = super::RealCluster::for_test(stringify!($test)) {
                    super::$test(&|name| super::Rig::cluster(name, cluster.clone()));
                }
            })*
        }
    };
}

every_cluster!(
    the_next_server_adopts_what_the_last_one_left,
    what_nobody_wants_any_more_is_found_and_removed,
);

fn the_next_server_adopts_what_the_last_one_left(start: &dyn Fn(&str) -> Rig) {
    let first = start("adoption");
    let function = first.function(1);
    first.ensure(&function, json!({}), 1).unwrap();
    first.scale(&function, 3).unwrap();
    let before = first.view(&function, |view| view.endpoints().len() == 3);
    let running = pids(&before.endpoints());
    first.backend.detach(GRACE);
    assert_eq!(pids(&before.endpoints()), running, "calls are answered while there is no server");

    let second = start("adoption");
    assert_eq!(by_id(&second.list().unwrap()[0].replicas), by_id(&before.replicas));
    let after = second.ensure(&function, json!({}), 1).unwrap();
    assert_eq!(
        (after.desired, by_id(&after.replicas)),
        (3, by_id(&before.replicas)),
        "as they were, since when they were"
    );
    assert_eq!(pids(&second.endpoints(&function, 3)), running);
    assert_eq!(second.changes(&function), []);
    second.crash(&function);
    second.failed(&function);
    assert_eq!(pids(&second.endpoints(&function, 3)).intersection(&running).count(), 2);
    second.tear_down(&function).unwrap();
    assert_eq!(second.running(&function), 0);
}

/// Replicas that were made in the same second may be told in any order.
fn by_id(replicas: &[ReplicaStatus]) -> BTreeMap<&ReplicaId, &ReplicaStatus> {
    replicas.iter().map(|replica| (&replica.id, replica)).collect()
}

fn what_nobody_wants_any_more_is_found_and_removed(start: &dyn Fn(&str) -> Rig) {
    let first = start("orphans");
    let (wanted, orphan) = (first.function(1), first.function(2));
    for function in [&wanted, &orphan] {
        first.ensure(function, json!({}), 2).unwrap();
    }
    // As after a crash.
    drop(first);
    let second = start("orphans");
    let names: Vec<_> = second.list().unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names, [wanted.name.clone(), orphan.name.clone()]);
    assert_eq!(second.tear_down(&orphan), Ok(()));
    assert_eq!(second.running(&orphan), 0);
    assert_eq!(second.running(&wanted), 2);
    assert_eq!(second.list().unwrap().len(), 1);
    second.backend.shut_down(GRACE);
    assert_eq!(second.running(&wanted), 0);
}
