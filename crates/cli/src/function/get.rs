//! `nanofaas fn get`.

use std::process::ExitCode;

use clap::Args;

use crate::{
    client::{Session, function_path},
    failure::Failure,
};

/// Fields of a FunctionResponse, in the order in which they are told.
const ORDER: [&str; 20] = [
    "name",
    "image",
    "executionMode",
    "requestedExecutionMode",
    "effectiveExecutionMode",
    "deploymentBackend",
    "degradationReason",
    "endpointUrl",
    "runtimeMode",
    "runtimeCommand",
    "workingDir",
    "command",
    "env",
    "resources",
    "timeoutMs",
    "concurrency",
    "queueSize",
    "maxRetries",
    "retryBackoffMs",
    "rateLimitPerSecond",
];

/// Arguments of `fn get`.
#[derive(Args)]
pub struct GetFunction {
    /// Name of the function
    name: String,
}

impl GetFunction {
    pub(crate) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let (function, body) = session.api.get(&function_path(&self.name, "")).await?;
        match function.as_object() {
            Some(fields) if !session.output.is_json() => session.output.fields(fields, &ORDER)?,
            _ => session.output.json(&body)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
