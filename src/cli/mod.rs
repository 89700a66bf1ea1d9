//! The command line: one file per command.
//!
//! [`main`] parses the arguments, runs the command and turns its result into an exit code: 0 success, 1 failure
//! (also a function that failed or timed out), 2 usage, 64 configuration. Commands that talk to a server share
//! a `client::Session`; what they print goes through `output::Output`, which survives a closed pipe.

mod call;
mod client;
mod completions;
mod config;
mod context;
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
mod runtime_config;
mod serve;
mod settings;
mod signals;
mod store;
mod top;

use std::{future::Future, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::{
    client::Session,
    failure::Failure,
    output::{Output, OutputFormat, note},
};
use crate::environment::{self, HideError};

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

/// What may stand before the command as well, where it is not shown: whether it means anything depends on the command.
#[derive(Args, Default)]
struct Before {
    #[arg(long = "endpoint", id = "endpoint-before", hide = true, value_name = "URL")]
    endpoint: Option<String>,
    #[arg(long = "context", id = "context-before", hide = true, value_name = "NAME")]
    context: Option<String>,
    #[arg(
        short = 'o',
        long = "output",
        id = "output-before",
        hide = true,
        value_enum,
        value_name = "FORMAT"
    )]
    output: Option<OutputFormat>,
}

/// Options of every command that talks to a server.
#[derive(Args)]
struct ServerOptions {
    /// Address of the server, http or https; a user and a password in it are sent in a header [default:
    /// NANOFAAS_ENDPOINT, else the context's, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// Context of ~/.config/nanofaas/config.toml to use [default: NANOFAAS_CONTEXT, else current-context]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Header of every request; may be repeated
    #[arg(long, global = true, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Certificates (PEM) to check an https server with, instead of the machine's own
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

/// Options of every command whose output programs can read.
#[derive(Args)]
struct Printing {
    /// Output format [default: table]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

/// A command that asks a server.
#[derive(Args)]
struct Asking<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    target: ServerOptions,
    #[command(flatten)]
    printing: Printing,
}

/// A group of commands that ask a server.
#[derive(Args)]
struct AskingGroup<C: Subcommand> {
    #[command(flatten)]
    target: ServerOptions,
    #[command(flatten)]
    printing: Printing,
    #[command(subcommand)]
    command: C,
}

/// A command that prints something, and asks nobody.
#[derive(Args)]
struct Offline<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    printing: Printing,
}

/// A group of commands that print something, and ask nobody.
#[derive(Args)]
struct TellingGroup<C: Subcommand> {
    #[command(flatten)]
    printing: Printing,
    #[command(subcommand)]
    command: C,
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
    /// Print the effective configuration with the source of each value, or what a running server can change
    Config(Asking<config::Show>),
    /// Register, show, scale, test and delete functions
    #[command(name = "fn")]
    Function(AskingGroup<function::FunctionCommand>),
    /// Call a function and wait for its output
    Invoke(Asking<invoke::Invoke>),
    /// Queue a call of a function and get its output later
    Enqueue(Asking<enqueue::Enqueue>),
    /// Show executions, wait for them, cancel them
    #[command(name = "exec")]
    Execution(AskingGroup<execution::ExecutionCommand>),
    /// Show executions that failed for good, run them again, or drop them
    #[command(name = "dlq")]
    DeadLetters(AskingGroup<dead_letters::DeadLetterCommand>),
    /// Show and change the settings that can change while a server runs
    RuntimeConfig(AskingGroup<runtime_config::RuntimeConfigCommand>),
    /// Check and repair a data directory that no server uses
    Store(TellingGroup<store::StoreCommand>),
    /// Show live what a server does
    Top(Asking<top::Top>),
    /// Give servers names, and choose the one that commands talk to
    Context(TellingGroup<context::ContextCommand>),
    /// Print the completion script of a shell
    Completions(completions::Completions),
}

