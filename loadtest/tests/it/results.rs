//! Calls whose result comes later: by long poll, by callback; and raw ones.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::support::{Reply, Request, SUCCESS, Server, binary::number, loadtest};

const ACCEPTED: &str = r#"{"executionId":"id-1","status":"queued","output":null,"error":null}"#;

#[test]
fn a_result_is_waited_for_by_long_poll() {
    let polls = AtomicU64::new(0);
    let server = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/functions/f:enqueue") => Reply::new(202, ACCEPTED),
        ("GET", "/v1/executions/id-1?wait=5s") if polls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
            Reply::new(200, r#"{"executionId":"id-1","status":"running","output":null}"#)
        }
        ("GET", _) => Reply::new(200, SUCCESS).after(Duration::from_millis(30)),
        other => panic!("{other:?}"),
    });
    let ran = loadtest(&[
        "run",
        "--endpoint",
        &server.url(),
        "--function",
        "f",
        "--mode",
        "async",
        "-c",
        "2",
        "--duration",
        "1s",
        "--warm-up",
        "0s",
        "--json",
    ]);
    let summary = ran.summary();
    assert_eq!(number(&summary, "/total/error_rate"), 0.0, "{summary:#}");
    assert!(number(&summary, "/total/succeeded") >= 4.0, "{summary:#}");
    assert!(number(&summary, "/total/latency/min_ms") >= 30.0, "the result counts, not the 202: {summary:#}");
}

/// Posts `body` to the callback URL of a request, while or after it is answered.
fn call_back(request: &Request, body: &'static str) {
    let url = request.header("x-callback-url").expect("a callback URL");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let (host, path) = (host.to_owned(), path.to_owned());
    thread::spawn(move || {
        let mut socket = TcpStream::connect(&host).expect("the listener");
        let length = body.len();
        let text = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(text.as_bytes()).expect("a callback");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 204");
    });
}

#[test]
fn a_result_is_waited_for_by_callback() {
    for rate in [&[][..], &["--rate", "50"]] {
        let count = AtomicU64::new(0);
        let server = Server::start(move |request| {
            match count.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => call_back(request, SUCCESS),
                _ => call_back(
                    request,
                    r#"{"executionId":"e","status":"error","error":{"code":"BAD","message":"m"}}"#,
                ),
            }
            Reply::new(202, ACCEPTED)
        });
        let url = server.url();
        let plain = [
            "run",
            "--endpoint",
            &url,
            "--function",
            "f",
            "--mode",
            "callback",
            "-c",
            "2",
            "--duration",
            "1s",
            "--warm-up",
            "0s",
            "--threads",
            "2",
            "--json",
        ];
        let summary = loadtest(&[&plain[..], rate].concat()).summary();
        let (good, bad) =
            (number(&summary, "/total/succeeded"), number(&summary, "/total/errors_by_code/BAD"));
        assert!(good > 2.0 && (good - bad).abs() <= 2.0, "{summary:#}");
        assert_eq!(number(&summary, "/total/unanswered"), 0.0, "{summary:#}");
    }
}

#[test]
fn a_callback_that_never_comes_is_an_error() {
    let server = Server::start(|_| Reply::new(202, ACCEPTED));
    let ran = loadtest(&[
        "run",
        "--endpoint",
        &server.url(),
        "--function",
        "f",
        "--mode",
        "callback",
        "-c",
        "2",
        "--duration",
        "1s",
        "--warm-up",
        "0s",
        "--timeout",
        "300ms",
        "--json",
    ]);
    let summary = ran.summary();
    assert!(number(&summary, "/total/errors_by_code/callback_timeout") >= 2.0, "{summary:#}");
    assert_eq!(number(&summary, "/total/succeeded"), 0.0);
}

#[test]
fn raw_calls_carry_bytes_and_their_type() {
    let server = Server::start(|request| {
        assert_eq!(request.header("content-type"), Some("text/plain"));
        match request.body.as_slice() {
            b"hello" => Reply::new(502, "oops").header("X-Execution-Error", "FUNCTION_ERROR"),
            other => panic!("{other:?}"),
        }
    });
    let ran = loadtest(&[
        "run",
        "--endpoint",
        &server.url(),
        "--function",
        "f",
        "--mode",
        "raw",
        "-d",
        "hello",
        "-H",
        "Content-Type: text/plain",
        "-c",
        "1",
        "--duration",
        "1s",
        "--warm-up",
        "0s",
        "--json",
    ]);
    let summary = ran.summary();
    assert!(number(&summary, "/total/errors_by_code/FUNCTION_ERROR") > 0.0, "{summary:#}");
    assert!(number(&summary, "/total/errors_by_status/502") > 0.0, "{summary:#}");
}
