//! Every row of the error table: status, headers, body. A refusal changes nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Function, Gate, Reply, Response, Server, client::encode, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    server.client().send("POST", path, headers, body.as_bytes())
}

#[test]
fn bad_registrations_say_everything_at_once_and_change_nothing() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "stays", "executionMode": "LOCAL" }));
    let before = server.get("/v1/functions").text();

    for (body, part) in [
        ("", "empty"),
        ("{", "line 1 column"),
        ("{\"name\":\n\"x\",}", "line 2"),
        ("[1]", "object"),
        ("null", "object"),
        ("\"text\"", "object"),
    ] {
        let error = post(&server, "/v1/functions", &[JSON], body).expect_error(400, "BAD_REQUEST");
        assert!(error["message"].as_str().expect("text").contains(part), "{body}: {error}");
    }

    let long = "a".repeat(64);
    let all_wrong = json!({
        "name": long, "timeoutMs": 0, "concurrency": "4", "queueSize": -1, "maxRetries": 101, "retryBackoffMs": 1.5,
        "rateLimitPerSecond": 0, "endpointUrl": "ftp://x", "executionMode": "POOLS", "runtimeMode": "stdio",
        "workingDir": "relative", "command": "sh", "env": { "1A": "x", "B": 2 },
        "resources": { "cpu": "lots", "memory": "128MiB?" },
        "scalingConfig": { "strategy": "MAGIC", "minReplicas": 5, "maxReplicas": 2 },
    });
    let error = server.send("POST", "/v1/functions", &all_wrong).expect_error(400, "VALIDATION_ERROR");
    assert_eq!(error["message"], "Request validation failed");
    let details: Vec<&str> =
        error["details"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for field in [
        "name:",
        "timeoutMs:",
        "concurrency:",
        "queueSize:",
        "maxRetries:",
        "retryBackoffMs:",
        "rateLimitPerSecond:",
        "endpointUrl:",
        "executionMode:",
        "runtimeMode:",
        "workingDir:",
        "command",
        "env",
        "resources",
        "scalingConfig",
    ] {
        assert!(details.iter().any(|detail| detail.starts_with(field)), "{field} is missing: {details:#?}");
    }

    let taken = server.send("POST", "/v1/functions", &json!({ "name": "stays", "executionMode": "LOCAL" }));
    taken.expect_error(409, "CONFLICT");
    let unmanaged = json!({ "name": "d", "image": "i" });
    server.send("POST", "/v1/functions", &unmanaged).expect_error(503, "NO_DEPLOYMENT_BACKEND");
    let no_address = json!({ "name": "p", "executionMode": "POOL" });
    server.send("POST", "/v1/functions", &no_address).expect_error(400, "VALIDATION_ERROR");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
        let headers = [("content-type", content_type)];
        post(&server, "/v1/functions", &headers, "{}").expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(server.get("/v1/functions").text(), before);
}