impl Command {
    /// Whether functions run below this process.
    fn runs_functions(&self) -> bool {
        matches!(self, Command::Serve(_) | Command::Dev(_) | Command::Demo(_))
    }
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
    let Arguments { before, command } = arguments;
    if command.runs_functions() {
        hide_environment()?;
    }
    match command {
        Command::Serve(serve) => before.nothing_for("serve").and_then(|()| serve.run()),
        Command::Dev(dev) => before.nothing_for("dev").and_then(|()| dev.run()),
        Command::Demo(demo) => {
            before.nothing_for("demo").and_then(|()| block_on(demo.run(Output::stdout(OutputFormat::Table))))
        }
        Command::Watchdog => before.nothing_for("watchdog").map(|()| nanofaas_watchdog::run()),
        Command::Completions(completions) => before
            .nothing_for("completions")
            .and_then(|()| completions.run(Output::stdout(OutputFormat::Table))),
        Command::Store(group) => group.command.run(before.printing("store", group.printing)?),
        Command::Context(group) => group.command.run(&before.printing("context", group.printing)?),
        Command::Config(Asking { command, target, printing }) => {
            let (target, output) = before.asking(target, printing);
            if command.is_running() {
                block_on(runtime_config::get(Session::open(&target, output)?))
            } else {
                target.nothing_for("config without --running").and_then(|()| command.run(output))
            }
        }
        Command::Top(Asking { command, target, printing }) => {
            let (target, output) = before.asking(target, printing);
            block_on(command.run(&target, output))
        }
        Command::Function(group) => {
            let session = before.session(group.target, group.printing)?;
            block_on(group.command.run(session))
        }
        Command::Execution(group) => {
            let session = before.session(group.target, group.printing)?;
            block_on(group.command.run(session))
        }
        Command::DeadLetters(group) => {
            let session = before.session(group.target, group.printing)?;
            block_on(group.command.run(session))
        }
        Command::RuntimeConfig(group) => {
            let session = before.session(group.target, group.printing)?;
            block_on(group.command.run(session))
        }
        Command::Invoke(Asking { command, target, printing }) => {
            let session = before.session(target, printing)?;
            block_on(command.run(session))
        }
        Command::Enqueue(Asking { command, target, printing }) => {
            let session = before.session(target, printing)?;
            block_on(command.run(session))
        }
    }
}

impl Before {
    /// Refuses what means nothing to a command.
    fn nothing_for(&self, command: &str) -> Result<(), Failure> {
        let given = [
            ("--output", self.output.is_some()),
            ("--endpoint", self.endpoint.is_some()),
            ("--context", self.context.is_some()),
        ];
        refuse_given(&given, command)
    }

    /// Where a command prints that asks nobody.
    fn printing(self, command: &str, printing: Printing) -> Result<Output, Failure> {
        let output = printing.output.or(self.output).unwrap_or(OutputFormat::Table);
        Before { output: None, ..self }.nothing_for(command)?;
        Ok(Output::stdout(output))
    }

    /// Whom a command asks and where it prints; what stands after the command wins.
    fn asking(self, target: ServerOptions, printing: Printing) -> (ServerOptions, Output) {
        let target = ServerOptions {
            endpoint: target.endpoint.or(self.endpoint),
            context: target.context.or(self.context),
            ..target
        };
        (target, Output::stdout(printing.output.or(self.output).unwrap_or(OutputFormat::Table)))
    }

    fn session(self, target: ServerOptions, printing: Printing) -> Result<Session, Failure> {
        let (target, output) = self.asking(target, printing);
        Session::open(&target, output)
    }
}

impl ServerOptions {
    /// Refuses what means nothing to a command.
    fn nothing_for(&self, command: &str) -> Result<(), Failure> {
        let given = [
            ("--endpoint", self.endpoint.is_some()),
            ("--context", self.context.is_some()),
            ("--header", !self.header.is_empty()),
            ("--cacert", self.cacert.is_some()),
        ];
        refuse_given(&given, command)
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

fn refuse_given(given: &[(&str, bool)], command: &str) -> Result<(), Failure> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} has no effect on {command}"))),
        None => Ok(()),
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
