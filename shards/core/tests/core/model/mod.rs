//! Random scripts run against the real shard and against a naive model (`oracle`), which predicts every answer,
//! dispatch and abort. At the end everything drains, and nothing may be left.

mod attempts;
mod calls;
mod dead;
mod drive;
mod oracle;
mod registry;
mod step;
mod words;

use std::cell::RefCell;

use proptest::{prelude::*, test_runner::TestRunner};

use drive::Drive;
use registry::Counts;
use step::{Timed, script};

#[test]
fn random_scripts_go_as_the_model_says() {
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let seen = RefCell::new(Counts::default());
    let run_twice = |script: Vec<Timed>| {
        let (once, counts) = run(&script);
        let (twice, _) = run(&script);
        prop_assert!(once == twice, "the same script had other effects");
        seen.borrow_mut().add(&counts);
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config).run(&script(), run_twice) {
        panic!("{failure}");
    }
    // Scripts that never get to a rule would not test it.
    let seen = seen.into_inner();
    assert!(seen.all().iter().all(|count| *count > 0), "{seen:?}");
}

/// Runs a script to the end; returns all effects as text, and what became of calls.
fn run(script: &[Timed]) -> (String, Counts) {
    let mut drive = Drive::new();
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
