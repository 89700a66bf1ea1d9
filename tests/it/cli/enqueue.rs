//! `nanofaas enqueue`.

use serde_json::json;

use super::{
    error,
    program::{program, run},
    with_server,
};
use crate::support::{Function, Reply, Server};

const PATH: &str = "POST /v1/functions/f:enqueue";
const BODY: &str = r#"{"executionId":"x-1","status":"queued","output":null,"error":null}"#;

#[test]
fn enqueue_prints_the_id_and_sends_what_it_was_told() {
    let answer = || vec![(PATH, 202, BODY.to_owned())];
    let flags =
        ["--idempotency-key", "k1", "--trace-id", "t1", "--callback-url", "http://h/x", "--max-age", "30s"];
    let mut arguments = vec!["enqueue", "f", "-d", "{\"n\": 1.50}", "--timeout-ms", "1500"];
    arguments.extend(flags);
    let (run, fake) = with_server(answer(), &arguments);
    assert_eq!((run.code, run.stdout.as_str()), (0, "x-1\n"), "{run:?}");
    assert!(run.stderr.contains("nanofaas exec get x-1 --watch"), "{run:?}");
    let request = &fake.requests()[0];
    assert_eq!(request.body, "{\"input\":{\"n\": 1.50}}");
    for header in [
        "idempotency-key: k1",
        "x-trace-id: t1",
        "x-callback-url: http://h/x",
        "x-max-age-ms: 30000",
        "x-timeout-ms: 1500",
    ] {
        assert!(request.has(header), "{header} {request:?}");
    }
    let (run, fake) = with_server(answer(), &["enqueue", "f", "-d", "1", "-o", "json"]);
    assert_eq!((run.code, run.stdout), (0, format!("{BODY}\n")));
    let request = &fake.requests()[0];
    assert!(!request.headers.iter().any(|line| line.starts_with("x-")), "{request:?}");
}

#[test]
fn enqueue_tells_what_the_server_refuses() {
    for (status, code, message) in [
        (501, "ASYNC_QUEUE_DISABLED", "set NANOFAAS_ASYNC_QUEUE_ENABLED=true"),
        (404, "NOT_FOUND", "there is no function f"),
        (429, "QUEUE_FULL", "the queue of f is full"),
        (503, "STORE_UNAVAILABLE", "the disk is full"),
    ] {
        for extra in [&[][..], &["--watch"]] {
            let arguments = [&["enqueue", "f", "-d", "1"][..], extra].concat();
            let (run, _) = with_server(vec![(PATH, status, error(code, message))], &arguments);
            let stderr = format!("error: {message} ({code})\n");
            assert_eq!((run.code, run.stdout.as_str(), run.stderr), (1, "", stderr));
        }
    }
    for (flag, value) in
        [("--max-age", "0s"), ("--max-age", "25h"), ("--max-age", "soon"), ("--timeout-ms", "0")]
    {
        let (run, _) = with_server(vec![], &["enqueue", "f", "-d", "1", flag, value]);
        assert_eq!(run.code, 2, "{flag} {value} {run:?}");
        assert!(run.stderr.contains(flag), "{run:?}");
    }
    let (run, _) = with_server(vec![], &["enqueue", "f", "-d", "1", "--callback-url", "http://h/\n"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn enqueue_and_watch_on_a_real_server() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let function = Function::start(|call| match call.json()["input"].as_i64() {
        Some(number) => Reply::json(json!({ "double": number * 2 })),
        None => Reply::new(400, "text/plain", b"not a number"),
    });
    server.pool("f", &function, json!({}));
    let endpoint = format!("http://{}", server.api);
    let nanofaas = |arguments: &[&str]| run(program(arguments).args(["--endpoint", &endpoint]));

    let good = nanofaas(&["enqueue", "f", "-d", "21", "--watch", "-o", "json"]);
    assert_eq!(good.code, 0, "{good:?}");
    let status: serde_json::Value = serde_json::from_str(&good.stdout).expect("one document");
    assert_eq!((&status["status"], &status["output"]["double"]), (&json!("success"), &json!(42)));

    let bad = nanofaas(&["enqueue", "f", "-d", "\"x\"", "--watch"]);
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.stdout.contains("not a number (FUNCTION_ERROR)"), "{bad:?}");
    assert!(bad.stdout.contains("\nfinishedAt    20") && !bad.stdout.contains("Millis"), "{bad:?}");

    let accepted = nanofaas(&["enqueue", "f", "-d", "4"]);
    let id = accepted.stdout.trim();
    let got = nanofaas(&["exec", "get", id, "--watch"]);
    assert_eq!((got.code, got.stderr.as_str()), (0, ""), "{got:?}");
    assert!(got.stdout.contains(id) && got.stdout.contains("{\"double\":8}"), "{got:?}");

    let off = Server::start(&[]);
    off.pool("f", &function, json!({}));
    let refused =
        run(program(&["enqueue", "f", "-d", "1"]).args(["--endpoint", &format!("http://{}", off.api)]));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("ASYNC_QUEUE_DISABLED"), "{refused:?}");
}
