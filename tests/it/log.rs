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
    let written = || events(&server).into_iter().find(|event| event["target"] == "function");
    eventually("what it wrote is logged", || written().is_some());
    let written = written().expect("what it wrote");
    assert_eq!((&written["message"], &written["stream"]), (&json!("no server"), &json!("stdout")));
    assert_eq!(written.get("execution_id"), None);
}

/// A program that ends by itself, at its start or with a call, and what is logged of that: what it wrote, and that it ended.
#[test]
fn what_a_program_wrote_before_it_ended_is_logged_once() {
    let server = Server::dev(&[]);
    // Its last line, of which nothing else is part, may look like the watchdog's word for its own end.
    let spec = json!({ "name": "start", "runtimeCommand": "sh -c 'echo error: last words >&2; exit 4'" });
    let refused = server.send("POST", "/v1/functions", &spec);
    let message = refused.expect_error(503, "PROVISIONING_FAILED")["message"].to_string();
    assert!(message.contains("(exit status: 4): error: last words; check that"), "{message}");
    let program = "import http.server, os, sys\n\
                   class H(http.server.BaseHTTPRequestHandler):\n    \
                     def do_GET(self):\n        self.send_response(200); self.end_headers()\n    \
                     def do_POST(self):\n        print('error: last words', file=sys.stderr, flush=True); os._exit(5)\n    \
                     def log_message(self, *_):\n        pass\n\
                   http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n";
    server.register(json!({
        "name": "call", "maxRetries": 1, "env": { "PROGRAM": program },
        "runtimeCommand": "sh -c 'exec python3 -c \"$PROGRAM\"'",
    }));
    let answer = server.invoke("call", json!(1)).json();
    assert_eq!(answer["error"]["code"], "FUNCTION_CRASHED", "{answer}");
    let message = answer["error"]["message"].to_string();
    assert!(message.contains("(exit status: 5): error: last words"), "{message}");

    for (function, failure) in [("start", "a replica died, starting it again"), ("call", "call failed")] {
        let of_function = || -> Vec<Value> {
            events(&server).into_iter().filter(|event| event["function"] == function).collect()
        };
        eventually("its failure is logged", || of_function().iter().any(|event| event["message"] == failure));
        let mut telling = of_function();
        telling.retain(|event| event.to_string().contains("last words"));
        assert_eq!(telling.len(), 1, "{telling:?}");
        assert_eq!(
            (&telling[0]["level"], &telling[0]["message"]),
            (&json!("function"), &json!("error: last words"))
        );
    }
    // A watchdog that is killed has no words of its own.
    let of_call = |event: &Value| event["function"] == "call" && event["message"] == "a replica is ready";
    let ready = events(&server).into_iter().rfind(of_call).expect("a replica");
    let killed = std::process::Command::new("kill").args(["-9", &ready["replica"].to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let died = |event: &Value| {
        event["function"] == "call" && event["message"] == "a replica died, starting it again"
    };
    eventually("its end is logged", || events(&server).iter().any(died));
    let end = events(&server).into_iter().find(died).expect("just seen");
    assert_eq!(end["reason"], "the watchdog ended with signal: 9 (SIGKILL)", "{end}");
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
