//! `nanofaas fn scale`.

use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    client::{Session, function_path, refused},
    failure::Failure,
};

/// Arguments of `fn scale`.
#[derive(Args)]
pub struct Scale {
    /// Name of the function
    name: String,
    /// Replicas to run
    replicas: u32,
}

impl Scale {
    pub(crate) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let body = json!({ "replicas": self.replicas });
        let response = session.api.tell(Method::PUT, &function_path(&self.name, "/replicas"), &body).await?;
        if response.status != StatusCode::OK {
            return Err(refused(&response));
        }
        if session.output.is_json() {
            session.output.json(&response.body)?;
        } else {
            let noun = if self.replicas == 1 { "replica" } else { "replicas" };
            session.output.line(&format!("{} scaled to {} {noun}", self.name, self.replicas))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