#[test]
fn bad_calls_are_refused_before_anything_is_done() {
    let server = Server::start(&["limits.request-bytes=1000"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let invoke = "/v1/functions/f:invoke";
    let ok = r#"{"input":1}"#;
    for (headers, body, status, code, part) in [
        (&[JSON][..], "", 400, "BAD_REQUEST", "empty"),
        (&[JSON], "{\"input\":\n1", 400, "BAD_REQUEST", "line 2"),
        (&[JSON], "{}", 400, "VALIDATION_ERROR", "input"),
        (&[JSON], r#"{"input":1,"metadata":{"a":1}}"#, 400, "VALIDATION_ERROR", "metadata"),
        (&[JSON, ("x-timeout-ms", "0")], ok, 400, "BAD_REQUEST", "x-timeout-ms"),
        (&[JSON, ("x-timeout-ms", "86400001")], ok, 400, "BAD_REQUEST", "x-timeout-ms"),
        (&[JSON, ("x-timeout-ms", "soon")], ok, 400, "BAD_REQUEST", "x-timeout-ms"),
        (&[JSON, ("x-timeout-ms", "-1")], ok, 400, "BAD_REQUEST", "x-timeout-ms"),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            ok,
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "application/json",
        ),
        (
            &[("content-type", "multipart/form-data; boundary=b")],
            ok,
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "application/json",
        ),
    ] {
        let response = post(&server, invoke, headers, body);
        let error = response.expect_error(status, code);
        assert!(error.to_string().contains(part), "{headers:?} {body}: {error}");
        assert_eq!(response.header("x-execution-id"), None);
    }
    let long_key = "k".repeat(257);
    post(&server, invoke, &[JSON, ("idempotency-key", &long_key)], ok).expect_error(400, "BAD_REQUEST");

    // Announced: refused before a byte of the body is there.
    let mut client = server.client();
    client.write(b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n");
    let error = client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(error["limitBytes"], 1000);
    // Not announced: refused as soon as it is too long.
    let mut client = server.client();
    client.write(
        b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n",
    );
    client.write(&[b' '; 1001]);
    client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");

    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 0.0);
    for body in ["[1]", "{\"success\":", "{\"success\":\"yes\"}", "{\"status\":\"done\"}"] {
        let path = "/v1/internal/executions/7b1e8f0e-3c7c-4b55-8f0e-1f0f4b0c0000:complete";
        assert_eq!(post(&server, path, &[JSON], body).status, 400, "{body}");
    }
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_meant_is_405() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let unknown_id = "7b1e8f0e-3c7c-4b55-8f0e-1f0f4b0c0000";
    let unknown = format!("/v1/executions/{unknown_id}");
    let complete = format!("/v1/internal/executions/{unknown_id}:complete");
    let body = json!({ "input": 1, "replicas": 1, "success": true });
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1/functions/"),
        ("GET", "/v1/functions/f/"),
        ("GET", "/V1/functions"),
        ("GET", "/actuator/health"),
        ("GET", "/v1/functions/nope"),
        ("DELETE", "/v1/functions/nope"),
        ("GET", "/v1/functions/nope/replicas"),
        ("PUT", "/v1/functions/nope/replicas"),
        ("POST", "/v1/functions/nope:invoke"),
        ("POST", "/v1/functions/nope:enqueue"),
        ("POST", "/v1/functions/:invoke"),
        ("POST", "/v1/functions/%20:invoke"),
        ("GET", "/v1/executions/not-an-id"),
        ("GET", unknown.as_str()),
        ("DELETE", unknown.as_str()),
        ("POST", complete.as_str()),
        ("POST", "/v1/internal/executions/x:complete"),
    ] {
        let response = server.send(method, path, if method == "GET" { &Value::Null } else { &body });
        response.expect_error(404, "NOT_FOUND");
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/functions", "GET, POST"),
        ("POST", "/v1/functions/f", "GET, DELETE"),
        ("GET", "/v1/functions/f:invoke", "POST"),
        ("GET", "/v1/functions/f%3Ainvoke", "POST"),
        ("DELETE", "/v1/functions/f:enqueue", "POST"),
        ("POST", "/v1/functions/f/replicas", "GET, PUT"),
        ("PUT", unknown.as_str(), "GET, DELETE"),
        ("GET", complete.as_str(), "POST"),
        ("POST", "/openapi.yaml", "GET"),
        ("DELETE", "/modules/build-metadata", "GET"),
    ] {
        let response = server.send(method, path, &Value::Null);
        response.expect_error(405, "METHOD_NOT_ALLOWED");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
    server
        .send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }))
        .expect_error(501, "ASYNC_QUEUE_DISABLED");
    server.get("/v1/functions/f/replicas").expect_error(400, "NOT_SCALABLE");
    server
        .send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 1 }))
        .expect_error(400, "NOT_SCALABLE");
    for (body, part) in [
        (json!({}), "must not be null"),
        (json!({ "replicas": -1 }), "greater than or equal to 0"),
        (json!({ "replicas": 1.5 }), "integer"),
        (json!({ "replicas": "2" }), "integer"),
        (json!({ "replicas": 99_999_999_999_u64 }), "too large"),
    ] {
        let response = server.send("PUT", "/v1/functions/f/replicas", &body);
        let error = response.expect_error(400, "VALIDATION_ERROR");
        assert!(error["details"][0].as_str().expect("text").contains(part), "{error}");
    }
    // Percent-encoding is no other name.
    assert_eq!(server.send("POST", "/v1/functions/%66%3Ainvoke", &json!({ "input": 1 })).status, 200);
}

