//! Modes STDIO and FILE, and what all modes share: errors, limits, metrics.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::time::{Duration, Instant};

use super::support::{Folder, Watchdog, connect, gone, warm};

/// A program, what it is sent, and what comes back.
struct Case {
    program: &'static str,
    content_type: &'static str,
    body: &'static [u8],
    status: u16,
    /// Content type of a success, code of a failure.
    kind: &'static str,
    /// Part of the body of a success, of the message of a failure.
    contains: &'static str,
}

const JSON: &str = "application/json";

#[test]
fn stdio_answers() {
    let cases = [
        Case {
            program: "cat",
            content_type: JSON,
            body: br#"{"input":{"a":1},"metadata":null}"#,
            status: 200,
            kind: JSON,
            contains: r#"{"input":{"a":1},"metadata":null}"#,
        },
        Case {
            program: "sh -c 'echo boom >&2; exit 3'",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "FUNCTION_ERROR",
            contains: "Process exited with exit status: 3: boom",
        },
        Case {
            program: "sh -c 'kill -9 $$'",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "FUNCTION_ERROR",
            contains: "signal: 9",
        },
        Case {
            program: "echo not json",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "FUNCTION_BAD_OUTPUT",
            contains: "Standard output is the answer and has to be one JSON value, but there is ",
        },
        Case {
            program: "true",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "FUNCTION_BAD_OUTPUT",
            contains: "Standard output is the answer and has to be one JSON value, but there is ",
        },
        Case {
            program: "no-such-program",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "SPAWN_ERROR",
            contains: "cannot start 'no-such-program': No such file or directory",
        },
        Case {
            program: "yes",
            content_type: JSON,
            body: b"{}",
            status: 500,
            kind: "FUNCTION_RESPONSE_TOO_LARGE",
            contains: "16777216 bytes",
        },
        Case {
            program: "tr a-z A-Z",
            content_type: "text/plain",
            body: b"shout",
            status: 200,
            kind: "application/octet-stream",
            contains: "SHOUT",
        },
        Case {
            program: "sh -c 'echo \"[\\\"$EXECUTION_ID\\\",\\\"$TRACE_ID\\\"]\"'",
            content_type: JSON,
            body: b"{}",
            status: 200,
            kind: JSON,
            contains: r#"["e1","t1"]"#,
        },
        // Somebody who left the process group holds standard output open.
        Case {
            program: "sh -c 'setsid sleep 30 & echo 1'",
            content_type: JSON,
            body: b"{}",
            status: 200,
            kind: JSON,
            contains: "1",
        },
        Case {
            program: "cat",
            content_type: JSON,
            body: b"{",
            status: 400,
            kind: "BAD_REQUEST",
            contains: "not JSON",
        },
    ];
    for case in cases {
        let watchdog = Watchdog::ready(&warm("STDIO", case.program));
        let headers = [("X-Execution-Id", "e1"), ("X-Trace-Id", "t1"), ("Content-Type", case.content_type)];
        let answer = watchdog.send("POST", "/invoke", &headers, case.body);
        assert_eq!(answer.status, case.status, "{}: {}", case.program, answer.text());
        let (code, message) = answer.error();
        if case.status == 200 {
            assert_eq!(answer.header("content-type"), Some(case.kind), "{}", case.program);
            assert_eq!(answer.text(), case.contains, "{}", case.program);
        } else {
            assert_eq!(code, case.kind, "{}: {message}", case.program);
            assert!(message.contains(case.contains), "{}: {message}", case.program);
        }
    }
}

