//! Headers that reach the function, addresses that it is called at, and the headers that it answers with.

use serde_json::{Value, json};

use crate::support::{Function, Reply, Server};

#[test]
fn trace_headers_and_the_idempotency_key_are_passed_on() {
    let server = Server::start(&[]);
    let function = Function::start(|call| {
        let header = |name: &str| call.header(name).map(str::to_owned);
        Reply::json(json!({
            "x-trace-id": header("x-trace-id"),
            "traceparent": header("traceparent"),
            "idempotency-key": header("idempotency-key"),
            "authorization": header("authorization"),
            "cookie": header("cookie"),
            "content-type": header("content-type"),
            "x-execution-id": header("x-execution-id"),
            "x-dispatch-attempt": header("x-dispatch-attempt"),
            "host": header("host"),
            "path": call.path,
            "body": String::from_utf8_lossy(&call.body),
        }))
    });
    server.pool("f", &function, json!({}));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("x-trace-id", "t-1"),
        ("traceparent", traceparent),
        ("idempotency-key", "k-1"),
        ("authorization", "Bearer secret"),
        ("cookie", "a=b"),
    ];
    let response = server.begin("f", &headers, json!(1)).read().expect("an answer");
    let seen = response.json()["output"].clone();
    let expected = json!({
        "x-trace-id": "t-1",
        "traceparent": traceparent,
        "idempotency-key": "k-1",
        "authorization": null,
        "cookie": null,
        "content-type": "application/json",
        "x-execution-id": response.header("x-execution-id"),
        "x-dispatch-attempt": "1",
        "host": function.address.to_string(),
        "path": "/invoke",
        "body": "{\"input\":1,\"metadata\":null}",
    });
    assert_eq!(seen, expected);
    let seen = server.invoke("f", json!(1)).json()["output"].clone();
    for absent in ["x-trace-id", "traceparent", "idempotency-key"] {
        assert_eq!(seen[absent], Value::Null, "{absent} came from nowhere");
    }
}

#[test]
fn an_address_without_a_path_is_called_at_invoke() {
    let server = Server::start(&[]);
    let function = Function::start(|call| Reply::json(json!(call.path)));
    for (name, suffix, path) in [
        ("a", "", "/invoke"),
        ("b", "/", "/invoke"),
        ("c", "/fn", "/fn"),
        ("d", "/fn/", "/fn/"),
        ("e", "/fn?a=b&c", "/fn?a=b&c"),
        ("f", "?a=b", "/invoke?a=b"),
        ("g", "/fn#part", "/fn"),
    ] {
        let url = format!("http://{}{suffix}", function.address);
        let spec = server.register(json!({ "name": name, "executionMode": "POOL", "endpointUrl": url }));
        assert_eq!(server.invoke(name, json!(1)).json()["output"], path, "{spec}");
    }
}

#[test]
fn cold_starts_show_in_the_status_and_in_metrics() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let (yes, no) = (json!(true), json!(false));
    for (status, headers, cold, init_ms) in [
        (200, json!({ "x-cold-start": "true", "x-init-duration-ms": "250" }), &yes, json!(250)),
        (200, json!({ "x-cold-start": "True" }), &yes, json!(null)),
        (200, json!({ "x-cold-start": "true", "x-init-duration-ms": "soon" }), &yes, json!(null)),
        (500, json!({ "x-cold-start": "true", "x-init-duration-ms": "750" }), &yes, json!(750)),
        (200, json!({ "x-cold-start": "false" }), &no, json!(null)),
        (200, json!({ "x-init-duration-ms": "5" }), &no, json!(null)),
        (500, json!({}), &no, json!(null)),
    ] {
        let response = server.invoke("f", json!({ "status": status, "headers": headers }));
        let execution = server.execution(response.header("x-execution-id").expect("an id"));
        assert_eq!((&execution["coldStart"], &execution["initDurationMs"]), (cold, &init_ms), "{headers}");
    }
    assert_eq!(server.metric("function_cold_start_total{function=\"f\"}"), 4.0);
    assert_eq!(server.metric("function_warm_start_total{function=\"f\"}"), 3.0);
    assert_eq!(server.metric("function_init_duration_seconds_count{function=\"f\"}"), 2.0);
    assert_eq!(server.metric("function_init_duration_seconds_sum{function=\"f\"}"), 1.0);
}
