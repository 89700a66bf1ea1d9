//! What becomes of a function's answer that is a success.

use serde_json::json;

use crate::support::{Client, Function, Reply, Server};

#[test]
fn answers_become_outputs() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({}));
    let json_type = "application/json";
    let mut bad_outputs = 0.0;
    for (status, content_type, body, output, bad) in [
        (200, json_type, " {\"a\": 1.0}\r\n", "{\"a\": 1.0}", false),
        (201, json_type, "123456789012345678901234567890", "123456789012345678901234567890", false),
        (202, json_type, "null", "null", false),
        (299, "Application/Problem+JSON; charset=utf-8", "\"\\u00e9\"", "\"\\u00e9\"", false),
        (200, "", "[1, 2]", "[1, 2]", false),
        (200, "", "plain words", "\"plain words\"", true),
        (200, json_type, "{", "\"{\"", true),
        (200, json_type, "1 2", "\"1 2\"", true),
        (200, "text/plain", "12", "\"12\"", false),
        (200, "text/html; charset=utf-8", "<a href=\"é\">\n", "\"<a href=\\\"é\\\">\\n\"", false),
        (200, "text/plain", "", "null", false),
        (200, json_type, "", "null", false),
        (200, "image/png", "", "null", false),
        (200, "", "", "null", false),
        (204, "", "", "null", false),
    ] {
        let input = json!({ "status": status, "type": content_type, "body": body });
        let response = server.invoke("f", input);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("application/json"));
        let id = response.header("x-execution-id").expect("an id");
        let expected =
            format!(r#"{{"executionId":"{id}","status":"success","output":{output},"error":null}}"#);
        assert_eq!(response.text(), expected, "{status} {content_type} {body:?}");
        let status = server.get(&format!("/v1/executions/{id}")).text();
        assert!(status.contains(&format!("\"output\":{output},\"error\":null")), "{status}");
        bad_outputs += f64::from(u8::from(bad));
        assert_eq!(server.metric("function_bad_output_total{function=\"f\"}"), bad_outputs, "{body:?}");
    }
}

#[test]
fn an_answer_that_json_cannot_carry_is_an_error_and_not_retried() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({}));
    for (number, content_type) in
        ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", "nonsense"]
            .into_iter()
            .enumerate()
    {
        let body = server.invoke("f", json!({ "type": content_type, "body": "x" })).json();
        assert_eq!((&body["status"], &body["output"]), (&json!("error"), &json!(null)), "{body}");
        assert_eq!(body["error"]["code"], "FUNCTION_BAD_OUTPUT");
        let message = body["error"]["message"].as_str().expect("text");
        assert!(message.contains(content_type), "{message}");
        assert_eq!(function.calls(), number + 1);
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_and_not_changed() {
    let server = Server::start(&[]);
    let function = Function::start(|call| match call.json()["input"].as_str() {
        Some("text") => Reply::new(200, "text/plain; charset=latin1", b"caf\xe9"),
        _ => Reply::new(200, "application/json", b"\"caf\xe9\""),
    });
    server.pool("f", &function, json!({}));
    for input in ["text", "json"] {
        let body = server.invoke("f", json!(input)).json();
        assert_eq!(body["error"]["code"], "FUNCTION_BAD_OUTPUT", "{body}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains("UTF-8") && message.contains("raw mode"), "{message}");
    }
    assert_eq!(function.calls(), 2);
}

#[test]
fn a_local_function_answers_with_the_callers_bytes() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let mut client = server.client();
    for input in ["null", "1.00e2", "{\"b\":[ ],\"a\" : 1}", "\"\\u00e9\"", "\"é\"", "[]", "false"] {
        let body = format!("{{ \"input\" : {input} }}");
        let path = "/v1/functions/f:invoke";
        let response = client.send("POST", path, &[], body.as_bytes());
        let id = response.header("x-execution-id").expect("an id");
        let expected =
            format!(r#"{{"executionId":"{id}","status":"success","output":{input},"error":null}}"#);
        assert_eq!(response.text(), expected);
        let status = server.ended(id);
        assert_eq!((&status["status"], &status["attempt"]), (&json!("success"), &json!(1)));
    }
    assert_eq!(server.metric("function_success_total{function=\"f\"}"), 7.0);
}

#[test]
fn large_bodies_pass_both_ways() {
    let server = Server::start(&[]);
    let function = Function::start(|call| {
        let text = "x".repeat(call.body.len());
        Reply::json(json!(text))
    });
    server.pool("f", &function, json!({}));
    let mut client: Client = server.client();
    for length in [1 << 10, 60_000, 1 << 20] {
        let body = format!("{{\"input\":\"{}\"}}", "a".repeat(length - 12));
        let response = client.send("POST", "/v1/functions/f:invoke", &[], body.as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        let output = response.json()["output"].as_str().map(str::len);
        // What the function gets has an explicit `metadata`.
        assert_eq!(output, Some(length + ",\"metadata\":null".len()));
    }
}
