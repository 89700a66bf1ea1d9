//! What a run leaves behind: summary, interval log, report; and comparing runs.

use std::fs;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use crate::support::{Reply, Server, binary::number, loadtest, server::folder};

#[test]
fn the_interval_log_has_every_second() {
    let server = Server::start(|_| Reply::new(200, "hello"));
    let out = folder("log");
    let ran = loadtest(&[
        "run",
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--warm-up",
        "1s",
        "--duration",
        "2s",
        "--out",
        out.to_str().expect("a path"),
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary"))
            .expect("JSON");
    assert_eq!(number(&summary, "/total/intended"), 200.0);
    let log = fs::read(out.join("latency.hlog")).expect("a log");
    let mut tags = Vec::new();
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.expect("an entry") {
            let tag = interval.tag().expect("a tag").as_str().to_owned();
            tags.push((interval.start_timestamp().as_secs(), tag.ends_with(".warm-up")));
        }
    }
    for expected in [(0, true), (1, false), (2, false)] {
        assert!(tags.contains(&expected), "{expected:?} in {tags:?}");
    }
}
