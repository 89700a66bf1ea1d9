//! Commands that start servers themselves: growth and scaling, in a tiny size.

use std::fs;

use serde_json::Value;

use crate::support::{binary::number, loadtest, nanofaas, server::folder};

#[test]
fn growth_is_measured_over_functions_and_over_retained_executions() {
    let (out, binary) = (folder("growth"), nanofaas());
    let (directory, binary) = (out.to_string_lossy(), binary.to_string_lossy());
    let tiny = ["--binary", &binary, "--functions", "1,20", "--retained", "0,300", "--seconds", "1"];
    let common = [&["growth"], &tiny[..], &["-c", "4", "--warm-up", "0s"]].concat();

    let ran = loadtest(&[&common[..], &["--rounds", "2", "--flat", "100000", "--out", &directory]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["functions", "retained executions", "deviation", "ok "] {
        assert!(ran.stdout.contains(part), "no {part:?} in {ran:?}");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary"))
            .expect("JSON");
    for (curve, what, sizes) in [(0, "functions", [1.0, 20.0]), (1, "retained executions", [0.0, 300.0])] {
        assert_eq!(summary["curves"][curve]["what"], what);
        for (point, size) in sizes.iter().enumerate() {
            let at = |key: &str| number(&summary, &format!("/curves/{curve}/points/{point}/{key}"));
            assert_eq!(at("size"), *size);
            assert!(at("median/server_cpu_us") > 0.0 && at("median/throughput_per_s") > 0.0, "{summary:#}");
            assert!(at("resident_bytes") > 1e6, "{summary:#}");
            assert_eq!(at("median/error_rate"), 0.0, "{summary:#}");
            assert_eq!(at("rounds/1/error_rate"), 0.0, "both rounds are there: {summary:#}");
        }
        assert_eq!(number(&summary, &format!("/curves/{curve}/points/0/deviation")), 0.0);
    }
    let page = fs::read_to_string(out.join("report.html")).expect("a page");
    assert_eq!(page.matches("<figure").count(), 2, "a plot per curve");
    assert!(!page.contains("http://") && !page.contains("NaN"), "it loads nothing");

    let strict = loadtest(
        &[&common[..], &["--rounds", "1", "--flat", "0", "--functions-in", "pool", "--json"]].concat(),
    );
    assert_eq!(strict.code, 1, "no two servers take exactly the same time: {strict:?}");
    assert_eq!(strict.summary()["is_flat"], false);
}

#[test]
fn shards_are_compared_by_what_their_cores_could_serve() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return; // The command says that it needs two cores.
    }
    let (out, binary) = (folder("scaling"), nanofaas());
    let (directory, binary) = (out.to_string_lossy(), binary.to_string_lossy());
    let common =
        ["scaling", "--binary", &binary, "--rounds", "1", "--seconds", "1", "--warm-up", "0s", "-c", "8"];
    let ran = loadtest(&[&common[..], &["--goal", "0.01", "--out", &directory]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("2 shards") && ran.stdout.contains("capacity"), "{ran:?}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).expect("a summary"))
            .expect("JSON");
    let share = |side: &str| number(&summary, &format!("/{side}/rounds/0/busiest_share"));
    for side in ["apart", "together"] {
        assert!((0.3..0.95).contains(&share(side)), "two threads share it: {summary:#}");
    }
    assert!(number(&summary, "/capacity_ratio") > 0.0, "{summary:#}");
    assert_eq!(loadtest(&[&common[..], &["--goal", "99"]].concat()).code, 1);
    assert_eq!(loadtest(&[&common[..], &["--shards", "1024"]].concat()).code, 2);
}

#[test]
fn a_program_that_is_no_server_is_named() {
    let ran = loadtest(&["growth", "--binary", "no-such-program"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("no-such-program") && ran.stderr.contains("--binary"), "{ran:?}");
}
