//! One execution from the environment, its result to a control plane that is not always well.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Output,
    sync::mpsc,
    time::Duration,
};

use super::support::{Folder, alive, command};

/// A control plane that answers one request per status, then is gone. 0 closes the connection without an answer.
struct ControlPlane {
    url: String,
    requests: mpsc::Receiver<String>,
}

impl ControlPlane {
    fn start(statuses: &'static [u16]) -> ControlPlane {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/internal/executions", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for status in statuses {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                let _ = sender.send(request);
                if *status != 0 {
                    let answer =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        ControlPlane { url, requests }
    }

    fn received(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut text = String::new();
    let mut chunk = [0; 65536];
    loop {
        let head = text.find("\r\n\r\n");
        let length = text
            .to_lowercase()
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok());
        if let (Some(head), Some(length)) = (head, length)
            && text.len() >= head + 4 + length
        {
            return text;
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&chunk[..count])),
            _ => return text,
        }
    }
}

fn run(control_plane: &ControlPlane, variables: &[(&str, &str)]) -> Output {
    let mut all = vec![
        ("EXECUTION_ID", "e1"),
        ("CALLBACK_URL", control_plane.url.as_str()),
        ("EXECUTION_MODE", "STDIO"),
        ("INVOCATION_PAYLOAD", r#"{"input":7}"#),
    ];
    all.extend_from_slice(variables);
    command(&all).output().unwrap()
}

#[test]
fn the_result_is_delivered_despite_failures() {
    let control_plane = ControlPlane::start(&[503, 0, 429, 408, 204]);
    let output =
        run(&control_plane, &[("WATCHDOG_CMD", "cat"), ("TRACE_ID", "t1"), ("DISPATCH_ATTEMPT", "3")]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = control_plane.received();
    assert_eq!(requests.len(), 5);
    for request in requests {
        assert!(request.starts_with("POST /v1/internal/executions/e1:complete HTTP/1.1\r\n"), "{request}");
        let lower = request.to_lowercase();
        assert!(lower.contains("\r\nx-dispatch-attempt: 3\r\n") && lower.contains("\r\nx-trace-id: t1\r\n"));
        assert!(request.ends_with(r#"{"success":true,"output":{"input":7},"error":null}"#), "{request}");
    }
}

#[test]
fn a_request_may_be_in_a_file() {
    let folder = Folder::new("one-shot-file");
    let file = folder.path("request");
    // Longer than a variable can be.
    let request = format!(r#"{{"input":"{}"}}"#, "x".repeat(200_000));
    for (text, code, tries) in [(request.as_str(), 0, 1), ("no JSON", 64, 0)] {
        std::fs::write(&file, text).unwrap();
        let control_plane = ControlPlane::start(&[204]);
        let variables = [("WATCHDOG_CMD", "cat"), ("INVOCATION_PAYLOAD_FILE", file.to_str().unwrap())];
        let output = run(&control_plane, &variables);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(code == 64, stderr.contains("INVOCATION_PAYLOAD_FILE"), "{stderr}");
        let requests = control_plane.received();
        assert_eq!(requests.len(), tries);
        assert!(requests.iter().all(|result| result.contains(&request)));
    }
}

#[test]
fn exit_codes_tell_what_happened() {
    for (statuses, program, code, tries) in [
        (&[204][..], "cat", 0, 1),
        (&[204], "false", 1, 1),
        (&[404, 204], "cat", 2, 1),
        (&[302, 204], "cat", 2, 1),
        (&[500, 500, 500, 500, 500, 204], "false", 2, 5),
        (&[], "cat", 2, 0),
    ] {
        let control_plane = ControlPlane::start(statuses);
        let output = run(&control_plane, &[("WATCHDOG_CMD", program)]);
        assert_eq!(output.status.code(), Some(code), "{program} {statuses:?}");
        assert_eq!(control_plane.received().len(), tries, "{program} {statuses:?}");
    }
}

#[test]
fn failures_are_reported_with_code_and_message() {
    for (mode, program, code, message) in [
        ("STDIO", "sh -c 'echo boom >&2; exit 3'", "FUNCTION_ERROR", "exit status: 3: boom"),
        ("STDIO", "no-such-program", "SPAWN_ERROR", "cannot start 'no-such-program'"),
        ("STDIO", "sleep 300", "TIMEOUT", "Function exceeded timeout of 400ms"),
        ("FILE", "true", "FUNCTION_BAD_OUTPUT", "not created"),
        ("HTTP", "sh -c 'exit 9'", "STARTUP_ERROR", "exit status: 9"),
        ("HTTP", "sleep 300", "STARTUP_ERROR", "Runtime not ready after 300ms"),
        ("HTTP", "no-such-program", "SPAWN_ERROR", "cannot start 'no-such-program'"),
    ] {
        let control_plane = ControlPlane::start(&[204]);
        let output = run(
            &control_plane,
            &[
                ("EXECUTION_MODE", mode),
                ("WATCHDOG_CMD", program),
                ("TIMEOUT_MS", "400"),
                ("READY_TIMEOUT_MS", "300"),
                ("RUNTIME_URL", "http://127.0.0.1:0/invoke"),
            ],
        );
        assert_eq!(output.status.code(), Some(1), "{mode} {program}");
        let request = control_plane.received().remove(0);
        let body = request.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["success"], &body["output"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(message), "{body}");
    }
}

#[test]
fn a_server_runs_one_execution_and_ends() {
    let folder = Folder::new("one-shot-http");
    let program = folder.program(
        "python3",
        r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.answer(b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"got":%s,"id":"%s","pid":%d,"callback":"%s"}' % (body, self.headers["X-Execution-Id"].encode(), os.getpid(), os.environ.get("CALLBACK_URL", "").encode()))
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#,
    );
    let control_plane = ControlPlane::start(&[204]);
    let output = run(
        &control_plane,
        &[
            ("EXECUTION_MODE", "HTTP"),
            ("WATCHDOG_CMD", &program),
            ("RUNTIME_URL", "http://127.0.0.1:0/invoke"),
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let request = control_plane.received().remove(0);
    let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["output"]["got"]["input"], 7, "{body}");
    assert_eq!((&body["output"]["id"], &body["output"]["callback"]), (&"e1".into(), &"".into()));
    assert!(!alive(body["output"]["pid"].as_u64().unwrap() as u32), "the program ended with the watchdog");
}

#[test]
fn a_wrong_environment_names_every_problem() {
    let output = command(&[("TIMEOUT_MS", "soon"), ("EXECUTION_MODE", "PIPE")]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8_lossy(&output.stderr);
    for name in ["TIMEOUT_MS", "EXECUTION_MODE", "EXECUTION_ID", "CALLBACK_URL"] {
        assert!(stderr.contains(name), "{name} in {stderr}");
    }
}
