//! Functions that misbehave on the wire: every way in which a peer can be broken, what the caller is told, how
//! many attempts are made, and that nothing stays behind: no slot, no connection, no memory.

mod peers;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::{
    self,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use peers::{
    Expected,
    Expected::{Code, Output},
    Hostile, OK, TIMEOUT, UNREACHABLE, rows,
};

use crate::support::{Function, Reply, Response, Server, eventually, pace};

/// One connection and one slot: whatever leaks is missed by the next call.
fn start_server() -> Server {
    Server::start(&["http-client.max-connections-per-endpoint=1"])
}

fn register(server: &Server, name: &str, url: &str, retries: u32) {
    register_with_timeout(server, name, url, retries, 400);
}

fn register_with_timeout(server: &Server, name: &str, url: &str, retries: u32, timeout_ms: u32) {
    server.register(json!({
        "name": name, "executionMode": "POOL", "endpointUrl": url,
        "timeoutMs": timeout_ms, "concurrency": 1, "maxRetries": retries,
    }));
}

/// Calls with a deadline beyond that of all attempts, so that the attempts' own end is seen.
fn invoke(server: &Server, name: &str, input: &Value) -> Response {
    server.client().send(
        "POST",
        &format!("/v1/functions/{name}:invoke"),
        &[("content-type", "application/json"), ("x-timeout-ms", "15000")],
        json!({ "input": input }).to_string().as_bytes(),
    )
}

#[track_caller]
fn expect(server: &Server, name: &str, response: &Response, expected: &Expected) {
    assert_eq!(response.status, 200, "{name}: {}", response.text());
    let body = response.json();
    let id = response.header("x-execution-id").expect("an execution id");
    let status = server.get(&format!("/v1/executions/{id}")).json();
    match expected {
        Output(output) => {
            assert_eq!(body["status"], "success", "{name}: {body}");
            assert_eq!(&body["output"], output, "{name}: {body}");
            assert_eq!(status["attempt"], 1, "{name}: {status}");
        }
        Code(code, attempts) => {
            assert_eq!(body["status"], "error", "{name}: {body}");
            assert_eq!(&body["error"]["code"], code, "{name}: {body}");
            assert!(body["error"]["message"].as_str().is_some_and(|text| text.len() > 20), "{name}: {body}");
            assert_eq!(status["attempt"], *attempts, "{name}: {status}");
        }
    }
}

fn expect_balance(server: &Server, names: &[&str]) {
    for name in names {
        let labels = format!("{{function=\"{name}\"}}");
        eventually(&format!("{name} gives its slots back"), || {
            server.metric(&format!("function_in_flight{labels}")) == 0.0
                && server.metric(&format!("function_queue_depth{labels}")) == 0.0
        });
    }
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn every_broken_peer_is_reported_and_leaves_nothing_behind() {
    let server = start_server();
    let rows: Vec<(&str, Hostile, Expected)> =
        rows().into_iter().map(|(name, act, expected)| (name, Hostile::start(act), expected)).collect();
    for (name, hostile, expected) in &rows {
        // Only those whose time is meant to be over may run into a timeout.
        let timeout_ms = if matches!(expected, Code(TIMEOUT, _)) { 400 } else { 10_000 };
        register_with_timeout(&server, name, &hostile.function.url(), 2, timeout_ms);
    }
    let names: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
    thread::scope(|scope| {
        for (name, hostile, expected) in &rows {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..2 {
                    expect(server, name, &invoke(server, name, &json!([1])), expected);
                }
                hostile.expect_no_repetition(name);
                hostile.tame.store(true, Ordering::SeqCst);
            });
        }
    });
    // A connection that a hostile function still holds would stay open for ever.
    for (name, hostile, _) in &rows {
        let kept = usize::from(matches!(*name, "answers-before-reading"));
        eventually(&format!("the connections to {name} are closed"), || {
            hostile.open.load(Ordering::SeqCst) <= kept
        });
    }
    expect_balance(&server, &names);
    let resident_mib = server.metric("process_resident_memory_bytes") / 1048576.0;
    assert!(resident_mib < 400.0, "{resident_mib} MiB after answers that were too large");
    for (name, hostile, _) in rows.iter().filter(|(name, ..)| *name != "answers-before-reading") {
        expect(&server, name, &invoke(&server, name, &json!(1)), &Output(json!("tame")));
        hostile.expect_no_repetition(name);
    }
}

