//! `nanofaas exec`: look at executions.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    client::{Session, segment},
    failure::Failure,
};

/// Fields of an ExecutionStatus, in the order in which they are told.
const ORDER: [&str; 12] = [
    "executionId",
    "functionName",
    "status",
    "attempt",
    "output",
    "error",
    "lastError",
    "coldStart",
    "initDurationMs",
    "startedAt",
    "finishedAt",
    "createdAtMillis",
];

/// What can be done with executions.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show an execution
    Get(Get),
}

/// Arguments of `exec get`.
#[derive(Args)]
pub(super) struct Get {
    /// Execution id, as invoke and enqueue answer it
    id: String,
}

impl Command {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            Command::Get(get) => get.run(session).await,
        }
    }
}

impl Get {
    async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let (status, body) = session.api.get(&format!("/v1/executions/{}", segment(&self.id))).await?;
        match status.as_object() {
            Some(fields) if !session.output.is_json() => session.output.fields(fields, &ORDER)?,
            _ => session.output.json(&body)?,
        }
        // A function that failed is a failure, also when it is only looked at.
        let failed = matches!(status.get("status").and_then(Value::as_str), Some("error" | "timeout"));
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
