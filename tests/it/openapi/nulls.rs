//! Null counts as absent, for the document and for the server alike.

use serde_json::{Value, json};

use super::document::Document;
use crate::support::Server;

#[test]
fn null_is_absent_wherever_absent_is_allowed() {
    let server = Server::start(&["admin.runtime-config.enabled=true"]);
    let document = Document::of(&server);
    let mut tried = 0;
    for (schema, method, path, body) in [
        ("FunctionSpec", "POST", "/v1/functions", json!({ "name": "f", "executionMode": "LOCAL" })),
        ("InvocationRequest", "POST", "/v1/functions/nobody:invoke", json!({ "input": 1 })),
        ("RuntimeConfigChange", "PUT", "/v1/admin/runtime-config", json!({})),
        ("CompletionRequest", "POST", "/v1/internal/executions/0:complete", json!({})),
    ] {
        for member in document.optional_members(schema) {
            let mut body = body.clone();
            if body.get(&member).is_some() {
                continue;
            }
            body[&member] = Value::Null;
            document.check_value(&format!("{schema} {body}"), &document.schema(schema), &body);
            let answer = server.send(method, path, &body);
            assert!([200, 201, 404].contains(&answer.status), "{body}: {}", answer.text());
            server.send("DELETE", "/v1/functions/f", &Value::Null);
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried} members were tried");
}