#[test]
fn an_answer_never_belongs_to_another_call() {
    let server = start_server();
    let hostile = Hostile::start(|peer| {
        let mut calls = 0;
        while peer.read() {
            calls += 1;
            let body = format!("{calls}");
            // Its own answer, and one that nobody asked for.
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            peer.write(format!("{answer}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"stolen\"").as_bytes());
        }
    });
    register(&server, "splitter", &hostile.function.url(), 1);
    for _ in 0..20 {
        expect(&server, "splitter", &invoke(&server, "splitter", &json!(1)), &Output(json!(1)));
    }
    hostile.expect_no_repetition("splitter");
}

#[test]
fn a_function_that_answers_without_reading_keeps_no_connections() {
    let server = Server::start(&["limits.request-bytes=33554432"]);
    let hostile = Hostile::start(|peer| {
        let _ = peer.stream.peek(&mut [0]);
        peer.write(OK);
        // More than the sockets' buffers hold is on its way, and stays there.
        thread::park();
    });
    register_with_timeout(&server, "deaf", &hostile.function.url(), 2, 10_000);
    let input = json!("x".repeat(16 << 20));
    let before = server.metric("process_open_fds");
    for _ in 0..6 {
        expect(&server, "deaf", &invoke(&server, "deaf", &input), &Output(json!([])));
    }
    eventually("the server closes its connections", || server.metric("process_open_fds") <= before + 1.0);
    expect_balance(&server, &["deaf"]);
}

#[test]
fn a_connection_that_closes_between_two_calls_costs_no_attempt_and_repeats_none() {
    let server = Server::start(&[]);
    let hostile = Hostile::start(|peer| {
        let mut pause_us = 0;
        while peer.read() {
            // Says nothing of closing, and closes a little later: before, while or after the next call comes.
            peer.write(OK);
            pause_us = (pause_us + 37) % 400;
            if pause_us > 100 {
                pace(Duration::from_micros(pause_us));
                peer.reset();
                return;
            }
        }
    });
    register(&server, "fickle", &hostile.function.url(), 100);
    let mut client = server.client();
    for round in 0..400 {
        let response = client.send(
            "POST",
            "/v1/functions/fickle:invoke",
            &[("content-type", "application/json"), ("x-timeout-ms", "15000")],
            br#"{"input":1}"#,
        );
        assert_eq!(response.json()["status"], "success", "{}", response.text());
        if round % 3 == 0 {
            pace(Duration::from_micros(round % 500));
        }
    }
    hostile.expect_no_repetition("fickle");
    expect_balance(&server, &["fickle"]);
}

#[test]
fn an_idle_connection_that_was_closed_costs_no_attempt() {
    let server = Server::start(&[]);
    let hostile = Hostile::start(|peer| {
        peer.read();
        peer.write(OK);
    });
    register(&server, "once", &hostile.function.url(), 1);
    for call in 1..=20 {
        expect(&server, "once", &invoke(&server, "once", &json!(1)), &Output(json!([])));
        eventually("the connection is closed", || hostile.open.load(Ordering::SeqCst) == 0);
        assert_eq!(hostile.attempts(), call);
    }
}

#[test]
fn functions_at_one_host_and_port_go_on_with_each_others_connections() {
    let server = Server::start(&["workers=1"]);
    let function = Function::start(|call| Reply::json(json!(call.path)));
    let url = |path: &str| format!("http://{}/{path}", function.address);
    for path in ["a", "b", "c"] {
        register(&server, path, &url(path), 0);
    }
    for path in ["a", "b", "a", "c", "b"] {
        let response = invoke(&server, path, &json!(1));
        expect(&server, path, &response, &Output(json!(format!("/{path}"))));
    }
    assert_eq!(server.send("DELETE", "/v1/functions/a", &Value::Null).status, 204);
    expect(&server, "c", &invoke(&server, "c", &json!(1)), &Output(json!("/c")));
    assert_eq!((function.calls(), function.connections()), (6, 1));
    expect_balance(&server, &["b", "c"]);
}

