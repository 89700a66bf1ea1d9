//! Clients that leave: while they wait in a queue, while their call runs, and while others wait for the same call.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Call, Client, Function, Reply, Server, client::encode, eventually, pace};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Holds calls until it is opened; remembers the ids of the executions.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    ids: Mutex<Vec<String>>,
}

impl Gate {
    /// A function behind a closed gate.
    fn function() -> (Arc<Gate>, Function) {
        let gate = Arc::<Gate>::default();
        let function = Function::start({
            let gate = Arc::clone(&gate);
            move |call| gate.pass(&call)
        });
        (gate, function)
    }

    fn pass(&self, call: &Call) -> Reply {
        let id = call.header("x-execution-id").expect("an execution id").to_owned();
        self.ids.lock().expect("no panic").push(id);
        let open = self.open.lock().expect("no panic");
        drop(self.opened.wait_while(open, |open| !*open).expect("no panic"));
        Reply::json(json!("done"))
    }

    fn open(&self) {
        *self.open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().expect("no panic").clone()
    }
}

fn request(name: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let headers = [&[JSON], headers].concat();
    encode("POST", &format!("/v1/functions/{name}:invoke"), &headers, br#"{"input":1}"#)
}

fn gauge(server: &Server, gauge: &str, name: &str) -> f64 {
    server.metric(&format!("{gauge}{{function=\"{name}\"}}"))
}

/// Sum of a gauge over all shards.
fn total(server: &Server, gauge: &str) -> f64 {
    let text = server.manage("/actuator/prometheus").text();
    let lines = text.lines().filter(|line| line.starts_with(gauge));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Opens this many connections and sends the same request on each.
fn crowd(server: &Server, count: usize, request: &[u8]) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(server.api).expect("server listens");
            stream.write_all(request).expect("server reads");
            stream
        })
        .collect()
}