#[test]
fn stdio_does_not_block_on_either_side() {
    let text = "x".repeat(4 << 20);
    let request = format!("\"{text}\"");
    for program in [
        // Closes standard input unread.
        "sh -c 'exec <&-; echo 1'",
        // Writes more than a pipe holds before it reads.
        "sh -c 'head -c 1000000 /dev/zero | tr \"\\\\0\" \" \"; cat'",
        // Writes to standard error only.
        "sh -c 'head -c 1000000 /dev/zero | tr \"\\\\0\" e >&2; cat'",
    ] {
        let mut variables = warm("STDIO", program);
        variables.push(("RUST_LOG", "warn"));
        let watchdog = Watchdog::ready(&variables);
        let answer = watchdog.invoke(&request);
        assert_eq!(answer.status, 200, "{program}: {:?}", answer.error());
        assert!(answer.body == b"1" || answer.body == request.as_bytes(), "{program}: {}", answer.body.len());
    }
}

#[test]
fn file_mode_gives_each_call_a_directory_and_removes_it() {
    let folder = Folder::new("file");
    let seen = folder.path("seen");
    for (script, status, part) in [
        ("cat \"$INPUT_FILE\" > \"$OUTPUT_FILE\"", 200, r#"{"input":7}"#),
        ("echo chatter", 500, "not created"),
        (
            "echo oops > \"$OUTPUT_FILE\"",
            500,
            "The file that OUTPUT_FILE names is the answer and has to be one JSON value, but there is ",
        ),
        ("echo bad >&2; exit 1", 500, "exit status: 1: bad"),
        ("mkfifo \"$OUTPUT_FILE\"", 500, "not created"),
        ("sleep 60", 504, "exceeded timeout of 300ms"),
    ] {
        let program = folder.program("sh", &format!("echo \"$INPUT_FILE\" > {}\n{script}\n", seen.display()));
        let watchdog = Watchdog::ready(&warm("FILE", &program));
        let headers = [("X-Execution-Id", "e1"), ("X-Deadline-Ms", "300")];
        let headers = if status == 504 { &headers[..] } else { &headers[..1] };
        let answer = watchdog.send("POST", "/invoke", headers, br#"{"input":7}"#);
        assert_eq!(answer.status, status, "{script}: {}", answer.text());
        assert!(answer.text().contains(part), "{script}: {}", answer.text());
        let input = std::fs::read_to_string(&seen).unwrap();
        let directory = std::path::Path::new(input.trim()).parent().unwrap().to_owned();
        super::support::eventually("the directory is removed", || (!directory.exists()).then_some(()));
    }
}

#[test]
fn requests_that_are_no_calls() {
    let watchdog = Watchdog::ready(&warm("STDIO", "cat"));
    for (method, path, status, code) in [
        ("POST", "/invoke", 400, "BAD_REQUEST"),
        ("GET", "/invoke", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/health", 200, ""),
    ] {
        let answer = watchdog.send(method, path, &[], b"{}");
        assert_eq!((answer.status, answer.error().0.as_str()), (status, code), "{method} {path}");
    }
    let without_id = watchdog.send("POST", "/invoke", &[], b"{}");
    assert_eq!(without_id.error().1, "X-Execution-Id header is required");
}

#[test]
fn the_first_success_is_a_cold_start() {
    let watchdog = Watchdog::ready(&warm("STDIO", "sh -c 'read x; test \"$x\" = 1 && echo 1'"));
    let cold = |answer: super::support::Answer| answer.header("x-cold-start").map(str::to_owned);
    assert_eq!(cold(watchdog.invoke("0")), None, "a failure");
    let first = watchdog.invoke("1");
    let init_ms: u64 = first.header("x-init-duration-ms").unwrap().parse().unwrap();
    assert!(init_ms < 20_000);
    assert_eq!(cold(first), Some("true".to_owned()));
    assert_eq!(cold(watchdog.invoke("1")), None, "the second success");
}

#[test]
fn a_timeout_ends_the_whole_process_group() {
    let folder = Folder::new("timeout");
    let pids = folder.path("pids");
    // Neither the program nor its child listens to SIGTERM.
    let script = format!("trap '' TERM\nsleep 300 &\necho $$ $! > {}\nwait\nwait\n", pids.display());
    let program = folder.program("sh", &script);
    let watchdog = Watchdog::ready(&warm("STDIO", &program));
    let begun = Instant::now();
    let answer =
        watchdog.send("POST", "/invoke", &[("X-Execution-Id", "e1"), ("X-Deadline-Ms", "1000")], b"{}");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.error(), ("TIMEOUT".to_owned(), "Function exceeded timeout of 1000ms".to_owned()));
    assert!(begun.elapsed() >= Duration::from_millis(1000));
    folder.pids("pids", 2).into_iter().for_each(gone);
    let metrics = watchdog.send("GET", "/metrics", &[], b"").text();
    assert!(
        metrics.contains("watchdog_timeouts_total{function=\"unknown\",mode=\"STDIO\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn a_caller_that_leaves_ends_its_call() {
    let folder = Folder::new("leave");
    let program = folder.program("sh", &format!("echo $$ > {}\nsleep 300\n", folder.path("pids").display()));
    let watchdog = Watchdog::ready(&warm("STDIO", &program));
    let connection =
        connect(watchdog.address.unwrap(), "POST", "/invoke", &[("X-Execution-Id", "e1")], b"{}").unwrap();
    let pids = folder.pids("pids", 1);
    drop(connection);
    pids.into_iter().for_each(gone);
}

#[test]
fn parallel_calls_are_limited() {
    let folder = Folder::new("parallel");
    let running = folder.path("running");
    std::fs::create_dir(&running).unwrap();
    // Each call answers how many ran with it.
    let script = format!("cd {}\n: > $$\nls | wc -l\nsleep 0.3\nrm $$\n", running.display());
    let program = folder.program("sh", &script);
    let mut variables = warm("STDIO", &program);
    variables.push(("WATCHDOG_CONCURRENCY", "2"));
    let watchdog = Watchdog::ready(&variables);
    let counts: Vec<u32> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| watchdog.invoke("{}"))).collect();
        calls.into_iter().map(|call| call.join().unwrap().text().trim().parse().unwrap()).collect()
    });
    assert_eq!(counts.iter().max(), Some(&2), "{counts:?}");
}

