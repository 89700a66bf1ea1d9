//! `nanofaas exec cancel`.

use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};

use super::path;
use crate::{
    client::{Session, refused},
    failure::Failure,
};

/// Arguments of `exec cancel`.
#[derive(Args)]
#[command(
    after_help = "Only an execution that waits can be cancelled; if it runs or has ended, the exit code is 1."
)]
pub struct Cancel {
    /// Execution id, as enqueue prints it
    id: String,
}

impl Cancel {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let response = session.api.ask(Method::DELETE, &path(&self.id)).await?;
        if response.status != StatusCode::ACCEPTED {
            return Err(refused(&response));
        }
        if session.output.is_json() {
            session.output.json(&response.body)?;
        } else {
            session.output.line(&format!("{} cancelled", self.id))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
