//! The `nanofaas` program: server, command line and watchdog in one.
//!
//! It has the commands that need the server's code, one file each; all others are those of `nanofaas-cli`.

mod config;
mod dev;
mod serve;
mod settings;
mod store;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nanofaas_base::environment::{self, HideError};
use nanofaas_cli::{
    Asking, Before, ClientCommand, Demo, Failure, TellingGroup, TerminalCommand, note, show_runtime_config,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Functions as a service: one binary, one command to a running function.
#[derive(Parser)]
#[command(name = "nanofaas", version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    /// Options of a command, written before its name.
    #[command(flatten)]
    before: Before,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Run a server to develop with: every module on, local processes, loopback only
    Dev(dev::Dev),
    /// Start a server, run the example functions on it and show the results
    Demo(Demo),
    /// Run a program as a function; configured by its environment
    Watchdog,
    /// Print the effective configuration with the source of each value, or what a running server can change
    Config(Asking<config::Show>),
    #[command(flatten)]
    Client(ClientCommand),
    /// Check and repair a data directory that no server uses
    Store(TellingGroup<store::StoreCommand>),
    #[command(flatten)]
    Terminal(TerminalCommand),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, mistakes to stderr; either may be closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    run(arguments).unwrap_or_else(Failure::report)
}

fn run(Arguments { before, command }: Arguments) -> Result<ExitCode, Failure> {
    if command.runs_functions() {
        hide_environment()?;
    }
    match command {
        Command::Serve(serve) => before.nothing_for("serve").and_then(|()| serve.run()),
        Command::Dev(dev) => before.nothing_for("dev").and_then(|()| dev.run()),
        Command::Demo(demo) => before.nothing_for("demo").and_then(|()| demo.run()),
        Command::Watchdog => before.nothing_for("watchdog").map(|()| nanofaas_watchdog::run()),
        Command::Config(Asking { command, target, printing }) => {
            let (target, output) = before.asking(target, printing);
            if command.is_running() {
                show_runtime_config(&target, output)
            } else {
                target.nothing_for("config without --running").and_then(|()| command.run(output))
            }
        }
        Command::Client(command) => command.run(before),
        Command::Store(group) => group.command.run(before.printing("store", group.printing)?),
        Command::Terminal(command) => command.run(before, Arguments::command),
    }
}

impl Command {
    /// Whether functions run below this process.
    fn runs_functions(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Dev(_) | Command::Demo(_))
    }
}

/// Puts the environment out of reach of functions. Where that cannot be, the command goes on all the same.
fn hide_environment() -> Result<(), Failure> {
    match environment::hide() {
        Ok(()) => Ok(()),
        Err(error @ HideError::Exposed(_)) => {
            note(&format!("warning: {error}"));
            Ok(())
        }
        Err(error @ HideError::Lost(_)) => Err(Failure::Failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
