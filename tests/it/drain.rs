//! The end of a server: by one signal, by two, by force, and before it began.

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Client, Function, Reply, Server, client::encode, eventually, pace};

const JSON: (&str, &str) = ("content-type", "application/json");

fn request() -> Vec<u8> {
    encode("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":1}"#)
}

/// A function that answers when it is allowed to, and a server that knows it as `f`.
fn start(settings: &[&str], concurrency: u32) -> (Server, Function, Arc<AtomicBool>) {
    let open = Arc::<AtomicBool>::default();
    let gate = Arc::clone(&open);
    let function = Function::start(move |_| {
        while !gate.load(Ordering::SeqCst) {
            pace(Duration::from_millis(2));
        }
        Reply::json(json!("done"))
    });
    let server = Server::start(settings);
    server.register(json!({
        "name": "f", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": concurrency,
    }));
    (server, function, open)
}

fn call(server: &Server) -> Client {
    let mut client = server.client();
    client.write(&request());
    client
}

fn queued(server: &Server) -> f64 {
    server.metric("function_queue_depth{function=\"f\"}")
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn what_is_in_progress_ends_and_nothing_new_begins() {
    for signal in ["TERM", "INT"] {
        let (mut server, function, open) = start(&[], 1);
        let mut idle = server.client();
        assert_eq!(idle.send("GET", "/v1/functions/f", &[], b"").status, 200);
        let mut calls = [call(&server), call(&server), call(&server)];
        eventually("one runs, two wait", || function.in_flight() == 1 && queued(&server) == 2.0);
        assert_eq!(server.manage("/actuator/health/readiness").status, 200);
        server.signal(signal);
        eventually("no longer ready", || server.manage("/actuator/health/readiness").status == 503);
        assert_eq!(server.manage("/actuator/health/liveness").status, 200);
        eventually("the listener is closed", || is_refused(server.api));
        assert_eq!(queued(&server), 2.0, "metrics are there to the end");
        open.store(true, Ordering::SeqCst);
        for call in &mut calls {
            let response = call.read().expect("an answer");
            assert_eq!(response.json()["output"], "done");
            assert_eq!(response.header("connection"), Some("close"));
            assert!(call.is_closed());
        }
        assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
        assert!(idle.is_closed() && is_refused(server.management));
    }
}

#[test]
fn a_full_queue_is_worked_off() {
    let (mut server, function, open) = start(&[], 1);
    assert_eq!(server.send("DELETE", "/v1/functions/f", &serde_json::Value::Null).status, 204);
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 5 }));
    let mut calls = vec![call(&server)];
    eventually("one runs", || function.in_flight() == 1);
    calls.extend((0..5).map(|_| call(&server)));
    eventually("the queue is full", || queued(&server) == 5.0);
    let mut late = server.client();
    late.send("POST", "/v1/functions/f:invoke", &[JSON], br#"{"input":1}"#).expect_error(429, "QUEUE_FULL");
    server.signal("TERM");
    eventually("the listener is closed", || is_refused(server.api));
    open.store(true, Ordering::SeqCst);
    for call in &mut calls {
        assert_eq!(call.read().expect("an answer").json()["output"], "done");
    }
    assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
}

