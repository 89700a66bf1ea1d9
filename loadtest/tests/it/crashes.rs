//! The crash ledger finds out a server that forgets everything. That one with data loses nothing, also when its disk fails,
//! takes longer: `tests/crashes`.

use std::fs;

use serde_json::Value;

use crate::support::{binary::number, loadtest, nanofaas, server::folder};

#[test]
fn a_server_that_forgets_is_found_out() {
    let (out, binary) = (folder("crash"), nanofaas());
    let (directory, binary) = (out.to_string_lossy(), binary.to_string_lossy());
    let document = out.join("reliability.md");
    let ran = loadtest(&[
        "crash",
        "--binary",
        &binary,
        "--ephemeral",
        "--cycles",
        "2",
        "--seed",
        "7",
        "--rate",
        "200",
        "--serve-max",
        "500ms",
        "--out",
        &directory,
        "--markdown",
        &document.to_string_lossy(),
    ]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in ["lost", "seed 7", "BROKEN"] {
        assert!(ran.stdout.contains(part), "no {part:?} in {ran:?}");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary"))
            .expect("JSON");
    let finding = |key: &str| number(&summary, &format!("/findings/{key}"));
    assert!(number(&summary, "/kills") >= 2.0, "{summary:#}");
    assert!(finding("accepted") > 0.0 && finding("lost") > 0.0, "{summary:#}");
    assert_eq!(finding("accepted"), finding("finished") + finding("lost") + finding("unfinished"));
    // Once it was ready again; a kill before that is no chance to register them.
    let restarts = number(&summary, "/kills") - number(&summary, "/kills_while_starting");
    // One of the eight may be removed at that moment.
    assert!((7.0 * restarts..=8.0 * restarts).contains(&finding("functions_lost")), "{summary:#}");
    assert_eq!(finding("never_run"), 0.0, "{summary:#}");
    let document = fs::read_to_string(document).expect("a document");
    assert!(document.contains("| accepted with 202 |") && document.contains("- killed"), "{document}");
}

#[test]
fn data_of_somebody_else_is_left_alone() {
    let (data, binary) = (folder("crash-data"), nanofaas());
    fs::write(data.join("precious"), "data").expect("a file");
    let (data, binary) = (data.to_string_lossy(), binary.to_string_lossy());
    let ran = loadtest(&["crash", "--binary", &binary, "--data", &data]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("not empty"), "{ran:?}");
    assert_eq!(loadtest(&["crash", "--binary", &binary]).code, 2, "neither --data nor --ephemeral");
}

#[test]
fn a_fault_needs_a_store() {
    let binary = nanofaas();
    let ran = loadtest(&["crash", "--binary", &binary.to_string_lossy(), "--ephemeral", "--fault", "torn"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}
