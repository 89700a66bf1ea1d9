//! Scenario files: mistakes, thresholds, exit codes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::support::{Reply, SUCCESS, Server, loadtest, server::folder};

#[test]
fn every_mistake_is_told_at_once() {
    let folder = folder("mistakes");
    let path = folder.join("bad.toml");
    let path = path.to_str().expect("a path");
    fs::write(path, "duration = 5\nthreds = 1\n[[load]]\nmode = \"sink\"\n[thresholds]\np98_ms = 1\n")
        .expect("a file");
    let ran = loadtest(&["run", path]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for expected in
        ["line 1: duration", "line 2: threds", "line 4: load[0].mode", "line 6: thresholds.p98_ms"]
    {
        assert!(ran.stderr.contains(expected), "{expected} in {}", ran.stderr);
    }
    // What the fields mean together is checked as a whole as well.
    fs::write(
        path,
        "[[load]]\nrate = \"70%\"\nconnections = 0\n[[load.function]]\nname = \"a b\"\n\
         payload = { file = \"missing\" }\n[thresholds.function.other]\np99_ms = 1\n",
    )
    .expect("a file");
    let ran = loadtest(&["run", path, "--endpoint", "https://localhost"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for expected in ["duration: is missing", "connections: 0", "70% of what", "a b", "cannot read", "other"] {
        assert!(ran.stderr.contains(expected), "{expected} in {}", ran.stderr);
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [
        &["run"][..],
        &["run", "missing.toml"],
        &["run", "--url", "ftp://x"],
        &["run", "--url", "http://127.0.0.1:1", "--function", "f"],
        &["run", "--url", "http://127.0.0.1:1", "--threshold", "p98_ms=1"],
        &["run", "--url", "http://127.0.0.1:1", "--rate", "fast"],
        &["run", "--url", "http://127.0.0.1:1", "--pid", "4294967295"],
        &["dance"],
    ] {
        assert_eq!(loadtest(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn thresholds_set_the_exit_code() {
    let server = Server::start(|_| Reply::new(200, "hello"));
    let url = server.url();
    for (threshold, code) in [
        ("p99_ms=10000", 0),
        ("p99_ms=0.0001", 1),
        ("throughput_min=1", 0),
        ("throughput_min=100000000", 1),
        // There is no such number in a closed loop: a limit on nothing does not hold.
        ("achieved_rate_min=0.5", 1),
    ] {
        let arguments =
            ["run", "--url", &url, "--duration", "300ms", "--warm-up", "0s", "--threshold", threshold];
        let ran = loadtest(&arguments);
        assert_eq!(ran.code, code, "{threshold}: {ran:?}");
        assert!(ran.stdout.contains(if code == 0 { "ok " } else { "BROKEN" }), "{}", ran.stdout);
    }
}

/// The scenarios that come with the program have no mistakes.
#[test]
fn the_scenarios_of_the_repository_can_be_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("scenarios") {
        let path = entry.expect("an entry").path();
        let scenario = loadtest::plan::file::read(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let scenario = loadtest::plan::Scenario { saturation: Some(1000.0), endpoint, ..scenario };
        scenario.plan().unwrap_or_else(|mistakes| panic!("{}: {mistakes}", path.display()));
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn functions_of_one_kind_are_called_at_random_and_counted_together() {
    let paths = Arc::<Mutex<BTreeSet<String>>>::default();
    let seen = Arc::clone(&paths);
    let server = Server::start(move |request| {
        seen.lock().expect("no panic").insert(request.path.clone());
        Reply::new(200, SUCCESS)
    });
    let path = folder("copies").join("copies.toml");
    let text = |count: u32| {
        format!(
            "duration = \"1s\"\nwarm_up = \"0s\"\n[[load]]\nconnections = 2\n[[load.function]]\nname = \"f\"\n\
             count = {count}\n"
        )
    };
    fs::write(&path, text(3)).expect("a file");
    let path = path.to_str().expect("a path");
    let summary = loadtest(&["run", path, "--endpoint", &server.url(), "--json"]).summary();
    assert_eq!(summary["functions"].as_array().map(Vec::len), Some(1), "{summary:#}");
    let expected = ["f-0", "f-1", "f-2"].map(|name| format!("/v1/functions/{name}:invoke"));
    assert_eq!(*paths.lock().expect("no panic"), BTreeSet::from(expected));
    fs::write(path, text(0)).expect("a file");
    assert_eq!(loadtest(&["run", path]).code, 2);
}
