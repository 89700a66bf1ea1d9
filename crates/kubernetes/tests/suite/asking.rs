//! From zero: a Pod that is started is asked whether it takes calls, and believed until Kubernetes says so.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use nanofaas_backends::{Backend, ReplicaChange, ReplicaState};
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig};

/// A program that answers the kubelet with a status.
struct Program {
    port: u16,
    status: Arc<AtomicU16>,
}

impl Program {
    fn start(status: u16) -> Program {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(status));
        let answer = Arc::clone(&status);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let status = match request[..length].starts_with(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:")
                {
                    true => answer.load(Ordering::Relaxed),
                    false => 400,
                };
                let _ = write!(stream, "HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n");
            }
        });
        Program { port, status }
    }
}

/// A function without replicas.
fn at_zero() -> Rig {
    let rig = Rig::start();
    assert_eq!(rig.ensure("slow", 0).unwrap().replicas, []);
    rig
}

/// The first Pod after zero has an address and runs a program at this port, and is not ready.
fn started(rig: &Rig, port: u16) -> String {
    rig.server.wait_for("pods", 1);
    let pod = rig.pods().remove(0);
    run(rig, &pod, port);
    pod
}

fn run(rig: &Rig, pod: &str, port: u16) {
    rig.server.change_pod(pod, |pod| {
        let container = &mut pod["spec"]["containers"][0];
        container["ports"][0]["containerPort"] = port.into();
        let probe = &mut container["readinessProbe"];
        let kind = if probe["httpGet"].is_null() { "tcpSocket" } else { "httpGet" };
        probe[kind]["port"] = port.into();
        let status = &mut pod["status"]["containerStatuses"][0];
        status["state"] = json!({ "running": {} });
        status["started"] = false.into();
    });
}

fn set_ready(rig: &Rig, pod: &str, is_ready: &str, since: &str) {
    rig.server.change_pod(pod, |pod| {
        pod["status"]["conditions"][0]["status"] = is_ready.into();
        pod["status"]["conditions"][0]["lastTransitionTime"] = since.into();
        pod["status"]["containerStatuses"][0]["started"] = true.into();
    });
}

/// States that were reported.
fn states(rig: &Rig) -> Vec<ReplicaState> {
    rig.recorder.wait("states", |seen| {
        let states = seen.changes.iter().filter_map(|change| match change {
            ReplicaChange::Now(replica) => Some(replica.state.clone()),
            ReplicaChange::Gone(_) => None,
        });
        Some(states.collect())
    })
}

#[test]
fn a_pod_that_answers_takes_calls_before_kubernetes_says_so() {
    let rig = at_zero();
    let program = Program::start(503);
    rig.scale(1).unwrap();
    let pod = started(&rig, program.port);
    rig.recorder.wait("it is known", |seen| (seen.replicas.len() == 1).then_some(()));
    assert_eq!(states(&rig), [ReplicaState::Starting], "503 is no yes");
    program.status.store(200, Ordering::Relaxed);
    let endpoint = format!("http://127.0.0.1:{}/invoke", program.port);
    assert_eq!(rig.ready(1)[0].state, ReplicaState::Ready(endpoint.as_str().into()));
    // News that say nothing new change nothing, and what Kubernetes says later counts.
    rig.server.change_pod(&pod, |pod| pod["metadata"]["labels"]["a"] = "b".into());
    set_ready(&rig, &pod, "True", "2026-01-01T00:00:01Z");
    set_ready(&rig, &pod, "False", "2026-01-01T00:00:02Z");
    rig.ready(0);
    assert_eq!(states(&rig).len(), 3, "starting, ready, starting: {:?}", states(&rig));
    set_ready(&rig, &pod, "True", "2026-01-01T00:00:03Z");
    rig.ready(1);
}

