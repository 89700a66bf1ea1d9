//! Random scripts run against the real shard and against a naive model (`oracle`), which predicts every answer,
//! dispatch and abort. At the end everything drains, and nothing may be left.

mod drive;
mod oracle;
mod registry;
mod step;

use proptest::prelude::*;

use drive::Drive;
use step::{Timed, script};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_go_as_the_model_says(script in script()) {
        let once = run(&script);
        let twice = run(&script);
        prop_assert!(once == twice, "the same script had other effects");
    }
}

/// Runs a script to the end and returns all effects as text.
fn run(script: &[Timed]) -> String {
    let mut drive = Drive::new();
    for (wait_ms, shift_ms, op) in script {
        drive.pass(*wait_ms, *shift_ms);
        drive.op(op);
    }
    drive.drain();
    drive.trace
}
