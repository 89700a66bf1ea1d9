//! The command line: one file per command.
//!
//! [`main`] parses the arguments, runs the command and turns its result into an exit code: 0 success, 1 failure
//! (also a function that failed or timed out), 2 usage, 64 configuration. Commands that talk to a server share
//! a `client::Session`; what they print goes through `output::Output`, which survives a closed pipe.

mod call;
mod client;
mod completions;
mod config;
mod contexts;
mod dead_letters;
mod demo;
mod dev;
mod enqueue;
mod execution;
mod failure;
mod function;
mod input;
mod invoke;
mod json;
mod output;
mod payload;
mod progress;
mod serve;
mod settings;
mod signals;
mod store;
mod top;

use std::{future::Future, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::{
    client::Session,
    failure::Failure,
    output::{Format, Output},
};

/// Functions as a service: one binary, one command to a running function.
#[derive(Parser)]
#[command(name = "nanofaas", version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that talks to a server.
#[derive(Args)]
struct Shared {
    /// Address of the server [default: NANOFAAS_ENDPOINT, else the context's, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// Context of ~/.config/nanofaas/config.toml to use [default: NANOFAAS_CONTEXT, else current-context]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Format of what is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Run a server to develop with: every module on, local processes, loopback only
    Dev(dev::Dev),
    /// Start a server, run the example functions on it and show the results
    Demo(demo::Demo),
    /// Run a program as a function; configured by its environment
    Watchdog,
    /// Print the effective configuration and where each value comes from
    Config(config::Show),
    /// Register, look at, scale, test and delete functions
    #[command(name = "fn", subcommand)]
    Function(function::Command),
    /// Call a function and wait for its output
    Invoke(invoke::Invoke),
    /// Hand a call to a function and get its output later
    Enqueue(enqueue::Enqueue),
    /// Look at executions, wait for them, cancel them
    #[command(name = "exec", subcommand)]
    Execution(execution::Command),
    /// Look at executions that failed for good, run them again, or drop them
    #[command(name = "dlq", subcommand)]
    DeadLetters(dead_letters::Command),
    /// Look at and mend a data directory that no server uses
    #[command(subcommand)]
    Store(store::Command),
    /// Show live what a server is doing
    Top(top::Top),
    /// Print the completion script of a shell
    Completions(completions::Completions),
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
    run(arguments).unwrap_or_else(|failure| failure.report())
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { shared, command } = arguments;
    let output = Output::stdout(shared.output);
    match command {
        Command::Serve(serve) => serve.run(),
        Command::Dev(dev) => dev.run(),
        Command::Demo(demo) => block_on(demo.run(output)),
        Command::Watchdog => Ok(crate::watchdog::run()),
        Command::Config(show) => show.run(output),
        Command::Store(command) => command.run(output),
        Command::Completions(completions) => completions.run(output),
        Command::Function(command) => block_on(command.run(Session::open(&shared, output)?)),
        Command::Invoke(invoke) => block_on(invoke.run(Session::open(&shared, output)?)),
        Command::Enqueue(enqueue) => block_on(enqueue.run(Session::open(&shared, output)?)),
        Command::Execution(command) => block_on(command.run(Session::open(&shared, output)?)),
        Command::Top(top) => block_on(top.run(&shared, output)),
        Command::DeadLetters(command) => block_on(command.run(Session::open(&shared, output)?)),
    }
}

/// Runs a command that talks to a server, on this thread.
fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
