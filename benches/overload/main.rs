//! How the server bears more calls than a function can serve.
//!
//! Real processes and sockets: the server as a process of its own, the function and its callers here. What is
//! measured stands in `scenarios`; `load` has the callers. The server is the binary that Cargo built with this
//! one, so `cargo bench --bench overload` measures a release build.
//!
//! `cargo bench --bench overload` takes about three minutes and prints a table; names behind `--` pick from it:
//! `refused`, `goodput`, `fairness`, `idle`. The exit code is 1 when a bound is broken. `cargo test --bench '*'` runs
//! nothing here: the same scenarios run for moments in `tests/it/overload.rs`.

#![allow(unreachable_pub, reason = "modules of a benchmark are its only readers")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod load;
mod scenarios;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use scenarios::{Fairness, Goodput, Obedience, Row};

/// One scenario: its name on the command line, and how to run it.
type Scenario = (&'static str, fn() -> Vec<Row>);

const SCENARIOS: [Scenario; 4] = [
    ("refused", || Obedience { overload: 3.0, duration: Duration::from_secs(40) }.run().rows()),
    ("goodput", || Goodput { overloads: &[1.0, 3.0, 10.0], duration: Duration::from_secs(10) }.rows()),
    ("fairness", || Fairness { rounds: 5, calls: 400 }.rows()),
    ("idle", || scenarios::idle_rows(Duration::from_secs(10))),
];

fn main() -> ExitCode {
    let (flags, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with('-'));
    if wanted.is_empty() && !flags.iter().any(|flag| flag == "--bench") {
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    println!("| what | figure | bound | |\n|---|---|---|---|");
    for (name, run) in SCENARIOS {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        for row in run() {
            println!("{row}");
            good &= row.holds();
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
