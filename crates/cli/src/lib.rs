//! The command line of a server that runs somewhere: one file per command.
//!
//! The program adds the commands that need the server's code ([`ClientCommand`] and [`TerminalCommand`] are flattened into its own), parses the
//! arguments, and turns the result of a command into an exit code: 0 success, 1 failure (also a function that failed or
//! timed out), 2 usage, 64 configuration. Commands that talk to a server share a `client::Session`; what they print goes
//! through [`Output`], which survives a closed pipe.

mod arguments;
mod call;
mod client;
mod completions;
mod context;
mod contexts;
mod dead_letters;
mod definition;
mod demo;
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
mod signals;
mod top;

use std::{future::Future, process::ExitCode};

use clap::Subcommand;

use self::client::Session;
pub use self::{
    arguments::{Asking, AskingGroup, Before, Printing, ServerOptions, TellingGroup},
    contexts::DEFAULT_ENDPOINT,
    demo::Demo,
    failure::Failure,
    output::{Cell, CellStyle, Output, OutputFormat, Table, note},
};

/// The commands that send requests to a server.
#[derive(Subcommand)]
pub enum ClientCommand {
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
}

/// The commands for people at a terminal.
#[derive(Subcommand)]
pub enum TerminalCommand {
    /// Show live what a server does
    Top(Asking<top::Top>),
    /// Give servers names, and choose the one that commands talk to
    Context(TellingGroup<context::ContextCommand>),
    /// Print the CustomResourceDefinition of functions, for kubectl apply
    Crd,
    /// Print the completion script of a shell
    Completions(completions::Completions),
}

impl ClientCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// What the user is to be told; [`Failure::report`] does.
    pub fn run(self, before: Before) -> Result<ExitCode, Failure> {
        match self {
            ClientCommand::Function(group) => {
                let session = before.session(group.target, group.printing)?;
                block_on(group.command.run(session))
            }
            ClientCommand::Invoke(Asking { command, target, printing }) => {
                let session = before.session(target, printing)?;
                block_on(command.run(session))
            }
            ClientCommand::Enqueue(Asking { command, target, printing }) => {
                let session = before.session(target, printing)?;
                block_on(command.run(session))
            }
            ClientCommand::Execution(group) => {
                let session = before.session(group.target, group.printing)?;
                block_on(group.command.run(session))
            }
            ClientCommand::DeadLetters(group) => {
                let session = before.session(group.target, group.printing)?;
                block_on(group.command.run(session))
            }
            ClientCommand::RuntimeConfig(group) => {
                let session = before.session(group.target, group.printing)?;
                block_on(group.command.run(session))
            }
        }
    }
}

impl TerminalCommand {
    /// Runs the command. `program` is all of the command line, for its completions.
    ///
    /// # Errors
    /// What the user is to be told; [`Failure::report`] does.
    pub fn run(self, before: Before, program: fn() -> clap::Command) -> Result<ExitCode, Failure> {
        match self {
            TerminalCommand::Top(Asking { command, target, printing }) => {
                let (target, output) = before.asking(target, printing);
                block_on(command.run(&target, output))
            }
            TerminalCommand::Context(group) => {
                group.command.run(&before.printing("context", group.printing)?)
            }
            TerminalCommand::Crd => before
                .nothing_for("crd")
                .and_then(|()| definition::print(Output::stdout(OutputFormat::Table))),
            TerminalCommand::Completions(completions) => before
                .nothing_for("completions")
                .and_then(|()| completions.run(program(), Output::stdout(OutputFormat::Table))),
        }
    }
}

/// Shows what can be changed while a server runs.
///
/// # Errors
/// The server did not say.
pub fn show_runtime_config(target: &ServerOptions, output: Output) -> Result<ExitCode, Failure> {
    block_on(runtime_config::get(Session::open(target, output)?))
}

/// Runs a command that talks to a server, on this thread.
fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}