#[test]
fn an_open_port_is_enough_without_a_health_path() {
    let rig = Rig::start();
    rig.ensure_with("slow", json!({ "healthPath": "" }), 0).unwrap();
    rig.scale(1).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pod = started(&rig, closed);
    rig.recorder.wait("it is known", |seen| (seen.replicas.len() == 1).then_some(()));
    let program = TcpListener::bind("127.0.0.1:0").unwrap();
    run(&rig, &pod, program.local_addr().unwrap().port());
    rig.ready(1);
}

#[test]
fn who_answers_and_never_becomes_ready_is_out() {
    let rig = at_zero();
    let program = Program::start(200);
    rig.scale(1).unwrap();
    started(&rig, program.port);
    rig.ready(1);
    let begun = Instant::now();
    rig.ready(0);
    assert!(begun.elapsed() > Duration::from_secs(5), "it is believed for a while");
    assert_eq!(states(&rig).len(), 3, "and not asked again: {:?}", states(&rig));
}

/// What happens to a Pod that was taken at its word.
#[test]
fn what_happens_to_it_counts_more_than_what_it_said() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 4] = [
        ("its program ended", |pod| {
            pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": { "exitCode": 1 } });
        }),
        ("it was started again", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = 1.into()),
        ("it was ready meanwhile, and is not any more", |pod| {
            pod["status"]["conditions"][0]["lastTransitionTime"] = "2001-01-01T00:00:01Z".into();
        }),
        ("it has another address", |pod| pod["status"]["podIP"] = "127.0.0.2".into()),
    ];
    for (what, change) in cases {
        let rig = at_zero();
        let program = Program::start(200);
        rig.scale(1).unwrap();
        let pod = started(&rig, program.port);
        rig.ready(1);
        rig.server.change_pod(&pod, change);
        rig.ready(0);
        // It is not asked again, although it would answer: Kubernetes has to say that it is ready.
        rig.server.change_pod(&pod, |pod| pod["metadata"]["labels"]["a"] = "b".into());
        assert_eq!(rig.list().unwrap()[0].replicas.len(), 1);
        assert!(!matches!(states(&rig).last(), Some(ReplicaState::Ready(_))), "{what}");
    }
}

#[test]
fn a_pod_that_goes_while_it_is_asked_takes_no_calls() {
    let rig = at_zero();
    let program = Program::start(503);
    rig.scale(1).unwrap();
    started(&rig, program.port);
    rig.recorder.wait("it is known", |seen| (seen.replicas.len() == 1).then_some(()));
    rig.scale(0).unwrap();
    program.status.store(200, Ordering::Relaxed);
    rig.recorder.wait("it is gone", |seen| seen.replicas.is_empty().then_some(()));
    assert_eq!(states(&rig), [ReplicaState::Starting, ReplicaState::Draining]);
}

/// While one takes calls, Kubernetes says when there are more.
#[test]
fn another_pod_is_asked_when_the_ready_one_is_out() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let program = Program::start(200);
    let ready = rig.pods().remove(0);
    let mut second = rig.server.object("pods", &ready).unwrap();
    second["metadata"]["name"] = "fn-f-second".into();
    second["metadata"]["uid"] = "uid-1000".into();
    second["status"]["conditions"][0]["status"] = "False".into();
    rig.server.put("pods", "fn-f-second", second);
    run(&rig, "fn-f-second", program.port);
    rig.recorder.wait("it is known", |seen| (seen.replicas.len() == 2).then_some(()));
    assert_eq!(rig.ready(1).len(), 1);
    // The other one goes: now it is asked.
    rig.server.change_pod(&ready, |pod| pod["status"]["conditions"][0]["status"] = "False".into());
    let endpoint = format!("http://127.0.0.1:{}/invoke", program.port);
    rig.recorder.wait("the second is ready", |seen| {
        let mut endpoints = seen.replicas.iter().filter_map(|replica| replica.endpoint());
        endpoints.any(|found| **found == *endpoint).then_some(())
    });
    rig.backend.detach(PATIENCE);
}
