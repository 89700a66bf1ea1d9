//! Signals: the first ends a run early and keeps what it measured, the second ends it at once.

use std::{
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Reply, SUCCESS, Server, binary::number, server::folder};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run of an hour against a server whose answers take `delay`, once the server has a request.
fn start(delay: Duration, more: &[&str]) -> Child {
    let (sender, requests) = mpsc::channel();
    let server = Server::start(move |_| {
        let _ = sender.send(());
        Reply::new(200, SUCCESS).after(delay)
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", "--endpoint", &server.url(), "--function", "f", "-c", "2", "--warm-up", "100ms"]);
    command.args(["--duration", "1h"]).args(more);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    // The second request of a connection is sent after the warm-up.
    for _ in 0..if delay > PATIENCE { 1 } else { 20 } {
        requests.recv_timeout(PATIENCE).expect("a request");
    }
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[test]
fn a_run_that_is_interrupted_keeps_what_it_measured() {
    for name in ["INT", "TERM"] {
        let out = folder(&format!("interrupted-{name}"));
        let directory = out.to_string_lossy().into_owned();
        let rate = ["--rate", "50", "--out", &directory, "--threshold", "error_rate=0"];
        let child = start(Duration::from_millis(5), &rate);
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("interrupted"), "{text}");
        let read = |file: &str| std::fs::read_to_string(out.join(file)).expect(file);
        let summary: Value = serde_json::from_str(&read("summary.json")).expect("JSON");
        assert_eq!(summary["is_interrupted"], true);
        assert_eq!(summary["thresholds"][0]["is_met"], true, "what was due has been answered: {summary:#}");
        assert!(number(&summary, "/setup/duration_s") < PATIENCE.as_secs_f64(), "{summary:#}");
        assert!(number(&summary, "/total/succeeded") >= 1.0, "{summary:#}");
        let (intended, sent) = (number(&summary, "/total/intended"), number(&summary, "/total/sent"));
        assert!(intended <= sent + 1.0, "nothing of the hour that was left counts: {summary:#}");
        assert!(read("report.html").contains("interrupted"));
        assert!(read("latency.hlog").contains("f,"), "its log is complete");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut child = start(PATIENCE * 10, &[]);
    signal(&child, "INT");
    let started = Instant::now();
    // A pending signal swallows another of its kind.
    signal(&child, "TERM");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(5), "it waited for answers: {:?}", started.elapsed());
}
