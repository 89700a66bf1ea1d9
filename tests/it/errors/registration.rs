//! Registrations that are refused, and that nothing is left of them.

use serde_json::{Value, json};

use super::{JSON, keys, local};
use crate::support::{Function, Reply, Server};

#[test]
fn a_registration_that_is_not_json_is_told_where() {
    let server = Server::start(&[]);
    server.register(local("kept"));
    let before = server.get("/v1/functions").text();
    let mut client = server.client();
    for (body, place) in [
        ("", "line 1 column 0"),
        ("  ", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("{\"name\":\"f\",\n  \"image\": }", "line 2 column 12"),
        ("[]", "line 1 column 1"),
        ("null", "line 1 column 1"),
        ("\"f\"", "line 1 column 1"),
        ("{\"name\":\"f\"} {}", "line 1 column 14"),
        ("name: f", "line 1 column"),
    ] {
        let response = client.send("POST", "/v1/functions", &[JSON], body.as_bytes());
        let error = response.expect_error(400, "BAD_REQUEST");
        assert_eq!(keys(&error), ["error", "message"]);
        assert!(error["message"].as_str().is_some_and(|text| text.contains(place)), "{body:?}: {error}");
    }
    client.send("POST", "/v1/functions", &[JSON], b"{\"name\":\"\xff\"}").expect_error(400, "BAD_REQUEST");
    let nested = format!("{{\"name\":{}", "[".repeat(100_000));
    client.send("POST", "/v1/functions", &[JSON], nested.as_bytes()).expect_error(400, "BAD_REQUEST");
    assert_eq!(server.get("/v1/functions").text(), before);
}

#[test]
fn a_registration_is_told_all_violations_at_once() {
    let server = Server::start(&[]);
    server.register(local("kept"));
    let before = server.get("/v1/functions").text();
    let table: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec!["name", "image"]),
        (json!({ "name": null, "executionMode": "LOCAL" }), vec!["name"]),
        (json!({ "name": "  ", "executionMode": "LOCAL" }), vec!["name"]),
        (local("1f"), vec!["name"]),
        (local("a b"), vec!["name"]),
        (local("é"), vec!["name"]),
        (local("a:invoke"), vec!["name"]),
        (local("a/b"), vec!["name"]),
        (local(&"a".repeat(64)), vec!["name"]),
        (json!({ "name": 7, "executionMode": "LOCAL" }), vec!["name"]),
        (json!({ "name": "f" }), vec!["image"]),
        (json!({ "name": "f", "image": " " }), vec!["image"]),
        (json!({ "name": "f", "executionMode": "pool" }), vec!["executionMode"]),
        (json!({ "name": "f", "executionMode": 1 }), vec!["executionMode"]),
        (json!({ "name": "f", "executionMode": "POOL" }), vec!["endpointUrl"]),
        (json!({ "name": "f", "executionMode": "POOL", "endpointUrl": "ftp://h/x" }), vec!["endpointUrl"]),
        (json!({ "name": "f", "executionMode": "POOL", "endpointUrl": "/x" }), vec!["endpointUrl"]),
        (
            json!({
                "name": "-", "executionMode": "LOCAL", "runtimeMode": "SHELL", "command": "sh", "env": { "1A": 5 },
                "resources": { "cpu": "much" }, "timeoutMs": 0, "concurrency": 0, "queueSize": 0,
                "maxRetries": 101, "retryBackoffMs": -1, "rateLimitPerSecond": 0, "endpointUrl": "h",
                "runtimeCommand": "a 'b", "workingDir": "here", "imagePullSecrets": [1],
            }),
            vec![
                "name",
                "command",
                "env.1A",
                "env.1A",
                "resources.cpu",
                "timeoutMs",
                "concurrency",
                "queueSize",
                "maxRetries",
                "retryBackoffMs",
                "rateLimitPerSecond",
                "endpointUrl",
                "runtimeMode",
                "runtimeCommand",
                "workingDir",
                "imagePullSecrets[0]",
            ],
        ),
        (
            json!({
                "name": "f", "executionMode": "LOCAL", "timeoutMs": "5", "concurrency": 1.5, "queueSize": true,
                "maxRetries": [], "retryBackoffMs": {}, "rateLimitPerSecond": 4294967296u64, "env": [],
                "image": 1, "timeoutMillis": 1,
            }),
            vec![
                "image",
                "env",
                "timeoutMs",
                "concurrency",
                "queueSize",
                "maxRetries",
                "retryBackoffMs",
                "rateLimitPerSecond",
            ],
        ),
        (json!({ "name": "f", "executionMode": "LOCAL", "timeoutMs": 86_400_001 }), vec!["timeoutMs"]),
        (json!({ "name": "f", "executionMode": "LOCAL", "timeoutMillis": 0 }), vec!["timeoutMillis"]),
    ];
    for (spec, fields) in table {
        let error = server.send("POST", "/v1/functions", &spec).expect_error(400, "VALIDATION_ERROR");
        assert_eq!(keys(&error), ["error", "message", "details"]);
        assert_eq!(error["message"], "Request validation failed");
        let details = error["details"].as_array().expect("an array");
        let mut said = Vec::new();
        for detail in details {
            let (field, message) =
                detail.as_str().and_then(|text| text.split_once(": ")).expect("field: message");
            assert!(!message.is_empty(), "{error}");
            said.push(field);
        }
        assert_eq!(said, fields, "{spec}: {error}");
    }
    assert_eq!(server.get("/v1/functions").text(), before);
    let longest = "a".repeat(63);
    server.register(local(&longest));
    assert_eq!(server.invoke(&longest, json!(1)).status, 200);
}

