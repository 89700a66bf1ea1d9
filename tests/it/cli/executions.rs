//! `nanofaas exec`: waiting for an execution, and cancelling one.

use serde_json::json;

use super::{
    error,
    fake::Fake,
    program::{program, run},
    with_server,
};
use crate::support::{Function, Gate, Server, Terminal};

fn status(state: &str) -> String {
    json!({"executionId": "x-1", "functionName": "f", "status": state, "attempt": 1}).to_string()
}

/// A server with a function that waits at a gate, and an execution that has arrived there.
fn held() -> (Server, Gate, String) {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!("through"));
    server.pool("f", &function, json!({"concurrency": 1}));
    let id = enqueue(&server);
    gate.await_arrivals(1);
    (server, gate, id)
}

fn enqueue(server: &Server) -> String {
    let accepted = server.send("POST", "/v1/functions/f:enqueue", &json!({"input": 1}));
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["executionId"].as_str().expect("an id").to_owned()
}

#[test]
fn watching_asks_the_server_to_wait_until_the_end() {
    let (first, then) = ("GET /v1/executions/x-1", "GET /v1/executions/x-1?wait=30s");
    for (end, code) in [("success", 0), ("error", 1), ("timeout", 1)] {
        let script = vec![
            (first, 200, status("queued")),
            (then, 200, status("running")),
            (then, 503, error("SHUTTING_DOWN", "the server is shutting down")),
            (then, 200, status(end)),
        ];
        let (run, _) = with_server(script, &["exec", "get", "x-1", "--watch", "-o", "json"]);
        assert_eq!((run.code, run.stdout), (code, format!("{}\n", status(end))));
        assert!(run.stderr.contains("shutting down") && run.stderr.contains("retrying"), "{}", run.stderr);
    }
    // What has ended is not waited for; what is gone ends the wait.
    let (run, _) = with_server(vec![(first, 200, status("success"))], &["exec", "get", "x-1", "-w"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let script = vec![(first, 200, status("queued")), (then, 404, error("NOT_FOUND", "no execution x-1"))];
    let (run, _) = with_server(script, &["exec", "get", "x-1", "-w"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: no execution x-1 (NOT_FOUND)\n"));
}

#[test]
fn watching_nobody_is_an_error_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let run = run(program(&["exec", "get", "x-1", "--watch"]).args(["--endpoint", &endpoint]));
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("cannot connect") && run.stderr.lines().count() == 1, "{run:?}");
}

#[test]
fn a_terminal_shows_how_far_the_execution_is() {
    let (server, gate, id) = held();
    let endpoint = format!("http://{}", server.api);
    let mut terminal =
        Terminal::start(program(&["exec", "get", &id, "--watch"]).args(["--endpoint", &endpoint]), 80);
    terminal.await_text(&format!("{id}  running  attempt 1  "));
    gate.open();
    assert_eq!(terminal.wait(), Some(0));
    terminal.await_text("through");
    let shown = terminal.shown();
    let (_, result) = shown.rsplit_once("\u{1b}[2K").expect("the line was taken away");
    assert!(result.starts_with("\u{1b}[2mexecutionId") && !result.contains("attempt 1  "), "{result:?}");
}

#[test]
fn ctrl_c_stops_the_watching_and_not_the_execution() {
    let (server, gate, id) = held();
    let endpoint = format!("http://{}", server.api);
    let mut terminal =
        Terminal::start(program(&["exec", "get", &id, "--watch"]).args(["--endpoint", &endpoint]), 80);
    terminal.await_text("running");
    terminal.press("\u{3}");
    assert_eq!(terminal.wait(), Some(1));
    terminal.await_text("the execution goes on");
    gate.open();
    assert_eq!(server.ended(&id)["status"], "success");
}

#[test]
fn cancelling_what_waits_what_runs_and_what_is_not_there() {
    let (server, gate, running) = held();
    let queued = enqueue(&server);
    let endpoint = format!("http://{}", server.api);
    let cancel = |id: &str| run(program(&["exec", "cancel", id]).args(["--endpoint", &endpoint]));
    let done = cancel(&queued);
    assert_eq!((done.code, done.stdout), (0, format!("{queued} cancelled\n")));
    let status = server.ended(&queued);
    assert_eq!(status["error"]["code"], "CANCELLED", "{status}");
    for (id, code) in [(&*running, "NOT_CANCELLABLE"), (&*queued, "NOT_CANCELLABLE"), ("nobody", "NOT_FOUND")]
    {
        let refused = cancel(id);
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
        assert!(refused.stderr.contains(code), "{refused:?}");
    }
    gate.open();
    server.ended(&running);

    let fake = Fake::start(vec![("DELETE /v1/executions/x-1", 202, status_text())]);
    let json = run(program(&["exec", "cancel", "x-1", "-o", "json"]).args(["--endpoint", &fake.endpoint]));
    assert_eq!((json.code, json.stdout), (0, format!("{}\n", status_text())));
}

fn status_text() -> String {
    status("error")
}
