//! The `nanofaas-watchdog` binary: the watchdog alone, for function images and beside a server on a small machine.

use std::{
    io::{self, Write},
    process::ExitCode,
};

const HELP: &str = "\
nanofaas-watchdog: run a program as an HTTP function

Takes no arguments: everything is in the environment, as for `nanofaas watchdog`.

Options:
      --version  Print the version
  -h, --help     Print help
";

/// Exit code of a wrong command line.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let Some(argument) = std::env::args_os().nth(1) else { return nanofaas_watchdog::run() };
    // Nobody to tell when a stream is closed.
    match argument.to_str() {
        Some("--version" | "-V") => drop(writeln!(io::stdout(), "{}", nanofaas_watchdog::VERSION)),
        Some("--help" | "-h") => drop(io::stdout().write_all(HELP.as_bytes())),
        _ => {
            let argument = argument.display();
            let _ = writeln!(io::stderr(), "error: {argument} means nothing to the watchdog; see --help");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}
