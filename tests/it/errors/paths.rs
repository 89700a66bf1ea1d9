//! Paths, methods and things that do not exist.

use super::{JSON, keys, local};
use crate::support::Server;

#[test]
fn every_path_names_the_methods_that_it_takes() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let mut client = server.client();
    for (path, allow) in [
        ("/v1/functions", "GET, HEAD, POST"),
        ("/v1/functions/f", "GET, HEAD, DELETE"),
        ("/v1/functions/f/replicas", "GET, HEAD, PUT"),
        ("/v1/functions/f:invoke", "POST"),
        ("/v1/functions/f%3Ainvoke", "POST"),
        ("/v1/functions/f:enqueue", "POST"),
        ("/v1/executions/00000000-0000-4000-8000-000000000000", "GET, HEAD, DELETE"),
        ("/v1/internal/executions/00000000-0000-4000-8000-000000000000:complete", "POST"),
        ("/modules/build-metadata", "GET, HEAD"),
        ("/openapi.yaml", "GET, HEAD"),
    ] {
        let allowed: Vec<_> = allow.split(", ").collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"] {
            if allowed.contains(&method) {
                continue;
            }
            let response = client.send(method, path, &[JSON], b"");
            assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
            let body = response.expect_error(405, "METHOD_NOT_ALLOWED");
            assert_eq!(keys(&body), ["error", "message"], "{method} {path}");
        }
    }
    assert_eq!(server.get("/v1/functions/f").status, 200, "something was deleted");
}

#[test]
fn other_paths_are_unknown() {
    let server = Server::start(&[]);
    server.register(local("f"));
    let mut client = server.client();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/functions/",
        "/v1/functions/f/",
        "/v1/functions//f",
        "/v1/functions/f:invoke/",
        "/v1/functions/f/replicas/",
        "/v1/functions/f/nothing",
        "/v1/functionsf",
        "/V1/functions",
        "/v1/Functions",
        "/v1/executions",
        "/v1/executions/",
        "/v1/executions/a/b",
        "/v1/internal/executions/a",
        "/v1/functions/%",
        "/v1/functions/%f",
        "/v1/functions/%zz",
        "/v1/functions/%ff",
        "/openapi.yaml/",
        "/modules",
        "/modules/other",
        "/actuator/health",
        "/console",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let body = client.send(method, path, &[JSON], b"{}").expect_error(404, "NOT_FOUND");
            assert_eq!(keys(&body), ["error", "message"], "{method} {path}");
        }
    }
}

#[test]
fn unknown_things_are_named() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (method, path, body, name) in [
        ("GET", "/v1/functions/nope".to_owned(), "", "nope"),
        ("DELETE", "/v1/functions/nope".to_owned(), "", "nope"),
        ("GET", "/v1/functions/nope/replicas".to_owned(), "", "nope"),
        ("PUT", "/v1/functions/nope/replicas".to_owned(), r#"{"replicas":1}"#, "nope"),
        ("POST", "/v1/functions/nope:invoke".to_owned(), r#"{"input":1}"#, "nope"),
        ("POST", "/v1/functions/nope:enqueue".to_owned(), r#"{"input":1}"#, "nope"),
        ("POST", "/v1/functions/nope:other".to_owned(), "", ""),
        ("GET", "/v1/functions/a%2Fb".to_owned(), "", "a/b"),
        ("GET", "/v1/functions/1abc".to_owned(), "", "1abc"),
        ("POST", "/v1/functions/%C3%A9:invoke".to_owned(), r#"{"input":1}"#, "é"),
        ("POST", "/v1/functions/:invoke".to_owned(), r#"{"input":1}"#, "''"),
        ("GET", format!("/v1/executions/{unknown}"), "", unknown),
        ("GET", "/v1/executions/not-an-id".to_owned(), "", "not-an-id"),
        ("DELETE", format!("/v1/executions/{unknown}"), "", unknown),
        ("POST", format!("/v1/internal/executions/{unknown}:complete"), "{}", unknown),
        ("POST", "/v1/internal/executions/x:complete".to_owned(), "{}", "x"),
    ] {
        if path.ends_with(":other") {
            client.send(method, &path, &[JSON], body.as_bytes()).expect_error(405, "METHOD_NOT_ALLOWED");
            continue;
        }
        let body = client.send(method, &path, &[JSON], body.as_bytes()).expect_error(404, "NOT_FOUND");
        assert_eq!(keys(&body), ["error", "message"], "{method} {path}");
        assert!(body["message"].as_str().is_some_and(|message| message.contains(name)), "{path}: {body}");
    }
}

#[test]
fn names_and_suffixes_may_be_percent_encoded() {
    let server = Server::start(&[]);
    server.register(local("a.b-c_1"));
    let mut client = server.client();
    for path in [
        "/v1/functions/a.b-c_1:invoke",
        "/v1/functions/a%2Eb%2dc%5F1:invoke",
        "/v1/functions/%61.b-c_1%3Ainvoke",
        "/v1/functions/a.b-c_1%3ain%76oke",
        "/v1/functions/a.b-c_1:invoke?query=ignored",
    ] {
        let response = client.send("POST", path, &[JSON], br#"{"input":7}"#);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        assert_eq!(response.json()["output"], 7);
    }
    assert_eq!(client.send("GET", "/v1/functions/%61.b-c_1", &[], b"").status, 200);
}
