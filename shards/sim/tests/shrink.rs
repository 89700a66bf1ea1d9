//! Making a run small takes long: what it has so far is in the file, whatever stops it.

use std::{
    io::{BufRead, BufReader},
    ops::ControlFlow,
    process::{Command, Stdio},
};

use shard_sim::{Options, Outcome, file, run, sabotage::Sabotage, shrink::shrink};

/// A run that fails.
fn broken() -> Options {
    let broken =
        |seed| Options { sabotage: Some(Sabotage::DiskLies), steps_shown: 0, ..Options::new(seed, 600) };
    (1..20).map(broken).find(|options| run(options).failure.is_some()).expect("a lying disk is noticed")
}

#[test]
fn a_run_gets_smaller_until_that_is_enough() {
    let options = broken();
    let mut seen = Vec::new();
    let smallest = shrink(&options, |smaller, left| {
        seen.push(left);
        assert!(run(smaller).failure.is_some(), "it fails yet, with {left} requests");
        if seen.len() < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|before, after| before > after), "{seen:?}");
    assert!(run(&smallest).failure.is_some());
}

/// All requests were made long before as many steps as there may be.
#[test]
fn a_run_with_few_requests_ends_well() {
    for seed in 1..65 {
        let options = Options { requests_max: 2 * seed, ..Options::new(seed, 5000) };
        let Outcome { failure, requests, time_us, .. } = run(&options);
        assert!(failure.is_none(), "seed {seed}: {failure:?}");
        assert_eq!(requests, options.requests_max);
        assert!(time_us < 48 * 3_600_000_000, "seed {seed} took {time_us} µs");
    }
}

#[test]
fn a_file_is_there_when_it_is_killed() {
    let options = broken();
    let path = std::env::temp_dir().join(format!("shard-sim-{}.txt", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_shard-sim"))
        .args(["--sabotage", "DiskLies", "--seed", &options.seed.to_string(), "--events", "600", "--shrink"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("shard-sim starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let said = lines.map_while(Result::ok).find(|line| line.contains("requests left"));
    child.kill().expect("it is killed, unless it has ended");
    child.wait().expect("it ends");
    assert!(said.is_some(), "it says how far it is");
    let text = std::fs::read_to_string(&path).expect("the file is there");
    std::fs::remove_file(&path).expect("it is removed");
    let smaller = Options { sabotage: options.sabotage, ..file::read(&text).expect("a run") };
    assert!(run(&smaller).failure.is_some(), "{text}");
}
