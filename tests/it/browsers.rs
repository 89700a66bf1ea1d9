//! Requests as browsers send them for pages of other origins, by names that lead here and by those that do not. What a real
//! browser makes of it is tried in `tests/browser`.

use std::net::TcpListener;

use serde_json::json;

use crate::support::{Client, Function, Reply, Response, Server, client::encode};

const EVIL: &str = "https://evil.example";
const FRIEND: &str = "https://console.example";

/// A server with everything that a page could want, and a function whose calls are counted.
fn start(settings: &[&str]) -> (Server, Function) {
    let on = ["async-queue.enabled=true", "admin.runtime-config.enabled=true"];
    let server = Server::start(&[&on[..], settings].concat());
    let function = Function::start(|_| Reply::json(json!(1)));
    server.pool("f", &function, json!({}));
    (server, function)
}

/// Every way to change something: method, path, body.
const CHANGES: [(&str, &str, &str); 9] = [
    ("POST", "/v1/functions", r#"{"name":"drive-by","executionMode":"LOCAL"}"#),
    ("POST", "/v1/functions/f:invoke", r#"{"input":1}"#),
    ("POST", "/v1/functions/f:enqueue", r#"{"input":1}"#),
    ("DELETE", "/v1/functions/f", ""),
    ("PUT", "/v1/functions/f/replicas", r#"{"replicas":3}"#),
    ("PUT", "/v1/admin/runtime-config", r#"{"rateMaxPerSecond":1}"#),
    ("PATCH", "/v1/admin/runtime-config", r#"{"expectedRevision":0,"rateMaxPerSecond":1}"#),
    ("POST", "/v1/internal/functions/f:drain-once", ""),
    ("DELETE", "/v1/functions/f/dead-letters/0", ""),
];

#[track_caller]
fn nothing_happened(server: &Server, function: &Function) {
    let functions = server.get("/v1/functions").json();
    let names: Vec<_> = functions.as_array().expect("a list").iter().map(|f| f["name"].clone()).collect();
    assert_eq!(names, ["f"]);
    assert_eq!(function.calls(), 0);
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 0.0);
    assert_eq!(server.get("/v1/admin/runtime-config").json()["revision"], 0);
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let (server, function) = start(&[]);
    let own = format!("http://{}", server.api);
    let api = server.api.to_string();
    let foreign: [&[(&str, &str)]; 6] = [
        &[("origin", EVIL)],
        &[("origin", "null")],
        &[("origin", "http://localhost:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        // `localhost` and 127.0.0.1 are different origins.
        &[("host", "localhost"), ("origin", &own)],
    ];
    for (method, path, body) in CHANGES {
        for headers in foreign {
            for content_type in ["", "application/json", "text/plain", "application/x-www-form-urlencoded"] {
                let mut headers = headers.to_vec();
                if !content_type.is_empty() {
                    headers.push(("content-type", content_type));
                }
                let answer = server.client().send(method, path, &headers, body.as_bytes());
                answer.expect_error(403, "ORIGIN_NOT_ALLOWED");
                assert_eq!(answer.header("access-control-allow-origin"), None);
            }
        }
    }
    nothing_happened(&server, &function);
    for path in ["/v1/functions", "/v1/functions/f", "/v1/executions/0", "/v1/functions/f/dead-letters"] {
        server.client().send("GET", path, &[("origin", EVIL)], b"").expect_error(403, "ORIGIN_NOT_ALLOWED");
    }
    // Programs and pages of our own.
    for headers in [
        &[][..],
        &[("host", &*api), ("origin", &own), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        assert_eq!(server.client().send("GET", "/v1/functions", headers, b"").status, 200, "{headers:?}");
    }
    // What a page may show without asking anybody.
    for path in ["/openapi.yaml", "/modules/build-metadata"] {
        assert_eq!(server.client().send("GET", path, &[("origin", EVIL)], b"").status, 200);
    }
}

#[test]
fn a_page_is_refused_before_its_body_is_read() {
    let (server, function) = start(&[]);
    for headers in [&[("origin", EVIL)][..], &[("host", "evil.example")]] {
        let mut client = server.client();
        let mut request = encode("POST", "/v1/functions/f:invoke", headers, &[b' '; 100_000]);
        request.truncate(request.len() - 100_000);
        client.write(&request);
        assert!([403, 421].contains(&client.read().expect("an answer to the head alone").status));
    }
    nothing_happened(&server, &function);
}

#[test]
fn other_names_are_refused_by_every_listener() {
    let callback =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let bind = format!("internal.bind={callback}");
    let (server, function) = start(&[&bind, "server.allowed-hosts=faas.example, 10.0.0.7"]);
    let ask = |address, host: &str, method: &str, path: &str, body: &str| -> Response {
        let headers = [("host", host), ("content-type", "application/json")];
        Client::connect(address).send(method, path, &headers, body.as_bytes())
    };
    for host in
        ["evil.example", "evil.example:8080", "10.0.0.1", "0.0.0.0", "127.1", "localhost.evil.example"]
    {
        for (method, path, body) in CHANGES {
            ask(server.api, host, method, path, body).expect_error(421, "MISDIRECTED_REQUEST");
        }
        for path in ["/v1/functions", "/openapi.yaml", "/nothing"] {
            ask(server.api, host, "GET", path, "").expect_error(421, "MISDIRECTED_REQUEST");
        }
        for path in ["/actuator", "/actuator/health/liveness", "/actuator/prometheus", "/nothing"] {
            ask(server.management, host, "GET", path, "").expect_error(421, "MISDIRECTED_REQUEST");
        }
        let complete = "/v1/internal/executions/0:complete";
        ask(callback, host, "POST", complete, "{}").expect_error(421, "MISDIRECTED_REQUEST");
    }
    nothing_happened(&server, &function);
    let port = server.api.port();
    for host in [
        &*server.api.to_string(),
        &*format!("localhost:{port}"),
        "LOCALHOST",
        "a.localhost",
        "[::1]:8080",
        "faas.example",
        "Faas.Example.:443",
        "10.0.0.7",
    ] {
        assert_eq!(ask(server.api, host, "GET", "/v1/functions", "").status, 200, "{host}");
        assert_eq!(ask(server.management, host, "GET", "/actuator/health", "").status, 200, "{host}");
        let unknown = ask(callback, host, "POST", "/v1/internal/executions/0:complete", "{}");
        unknown.expect_error(404, "NOT_FOUND");
    }
    let page = [("origin", EVIL)];
    let scrape = Client::connect(server.management).send("GET", "/actuator/prometheus", &page, b"");
    scrape.expect_error(403, "ORIGIN_NOT_ALLOWED");
    let report = Client::connect(callback).send("POST", "/v1/internal/executions/0:complete", &page, b"{}");
    report.expect_error(403, "ORIGIN_NOT_ALLOWED");
}

#[test]
fn a_listener_for_everybody_answers_to_every_address_and_no_name() {
    let server = Server::start(&["server.host=0.0.0.0", "server.allowed-hosts=nanofaas"]);
    for (host, status) in [
        ("10.0.0.1:8080", 200),
        ("[2001:db8::1]", 200),
        ("localhost", 200),
        ("nanofaas:8080", 200),
        ("nanofaas.default.svc", 421),
        ("evil.example", 421),
    ] {
        let answer = server.client().send("GET", "/v1/functions", &[("host", host)], b"");
        assert_eq!(answer.status, status, "{host}");
    }
    // An address is no excuse for a page of another origin.
    let page = [("host", "10.0.0.1:8080"), ("origin", "http://10.0.0.1:3000")];
    server.client().send("GET", "/v1/functions", &page, b"").expect_error(403, "ORIGIN_NOT_ALLOWED");
}

#[test]
fn listed_origins_are_answered() {
    let (server, _function) =
        start(&["cors.allowed-origins=https://Console.example:443,http://127.0.0.1:3000"]);
    let ask = |address, method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let headers =
            [headers, &[("content-type", "application/json"), ("sec-fetch-site", "cross-site")]].concat();
        Client::connect(address).send(method, path, &headers, body.as_bytes())
    };
    let is_open = |answer: &Response| {
        assert_eq!(answer.header("access-control-allow-origin"), Some(FRIEND));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("vary"), Some("origin"));
    };
    let wanted = ("access-control-request-method", "DELETE");
    let headers = ("access-control-request-headers", "content-type,x-timeout-ms");
    for (address, path, methods) in [
        (server.api, "/v1/functions/f", "DELETE"),
        (server.api, "/v1/functions/f:invoke", "POST"),
        (server.management, "/actuator/prometheus", "GET"),
    ] {
        let answer = ask(address, "OPTIONS", path, &[("origin", FRIEND), wanted, headers], "");
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}: {}", answer.text());
        is_open(&answer);
        let allowed = answer.header("access-control-allow-methods").expect("methods");
        assert!(allowed.split(", ").any(|allowed| allowed == methods), "{path}: {allowed}");
        assert_eq!(answer.header("access-control-allow-headers"), Some(headers.1));
        assert!(answer.header("access-control-max-age").is_some());
        // Nobody else learns anything.
        for origin in [EVIL, "null", "https://console.example.evil.example", "*"] {
            let answer = ask(address, "OPTIONS", path, &[("origin", origin), wanted, headers], "");
            answer.expect_error(403, "ORIGIN_NOT_ALLOWED");
            assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")));
        }
    }
    let friend = [("origin", FRIEND)];
    let called = ask(server.api, "POST", "/v1/functions/f:invoke", &friend, r#"{"input":1}"#);
    assert_eq!(called.status, 200, "{}", called.text());
    is_open(&called);
    assert!(
        called.header("access-control-expose-headers").is_some_and(|names| names.contains("x-execution-id"))
    );
    // A page has to be able to read what went wrong.
    let unknown = ask(server.api, "GET", "/v1/functions/nobody", &friend, "");
    unknown.expect_error(404, "NOT_FOUND");
    is_open(&unknown);
    let nowhere = ask(server.api, "OPTIONS", "/nothing", &[("origin", FRIEND), wanted], "");
    nowhere.expect_error(404, "NOT_FOUND");
    // Without asking first it is a method like any other.
    let plain = ask(server.api, "OPTIONS", "/v1/functions/f", &friend, "");
    plain.expect_error(405, "METHOD_NOT_ALLOWED");
    assert_eq!(server.get("/v1/functions").header("access-control-allow-origin"), None);
}

#[test]
fn what_changes_the_server_says_that_it_is_json() {
    let (server, function) = start(&[]);
    let spec = r#"{"name":"g","executionMode":"LOCAL"}"#;
    let send = |path: &str, method: &str, content_type: &str, body: &str| {
        let headers = [("content-type", content_type)];
        let headers = if content_type == "-" { &[][..] } else { &headers };
        server.client().send(method, path, headers, body.as_bytes())
    };
    let refused =
        ["-", "", " ", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"];
    for content_type in refused {
        for (path, method, body) in [
            ("/v1/functions", "POST", spec),
            ("/v1/admin/runtime-config", "PUT", "{}"),
            ("/v1/admin/runtime-config", "PATCH", r#"{"expectedRevision":0}"#),
            ("/v1/admin/runtime-config/validate", "POST", "{}"),
        ] {
            send(path, method, content_type, body).expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
        }
    }
    nothing_happened(&server, &function);
    for content_type in
        ["application/json", "application/vnd.nanofaas+json", "Application/JSON; charset=utf-8"]
    {
        assert_eq!(send("/v1/functions", "POST", content_type, spec).status, 201, "{content_type}");
        assert_eq!(send("/v1/functions/g", "DELETE", "-", "").status, 204);
    }
    // Calls and callbacks are JSON when nothing is said.
    assert_eq!(send("/v1/functions/f:invoke", "POST", "-", r#"{"input":1}"#).status, 200);
    assert_eq!(send("/v1/functions/f:enqueue", "POST", "-", r#"{"input":1}"#).status, 202);
    send("/v1/internal/executions/0:complete", "POST", "-", "{}").expect_error(404, "NOT_FOUND");
}
