//! Calls that cannot be read: envelope, headers, media types, lengths.

use std::io::{Read, Write};

use serde_json::json;

use super::{JSON, keys, local};
use crate::support::{Function, Reply, Server};

#[test]
fn a_call_needs_an_envelope() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let mut client = server.client();
    for (body, code) in [
        ("", "BAD_REQUEST"),
        ("{", "BAD_REQUEST"),
        ("[]", "BAD_REQUEST"),
        ("1", "BAD_REQUEST"),
        ("{\"input\":nope}", "BAD_REQUEST"),
        ("{\"input\":1}}", "BAD_REQUEST"),
        ("{\"input\":\"\u{1}\"}", "BAD_REQUEST"),
        ("{\"input\":1,\"metadata\":{\"a\":\"b\"}", "BAD_REQUEST"),
        ("{}", "VALIDATION_ERROR"),
        ("{\"Input\":1}", "VALIDATION_ERROR"),
        ("{\"metadata\":{}}", "VALIDATION_ERROR"),
        ("{\"input\":1,\"metadata\":[]}", "VALIDATION_ERROR"),
        ("{\"input\":1,\"metadata\":\"a\"}", "VALIDATION_ERROR"),
        ("{\"input\":1,\"metadata\":{\"a\":1}}", "VALIDATION_ERROR"),
        ("{\"input\":1,\"metadata\":{\"a\":null}}", "VALIDATION_ERROR"),
    ] {
        let response = client.send("POST", "/v1/functions/f:invoke", &[JSON], body.as_bytes());
        let error = response.expect_error(400, code);
        assert_eq!(response.header("x-execution-id"), None);
        if code == "BAD_REQUEST" && !body.is_empty() {
            assert!(error["message"].as_str().is_some_and(|text| text.contains("line 1 column")), "{error}");
        }
    }
    client
        .send("POST", "/v1/functions/f:invoke", &[JSON], b"{\"input\":\"\xff\"}")
        .expect_error(400, "BAD_REQUEST");
    // Deep nesting is data like any other: nothing here recurses.
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let body = format!("{{\"input\":{deep}}}");
    let response = client.send("POST", "/v1/functions/f:invoke", &[JSON], body.as_bytes());
    assert_eq!(response.status, 200);
    assert!(response.text().contains(&deep));
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 1.0, "refusals left executions");
}