#[test]
fn whoever_still_waits_late_in_the_drain_is_sent_elsewhere() {
    let (mut server, function, open) = start(&["shutdown.timeout=3s"], 1);
    let mut running = call(&server);
    eventually("one runs", || function.in_flight() == 1);
    let mut waiting = call(&server);
    eventually("one waits", || queued(&server) == 1.0);
    server.signal("TERM");
    let refusal = waiting.read().expect("an answer");
    refusal.expect_error(503, "SHUTTING_DOWN");
    assert!(refusal.header("retry-after").is_some());
    open.store(true, Ordering::SeqCst);
    assert_eq!(running.read().expect("an answer").json()["output"], "done");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_request_that_outlives_the_drain_is_cut_off_and_counted() {
    let (mut server, function, _open) = start(&["shutdown.timeout=1s"], 1);
    let mut running = call(&server);
    eventually("one runs", || function.in_flight() == 1);
    let started = Instant::now();
    server.signal("TERM");
    assert!(running.is_closed());
    assert_eq!(server.wait(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    server.logged(&["shutdown.timeout"]);
}

#[test]
fn requests_that_never_came_whole_do_not_count() {
    let (mut server, _function, _open) = start(&["shutdown.timeout=1s"], 1);
    let mut halves = Vec::new();
    for bytes in [
        &b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"input"[..],
        b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"inp",
        b"POST /v1/func",
        b"",
    ] {
        let mut client = server.client();
        client.write(bytes);
        halves.push(client);
    }
    let mut second = server.client();
    assert_eq!(second.send("GET", "/v1/functions/f", &[], b"").status, 200);
    second.write(b"GET /v1/functions/f HTT");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut server, function, _open) = start(&[], 1);
    let _running = call(&server);
    eventually("one runs", || function.in_flight() == 1);
    server.signal("TERM");
    eventually("it drains", || is_refused(server.api));
    let started = Instant::now();
    // The first ones may still count as one with the signal before.
    eventually("it hears a second signal", || {
        server.signal("INT");
        server.log().iter().any(|line| line.contains("second signal"))
    });
    assert_eq!(server.wait(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let (mut server, function, open) = start(&[], 1);
    let mut running = call(&server);
    eventually("one runs", || function.in_flight() == 1);
    // Stopped meanwhile, it finds both at once, however late the second one was sent.
    for signal in ["STOP", "TERM", "INT", "CONT"] {
        let sent = Command::new("kill").args([&format!("-{signal}"), &server.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "{signal}");
    }
    eventually("it drains", || is_refused(server.api));
    open.store(true, Ordering::SeqCst);
    assert_eq!(running.read().expect("an answer").json()["output"], "done");
    assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
}

#[test]
fn nobody_at_the_management_listener_delays_the_end() {
    let (mut server, _function, _open) = start(&["shutdown.timeout=2s"], 1);
    let mut half = Client::connect(server.management);
    half.write(b"GET /actuator/prom");
    let mut deaf = Client::connect(server.management);
    let scrape = encode("GET", "/actuator/prometheus", &[], b"");
    deaf.stream.get_ref().set_write_timeout(Some(Duration::from_millis(500))).expect("socket option");
    while deaf.stream.get_mut().write_all(&scrape).is_ok() {}
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn before_the_delay_is_over_everything_is_served() {
    let (mut server, _function, open) = start(&["shutdown.delay=1500ms"], 1);
    open.store(true, Ordering::SeqCst);
    server.signal("TERM");
    eventually("no longer ready", || server.manage("/actuator/health/readiness").status == 503);
    for _ in 0..10 {
        assert_eq!(server.invoke("f", json!(1)).status, 200);
    }
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn under_load_no_request_is_reset() {
    for _ in 0..3 {
        let (mut server, _function, open) = start(&[], 100);
        open.store(true, Ordering::SeqCst);
        let answered = Arc::<AtomicUsize>::default();
        let mut clients = Vec::new();
        for number in 0..12 {
            let (address, answered) = (server.api, Arc::clone(&answered));
            // Every other client keeps its connection; the others open one per call.
            clients.push(thread::spawn(move || {
                let mut kept: Option<Client> = None;
                loop {
                    let mut client = match kept.take() {
                        Some(client) => client,
                        None => match TcpStream::connect(address) {
                            Err(_) => return,
                            Ok(stream) => Client::over(stream),
                        },
                    };
                    let written = client.stream.get_mut().write_all(&request());
                    let response = written.and_then(|()| client.read()).expect("a request is answered");
                    assert_eq!(response.status, 200, "{}", response.text());
                    answered.fetch_add(1, Ordering::SeqCst);
                    if number % 2 == 0 && response.header("connection") != Some("close") {
                        kept = Some(client);
                    }
                }
            }));
        }
        eventually("there is load", || answered.load(Ordering::SeqCst) > 200);
        server.signal("TERM");
        for client in clients {
            client.join().expect("no request was lost");
        }
        assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (setting, arguments) in [
        ("server.port", ["--port", &port, "--management-port", "0"]),
        ("management.port", ["--port", "0", "--management-port", &port]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_nanofaas"))
            .args(["serve", "--ephemeral"])
            .args(arguments)
            .output()
            .expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in [&port, setting, "cannot listen", "in use"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn after_a_kill_the_address_is_free() {
    let (mut server, function, _open) = start(&[], 1);
    let mut running = call(&server);
    eventually("one runs", || function.in_flight() == 1);
    let address = server.api;
    server.signal("KILL");
    assert_eq!(server.wait(), None);
    assert!(running.is_closed());
    eventually("the port is free", || is_refused(address));
    let port = format!("server.port={}", address.port());
    let next = Server::start(&[&port]);
    assert_eq!(next.api, address);
    assert_eq!(next.get("/v1/functions").text(), "[]", "nothing of an ephemeral server is left");
}
