//! What becomes of a function's answer that is a failure, or of none at all.

use std::{
    io::{BufReader, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Response, Server, eventually, function::read_call};

/// Checks the envelope of a failed function; its error's message.
#[track_caller]
fn expect_failure(response: &Response, code: &str) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body = response.json();
    let id = response.header("x-execution-id").expect("an id");
    let message = body["error"]["message"].as_str().expect("a message");
    let error = json!({ "code": code, "message": message });
    let expected = json!({ "executionId": id, "status": "error", "output": null, "error": error });
    assert_eq!(response.text(), expected.to_string());
    message.to_owned()
}

#[test]
fn a_failed_answer_is_the_message() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let long = "a".repeat(6000);
    let wide = "é".repeat(3000);
    let odd = format!("a{wide}");
    for (status, body, message) in [
        (500, "boom", "boom"),
        (500, " spaced \n", "spaced"),
        (500, "{\"error\": \"no\"}", "{\"error\": \"no\"}"),
        (500, "", "500 Internal Server Error"),
        (503, "", "503 Service Unavailable"),
        (404, "", "404 Not Found"),
        (502, long.as_str(), &long[..4096]),
        (502, wide.as_str(), &wide[..4096]),
        (502, odd.as_str(), &odd[..4095]),
        (429, "slow down", "slow down"),
        (302, "elsewhere", "elsewhere"),
        (304, "", "304 Not Modified"),
        (504, "gateway", "gateway"),
    ] {
        let response = server.invoke("f", json!({ "status": status, "type": "text/plain", "body": body }));
        assert_eq!(expect_failure(&response, "FUNCTION_ERROR"), message, "{status}");
        let status = server.execution(response.header("x-execution-id").expect("an id"));
        assert_eq!((&status["status"], &status["output"]), (&json!("error"), &Value::Null));
        assert_eq!(status["error"], response.json()["error"]);
        assert_eq!(status["lastError"], Value::Null);
    }
    assert_eq!(server.metric("function_error_total{function=\"f\"}"), 13.0);
}

#[test]
fn redirects_are_not_followed() {
    let server = Server::start(&[]);
    let elsewhere = Function::start(|_| Reply::json(json!("followed")));
    let target = elsewhere.url();
    let function = Function::start(move |_| Reply::new(307, "", b"").with("location", &target));
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let response = server.invoke("f", json!(1));
    assert_eq!(expect_failure(&response, "FUNCTION_ERROR"), "307 Temporary Redirect");
    assert_eq!((function.calls(), elsewhere.calls()), (1, 0));
}

#[test]
fn a_timeout_of_the_attempt_names_its_limit() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "maxRetries": 1, "timeoutMs": 120 }));
    let response = server.begin("f", &[("x-timeout-ms", "20000")], json!(1)).read().expect("an answer");
    let message = expect_failure(&response, "FUNCTION_TIMEOUT");
    assert!(message.contains("120 ms"), "{message}");
    assert_eq!(server.metric("function_in_flight{function=\"f\"}"), 0.0, "the slot did not come back");
    gate.open();
}

#[test]
fn the_watchdogs_timeout_is_a_timeout() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let body = json!({ "error": { "code": "TIMEOUT", "message": "did not end within 77 ms" } }).to_string();
    let response = server.invoke("f", json!({ "status": 504, "type": "application/json", "body": body }));
    let message = expect_failure(&response, "FUNCTION_TIMEOUT");
    assert!(message.contains("77 ms"), "{message}");
}

#[test]
fn a_function_that_is_not_there_is_unreachable() {
    let server = Server::start(&[]);
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hangs_up = Function::raw(drop);
    let half = Function::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345");
    });
    let nonsense = Function::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    for (name, address) in [
        ("refused", closed),
        ("hangs-up", hangs_up.address),
        ("half", half.address),
        ("nonsense", nonsense.address),
    ] {
        let url = format!("http://{address}/invoke");
        server.register(
            json!({ "name": name, "executionMode": "POOL", "endpointUrl": url, "maxRetries": 1, "timeoutMs": 10_000 }),
        );
        let message = expect_failure(&server.invoke(name, json!(1)), "FUNCTION_UNREACHABLE");
        assert!(message.contains(&url), "{message}");
    }
    let url = "http://no-such-host.invalid/invoke";
    server.register(json!({ "name": "dns", "executionMode": "POOL", "endpointUrl": url, "maxRetries": 1 }));
    expect_failure(&server.invoke("dns", json!(1)), "FUNCTION_UNREACHABLE");
}

#[test]
fn a_connection_that_the_function_closed_meanwhile_costs_no_attempt() {
    let server = Server::start(&[]);
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    // Answers one call per connection, promises to keep it, and closes it. It counts once the server has closed its
    // end too: a call that was written before the server could know of it is lost, and that is an attempt.
    let function = Function::raw(move |stream| {
        let mut reader = BufReader::new(stream);
        if read_call(&mut reader).is_some() {
            let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
            let _ = reader.get_ref().shutdown(Shutdown::Write);
            let _ = reader.read_to_end(&mut Vec::new());
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    for number in 1..=50 {
        let response = server.invoke("f", json!(1));
        assert_eq!(response.json()["status"], "success", "{}", response.text());
        eventually("the function closes", || closed.load(Ordering::SeqCst) == number);
    }
    assert_eq!(server.metric("function_dispatch_total{function=\"f\"}"), 50.0);
}

#[test]
fn an_answer_over_the_limit_is_an_error_and_not_retried() {
    let server = Server::start(&["limits.response-bytes=1048576", "limits.request-bytes=1048576"]);
    let announced = Function::start(|call| {
        let length = call.json()["input"].as_u64().unwrap_or(0) as usize;
        Reply::new(200, "text/plain", &vec![b'x'; length])
    });
    let chunked = Function::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
    server.pool("announced", &announced, json!({}));
    server.pool("chunked", &chunked, json!({}));
    for name in ["announced", "chunked"] {
        let message = expect_failure(&server.invoke(name, json!(1_048_577)), "FUNCTION_RESPONSE_TOO_LARGE");
        assert!(message.contains("1048576"), "{message}");
    }
    assert_eq!((announced.calls(), chunked.connections()), (1, 1));
    let output = server.invoke("announced", json!(1_048_576)).json();
    assert_eq!(output["output"].as_str().map(str::len), Some(1_048_576));
}