#[test]
fn with_the_last_function_at_a_host_and_port_its_connections_are_closed() {
    let server = Server::start(&["workers=1"]);
    let hostile = Hostile::start(peers::Peer::behave);
    let is_open = |count| hostile.open.load(Ordering::SeqCst) == count;
    for name in ["first", "last"] {
        register(&server, name, &hostile.function.url(), 0);
        expect(&server, name, &invoke(&server, name, &json!(1)), &Output(json!("tame")));
    }
    assert_eq!(server.send("DELETE", "/v1/functions/first", &Value::Null).status, 204);
    expect(&server, "last", &invoke(&server, "last", &json!(1)), &Output(json!("tame")));
    assert!(is_open(1) && hostile.function.connections() == 1);
    assert_eq!(server.send("DELETE", "/v1/functions/last", &Value::Null).status, 204);
    eventually("the connection is closed", || is_open(0));
}

#[test]
fn addresses_that_lead_nowhere() {
    let server = start_server();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let plain = Hostile::start(peers::Peer::behave);
    let secure = Hostile::start(|peer| {
        let mut connection =
            rustls::ServerConnection::new(self_signed()).expect("a certificate that makes sense");
        let mut stream = rustls::Stream::new(&mut connection, &mut peer.stream);
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(OK);
    });
    let plain_port = plain.function.address.port();
    let secure_port = secure.function.address.port();
    for (name, url, expected) in [
        ("refused", format!("http://{free}/"), "refused"),
        ("unresolvable", "http://does-not-exist.invalid/".to_owned(), "could not be reached"),
        ("tls-to-plain", format!("https://localhost:{plain_port}/"), "could not be reached"),
        ("self-signed", format!("https://localhost:{secure_port}/"), "certificate"),
        ("plain-to-tls", format!("http://localhost:{secure_port}/"), "could not be reached"),
    ] {
        register(&server, name, &url, 2);
        let response = invoke(&server, name, &json!(1));
        expect(&server, name, &response, &Code(UNREACHABLE, 2));
        let message = response.json()["error"]["message"].to_string().to_lowercase();
        assert!(message.contains(expected), "{name}: {message}");
        assert!(message.contains(&url), "{name}: the message names the address: {message}");
    }
    assert_eq!((plain.attempts(), secure.attempts()), (0, 0));
    expect_balance(&server, &["refused", "unresolvable", "tls-to-plain", "self-signed", "plain-to-tls"]);
}

/// A certificate for localhost that nobody vouches for, valid for a hundred years. Its key guards nothing.
fn self_signed() -> Arc<rustls::ServerConfig> {
    const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgoKj2xAiQPiMz9xhWVNuqYmYCnXoUpSAubI717fZaCyShRANCAAT6JvfSMKgV0qtbT4r8jmS9G6KZnDqBqHLhfqR6Es144txjjgyWcVmsWeINdzWE6qqbBnpXb8iBcBepjKm9QwTU";
    const CERTIFICATE: &str = "MIIBmzCCAUGgAwIBAgIUc2K7fkHQLmCldpMyapvwE/n/RkAwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA2MTUxNVoYDzIxMjYxMDI4MDYxNTE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT6JvfSMKgV0qtbT4r8jmS9G6KZnDqBqHLhfqR6Es144txjjgyWcVmsWeINdzWE6qqbBnpXb8iBcBepjKm9QwTUo28wbTAdBgNVHQ4EFgQUUPVNx6FLweKvF23OAAMtklEDPswwHwYDVR0jBBgwFoAUUPVNx6FLweKvF23OAAMtklEDPswwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIhAKZmsd7sdUTcfxHEw84dwULPugYyfefjYferUb2ISJF+AiBo9S6c9306ZlEd4EPFqB+pshlQ7iaZvo6wEEQpFefayQ==";
    let der = |text: &str| STANDARD.decode(text).expect("base64");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der(KEY)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(der(CERTIFICATE))], key);
    Arc::new(config.expect("key and certificate belong together"))
}

#[test]
fn a_call_that_hangs_ends_although_its_function_was_removed() {
    let server = start_server();
    let hostile = Hostile::start(|peer| {
        peer.read();
        peer.hold();
    });
    register(&server, "gone", &hostile.function.url(), 3);
    thread::scope(|scope| {
        let call = scope.spawn(|| invoke(&server, "gone", &json!(1)));
        eventually("the call has arrived", || hostile.attempts() == 1);
        assert_eq!(server.send("DELETE", "/v1/functions/gone", &Value::Null).status, 204);
        let response = call.join().expect("no panic");
        expect(&server, "gone", &response, &Code(TIMEOUT, 1));
    });
}
