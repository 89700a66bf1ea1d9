//! Programs that end while they are called: who was not in them loses nothing, and one bad call does not take all replicas.

use std::{path::PathBuf, thread};

use serde_json::{Value, json};

use crate::support::{DataDir, Response, Server};

/// Modules that would refuse calls early, or start and stop replicas beside these tests.
const SETTINGS: [&str; 3] =
    ["sync-queue.enabled=false", "autoscaler.enabled=false", "async-queue.enabled=true"];

/// Answers its input; ends on `"exit"`. Each start leaves a line in the file of its only argument.
const PROGRAM: &str = r#"
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1 # an answer is one write: the second of two waits 40 ms for the peer to acknowledge the first
    def log_message(self, *_): pass
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.reply("ok")
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["input"] == "exit":
            print("the last words", file=sys.stderr, flush=True)
            os._exit(3)
        self.reply(body["input"])
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
with open(sys.argv[1], "a") as starts: starts.write("start\n")
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

struct Rig {
    server: Server,
    starts: PathBuf,
    _folder: DataDir,
}

impl Rig {
    fn start(fields: &Value) -> Rig {
        let folder = DataDir::new();
        std::fs::create_dir_all(folder.path()).expect("a folder");
        let (program, starts) = (folder.path().join("program.py"), folder.path().join("starts"));
        std::fs::write(&program, PROGRAM).expect("a program");
        let server = Server::dev(&SETTINGS);
        let command = format!("python3 {} {}", program.display(), starts.display());
        let mut spec = json!({
            "name": "f", "runtimeMode": "HTTP", "runtimeCommand": command, "queueSize": 1000, "concurrency": 1,
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        server.register(spec);
        Rig { server, starts, _folder: folder }
    }

    /// Calls from several clients, each one after the other, all of them to be answered with their input.
    fn calls(&self, clients: usize, each: usize, beside: impl FnOnce() + Send) {
        thread::scope(|scope| {
            for client in 0..clients {
                scope.spawn(move || {
                    let mut connection = self.server.client();
                    for call in 0..each {
                        let input = json!([client, call]);
                        let body = json!({ "input": input }).to_string();
                        let headers = [("content-type", "application/json")];
                        let answer =
                            connection.send("POST", "/v1/functions/f:invoke", &headers, body.as_bytes());
                        assert_eq!(answer.json()["output"], input, "{}", answer.text());
                    }
                });
            }
            scope.spawn(beside);
        });
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(&self.starts).expect("starts").lines().count()
    }
}

fn is_a_crash(response: &Response) {
    let error = response.json()["error"].clone();
    assert_eq!(error["code"], "FUNCTION_CRASHED", "{}", response.text());
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("exit status: 3") && message.contains("the last words"), "{message}");
}

#[test]
fn a_program_that_exits_fails_the_call_that_it_ran_and_no_other() {
    let rig = Rig::start(&json!({}));
    rig.calls(4, 150, || {
        for _ in 0..3 {
            is_a_crash(&rig.server.invoke("f", json!("exit")));
        }
    });
    assert_eq!(rig.starts(), 4);
    assert_eq!(rig.server.metric("function_crashed_total{function=\"f\"}"), 3.0);
    assert_eq!(rig.server.metric("function_error_total{function=\"f\"}"), 3.0);
    assert_eq!(rig.server.metric("function_success_total{function=\"f\"}"), 600.0);
    assert_eq!(rig.server.metric("nanofaas_accounting_drift"), 0.0);
}

#[test]
fn a_poisoned_call_ends_two_replicas_at_most_and_others_go_on() {
    let rig =
        Rig::start(&json!({ "maxRetries": 9, "scalingConfig": { "strategy": "NONE", "minReplicas": 2 } }));
    let begun = std::time::Instant::now();
    rig.calls(4, 150, || {
        let accepted = rig.server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": "exit" }));
        let id = accepted.header("x-execution-id").expect("an id").to_owned();
        let status = rig.server.ended(&id);
        assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(2)), "{status}");
        assert_eq!(status["error"]["code"], "FUNCTION_CRASHED", "{status}");
        let letters = rig.server.get("/v1/functions/f/dead-letters").json();
        assert_eq!(letters[0]["executionId"], id, "{letters}");
    });
    assert!(begun.elapsed().as_millis() >= 1000, "it was tried again at once");
    assert_eq!(rig.server.metric("function_crashed_total{function=\"f\"}"), 2.0);
    assert_eq!(rig.server.metric("function_error_total{function=\"f\"}"), 1.0);
    assert!(rig.starts() <= 4);
}
