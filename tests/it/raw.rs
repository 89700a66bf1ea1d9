//! Raw mode: bodies that are not JSON pass as they are, the envelope becomes headers.

use serde_json::{Value, json};

use crate::support::{Call, DataDir, Function, Gate, Reply, Response, Server};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\xff";

fn send(server: &Server, path: &str, content_type: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = [&[("content-type", content_type)], headers].concat();
    server.client().send("POST", &format!("/v1/functions/{path}"), &headers, body)
}

#[track_caller]
fn id(response: &Response) -> &str {
    response.header("x-execution-id").expect("an id")
}

/// Registers `f`, with one attempt.
fn serve(server: &Server, answer: impl Fn(Call) -> Reply + Send + Sync + 'static) -> Function {
    let function = Function::start(answer);
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    function
}

#[test]
fn a_body_passes_unchanged_both_ways() {
    let server = Server::start(&[]);
    let _function = serve(&server, |call| {
        assert!(call.header("x-execution-id").is_some() && call.header("x-deadline-ms").is_some());
        assert_eq!(call.header("x-dispatch-attempt"), Some("1"));
        let content_type = call.header("content-type").expect("a type").to_owned();
        Reply::new(200, &content_type, &call.body).with("x-inner", "not passed on")
    });
    for (content_type, body) in [
        ("image/png", PNG),
        ("text/plain; charset=utf-8", "héllo\n".as_bytes()),
        ("application/octet-stream", b""),
        ("application/xml", b"<a/>"),
        ("TEXT/CSV; header=present", b"a,b\r\n1,2\r\n"),
        ("application/jsonl", b"{}\n{}\n"),
    ] {
        let response = send(&server, "f:invoke", content_type, &[], body);
        assert_eq!((response.status, response.body.as_slice()), (200, body), "{content_type}");
        assert_eq!(response.header("content-type"), Some(content_type));
        assert_eq!(response.header("x-execution-status"), Some("success"));
        assert_eq!(response.header("x-execution-error"), None);
        assert_eq!(response.header("x-inner"), None);
        assert_eq!(server.execution(id(&response))["status"], "success");
    }
}

#[test]
fn a_local_function_echoes() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let response = send(&server, "f:invoke", "image/png", &[], PNG);
    assert_eq!((response.status, response.body.as_slice()), (200, PNG));
    assert_eq!(response.header("content-type"), Some("image/png"));
    assert_eq!(response.header("x-execution-status"), Some("success"));
    let status = server.execution(id(&response));
    assert_eq!(
        (&status["output"], &status["outputContentType"]),
        (&json!("iVBORw0KGgoA/w=="), &json!("image/png"))
    );
}

#[test]
fn outputs_in_a_status_are_json_text_or_base64() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let _function = serve(&server, |call| {
        let answer: Value = call.json();
        Reply::asked(&answer)
    });
    for (content_type, body, output, shown_type) in [
        ("application/json", "{\"a\":1}", json!({ "a": 1 }), Value::Null),
        ("application/ld+json; x=y", "[1]", json!([1]), Value::Null),
        ("application/json", "{", json!("ew=="), json!("application/json")),
        ("text/plain", "1", json!("1"), Value::Null),
        ("text/html; charset=utf-8", "<p>é", json!("<p>é"), Value::Null),
        ("image/png", "x", json!("eA=="), json!("image/png")),
        ("application/xml; v=1", "<a/>", json!("PGEvPg=="), json!("application/xml; v=1")),
    ] {
        let asked = json!({ "type": content_type, "body": body }).to_string();
        let response = send(&server, "f:invoke", "text/x-order", &[], asked.as_bytes());
        assert_eq!((response.status, response.text().as_str()), (200, body));
        assert_eq!(response.header("content-type"), Some(content_type));
        let accepted = send(&server, "f:enqueue", "text/x-order", &[], asked.as_bytes());
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        for status in [server.execution(id(&response)), server.ended(id(&accepted))] {
            assert_eq!(status["status"], "success");
            let shown = status.get("outputContentType").cloned().unwrap_or_default();
            assert_eq!((&status["output"], &shown), (&output, &shown_type), "{content_type}");
        }
    }
}

