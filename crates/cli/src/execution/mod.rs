//! `nanofaas exec`: look at executions, wait for them, cancel them.

mod cancel;
mod get;
pub(super) mod show;
pub(super) mod watch;

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    client::{Session, segment},
    failure::Failure,
};

/// What can be done with executions.
#[derive(Subcommand)]
pub enum ExecutionCommand {
    /// Show an execution, or wait for its end
    Get(get::GetExecution),
    /// Cancel an execution that waits in a queue
    Cancel(cancel::Cancel),
}

impl ExecutionCommand {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            ExecutionCommand::Get(get) => get.run(session).await,
            ExecutionCommand::Cancel(cancel) => cancel.run(session).await,
        }
    }
}

/// Path of an execution.
fn path(id: &str) -> String {
    format!("/v1/executions/{}", segment(id))
}
