//! Closed and open loops: rates, and what a stall does to latency.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{Reply, SUCCESS, Server, binary::number, loadtest};

#[test]
fn a_closed_loop_keeps_its_connections_busy() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let server = Server::start(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/functions/echo:invoke"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.body, br#"{"input":1}"#);
        Reply::new(200, SUCCESS).after(Duration::from_millis(20))
    });
    let ran = loadtest(&[
        "run",
        "--endpoint",
        &server.url(),
        "--function",
        "echo",
        "-d",
        r#"{"input":1}"#,
        "-c",
        "5",
        "--duration",
        "2s",
        "--warm-up",
        "500ms",
        "--json",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let summary = ran.summary();
    // Five connections, 20 ms each: 250 calls a second at most.
    let throughput = number(&summary, "/total/throughput_per_s");
    assert!((60.0..=252.0).contains(&throughput), "{throughput}");
    assert!(number(&summary, "/total/latency/p50_ms") >= 20.0);
    assert_eq!(number(&summary, "/total/error_rate"), 0.0);
    // The warm-up was sent but is not counted.
    let (all, measured) = (calls.load(Ordering::Relaxed) as f64, number(&summary, "/total/sent"));
    assert!(measured + 5.0 <= all, "{measured} of {all}");
}

#[test]
fn an_open_loop_keeps_its_rate_whatever_the_threads() {
    let server = Server::start(|_| Reply::new(200, "hello"));
    for threads in ["1", "2"] {
        let ran = loadtest(&[
            "run",
            "--url",
            &server.url(),
            "--rate",
            "400",
            "--duration",
            "2s",
            "--warm-up",
            "0s",
            "-c",
            "16",
            "--threads",
            threads,
            "--json",
        ]);
        let summary = ran.summary();
        assert_eq!(number(&summary, "/total/intended"), 800.0, "{ran:?}");
        // A busy machine may keep the generator from running for a while: then calls are late or not sent, and said so.
        let (succeeded, unanswered) =
            (number(&summary, "/total/succeeded"), number(&summary, "/total/unanswered"));
        assert_eq!(succeeded + unanswered, 800.0, "{ran:?}");
        assert!(number(&summary, "/total/achieved_ratio") > 0.5, "{ran:?}");
    }
}

#[test]
fn a_ramp_has_more_calls_at_its_end() {
    let server = Server::start(|_| Reply::new(200, "hello"));
    let ran = loadtest(&[
        "run",
        "--url",
        &server.url(),
        "--rate",
        "0..400",
        "--duration",
        "2s",
        "--warm-up",
        "0s",
        "--json",
    ]);
    let summary = ran.summary();
    assert_eq!(number(&summary, "/total/intended"), 400.0);
    assert!(number(&summary, "/series/0/intended") < number(&summary, "/series/1/intended"), "{ran:?}");
}

/// A server that stalls once. A closed loop sees as many slow calls as it has connections; everybody who would have called
/// during the stall waits too, and only an open loop counts them.
#[test]
fn a_stall_cannot_hide() {
    let stalling = || {
        let start = Instant::now();
        Server::start(move |_| {
            let (from, to) = (Duration::from_millis(1000), Duration::from_millis(1500));
            let now = start.elapsed();
            let delay = if (from..to).contains(&now) { to - now } else { Duration::ZERO };
            Reply::new(200, "hello").after(delay)
        })
    };
    let run = |rate: &[&str]| {
        let server = stalling();
        let url = server.url();
        let plain = ["run", "--url", &url, "-c", "2", "--duration", "3s", "--warm-up", "0s", "--json"];
        loadtest(&[&plain[..], rate].concat()).summary()
    };
    let open = run(&["--rate", "200"]);
    assert!(number(&open, "/total/latency/max_ms") >= 400.0, "{open:#}");
    // 100 of 600 calls fall into the stall, evenly late by 0 to 500 ms.
    assert!(number(&open, "/total/latency/p90_ms") >= 50.0, "{open:#}");
    // From the sending on, next to nothing was late.
    assert!(number(&open, "/total/service/p90_ms") < number(&open, "/total/latency/p90_ms"), "{open:#}");
}

#[test]
fn calls_for_which_no_connection_is_free_are_not_forgotten() {
    let server = Server::start(|_| Reply::new(200, "hello").after(Duration::from_millis(200)));
    let ran = loadtest(&[
        "run",
        "--url",
        &server.url(),
        "--rate",
        "100",
        "-c",
        "1",
        "--duration",
        "2s",
        "--warm-up",
        "0s",
        "--threshold",
        "achieved_rate_min=0.95",
        "--json",
    ]);
    let summary = ran.summary();
    assert_eq!(number(&summary, "/total/intended"), 200.0);
    let ended = ["succeeded", "failed", "unanswered"].map(|name| number(&summary, &format!("/total/{name}")));
    assert_eq!(ended.iter().sum::<f64>(), 200.0, "{summary:#}");
    assert!(number(&summary, "/total/not_sent") >= 150.0, "{summary:#}");
    assert!(number(&summary, "/total/latency/p99_ms") >= 1000.0, "{summary:#}");
    assert_eq!(ran.code, 1, "the threshold is broken");
}

#[test]
fn functions_are_called_by_their_weights_and_payloads_in_turn() {
    let folder = crate::support::server::folder("payloads");
    for name in ["a", "b", "c"] {
        std::fs::write(folder.join(name), name).expect("a payload");
    }
    let bodies = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&bodies);
    let server = Server::start(move |request| {
        if request.path == "/often" {
            seen.lock().expect("the bodies").insert(request.body.clone());
        }
        Reply::new(200, "hello")
    });
    let url = server.url();
    let scenario = format!(
        r#"
        duration = "1s"
        warm_up = "0s"
        [[load]]
        mode = "url"
        rate = 400
        [[load.function]]
        url = "{url}/often"
        weight = 9
        payload = {{ directory = "." }}
        [[load.function]]
        url = "{url}/seldom"
        [thresholds.function."{url}/often"]
        error_rate = 0
        "#
    );
    let path = folder.join("d.toml");
    std::fs::write(&path, scenario).expect("a scenario");
    let ran = loadtest(&["run", path.to_str().expect("a path"), "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let summary = ran.summary();
    let [often, seldom] = [0, 1].map(|at| number(&summary, &format!("/functions/{at}/figures/sent")));
    assert!(often > 5.0 * seldom && seldom > 0.0, "{often} {seldom}");
    let bodies = bodies.lock().expect("the bodies");
    assert_eq!(bodies.len(), 4, "three payloads and the scenario itself: {bodies:?}");
}
