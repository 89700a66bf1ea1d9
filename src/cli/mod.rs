//! The command line: one file per command.

use std::process::ExitCode;

use crate::watchdog;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(name) if name == "watchdog" => watchdog::run(),
        _ => ExitCode::from(2),
    }
}
