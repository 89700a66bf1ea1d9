//! Commands that measure more than once: peers and saturate; and the server to measure ourselves against.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{Reply, Server, binary::number, loadtest};

/// `loadtest static`, ended with the test.
struct Static {
    child: Child,
    url: String,
}

impl Static {
    fn start() -> Static {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        let mut child = command
            .arg("static")
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("serving on ").expect("its address").to_owned();
        Static { child, url }
    }
}

impl Drop for Static {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }
}

#[test]
fn peers_are_measured_in_rounds_and_compared_with_the_first() {
    let fast = Static::start();
    let slow = Server::start(|_| Reply::new(200, "hello").after(Duration::from_millis(20)));
    let (first, second) = (format!("slow={}", slow.url()), format!("fast={}", fast.url));
    let pid = format!("fast={}", fast.child.id());
    let arguments = ["peers", &first, &second, "--rounds", "2", "--seconds", "1", "-c", "2", "--pid", &pid];
    let ran = loadtest(&[&arguments[..], &["--json"]].concat());
    let peers: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(peers[0]["rounds"].as_array().map(Vec::len), Some(2), "{peers:#}");
    assert_eq!(number(&peers, "/0/throughput_ratio"), 1.0);
    assert!(number(&peers, "/1/throughput_ratio") > 2.0, "{peers:#}");
    assert!(number(&peers, "/0/median/p50_ms") >= 20.0, "{peers:#}");
    assert!(number(&peers, "/1/median/server_cpu_us") > 0.0, "{peers:#}");
    assert!(peers[0]["median"]["server_cpu_us"].is_null());

    let table = loadtest(&["peers", &second, "--rounds", "1", "--seconds", "1", "-c", "2"]);
    assert!(table.stdout.contains("fast") && table.stdout.contains("success/s"), "{table:?}");
    for wrong in [&["peers"][..], &["peers", "x"], &["peers", &second, "--pid", "other=1"]] {
        assert_eq!(loadtest(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn the_saturation_is_found() {
    // Four connections, 20 ms each: 200 calls a second.
    let server = Server::start(|_| Reply::new(200, "hello").after(Duration::from_millis(20)));
    let url = server.url();
    let arguments = [
        "saturate",
        "--url",
        &url,
        "-c",
        "4",
        "--start",
        "40",
        "--seconds",
        "1",
        "--warm-up",
        "0s",
        "--p99-ms",
        "200",
        "--precision",
        "0.3",
        "--tries",
        "1",
    ];
    let ran = loadtest(&[&arguments[..], &["--json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let found: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let saturation = number(&found, "/saturation_per_s");
    // Other load on the machine makes the server slower, never faster; calls that may wait 200 ms add some.
    assert!((20.0..=280.0).contains(&saturation), "{found:#}");

    let server = Server::start(|_| Reply::new(500, "no"));
    let url = server.url();
    let ran = loadtest(&[
        "saturate",
        "--url",
        &url,
        "--start",
        "2",
        "--seconds",
        "1",
        "--warm-up",
        "0s",
        "--tries",
        "1",
    ]);
    assert_eq!((ran.code, ran.stdout.contains("no rate")), (1, true), "{ran:?}");
}

#[test]
fn memory_is_told_over_time_and_has_a_limit() {
    let server = Static::start();
    let pid = server.child.id().to_string();
    let common =
        ["run", "--url", &server.url, "-c", "2", "--duration", "2s", "--warm-up", "0s", "--pid", &pid];
    let limits = ["--threshold", "server_memory_growth_max=9", "--threshold", "p99_to_p50_max=1000000"];
    let ran = loadtest(&[&common[..], &limits, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let summary = ran.summary();
    let (start, end) =
        (number(&summary, "/server/memory/start_bytes"), number(&summary, "/server/memory/end_bytes"));
    assert!(start > 100_000.0 && end > 100_000.0, "{summary:#}");
    let growth = number(&summary, "/server/memory/growth_ratio");
    assert!((growth - (end / start - 1.0)).abs() < 1e-9, "{summary:#}");
    assert!(number(&summary, "/series/0/server_resident_bytes") > 100_000.0, "{summary:#}");
    assert!(number(&summary, "/thresholds/1/value") >= 1.0, "p99 is not below the median: {summary:#}");
    let broken = loadtest(&[&common[..], &["--threshold", "server_memory_growth_max=-2"]].concat());
    assert_eq!(broken.code, 1, "no memory is left at -100 %: {broken:?}");
}