/// gzip of `{"a":1}`.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabVJT\xb22\xac\x05\x00\xaf\xac\x1bV\x07\x00\x00\x00";

#[test]
fn an_encoded_answer_passes_with_its_encoding() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let _function = serve(&server, |call| {
        assert_eq!(
            call.header("accept-encoding"),
            None,
            "what the client takes is not asked of the function"
        );
        let status = if call.body == b"fail" { 500 } else { 200 };
        Reply::new(status, "application/json", GZIP).with("content-encoding", "gzip")
    });
    for (input, status) in [("x", 200), ("fail", 502)] {
        let accept = [("accept-encoding", "gzip")];
        let response = send(&server, "f:invoke", "text/plain", &accept, input.as_bytes());
        assert_eq!((response.status, response.body.as_slice()), (status, GZIP), "{input}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("content-encoding"), Some("gzip"), "{input}");
    }
    let response = send(&server, "f:enqueue", "text/plain", &[], b"x");
    let status = server.ended(id(&response));
    let shown = ["outputContentType", "outputContentEncoding"].map(|member| status[member].clone());
    assert_eq!(shown, [json!("application/json"), json!("gzip")], "{status}");
    assert!(status["output"].as_str().is_some_and(|output| output.starts_with("H4sI")), "{status}");
}

#[test]
fn the_encoding_of_an_output_survives_a_restart() {
    let (data, settings) = (DataDir::new(), ["async-queue.enabled=true"]);
    let server = Server::durable(&data, &settings);
    let _function = serve(&server, |_| Reply::new(200, "text/plain", GZIP).with("content-encoding", "gzip"));
    let accepted = send(&server, "f:enqueue", "text/plain", &[], b"x");
    let before = server.ended(id(&accepted));
    // What is registered is on disk, and what was written before it.
    server.register(json!({ "name": "later", "executionMode": "LOCAL" }));
    server.kill();
    let server = Server::durable(&data, &settings);
    assert_eq!(server.execution(id(&accepted)), before);
    assert_eq!(before["outputContentEncoding"], "gzip", "{before}");
}

#[test]
fn a_json_call_takes_no_encoded_answer_for_text() {
    let server = Server::start(&[]);
    let calls = serve(&server, |call| {
        let status = if call.json()["input"] == "fail" { 500 } else { 200 };
        // Of the answers that could be taken for text, one that is.
        Reply::new(status, "application/json", b"{}").with("content-encoding", "br")
    });
    let response = server.invoke("f", json!("x"));
    assert_eq!((response.status, response.header("content-encoding")), (200, None), "{}", response.text());
    let error = &response.json()["error"];
    assert_eq!(error["code"], "FUNCTION_BAD_OUTPUT");
    let message = error["message"].as_str().expect("words");
    assert!(message.contains("Content-Encoding br") && message.contains("unencoded"), "{message}");
    let response = server.invoke("f", json!("fail"));
    let error = &response.json()["error"];
    assert_eq!(error["code"], "FUNCTION_ERROR");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("500")), "{error}");
    assert_eq!(calls.calls(), 2);
}

