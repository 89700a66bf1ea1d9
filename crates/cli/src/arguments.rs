//! Options that commands share: which server, which format; behind the name of the command or before it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    client::Session,
    failure::Failure,
    output::{Output, OutputFormat},
};

/// What may stand before the command as well, where it is not shown: whether it means anything depends on the command.
#[derive(Args, Default)]
pub struct Before {
    #[arg(long = "endpoint", id = "endpoint-before", hide = true, value_name = "URL")]
    pub(super) endpoint: Option<String>,
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
pub struct ServerOptions {
    /// Address of the server, http or https; a user and a password in it are sent in a header [default:
    /// NANOFAAS_ENDPOINT, else the context's, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Context of ~/.config/nanofaas/config.toml to use [default: NANOFAAS_CONTEXT, else current-context]
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Header of every request; may be repeated
    #[arg(long, global = true, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,
    /// Certificates (PEM) to check an https server with, instead of the machine's own
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) cacert: Option<PathBuf>,
}

/// Options of every command whose output programs can read.
#[derive(Args)]
pub struct Printing {
    /// Output format [default: table]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

/// A command that asks a server.
#[derive(Args)]
pub struct Asking<C: Args> {
    /// The command.
    #[command(flatten)]
    pub command: C,
    /// The server.
    #[command(flatten)]
    pub target: ServerOptions,
    /// The format.
    #[command(flatten)]
    pub printing: Printing,
}

/// A group of commands that ask a server.
#[derive(Args)]
pub struct AskingGroup<C: Subcommand> {
    /// The server.
    #[command(flatten)]
    pub target: ServerOptions,
    /// The format.
    #[command(flatten)]
    pub printing: Printing,
    /// The command.
    #[command(subcommand)]
    pub command: C,
}

/// A group of commands that print something, and ask nobody.
#[derive(Args)]
pub struct TellingGroup<C: Subcommand> {
    /// The format.
    #[command(flatten)]
    pub printing: Printing,
    /// The command.
    #[command(subcommand)]
    pub command: C,
}

impl Before {
    /// Refuses what means nothing to a command.
    ///
    /// # Errors
    /// Something was given.
    pub fn nothing_for(&self, command: &str) -> Result<(), Failure> {
        let given = [
            ("--output", self.output.is_some()),
            ("--endpoint", self.endpoint.is_some()),
            ("--context", self.context.is_some()),
        ];
        refuse_given(&given, command)
    }

    /// Where a command prints that asks nobody.
    ///
    /// # Errors
    /// A server was given.
    pub fn printing(self, command: &str, printing: Printing) -> Result<Output, Failure> {
        let output = printing.output.or(self.output).unwrap_or(OutputFormat::Table);
        Before { output: None, ..self }.nothing_for(command)?;
        Ok(Output::stdout(output))
    }

    /// Whom a command asks and where it prints; what stands after the command wins.
    pub fn asking(self, target: ServerOptions, printing: Printing) -> (ServerOptions, Output) {
        let target = ServerOptions {
            endpoint: target.endpoint.or(self.endpoint),
            context: target.context.or(self.context),
            ..target
        };
        (target, Output::stdout(printing.output.or(self.output).unwrap_or(OutputFormat::Table)))
    }

    pub(super) fn session(self, target: ServerOptions, printing: Printing) -> Result<Session, Failure> {
        let (target, output) = self.asking(target, printing);
        Session::open(&target, output)
    }
}

impl ServerOptions {
    /// Refuses what means nothing to a command.
    ///
    /// # Errors
    /// Something was given.
    pub fn nothing_for(&self, command: &str) -> Result<(), Failure> {
        let given = [
            ("--endpoint", self.endpoint.is_some()),
            ("--context", self.context.is_some()),
            ("--header", !self.header.is_empty()),
            ("--cacert", self.cacert.is_some()),
        ];
        refuse_given(&given, command)
    }
}

fn refuse_given(given: &[(&str, bool)], command: &str) -> Result<(), Failure> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} has no effect on {command}"))),
        None => Ok(()),
    }
}
