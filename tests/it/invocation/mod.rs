//! The main job: register a function, call it, get its result.

mod deadlines;
mod disconnects;
mod failures;
mod headers;
mod outputs;
mod status;

use serde_json::json;

use crate::support::{Function, Reply, Server};

#[test]
fn a_pool_function_gets_the_callers_bytes_and_its_answer_comes_back() {
    let function = Function::start(|call| {
        assert_eq!(call.path, "/invoke");
        assert_eq!(call.header("content-type"), Some("application/json"));
        assert_eq!(call.header("x-dispatch-attempt"), Some("1"));
        let left: u32 = call.header("x-deadline-ms").expect("a deadline").parse().expect("milliseconds");
        assert!((1..=30_000).contains(&left));
        // The caller's own spelling of the number, not ours.
        assert_eq!(call.body, br#"{"input":{"n":1.00e2,"b":[ ]},"metadata":{"k":"v"}}"#);
        Reply::new(200, "application/json", br#"{"ok": 1.50}"#)
    });
    let server = Server::start(&[]);
    server.register(json!({ "name": "f", "executionMode": "POOL", "endpointUrl": function.url() }));
    let response = server.client().send(
        "POST",
        "/v1/functions/f:invoke",
        &[("content-type", "application/json")],
        br#"{"metadata":{"k":"v"},"input":{"n":1.00e2,"b":[ ]}}"#,
    );
    assert_eq!(response.status, 200, "{}", response.text());
    let id = response.header("x-execution-id").expect("an execution id");
    let expected =
        format!(r#"{{"executionId":"{id}","status":"success","output":{{"ok": 1.50}},"error":null}}"#);
    assert_eq!(response.text(), expected);
    let status = server.get(&format!("/v1/executions/{id}")).json();
    assert_eq!(status["status"], "success");
    assert_eq!(status["output"], json!({ "ok": 1.5 }));
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
}
