//! A cluster of two machines, one of which vanishes.

use std::time::Duration;

use serde_json::json;

use super::{Callers, Cluster, cluster, ready, scale};
use crate::support::Server;

/// Nothing says that it has, and what is sent to it is never answered.
#[test]
fn failure_9_a_machine_that_vanishes_does_not_stop_the_others() {
    let Some(here) = Cluster::for_test("vanished") else { return };
    let server = here.server(&["http-client.connect-timeout-ms=1000"]);
    let spread = json!({ "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1 });
    server.register(here.spec(json!({ "timeoutMs": 2000, "topologySpreadConstraints": [spread] })));
    scale(&server, 4);
    ready(&server, 4);
    let callers = Callers::start(&server, 4);
    cluster(&["cut", "node2"]);
    // Until Kubernetes says so, after 20 s or more, the replicas there cost calls their time, but not all of them.
    go_on_until(&server, &callers, 2);
    let times = callers.times();
    let failures = callers.end();
    let of = |metric: &str| server.metric(&format!("function_{metric}_total{{function=\"f\"}}"));
    // What was sent and not run: the calls that waited for a connection, of which each caller had at most one with each replica.
    let unconnected = of("dispatch") - of("success") - failures.len() as f64;
    let p99 = times[times.len() * 99 / 100];
    eprintln!(
        "{} answers, p99 {p99:?}, longest {:?}; {} ran out of time, {unconnected} waited for a connection",
        times.len(),
        times[times.len() - 1],
        failures.len()
    );
    assert!(unconnected <= 8.0, "{unconnected} calls waited for a connection");
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert!(failures.iter().all(|failure| failure.contains("TIMEOUT")), "{failures:?}");
    // From then on nobody notices.
    let callers = Callers::start(&server, 4);
    callers.go_on();
    cluster(&["heal", "node2"]);
    go_on_until(&server, &callers, 4);
    assert_eq!(callers.end(), [""; 0]);
}

/// Kubernetes takes its time: as long as callers get answers, it is waited for.
fn go_on_until(server: &Server, callers: &Callers, replicas: u32) {
    for _ in 0..1000 {
        callers.go_on();
        if server.get("/v1/functions/f/replicas").json()["ready"] == replicas {
            return;
        }
    }
    panic!("there are not {replicas} replicas");
}