#[test]
fn a_taken_name_is_a_conflict_and_keeps_its_function() {
    let server = Server::start(&[]);
    let first = server.register(json!({ "name": "f", "executionMode": "LOCAL", "timeoutMs": 1234 }));
    let response = server.send("POST", "/v1/functions", &local("f"));
    let error = response.expect_error(409, "CONFLICT");
    assert_eq!(keys(&error), ["error", "message"]);
    assert_eq!(response.header("location"), None);
    assert_eq!(server.get("/v1/functions/f").json(), first);
    let invalid = json!({ "name": "f", "executionMode": "LOCAL", "timeoutMs": -1 });
    server.send("POST", "/v1/functions", &invalid).expect_error(400, "VALIDATION_ERROR");
}

#[test]
fn a_created_function_says_where_it_is() {
    let server = Server::start(&[]);
    let response = server.send("POST", "/v1/functions", &local("f.g"));
    assert_eq!(response.status, 201);
    assert_eq!(response.header("location"), Some("/v1/functions/f.g"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(server.get("/v1/functions/f.g").text(), response.text());
}

#[test]
fn without_a_backend_nothing_is_deployed() {
    let server = Server::start(&[]);
    for mode in ["DEPLOYMENT", "REMOTE"] {
        let spec = json!({ "name": "f", "image": "example/image", "executionMode": mode });
        let error = server.send("POST", "/v1/functions", &spec).expect_error(503, "NO_DEPLOYMENT_BACKEND");
        assert_eq!(keys(&error), ["error", "message"]);
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("deployment.backends") && message.contains("'f'"), "{message}");
        assert_eq!(server.get("/v1/functions").text(), "[]");
        server.get("/v1/functions/f").expect_error(404, "NOT_FOUND");
        server.invoke("f", json!(1)).expect_error(404, "NOT_FOUND");
    }
    // With an address of its own the function is degraded, and says why.
    let function = Function::start(|_| Reply::json(json!(1)));
    let spec = json!({ "name": "f", "image": "example/image", "endpointUrl": function.url() });
    let response = server.register(spec);
    assert_eq!(response["executionMode"], "DEPLOYMENT");
    assert_eq!(response["requestedExecutionMode"], "DEPLOYMENT");
    assert_eq!(response["effectiveExecutionMode"], "POOL");
    assert!(response["degradationReason"].as_str().is_some_and(|reason| !reason.is_empty()), "{response}");
    assert_eq!(server.invoke("f", json!(1)).json()["output"], 1);
    server.get("/v1/functions/f/replicas").expect_error(400, "NOT_SCALABLE");
}

#[test]
fn replicas_need_a_deployment_and_a_number() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let error = server.get("/v1/functions/f/replicas").expect_error(400, "NOT_SCALABLE");
    assert_eq!(keys(&error), ["error", "message"]);
    server
        .send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 0 }))
        .expect_error(400, "NOT_SCALABLE");
    for body in [
        json!({}),
        json!([]),
        json!(1),
        json!({ "replicas": null }),
        json!({ "replicas": -1 }),
        json!({ "replicas": 1.5 }),
        json!({ "replicas": "1" }),
        json!({ "replicas": 4294967296u64 }),
        json!({ "replicas": 1e300 }),
    ] {
        let error =
            server.send("PUT", "/v1/functions/f/replicas", &body).expect_error(400, "VALIDATION_ERROR");
        let detail = error["details"][0].as_str().expect("a detail");
        assert!(detail.starts_with("replicas: "), "{error}");
    }
    let mut client = server.client();
    client.send("PUT", "/v1/functions/f/replicas", &[JSON], b"{").expect_error(400, "BAD_REQUEST");
    let text = [("content-type", "text/plain")];
    client.send("PUT", "/v1/functions/f/replicas", &text, b"1").expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
}

/// What nobody knows and what this server cannot honour is told, and refused when the client asks for it.
#[test]
fn what_is_said_in_vain_is_a_warning_or_with_strict_a_violation() {
    let server = Server::start(&["deployment.backends=process"]);
    let spec = json!({ "name": "f", "executionMode": "LOCAL", "maxRetry": 1, "resources": { "cpu": "1" } });
    let told = json!([
        "maxRetry: unknown, did you mean maxRetries?",
        "resources: has no effect: the server itself answers the calls of a LOCAL function",
    ]);

    let refused = server.send("POST", "/v1/functions?strict=true", &spec);
    assert_eq!(refused.expect_error(400, "VALIDATION_ERROR")["details"], told);
    assert_eq!(server.get("/v1/functions/f").status, 404);
    let wrong = server.send("POST", "/v1/functions?strict=maybe", &spec);
    wrong.expect_error(400, "BAD_REQUEST");

    let taken = server.send("POST", "/v1/functions?strict=false", &spec);
    assert_eq!(taken.status, 201, "{}", taken.text());
    assert_eq!(taken.json()["warnings"], told);
    // It is about that request, not about the function.
    assert_eq!(server.get("/v1/functions/f").json().get("warnings"), None);

    let clean =
        server.send("POST", "/v1/functions?strict=true", &json!({ "name": "g", "executionMode": "LOCAL" }));
    assert_eq!((clean.status, clean.json().get("warnings")), (201, None));
}

/// An answer shows where calls go and every default.
#[test]
fn an_answer_is_the_function_that_runs() {
    let server = Server::start(&[]);
    let spec = json!({ "name": "f", "executionMode": "POOL", "endpointUrl": "http://127.0.0.1:9" });
    let answer = server.register(spec);
    assert_eq!(
        (&answer["endpointUrl"], &answer["runtimeMode"]),
        (&json!("http://127.0.0.1:9/invoke"), &json!("HTTP"))
    );
}
