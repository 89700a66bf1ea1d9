//! `nanofaas dlq`.

use serde_json::{Value, json};

use super::{
    error,
    program::{Run, program, run},
    with_server,
};
use crate::support::{Function, Gate, Reply, Server, Terminal, eventually};

const LIST: &str = "GET /v1/functions/f/dead-letters";
const ALL: &str = "GET /v1/functions/f/dead-letters?limit=1000";

fn letter(id: &str, message: &str) -> Value {
    json!({"executionId": id, "functionName": "f", "status": "error", "attempt": 3, "deadAtMillis": 1000,
        "payloadBytes": 17, "error": {"code": "FUNCTION_ERROR", "message": message}})
}

/// A server with a function that fails until its gate is open, and its letters, oldest first.
struct Post {
    server: Server,
    gate: Gate,
    letters: Vec<String>,
}

impl Post {
    fn with_letters(count: usize, spec: Value) -> Post {
        let server = Server::start(&["async-queue.enabled=true"]);
        let gate = Gate::closed();
        let door = gate.clone();
        let function = Function::start(move |call| match call.json()["input"].as_str() {
            Some("fail") if !door.is_open() && call.header("x-dispatch-attempt") == Some("1") => {
                Reply::new(400, "text/plain", b"broken\nfor good")
            }
            _ => {
                door.pass();
                Reply::json(json!("mended"))
            }
        });
        server.pool("f", &function, spec);
        let mut letters = Vec::new();
        for _ in 0..count {
            let accepted = server.send("POST", "/v1/functions/f:enqueue", &json!({"input": "fail"}));
            let id = accepted.json()["executionId"].as_str().expect("an id").to_owned();
            server.ended(&id);
            letters.push(id);
        }
        let post = Post { server, gate, letters };
        eventually("all are dead letters", || post.count() == count);
        post
    }

    fn count(&self) -> usize {
        self.server.get("/v1/functions/f/dead-letters").json().as_array().expect("a list").len()
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.server.api)
    }

    fn dlq(&self, arguments: &[&str]) -> Run {
        run(program(&[&["dlq"], arguments].concat()).args(["--endpoint", &self.endpoint()]))
    }
}

#[test]
fn the_list_has_a_line_per_letter() {
    let body = json!([letter("x-2", "two\nlines"), letter("x-1", "one")]).to_string();
    let (run, _) = with_server(vec![(LIST, 200, body.clone())], &["dlq", "list", "f"]);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((run.code, lines.len()), (0, 3), "{run:?}");
    assert!(
        lines[0].starts_with("EXECUTION  AGE") && lines[0].ends_with("ATTEMPTS  BYTES  ERROR"),
        "{run:?}"
    );
    assert!(
        lines[1].starts_with("x-2 ") && lines[1].ends_with("d  3         17     two lines (FUNCTION_ERROR)")
    );
    let path = "GET /v1/functions/f/dead-letters?limit=7";
    let arguments = ["dlq", "list", "f", "--limit", "7", "-o", "json"];
    let (run, _) = with_server(vec![(path, 200, body.clone())], &arguments);
    assert_eq!((run.code, run.stdout), (0, format!("{body}\n")));
    let (run, _) = with_server(vec![(LIST, 200, "[]".to_owned())], &["dlq", "list", "f"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, "f has no dead letters\n"));
    let (run, _) = with_server(vec![], &["dlq", "list", "f", "--limit", "0"]);
    assert_eq!(run.code, 2);
}

