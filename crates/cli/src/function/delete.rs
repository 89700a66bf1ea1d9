//! `nanofaas fn delete`.

use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    client::{Session, function_path, refused},
    failure::Failure,
};

/// Arguments of `fn delete`.
#[derive(Args)]
pub struct Delete {
    /// Name of the function
    name: String,
    /// Succeed also when there is no such function
    #[arg(long)]
    ignore_missing: bool,
}

impl Delete {
    pub(crate) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let response = session.api.ask(Method::DELETE, &function_path(&self.name, "")).await?;
        let result = match response.status {
            StatusCode::NO_CONTENT => "deleted",
            StatusCode::NOT_FOUND if self.ignore_missing => "missing",
            _ => return Err(refused(&response)),
        };
        if session.output.is_json() {
            // The server's answer has no body: say what a program wants to know.
            let answer = json!({ "function": self.name, "result": result });
            session.output.json(answer.to_string().as_bytes())?;
        } else {
            session.output.line(&format!("{} {result}", self.name))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
