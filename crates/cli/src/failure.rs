//! Why a command failed, and what the user gets to see of it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use nanofaas_web::client::ClientError;

/// Exit code of a wrong use of the command line.
const USAGE: u8 = 2;
/// Exit code of a wrong configuration (`EX_USAGE` of sysexits, as other servers use it).
const CONFIGURATION: u8 = 64;

/// What ended a command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration of a server, or a file that says where one is, cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The server refused.
    #[error("{message}{}{}", in_brackets(.code), list(.details))]
    Refused {
        /// The server's code, or its HTTP status when it sent none.
        code: String,
        /// The server's sentence.
        message: String,
        /// What it found wrong, one by one.
        details: Vec<String>,
    },
    /// There was no answer.
    #[error("{}", unanswered(.0))]
    Unanswered(#[from] ClientError),
    /// Nothing more can be printed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// Says on stderr what happened and gives the exit code for it.
    pub fn report(self) -> ExitCode {
        match &self {
            // The reader has seen enough (`| head`): that is no failure of ours.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            failure => {
                // With stderr closed as well there is nobody left to tell.
                let _ = writeln!(io::stderr(), "error: {failure}");
            }
        }
        match self {
            Failure::Usage(_) => ExitCode::from(USAGE),
            Failure::Configuration(_) => ExitCode::from(CONFIGURATION),
            _ => ExitCode::FAILURE,
        }
    }
}

fn in_brackets(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({code})") }
}

fn list(details: &[String]) -> String {
    details.iter().map(|detail| format!("\n  {detail}")).collect()
}

fn unanswered(error: &ClientError) -> String {
    match error {
        ClientError::Connect { .. } => format!(
            "{error}; start a server with `nanofaas dev`, or name one with --endpoint, NANOFAAS_ENDPOINT or a context"
        ),
        other => other.to_string(),
    }
}