#[test]
fn thousands_that_leave_the_queue_leave_nothing_behind() {
    let server = Server::start(&[]);
    let (gate, function) = Gate::function();
    server.register(json!({
        "name": "blocked", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1, "queueSize": 1000000,
    }));
    let mut holder = server.client();
    holder.write(&request("blocked", &[]));
    eventually("the slot is taken", || function.in_flight() == 1);
    let body = json!({ "input": "x".repeat(5000) }).to_string();
    let request = encode("POST", "/v1/functions/blocked:invoke", &[JSON], body.as_bytes());

    let mut resident_bytes = 0.0;
    for round in 0..6 {
        let waiting = crowd(&server, 500, &request);
        eventually("all wait", || gauge(&server, "function_queue_depth", "blocked") == 500.0);
        // Half of them close, half of them reset.
        for (number, stream) in waiting.into_iter().enumerate() {
            if number % 2 == 0 {
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                    .expect("socket option");
            }
        }
        eventually("none waits", || gauge(&server, "function_queue_depth", "blocked") == 0.0);
        if round == 2 {
            resident_bytes = server.metric("process_resident_memory_bytes");
        }
    }
    let growth_mib = (server.metric("process_resident_memory_bytes") - resident_bytes) / 1048576.0;
    assert!(growth_mib < 24.0, "{growth_mib} MiB more after another 1500 clients");
    assert_eq!(gauge(&server, "function_in_flight", "blocked"), 1.0);
    assert_eq!(total(&server, "nanofaas_shard_executions{"), 1.0, "only the running one is kept");
    assert_eq!(total(&server, "nanofaas_shard_queued_bytes{"), 0.0);
    assert!(
        total(&server, "nanofaas_shard_timers{") <= 3.0,
        "deadlines of clients that are gone are being watched"
    );
    gate.open();
    assert_eq!(holder.read().expect("an answer").json()["output"], "done");
    assert_eq!(function.calls(), 1, "a call was sent for a client that was gone");
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn clients_that_leave_at_once_are_never_left_in_the_queue() {
    let server = Server::start(&[]);
    let (gate, function) = Gate::function();
    // One function per shard, probably: calls cross threads in all directions.
    let names = ["a", "b", "c", "d"];
    for name in names {
        server.register(json!({
            "name": name, "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1, "queueSize": 1000000,
        }));
    }
    let mut holders: Vec<Client> = names.iter().map(|_| server.client()).collect();
    for (name, holder) in names.iter().zip(&mut holders) {
        holder.write(&request(name, &[]));
    }
    eventually("all slots are taken", || function.in_flight() == names.len());
    thread::scope(|scope| {
        for thread in 0..4 {
            let (server, names) = (&server, &names);
            scope.spawn(move || {
                for round in 0..500 {
                    let mut stream = TcpStream::connect(server.api).expect("server listens");
                    let _ = stream.write_all(&request(names[(round + thread) % names.len()], &[]));
                    // The end of the connection comes with the call, or a little later.
                    pace(Duration::from_micros(round as u64 % 8 * 40));
                    if round % 2 == 0 {
                        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                            .expect("socket option");
                    }
                }
            });
        }
    });
    for name in names {
        let empty = || gauge(&server, "function_queue_depth", name) == 0.0;
        eventually(&format!("nobody waits for {name}"), empty);
    }
    gate.open();
    for holder in &mut holders {
        assert_eq!(holder.read().expect("an answer").json()["output"], "done");
    }
    assert_eq!(function.calls(), names.len(), "a call was sent for a client that was gone");
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn a_client_that_sent_more_and_left_frees_its_place() {
    let server = Server::start(&[]);
    let (gate, function) = Gate::function();
    server.register(json!({
        "name": "blocked", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1,
    }));
    let mut holder = server.client();
    holder.write(&request("blocked", &[]));
    eventually("the slot is taken", || function.in_flight() == 1);
    let twice = [request("blocked", &[]), request("blocked", &[])].concat();
    let waiting = crowd(&server, 20, &twice);
    eventually("all wait", || gauge(&server, "function_queue_depth", "blocked") == 20.0);
    drop(waiting);
    eventually("none waits", || gauge(&server, "function_queue_depth", "blocked") == 0.0);
    gate.open();
    assert_eq!(holder.read().expect("an answer").status, 200);
    assert_eq!(function.calls(), 1);
}

#[test]
fn a_call_goes_on_without_its_client() {
    let server = Server::start(&[]);
    let (gate, function) = Gate::function();
    server.register(json!({ "name": "held", "executionMode": "POOL", "endpointUrl": function.url() }));
    let client = crowd(&server, 1, &request("held", &[]));
    eventually("the call has arrived", || !gate.ids().is_empty());
    drop(client);
    let path = format!("/v1/executions/{}", gate.ids()[0]);
    assert_eq!(server.get(&path).json()["status"], "running");
    gate.open();
    eventually("the result can be read", || server.get(&path).json()["status"] == "success");
    assert_eq!(server.get(&path).json()["output"], "done");
    assert_eq!(gauge(&server, "function_in_flight", "held"), 0.0);
}

#[test]
fn a_call_without_its_client_is_retried() {
    let server = Server::start(&[]);
    let (gate, ids) = (Arc::<Gate>::default(), Arc::<Mutex<Vec<String>>>::default());
    let attempts = Arc::<AtomicUsize>::default();
    let function = Function::start({
        let (gate, ids, attempts) = (Arc::clone(&gate), Arc::clone(&ids), Arc::clone(&attempts));
        move |call| {
            ids.lock().expect("no panic").push(call.header("x-execution-id").expect("an id").to_owned());
            gate.pass(&call);
            match attempts.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Reply::new(500, "", b"not yet").with("retry-after", "1"),
                _ => Reply::json(json!("at last")),
            }
        }
    });
    server.register(
        json!({ "name": "held", "executionMode": "POOL", "endpointUrl": function.url(), "maxRetries": 3 }),
    );
    let client = crowd(&server, 1, &request("held", &[]));
    eventually("the call has arrived", || !gate.ids().is_empty());
    let open = server.metric("process_open_fds");
    drop(client);
    eventually("the server has seen it leave", || server.metric("process_open_fds") < open);
    let path = format!("/v1/executions/{}", gate.ids()[0]);
    gate.open();
    eventually("the result can be read", || server.get(&path).json()["status"] == "success");
    let status = server.get(&path).json();
    assert_eq!((&status["output"], &status["attempt"]), (&json!("at last"), &json!(3)), "{status}");
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn one_of_two_that_wait_for_the_same_call_may_leave() {
    let server = Server::start(&[]);
    let (gate, function) = Gate::function();
    server.register(json!({
        "name": "held", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1,
    }));
    let mut holder = server.client();
    holder.write(&request("held", &[]));
    eventually("the slot is taken", || function.in_flight() == 1);
    // The first of a pair starts the execution, the second joins it; either may leave.
    let mut stay = Vec::new();
    for (key, first_leaves) in [("one", true), ("two", false)] {
        let request = request("held", &[("idempotency-key", key)]);
        let depth = gauge(&server, "function_queue_depth", "held");
        let mut first = server.client();
        first.write(&request);
        eventually("the first waits", || gauge(&server, "function_queue_depth", "held") == depth + 1.0);
        let timers = total(&server, "nanofaas_shard_timers{");
        let mut second = server.client();
        second.write(&request);
        eventually("the second waits", || total(&server, "nanofaas_shard_timers{") == timers + 1.0);
        let (stays, leaves) = if first_leaves { (second, first) } else { (first, second) };
        drop(leaves);
        stay.push(stays);
        eventually("one of them is gone", || total(&server, "nanofaas_shard_timers{") == timers);
    }
    assert_eq!(gauge(&server, "function_queue_depth", "held"), 2.0);
    // When both leave, the place is free, and the key as well.
    let both = crowd(&server, 2, &request("held", &[("idempotency-key", "three")]));
    eventually("one execution for both", || gauge(&server, "function_queue_depth", "held") == 3.0);
    drop(both);
    eventually("the place is free", || gauge(&server, "function_queue_depth", "held") == 2.0);
    gate.open();
    let answers: Vec<Value> =
        stay.iter_mut().map(|client| client.read().expect("an answer").json()).collect();
    for answer in &answers {
        assert_eq!(answer["output"], "done", "{answer}");
    }
    assert_eq!(holder.read().expect("an answer").status, 200);
    assert_eq!(function.calls(), 3, "one call per key, and the holder's");
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}