#[test]
fn rate_limits_hold_within_a_second_and_say_when_to_come_back() {
    let server = Server::start(&["rate.max-per-second=50"]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.register(json!({ "name": "g", "executionMode": "LOCAL", "rateLimitPerSecond": 5 }));
    let mut client = server.client();
    let mut burst = |path: &str, count: usize| -> Vec<Response> {
        (0..count).map(|_| client.send("POST", path, &[JSON], br#"{"input":1}"#)).collect()
    };
    // Wait for the beginning of a second, so that a burst falls into one window on any machine.
    let started = Instant::now();
    let answers = burst("/v1/functions/g:invoke", 8);
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    let windows = started.elapsed().as_secs() as usize + 2;
    assert!(admitted <= 5 * windows, "{admitted} admitted");
    if let Some(refused) = answers.iter().find(|answer| answer.status != 200) {
        let error = refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
        assert_eq!((&error["scope"], &error["limitPerSecond"]), (&json!("function"), &json!(5)));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    let started = Instant::now();
    let answers = burst("/v1/functions/f:invoke", 400);
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    let windows = started.elapsed().as_secs() as usize + 2;
    assert!(admitted <= 50 * windows, "{admitted} admitted in {windows} windows");
    let refused = answers.iter().find(|answer| answer.status != 200).expect("400 calls are more than 50");
    let error = refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!((&error["scope"], &error["limitPerSecond"]), (&json!("global"), &json!(50)));
    assert_eq!(refused.header("retry-after"), Some("1"));
    eventually("the next window admits again", || server.invoke("f", json!(1)).status == 200);
}

#[test]
fn a_full_queue_refuses_now_with_a_computed_retry_after() {
    let gate = Gate::default();
    let held = gate.clone();
    let function = Function::start(move |call| {
        if call.json()["input"] == 0 {
            // How fast the function is: what the estimates are made of.
            std::thread::park_timeout(Duration::from_millis(400));
        } else {
            held.wait();
        }
        Reply::json(json!(1))
    });
    let server = Server::start(&[]);
    let spec = json!({ "name": "f", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1, "queueSize": 2 });
    server.register(spec);
    assert_eq!(server.invoke("f", json!(0)).status, 200);
    let body = br#"{"input":1}"#;
    let mut callers: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for caller in &mut callers {
        caller.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], body));
    }
    eventually("the queue is full", || server.metric("function_queue_depth{function=\"f\"}") == 2.0);
    // The gate is closed: only a refusal can answer.
    let response = server.invoke("f", json!(2));
    let error = response.expect_error(429, "QUEUE_FULL");
    assert_eq!((&error["function"], &error["queue_depth"]), (&json!("f"), &json!(2)));
    let est_wait = error["est_wait"].as_f64().expect("seconds");
    assert!((0.4..30.0).contains(&est_wait), "three calls of 0.4 s: {est_wait}");
    assert_eq!(response.header("x-queue-reject-reason"), Some("depth"));
    let retry_after: u32 = response.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((1..10).contains(&retry_after), "{retry_after}");
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.read().expect("an answer").status, 200);
    }
    assert_eq!(server.metric("function_queue_rejected_total{function=\"f\"}"), 1.0);
}

#[test]
fn payloads_that_wait_have_a_budget() {
    let gate = Gate::default();
    let held = gate.clone();
    let function = Function::start(move |_| {
        held.wait();
        Reply::json(json!(1))
    });
    let server = Server::start(&["limits.queued-bytes=1MiB", "limits.request-bytes=1MiB"]);
    let spec =
        json!({ "name": "f", "executionMode": "POOL", "endpointUrl": function.url(), "concurrency": 1 });
    server.register(spec);
    let large = json!({ "input": "x".repeat(700 << 10) }).to_string();
    let mut callers: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for caller in &mut callers {
        caller.write(&encode("POST", "/v1/functions/f:invoke", &[JSON], large.as_bytes()));
    }
    eventually("one payload waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    let response = post(&server, "/v1/functions/f:invoke", &[JSON], &large);
    response.expect_error(503, "OVERLOADED");
    assert!(response.header("retry-after").is_some());
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.read().expect("an answer").status, 200);
    }
    assert_eq!(post(&server, "/v1/functions/f:invoke", &[JSON], &large).status, 200, "the budget came back");
}
