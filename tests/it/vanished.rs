//! A replica that does not answer, not even to refuse: as when its machine is gone, and nobody has noticed.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use serde_json::json;

use crate::support::{Server, eventually};

const NAME: &str = "vanishes";

#[test]
fn a_replica_that_does_not_answer_costs_one_call_its_time_and_no_other() {
    costs_one_call(&["http-client.connect-timeout-ms=500"], 30_000);
}

/// Half of what a call has is left for another replica.
#[test]
fn also_when_a_call_has_less_time_than_there_is_to_connect() {
    costs_one_call(&["http-client.connect-timeout-ms=60000"], 4000);
}

fn costs_one_call(settings: &[&str], timeout_ms: u32) {
    let server = Server::dev(&[settings, &["autoscaler.enabled=false"]].concat());
    server.register(json!({
        "name": NAME, "runtimeMode": "STDIO", "runtimeCommand": "cat -", "maxRetries": 0, "timeoutMs": timeout_ms,
        "scalingConfig": { "strategy": "NONE", "minReplicas": 2 },
    }));
    let ready = || server.get(&format!("/v1/functions/{NAME}/replicas")).json()["ready"].clone();
    eventually("both are ready", || ready() == 2);
    let watchdogs = watchdogs(server.pid());
    assert_eq!(watchdogs.len(), 2, "{watchdogs:?}");
    vanish(watchdogs[0]);
    // Until the backend notices, after a second or more.
    let mut calls = 0.0;
    eventually("the backend notices", || {
        for _ in 0..10 {
            let answer = server.invoke(NAME, json!([1]));
            assert_eq!(answer.json()["status"], "success", "{}", answer.text());
            calls += 1.0;
        }
        ready() == 1
    });
    let of = |metric: &str| server.metric(&format!("{metric}{{function=\"{NAME}\"}}"));
    assert_eq!(of("function_success_total"), calls);
    // What is sent and not run is sent once more.
    assert_eq!(of("function_dispatch_total"), calls + 1.0, "of {calls} calls");
    eventually("it is replaced", || ready() == 2);
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

/// Nothing is answered there any more: the process stands still, and its system has no room for another connection.
fn vanish(pid: u32) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(pid)));
    let stopped = Command::new("kill").args(["-STOP", &pid.to_string()]).status();
    assert!(stopped.is_ok_and(|status| status.success()), "kill -STOP {pid}");
    // A connection that is closed before it was accepted keeps its place.
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500));
    let connected = (0..100_000).take_while(|_| connect().is_ok()).count();
    assert!((1..100_000).contains(&connected), "{connected} connections");
}

/// The processes that listen for calls: each is the child of its guard, which is a child of the server.
fn watchdogs(server: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let pids: Vec<u32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let is_child = |pid: &u32, of: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{of}\n"))
    };
    let guards = pids.iter().filter(|pid| is_child(pid, server));
    guards.flat_map(|guard| pids.iter().filter(|pid| is_child(pid, *guard))).copied().collect()
}

/// The port that a process listens on.
fn port_of(pid: u32) -> u16 {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").flatten();
    let links: Vec<String> = files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("sockets");
    let port = sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("socket:[{}]", fields.get(9)?);
        let listens = fields.get(3) == Some(&"0A") && links.contains(&inode);
        let port = fields.get(1)?.rsplit(':').next()?;
        listens.then(|| u16::from_str_radix(port, 16).ok())?
    });
    port.expect("it listens")
}