#[test]
fn a_call_waits_for_a_slot_only_until_its_deadline() {
    let folder = Folder::new("slot");
    let program = folder.program("sh", &format!("echo $$ >> {}\nsleep 300\n", folder.path("pids").display()));
    let mut variables = warm("STDIO", &program);
    variables.push(("WATCHDOG_CONCURRENCY", "1"));
    let watchdog = Watchdog::ready(&variables);
    let address = watchdog.address.unwrap();
    let _busy = connect(address, "POST", "/invoke", &[("X-Execution-Id", "e1")], b"{}").unwrap();
    folder.pids("pids", 1);
    let answer =
        watchdog.send("POST", "/invoke", &[("X-Execution-Id", "e2"), ("X-Deadline-Ms", "200")], b"{}");
    assert_eq!(answer.status, 504);
    assert_eq!(folder.pids("pids", 1).len(), 1, "the second call never ran");
}

#[test]
fn metrics_count_calls() {
    let mut variables = warm("STDIO", "sh -c 'read x; test \"$x\" = 1 && echo 1'");
    variables.push(("FUNCTION_NAME", "f"));
    let watchdog = Watchdog::ready(&variables);
    for body in ["1", "0", "1"] {
        watchdog.invoke(body);
    }
    let answer = watchdog.send("GET", "/metrics", &[], b"");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"watchdog_invocations_total{function="f",mode="STDIO",success="true"} 2"#,
        r#"watchdog_invocations_total{function="f",mode="STDIO",success="false"} 1"#,
        r#"watchdog_invocation_duration_seconds_count{function="f",mode="STDIO"} 3"#,
        r#"watchdog_invocations_in_flight{function="f"} 0"#,
    ] {
        assert!(answer.text().lines().any(|found| found == line), "{line} in\n{}", answer.text());
    }
}
