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

/// Runs twice against the same server and compares.
#[test]
fn runs_are_reported_and_compared() {
    let server = Server::start(|request| match request.path.as_str() {
        "/<u>" => Reply::new(500, r#"{"error":"<script>","message":"m"}"#),
        _ => Reply::new(200, "hello"),
    });
    let out = folder("compare");
    let [one, other] = ["one", "other"].map(|name| out.join(name).to_str().expect("a path").to_owned());
    for (out, path) in [(&one, "/"), (&other, "/<u>")] {
        let url = format!("{}{path}", server.url());
        let pid = std::process::id().to_string();
        let ran =
            loadtest(&["run", "--url", &url, "--duration", "2s", "-c", "2", "--out", out, "--pid", &pid]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let page = fs::read_to_string(format!("{out}/report.html")).expect("a report");
        for title in ["Latency by percentile", "Latency over time", "Throughput", "CPU", "Memory"] {
            let is_drawn = page.contains(&format!("<figcaption>{title} "));
            // Nothing succeeded in the second run, so that there is no latency to draw.
            assert_eq!(is_drawn, path == "/" || title == "CPU" || title == "Memory", "{title} for {path}");
        }
        assert_self_contained(&page);
    }
    let page = out.join("compare.html");
    let ran = loadtest(&["compare", &one, &other, "--html", page.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for expected in ["one", "other", "success/s", "server CPU/answer", "(0.00 worse)"] {
        assert!(ran.stdout.contains(expected), "{expected} in {}", ran.stdout);
    }
    assert_self_contained(&fs::read_to_string(page).expect("a page"));

    let ran = loadtest(&["compare", &one, "missing"]);
    assert_eq!((ran.code, ran.stderr.contains("missing")), (2, true), "{ran:?}");
    fs::write(format!("{other}/summary.json"), "{}").expect("a file");
    let ran = loadtest(&["compare", &one, &other]);
    assert_eq!((ran.code, ran.stderr.contains("no summary")), (2, true), "{ran:?}");
}

/// Nothing is loaded from elsewhere, and nothing that a server says becomes markup.
#[track_caller]
fn assert_self_contained(page: &str) {
    for reference in ["src=", "href=", "url(", "@import", "<link", "<img", "<iframe", "fetch(", "import("] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert_eq!(page.matches("<script").count(), 1, "only our own");
    assert!(!page.contains("<u>"), "names are escaped");
    for needed in ["prefers-color-scheme: dark", "</html>"] {
        assert!(page.contains(needed), "{needed}");
    }
}