#[test]
fn bad_headers_are_named() {
    let server = Server::start(&["async-queue.enabled=true"]);
    server.register(local("f"));
    let mut client = server.client();
    let long = "k".repeat(5000);
    for (name, value) in [
        ("x-timeout-ms", "0"),
        ("x-timeout-ms", "-1"),
        ("x-timeout-ms", "86400001"),
        ("x-timeout-ms", "99999999999999999999"),
        ("x-timeout-ms", "1.5"),
        ("x-timeout-ms", "1s"),
        ("x-timeout-ms", ""),
        ("idempotency-key", long.as_str()),
        ("idempotency-key", "é"),
    ] {
        for action in ["invoke", "enqueue"] {
            let path = format!("/v1/functions/f:{action}");
            let response = client.send("POST", &path, &[JSON, (name, value)], br#"{"input":1}"#);
            let error = response.expect_error(400, "BAD_REQUEST");
            let message = error["message"].as_str().expect("text").to_ascii_lowercase();
            assert!(message.contains(name), "{name}: {value}: {error}");
        }
    }
    for value in ["1", "86400000", " 30000 "] {
        let headers = [JSON, ("x-timeout-ms", value)];
        let response = client.send("POST", "/v1/functions/f:invoke", &headers, br#"{"input":1}"#);
        assert!([200, 408].contains(&response.status), "{value}: {}", response.text());
    }
}

#[test]
fn media_types_that_are_not_taken() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let function = Function::start(|_| Reply::json(json!(1)));
    server.pool("f", &function, json!({}));
    let mut client = server.client();
    let id = "00000000-0000-4000-8000-000000000000";
    let complete = format!("/v1/internal/executions/{id}:complete");
    for (path, media_type) in [
        ("/v1/functions", "text/plain"),
        ("/v1/functions", "application/yaml"),
        ("/v1/functions", "application/x-www-form-urlencoded"),
        (complete.as_str(), "text/plain"),
        (complete.as_str(), "application/octet-stream"),
        ("/v1/functions/f:invoke", "application/x-www-form-urlencoded"),
        ("/v1/functions/f:invoke", "Multipart/Form-Data; boundary=x"),
        ("/v1/functions/f:enqueue", "application/x-www-form-urlencoded; charset=utf-8"),
        ("/v1/functions/f:enqueue", "multipart/form-data"),
    ] {
        let response = client.send("POST", path, &[("content-type", media_type)], br#"{"input":1}"#);
        let error = response.expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
        assert_eq!(keys(&error), ["error", "message"]);
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("Content-Type: application/json"), "{path} {media_type}: {message}");
    }
    assert_eq!(function.calls(), 0);
    for (number, headers) in [
        vec![],
        vec![("content-type", "application/json; charset=utf-8")],
        vec![("content-type", "APPLICATION/JSON")],
        vec![("content-type", "application/vnd.api+json")],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("g{number}");
        let spec = local(&name).to_string();
        // A registration has to say that it is JSON.
        let (declared, status) = if headers.is_empty() { (vec![JSON], 415) } else { (headers.clone(), 201) };
        assert_eq!(
            client.send("POST", "/v1/functions", headers, spec.as_bytes()).status,
            status,
            "{headers:?}"
        );
        client.send("POST", "/v1/functions", &declared, spec.as_bytes());
        let path = format!("/v1/functions/{name}:invoke");
        let response = client.send("POST", &path, headers, br#"{"input":[1]}"#);
        assert_eq!(response.json()["output"], json!([1]), "{headers:?}");
        client.send("POST", &complete, headers, b"{}").expect_error(404, "NOT_FOUND");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = Server::start(&["limits.request-bytes=1000", "limits.response-bytes=2000"]);
    server.register(local("f"));
    let id = "00000000-0000-4000-8000-000000000000";
    for (path, limit) in [
        ("/v1/functions".to_owned(), 1000),
        ("/v1/functions/f:invoke".to_owned(), 1000),
        ("/v1/functions/f:enqueue".to_owned(), 1000),
        (format!("/v1/internal/executions/{id}:complete"), 2000),
    ] {
        for length in [limit + 1, 1u64 << 40] {
            let mut client = server.client();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            client.write(head.as_bytes());
            let error = client.read().expect("an answer to the head").expect_error(413, "PAYLOAD_TOO_LARGE");
            assert_eq!(keys(&error), ["error", "message", "limitBytes"]);
            assert_eq!(error["limitBytes"], limit, "{path}");
        }
        // The length of a chunked body shows only while it comes.
        let mut client = server.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        client.write(head.as_bytes());
        let chunk = format!("190\r\n{}\r\n", " ".repeat(400));
        for _ in 0..limit / 400 + 1 {
            client.write(chunk.as_bytes());
        }
        let error = client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");
        assert_eq!(error["limitBytes"], limit, "{path}");
    }
    // Nobody who waits for 100 Continue is told to go on.
    let mut client = server.client();
    client.write(
        b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n",
    );
    client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");
    // What fits exactly is taken, announced or in chunks.
    let body = format!("{{\"input\":\"{}\"}}", "x".repeat(1000 - 12));
    assert_eq!(body.len(), 1000);
    let mut client = server.client();
    assert_eq!(client.send("POST", "/v1/functions/f:invoke", &[JSON], body.as_bytes()).status, 200);
    client.write(
        b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let (one, two) = body.split_at(500);
    client.write(format!("1f4\r\n{one}\r\n1f4\r\n{two}\r\n0\r\n\r\n").as_bytes());
    assert_eq!(client.read().expect("an answer").status, 200);
}

#[test]
fn a_request_of_two_lengths_is_refused_and_what_follows_is_not_executed() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let smuggled = "DELETE /v1/functions/f HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for lengths in [
        "content-length: 11\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 11",
        "content-length: 11\r\ncontent-length: 12",
    ] {
        let mut client = server.client();
        let request = format!(
            "POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}{smuggled}"
        );
        client.write(request.as_bytes());
        assert_eq!(client.read().expect("an answer").status, 400, "{lengths}");
        assert!(client.is_closed(), "{lengths}");
        assert_eq!(server.get("/v1/functions/f").status, 200, "{lengths}: the second request was executed");
    }
}

#[test]
fn the_async_queue_says_that_it_is_off() {
    let server = Server::start(&[]);
    let function = Function::start(|_| Reply::json(json!(1)));
    server.pool("f", &function, json!({}));
    let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    let error = response.expect_error(501, "ASYNC_QUEUE_DISABLED");
    assert_eq!(keys(&error), ["error", "message"]);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("NANOFAAS_ASYNC_QUEUE_ENABLED=true")));
    assert_eq!(response.header("location"), None);
    assert_eq!(response.header("x-execution-id"), None);
    server.send("POST", "/v1/functions/nope:enqueue", &json!({ "input": 1 })).expect_error(404, "NOT_FOUND");
    assert_eq!(function.calls(), 0);
    assert!(
        !server.manage("/actuator/prometheus").text().contains("function_invocation_total{"),
        "it left a trace"
    );
}

#[test]
fn what_is_not_http_hurts_nobody() {
    let server = Server::start(&[]);
    server.register(local("f"));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"POST /v1/functions/f:invoke HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/functions/f:invoke HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut client = server.client();
        client.write(bytes);
        client.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("our socket");
        let mut answer = Vec::new();
        let _ = client.stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    assert_eq!(server.invoke("f", json!(1)).status, 200);
}

#[test]
fn a_client_that_sends_too_much_before_it_reads_still_gets_its_answer() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let body = vec![b' '; 3 << 20];
    for (head, before, after) in [
        (format!("content-length: {}", body.len()), String::new(), ""),
        ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n", body.len()), "\r\n0\r\n\r\n"),
    ] {
        for _ in 0..5 {
            let mut client = server.client();
            let head =
                format!("POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n{before}");
            client.write(head.as_bytes());
            // The server stops reading at some point.
            let stream = client.stream.get_mut();
            let _ = stream.write_all(&body).and_then(|()| stream.write_all(after.as_bytes()));
            client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");
        }
    }
}
