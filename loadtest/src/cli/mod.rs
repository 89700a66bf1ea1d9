//! The command line: one file per command.
//!
//! Exit codes: 0 success, 1 a threshold is broken or the run failed, 2 usage (also a scenario with mistakes), 130
//! ended early by SIGINT or SIGTERM.

mod compare;
mod crash;
mod failure;
mod fixed;
mod flags;
mod fleet;
mod growth;
mod measure;
mod output;
mod peers;
mod progress;
mod rolling;
mod run;
mod saturate;
mod scaling;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load tests for functions over HTTP.
#[derive(Parser)]
#[command(name = "loadtest", version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario, or call one function or URL
    Run(Box<run::RunCommand>),
    /// Put runs side by side
    Compare(compare::Compare),
    /// Measure several targets in alternating rounds
    Peers(Box<peers::Peers>),
    /// Find the highest rate that keeps a goal
    Saturate(Box<saturate::Saturate>),
    /// Measure whether the work per request grows with what the server remembers
    Growth(Box<growth::GrowthCommand>),
    /// Compare several shards on as many cores with one shard on one core
    Scaling(Box<scaling::ScalingCommand>),
    /// Kill a server under load and check that nothing it accepted is lost
    Crash(Box<crash::CrashCommand>),
    /// Replace a server again and again under constant load
    Rolling(Box<rolling::RollingCommand>),
    /// Serve a fixed answer, to measure this program itself
    Static(fixed::Static),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, mistakes to stderr; either may be closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match arguments.command {
        Command::Run(run) => run.run(),
        Command::Compare(compare) => compare.run(),
        Command::Peers(peers) => peers.run(),
        Command::Saturate(saturate) => saturate.run(),
        Command::Growth(growth) => growth.run(),
        Command::Scaling(scaling) => scaling.run(),
        Command::Crash(crash) => crash.run(),
        Command::Rolling(rolling) => rolling.run(),
        Command::Static(fixed) => fixed.run(),
    };
    result.unwrap_or_else(|failure| failure.report())
}
