//! Failures: how they are counted, and what becomes of `Retry-After`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Ran, Reply, SUCCESS, Server, binary::number, loadtest};

fn call(server: &Server, more: &[&str]) -> Ran {
    let url = server.url();
    let plain = ["run", "--endpoint", &url, "--function", "f", "--warm-up", "0s", "--json"];
    loadtest(&[&plain[..], more].concat())
}

#[test]
fn failures_are_counted_by_status_and_code() {
    let count = AtomicU64::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) % 5 {
        0 => Reply::new(200, SUCCESS),
        1 => Reply::new(429, r#"{"error":"QUEUE_FULL","message":"m"}"#).header("Retry-After", "1"),
        2 => Reply::new(
            200,
            r#"{"executionId":"e","status":"error","output":null,"error":{"code":"BAD","message":"m"}}"#,
        ),
        3 => Reply::new(503, "no JSON").and_close(),
        _ => Reply::nothing(),
    });
    let ran =
        call(&server, &["-c", "1", "--rate", "100", "--duration", "1s", "--threshold", "error_rate=0.5"]);
    let summary = ran.summary();
    assert_eq!(summary["total"]["errors_by_status"], json!({"200": 20, "429": 20, "503": 20}), "{summary:#}");
    let codes = json!({"BAD": 20, "QUEUE_FULL": 20, "connection_closed": 20});
    assert_eq!(summary["total"]["errors_by_code"], codes, "{summary:#}");
    for (name, expected) in [("succeeded", 20.0), ("failed", 60.0), ("unanswered", 20.0), ("error_rate", 0.8)]
    {
        assert_eq!(number(&summary, &format!("/total/{name}")), expected, "{name}");
    }
    assert_eq!(ran.code, 1, "the threshold is broken");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let ran = loadtest(&[
        "run",
        "--url",
        &url,
        "--duration",
        "1s",
        "-c",
        "2",
        "--threshold",
        "error_rate=0",
        "--json",
    ]);
    let summary = ran.summary();
    assert!(number(&summary, "/total/errors_by_code/connect_failed") > 0.0, "{summary:#}");
    assert_eq!((number(&summary, "/total/error_rate"), ran.code), (1.0, 1));
}

#[test]
fn a_call_that_takes_too_long_is_given_up() {
    let server = Server::start(|_| Reply::new(200, SUCCESS).after(Duration::from_secs(60)));
    let ran = call(&server, &["-c", "2", "--duration", "1s", "--timeout", "200ms"]);
    let summary = ran.summary();
    let late = number(&summary, "/total/errors_by_code/client_timeout");
    assert!((4.0..=12.0).contains(&late), "{summary:#}");
    assert!(number(&summary, "/total/latency/p50_ms") >= 200.0, "{summary:#}");
}

/// The server refuses every call until a second after the first one.
fn refusing(closes: bool) -> Server {
    let start: Mutex<Option<Instant>> = Mutex::default();
    Server::start(move |_| {
        let begun = start.lock().expect("the start").get_or_insert_with(Instant::now).elapsed();
        if begun > Duration::from_millis(900) {
            return Reply::new(200, SUCCESS).after(Duration::from_millis(20));
        }
        let reply =
            Reply::new(429, r#"{"error":"SYNC_QUEUE_REJECTED","message":"m"}"#).header("Retry-After", "1");
        if closes { reply.and_close() } else { reply }
    })
}

#[test]
fn a_closed_loop_obeys_retry_after() {
    for closes in [false, true] {
        let ran = call(&refusing(closes), &["-c", "3", "--duration", "2s", "--obey-retry-after"]);
        let summary = ran.summary();
        let told = &summary["total"]["retry_after"];
        assert_eq!(
            told["told"], 3,
            "each connection waited, whether it was closed ({closes}) or not: {summary:#}"
        );
        assert_eq!((&told["retried"], &told["first_retry_admitted"]), (&json!(3), &json!(3)), "{summary:#}");
        assert_eq!(number(&summary, "/total/errors_by_status/429"), 3.0);
        assert!(number(&summary, "/total/succeeded") > 3.0);
    }
    // Nobody who does not ask for it waits.
    let ran = call(&refusing(false), &["-c", "3", "--duration", "2s"]);
    assert!(number(&ran.summary(), "/total/errors_by_status/429") > 10.0);
}

#[test]
fn an_open_loop_obeys_retry_after() {
    let ran = call(
        &refusing(false),
        &[
            "-c",
            "3",
            "--rate",
            "20",
            "--duration",
            "3s",
            "--obey-retry-after",
            "--threshold",
            "first_retry_admitted_min=0.9",
        ],
    );
    let summary = ran.summary();
    let told = number(&summary, "/total/retry_after/told");
    assert!((10.0..=21.0).contains(&told), "{summary:#}");
    assert_eq!(number(&summary, "/total/retry_after/first_retry_admitted"), told, "{summary:#}");
    assert_eq!(number(&summary, "/total/intended"), 60.0, "a retry is no new call: {summary:#}");
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A call that is refused again at its first retry is not counted as admitted there.
#[test]
fn a_second_refusal_is_no_first_retry_admitted() {
    let calls: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let server = Server::start(move |request| {
        let mut calls = calls.lock().expect("the calls");
        let count = calls.entry(request.path.clone()).or_default();
        *count += 1;
        if *count <= 2 { Reply::new(503, "").header("Retry-After", "1") } else { Reply::new(200, SUCCESS) }
    });
    let ran = call(&server, &["-c", "1", "--duration", "3s", "--obey-retry-after"]);
    let retry_after = &ran.summary()["total"]["retry_after"];
    let counts = ["told", "retried", "first_retry_admitted", "later_retry_admitted"]
        .map(|key| retry_after[key].as_u64());
    assert_eq!(counts, [1, 1, 0, 1].map(Some), "{retry_after:#}");
}
