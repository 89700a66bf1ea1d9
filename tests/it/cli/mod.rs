//! The command line as a user meets it: exit codes, messages, output. The server is a fake one.

mod configuration;
mod connection;
mod contexts;
mod dead_letters;
mod demo;
mod enqueue;
mod executions;
mod fake;
mod functions;
mod invocations;
mod program;
mod runtime_config;
mod scaling;
mod top;

use fake::{Exchange, Fake};
use program::{Run, program, run};
use serde_json::{Value, json};

/// Runs a command against a server that knows these answers and expects each to be asked for once.
fn with_server(script: Vec<Exchange>, arguments: &[&str]) -> (Run, Fake) {
    let fake = Fake::start(script);
    let run = run(program(arguments).args(["--endpoint", &fake.endpoint]));
    fake.assert_done();
    (run, fake)
}

fn error(code: &str, message: &str) -> String {
    json!({ "error": code, "message": message }).to_string()
}

/// A resolved function as a server answers it.
fn function(changes: Value) -> Value {
    let mut function = json!({
        "name": "f", "image": "i", "command": [], "env": {}, "timeoutMs": 30000, "concurrency": 4,
        "queueSize": 100, "retryBackoffMs": 100, "endpointUrl": "http://h:1/invoke",
        "executionMode": "POOL", "requestedExecutionMode": "POOL", "effectiveExecutionMode": "POOL",
        "runtimeMode": "HTTP"
    });
    let changes = changes.as_object().expect("an object").clone();
    function.as_object_mut().expect("an object").extend(changes);
    function
}

const FILE: &str = "name: f\nimage: i\nexecutionMode: POOL\nendpointUrl: http://h:1\n\
                    catalog: {family: x}\nx-cli: {build: {context: .}}\n";
