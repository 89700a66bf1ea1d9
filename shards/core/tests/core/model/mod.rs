//! Random scripts run against the real shard and against a naive model (`oracle`), which predicts every answer,
//! dispatch and abort. Now and then everything that is not on record is lost (`crash`). At the end everything drains, and
//! nothing may be left.
//!
//! The suite runs the same scripts every time, so that it says the same of the same code. Others, and more:
//! `PROPTEST_CASES=20000 CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test -p shard-core --test shard model`.

mod addresses;
mod attempts;
mod calls;
mod compare;
mod crash;
mod dead;
mod drive;
mod oracle;
mod registry;
mod replicas;
mod rooms;
mod step;
mod words;

use std::cell::RefCell;

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use shard_core::settings::SyncQueue;

use drive::Drive;
use registry::Counts;
use step::{Timed, script};

const UNREACHED: SyncQueue = SyncQueue {
    admission_enabled: true,
    max_depth: 1000,
    max_estimated_wait_us: u64::MAX,
    max_queue_wait_us: u64::MAX,
    retry_after_s_min: 1,
    throughput_window_us: 1_000_000,
    min_samples: 5,
};

#[test]
fn random_scripts_go_as_the_model_says() {
    let seen = RefCell::new(Counts::default());
    let run_twice = |script: Vec<Timed>| {
        let (once, counts) = run(&script, None);
        let (twice, _) = run(&script, None);
        prop_assert!(once == twice, "the same script had other effects");
        // The model knows nothing of a sync queue: bounds that nobody reaches change nothing.
        let _ = run(&script, Some(UNREACHED));
        seen.borrow_mut().add(&counts);
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config()).run(&script(), run_twice) {
        panic!("{failure}");
    }
    // Scripts that never get to a rule would not test it.
    let seen = seen.into_inner();
    assert!(seen.all().iter().all(|count| *count > 0), "{seen:?}");
}

fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(1), ..config },
    }
}

/// Runs a script to the end; returns all effects as text, and what became of calls.
fn run(script: &[Timed], sync_queue: Option<SyncQueue>) -> (String, Counts) {
    let mut drive = Drive::new(sync_queue);
    for (wait_ms, shift_ms, op) in script {
        drive.pass(*wait_ms, *shift_ms);
        drive.op(op);
    }
    drive.drain();
    let mut counts = Counts::default();
    for function in &drive.oracle.functions {
        counts.add(&function.counts);
    }
    (drive.trace, counts)
}
