//! The crash ledger against real servers with data, killed again and again while their disk tears, fills, hangs or crawls:
//! nothing is lost or taken back.
//!
//! Not part of plain `cargo test`, because it takes longer than all the rest of this crate:
//! `cargo test --test crashes`, a step of `tests/run.sh`. That the ledger can fail is tested in `tests/it`.

#![allow(unreachable_pub, reason = "modules of a test binary are its only readers")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a toolbox: this needs the programs in it only")]
mod support;

use std::fs;

use serde_json::Value;
use support::{binary::number, loadtest, nanofaas, server::folder};

/// Runs it on a new data directory; the summary of a run in which nothing was lost or taken back.
#[track_caller]
fn crash(name: &str, arguments: &[&str]) -> Value {
    let (out, binary) = (folder(name), nanofaas());
    let (directory, binary) = (out.to_string_lossy(), binary.to_string_lossy());
    let data = out.join("data");
    let data = data.to_string_lossy();
    let common = ["crash", "--binary", &binary, "--data", &data, "--out", &directory, "--rate", "200"];
    let ran = loadtest(&[&common[..], arguments].concat());
    assert!(out.join("summary.json").exists(), "{ran:?}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary"))
            .expect("JSON");
    let finding = |key: &str| number(&summary, &format!("/findings/{key}"));
    assert!(finding("accepted") > 20.0, "{summary:#}");
    assert_eq!(finding("finished") + finding("forgotten"), finding("accepted"), "{summary:#}");
    for broken in [
        "lost",
        "unfinished",
        "never_run",
        "keys_broken",
        "functions_lost",
        "still_refused",
        "undelivered",
        "changed",
        "cancels_taken_back",
        "purges_taken_back",
        "replays_taken_back",
        "removals_taken_back",
        "numbers_repeated",
        "decided_late",
        "delivered_otherwise",
        "answered_late",
    ] {
        assert_eq!(finding(broken), 0.0, "{broken} of {summary:#}");
    }
    assert_eq!(summary["is_tried"], true, "{summary:#}");
    summary
}

#[test]
fn a_server_with_data_loses_nothing() {
    crash("crash-durable", &["--cycles", "5", "--seed", "11", "--serve-max", "400ms"]);
}

#[test]
fn a_torn_end_takes_nothing_with_it() {
    let fault = ["--fault", "torn", "--cycles", "8", "--seed", "5", "--serve-max", "400ms"];
    let summary = crash("crash-torn", &fault);
    assert!(number(&summary, "/faults/tears") >= 8.0, "{summary:#}");
    assert_eq!(number(&summary, "/findings/tears_unsaid"), 0.0, "{summary:#}");
}

/// Where nothing can be mounted this is the same as the next one: it is never left out.
#[test]
fn a_full_disk_takes_nothing_with_it() {
    full("crash-full", &[]);
}

#[test]
fn files_that_cannot_grow_take_nothing_with_them() {
    let summary = full("crash-limit", &["--disk", "limit"]);
    assert_eq!(summary["faults"]["disk"], "a limit on the length of files");
}

#[track_caller]
fn full(name: &str, disk: &[&str]) -> Value {
    let fault = ["--fault", "full", "--cycles", "8", "--seed", "5", "--serve-max", "800ms"];
    let summary = crash(name, &[&fault, disk].concat());
    for key in ["/faults/fills", "/faults/kills_while_full", "/calls/not_stored"] {
        assert!(number(&summary, key) > 0.0, "{key} of {summary:#}");
    }
    assert_eq!(number(&summary, "/calls/refused"), 0.0, "{summary:#}");
    summary
}

#[test]
fn a_disk_that_hangs_takes_nothing_with_it() {
    let fault = ["--fault", "hung", "--cycles", "6", "--seed", "5", "--serve-max", "400ms"];
    let summary = crash("crash-hung", &fault);
    for key in ["/faults/hangs", "/faults/kills_while_hung", "/faults/syncs_hung"] {
        assert!(number(&summary, key) > 0.0, "{key} of {summary:#}");
    }
}

#[test]
fn a_disk_that_is_slow_takes_nothing_with_it() {
    let fault = ["--fault", "slow", "--cycles", "6", "--seed", "5", "--serve-max", "800ms"];
    let summary = crash("crash-slow", &fault);
    for key in ["/faults/cuts", "/faults/syncs_slow"] {
        assert!(number(&summary, key) > 0.0, "{key} of {summary:#}");
    }
}
