//! The `loadtest` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadtest::cli::main()
}
