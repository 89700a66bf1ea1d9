//! Backends from outside: orders in, events and real processes out.
//!
//! [`conformance`] is what every backend must do; [`process`] is what only local processes show.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

mod conformance;
mod process;
mod rig;
#[allow(dead_code, reason = "shared with the tests of the watchdog")]
#[path = "../../crates/watchdog/tests/watchdog/suite/support.rs"]
mod support;

/// The watchdog that `support` would start by itself.
fn watchdog_command() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nanofaas"));
    command.arg("watchdog");
    command
}