#[test]
fn what_the_server_refuses_is_told() {
    let refused = || error("NOT_FOUND", "there is no function f");
    for (path, arguments) in [
        (LIST, &["list", "f"][..]),
        (ALL, &["replay", "f", "--all"]),
        (ALL, &["purge", "f", "--all", "--yes"]),
        ("POST /v1/functions/f/dead-letters/x-1:replay", &["replay", "f", "x-1"]),
        ("DELETE /v1/functions/f/dead-letters/x-1", &["purge", "f", "x-1"]),
    ] {
        let (run, _) = with_server(vec![(path, 404, refused())], &[&["dlq"], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}");
        assert_eq!(run.stderr, "error: there is no function f (NOT_FOUND)\n");
    }
    for arguments in [&["purge", "f", "x-1", "--all"][..], &["purge", "f", "--yes"], &["replay", "f"]] {
        let (run, fake) = with_server(vec![], &[&["dlq"], arguments].concat());
        assert_eq!((run.code, fake.requests().len()), (2, 0), "{arguments:?} says neither which nor all");
    }
}

#[test]
fn all_means_what_was_there_when_it_was_said() {
    let body = json!([letter("x-2", "m"), letter("x-1", "m")]).to_string();
    let replay = |id: &str| match id {
        "x-1" => "POST /v1/functions/f/dead-letters/x-1:replay",
        _ => "POST /v1/functions/f/dead-letters/x-2:replay",
    };
    // Somebody else was faster with one of them.
    let script = vec![
        (ALL, 200, body.clone()),
        (replay("x-1"), 202, "{}".to_owned()),
        (replay("x-2"), 404, error("NOT_FOUND", "gone")),
    ];
    let (run, fake) = with_server(script, &["dlq", "replay", "f", "--all"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "f: 1 dead letter replayed\n", ""));
    let asked: Vec<String> = fake.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(asked, [ALL, replay("x-1"), replay("x-2")], "oldest first");
    // The server gives up in the middle.
    let script = vec![
        (ALL, 200, body),
        (replay("x-1"), 202, "{}".to_owned()),
        (replay("x-2"), 503, error("STORE_UNAVAILABLE", "the disk is full")),
    ];
    let (run, _) = with_server(script, &["dlq", "replay", "f", "--all"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr, "error: the disk is full (STORE_UNAVAILABLE); before that, 1 replayed\n");
}

#[test]
fn letters_of_a_real_server_run_again_or_go_away() {
    let post = Post::with_letters(4, json!({}));
    post.gate.open();
    let listed = post.dlq(&["list", "f"]);
    assert_eq!(listed.stdout.lines().count(), 5, "{listed:?}");
    assert!(listed.stdout.contains("broken for good (FUNCTION_ERROR)"), "{listed:?}");

    let id = &post.letters[0];
    let one = post.dlq(&["replay", "f", id]);
    assert_eq!((one.code, one.stdout), (0, format!("{id} queued\n")));
    assert_eq!(post.server.ended(id)["output"], "mended");
    let gone = post.dlq(&["replay", "f", id, "-o", "json"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (1, ""));
    assert!(gone.stderr.contains("NOT_FOUND"), "{gone:?}");

    let dropped = post.dlq(&["purge", "f", &post.letters[1], "-o", "json"]);
    let expected = json!({"function": "f", "executionId": post.letters[1], "result": "purged"});
    assert_eq!((dropped.code, dropped.stdout), (0, format!("{expected}\n")));

    // In a pipe nobody is asked.
    let rest = post.dlq(&["purge", "f", "--all"]);
    assert_eq!((rest.code, rest.stdout.as_str()), (0, "f: 2 dead letters purged\n"), "{}", rest.stderr);
    assert_eq!(post.count(), 0);
    let none = post.dlq(&["replay", "f", "--all", "-o", "json"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, "{\"function\":\"f\",\"replayed\":0}\n"));
}

#[test]
fn replaying_more_than_the_queue_holds_waits_for_places() {
    let post = Post::with_letters(3, json!({"concurrency": 1, "queueSize": 1}));
    let command = program(&["dlq", "replay", "f", "--all", "--endpoint", &post.endpoint()]);
    let mut terminal = Terminal::start(&command, 80);
    terminal.await_text("waiting for a place in the queue");
    post.gate.open();
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
    terminal.await_text("f: 3 dead letters replayed");
    for id in &post.letters {
        assert_eq!(post.server.ended(id)["status"], "success");
    }
}

#[test]
fn purging_all_asks_on_a_terminal() {
    let post = Post::with_letters(2, json!({}));
    let command = |extra: &[&str]| {
        program(&[&["dlq", "purge", "f", "--all", "--endpoint", &post.endpoint()], extra].concat())
    };
    for (answer, code, left) in [("\n", 1, 2), ("no\n", 1, 2), ("y\n", 0, 0)] {
        let mut terminal = Terminal::start(&command(&[]), 80);
        terminal.await_text("Drop 2 dead letters of f for good? [y/N]");
        terminal.press(answer);
        assert_eq!(terminal.wait(), Some(code), "{}", terminal.shown());
        assert_eq!(post.count(), left);
    }
    let mut unasked = Terminal::start(&command(&["--yes"]), 80);
    assert_eq!(unasked.wait(), Some(0));
    unasked.await_text("f: 0 dead letters purged");
    assert!(!unasked.shown().contains("[y/N]"), "{}", unasked.shown());
}