#[test]
fn a_failed_function_is_502_with_its_own_words() {
    let server = Server::start(&[]);
    let _function = serve(&server, |call| match &call.body[..] {
        b"page" => Reply::new(500, "text/html", b"<h1>no</h1>"),
        b"binary" => Reply::new(422, "image/png", PNG),
        b"large" => Reply::new(500, "text/plain", &[b'x'; 10_000]),
        _ => Reply::new(503, "", b""),
    });
    for (input, content_type, body) in [
        ("page", "text/html", b"<h1>no</h1>".to_vec()),
        ("binary", "image/png", PNG.to_vec()),
        ("large", "text/plain", vec![b'x'; 10_000]),
        ("nothing", "text/plain; charset=utf-8", b"503 Service Unavailable".to_vec()),
    ] {
        let response = send(&server, "f:invoke", "text/plain", &[], input.as_bytes());
        assert_eq!((response.status, response.body.as_slice()), (502, body.as_slice()), "{input}");
        assert_eq!(response.header("content-type"), Some(content_type));
        assert_eq!(response.header("x-execution-status"), Some("error"));
        assert_eq!(response.header("x-execution-error"), Some("FUNCTION_ERROR"));
        let status = server.execution(id(&response));
        assert_eq!(
            (&status["status"], &status["error"]["code"]),
            (&json!("error"), &json!("FUNCTION_ERROR"))
        );
    }
}

#[test]
fn our_own_failures_are_502_with_our_words() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let nobody = Function::raw(drop);
    server.pool("gone", &nobody, json!({ "maxRetries": 1 }));
    let response = send(&server, "gone:invoke", "text/plain", &[], b"x");
    assert_eq!((response.status, response.header("x-execution-error")), (502, Some("FUNCTION_UNREACHABLE")));
    assert!(response.text().contains(&nobody.url()), "{}", response.text());
}

#[test]
fn a_passed_deadline_is_408() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let _function = serve(&server, move |_| {
        door.pass();
        Reply::new(200, "text/plain", b"late")
    });
    let response = send(&server, "f:invoke", "text/plain", &[("x-timeout-ms", "80")], b"x");
    assert_eq!(response.status, 408);
    assert_eq!(response.header("x-execution-status"), Some("timeout"));
    assert_eq!(response.header("x-execution-error"), Some("TIMEOUT"));
    assert_eq!(server.execution(id(&response))["status"], "timeout");
    gate.open();
}

#[test]
fn refusals_are_json_in_raw_mode_too() {
    let server = Server::start(&["limits.request-bytes=100"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL", "rateLimitPerSecond": 1 }));
    send(&server, "nope:invoke", "text/plain", &[], b"x").expect_error(404, "NOT_FOUND");
    send(&server, "f:invoke", "text/plain", &[], &[b'x'; 101]).expect_error(413, "PAYLOAD_TOO_LARGE");
    send(&server, "f:enqueue", "text/plain", &[], b"x").expect_error(501, "ASYNC_QUEUE_DISABLED");
    send(&server, "f:invoke", "text/plain", &[("x-timeout-ms", "x")], b"x").expect_error(400, "BAD_REQUEST");
}

#[test]
fn a_raw_call_is_retried_with_its_body() {
    let server = Server::start(&[]);
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let function = Function::start(move |call| {
        assert_eq!((call.header("content-type"), call.body.as_slice()), (Some("image/png"), PNG));
        match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::new(500, "", b""),
            _ => Reply::new(200, "image/png", &call.body),
        }
    });
    server.pool("f", &function, json!({ "maxRetries": 2 }));
    let response = send(&server, "f:invoke", "image/png", &[], PNG);
    assert_eq!((response.status, response.body.as_slice(), function.calls()), (200, PNG, 2));
}

#[test]
fn a_callback_answers_a_raw_call_with_json() {
    let server = Server::start(&[]);
    let (sender, ids) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let _function = serve(&server, move |call| {
        let _ = sender.lock().expect("no panic").send(call.header("x-execution-id").map(str::to_owned));
        Reply::new(202, "", b"").with("x-nanofaas-async", "true")
    });
    let mut client = server.client();
    let head = "POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nx";
    client.write(head.as_bytes());
    let id = ids.recv_timeout(crate::support::PATIENCE).expect("a call").expect("an id");
    let path = format!("/v1/internal/executions/{id}:complete");
    assert_eq!(server.send("POST", &path, &json!({ "output": { "a": 1 } })).status, 204);
    let response = client.read().expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "{\"a\":1}"));
    assert_eq!(response.header("content-type"), Some("application/json"));
}
