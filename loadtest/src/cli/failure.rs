//! Why a command failed, and what the user gets to see of it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    client::address::AddressError, interrupt, plan::Mistakes, report::compare::CompareError, run::RunError,
    server::ServerError,
};

/// Exit code of a wrong use of the command line, or of a scenario with mistakes.
const USAGE: u8 = 2;

/// What ended a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A scenario has mistakes.
    #[error("the scenario cannot be run:\n  {}", .0.to_string().replace('\n', "\n  "))]
    Scenario(#[from] Mistakes),
    /// A URL has.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The run did not come to its end.
    #[error("{0}")]
    Run(#[from] RunError),
    /// A server does not start.
    #[error("{0}")]
    Server(#[from] ServerError),
    /// There is nothing to compare.
    #[error("{0}")]
    Compare(#[from] CompareError),
    /// Nothing more can be printed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A signal came before anything could be said.
    #[error("interrupted")]
    Interrupted,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// Says on stderr what happened and gives the exit code for it.
    pub(super) fn report(self) -> ExitCode {
        match &self {
            // The reader has seen enough (`| head`): that is no failure of ours.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            failure => {
                // With stderr closed as well there is nobody left to tell.
                let _ = writeln!(io::stderr(), "error: {failure}");
            }
        }
        match self {
            Failure::Usage(_) | Failure::Scenario(_) | Failure::Address(_) | Failure::Compare(_) => {
                ExitCode::from(USAGE)
            }
            Failure::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
            _ => ExitCode::FAILURE,
        }
    }
}
