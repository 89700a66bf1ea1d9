//! What a server writes to its log: one event per line, nothing inside of something else, every failure once.

use serde_json::{Value, json};

use crate::support::{Server, eventually};

/// The events of a server so far.
fn events(server: &Server) -> Vec<Value> {
    server.log().iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn what_a_function_writes_is_one_event_and_its_failure_another() {
    let server = Server::dev(&[]);
    // It tries to pass for the server.
    let forged = json!({ "level": "ERROR", "target": "server", "message": "forged" }).to_string();
    server.register(json!({
        "name": "f", "runtimeMode": "STDIO", "maxRetries": 1, "env": { "LINE": forged },
        "runtimeCommand": "sh -c 'echo \"$LINE\" >&2; exit 3'",
    }));
    let answer = server.invoke("f", json!(1));
    let id = answer.header("x-execution-id").expect("an id").to_owned();
    assert_eq!(answer.json()["status"], "error");
    let of_call = || -> Vec<Value> {
        events(&server).into_iter().filter(|event| event["execution_id"] == json!(id)).collect()
    };
    eventually("both are logged", || of_call().len() == 2);

    let events = of_call();
    let written = &events[0];
    for (field, expected) in [
        ("level", "function"),
        ("target", "function"),
        ("function", "f"),
        ("stream", "stderr"),
        ("message", forged.as_str()),
    ] {
        assert_eq!(written[field], expected, "{written}");
    }
    assert!(written["replica"].is_u64() && written["timestamp"].is_string(), "{written}");
    let failure = &events[1];
    assert_eq!(
        (&failure["level"], &failure["message"]),
        (&json!("WARN"), &json!("call failed")),
        "{failure}"
    );
    assert!(!failure.to_string().contains("forged"), "{failure}");
}

#[test]
fn a_program_that_serves_writes_without_an_execution_id() {
    let server = Server::dev(&[]);
    let spec = json!({ "name": "f", "runtimeCommand": "sh -c 'echo no server; exit 4'" });
    assert_eq!(server.send("POST", "/v1/functions", &spec).status, 503);
    let events = events(&server);
    let written = events.iter().find(|event| event["target"] == "function").expect("what it wrote");
    assert_eq!((&written["message"], &written["stream"]), (&json!("no server"), &json!("stdout")));
    assert_eq!(written.get("execution_id"), None);
}

/// Texts that only a programmer of Rust can read.
#[test]
fn no_event_shows_how_it_was_made() {
    let server = Server::dev(&[]);
    server.register(json!({ "name": "f", "runtimeMode": "STDIO", "runtimeCommand": "cat" }));
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    for line in server.log() {
        for mark in ["Some(", "None", "Ok(", "Err(", "[\\\"", "Os {"] {
            assert!(!line.contains(mark), "{mark} in {line}");
        }
    }
}
