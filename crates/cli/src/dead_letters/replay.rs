//! `nanofaas dlq replay`.

use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{counted, every::LetterAction, report};
use crate::{client::Session, failure::Failure, output::note};

/// Arguments of `dlq replay`.
#[derive(Args)]
#[command(
    after_help = "A replayed execution keeps its id and gets all its attempts again. If the queue is full, \
    --all waits for room in it.\n\n\
    Examples:\n  \
    nanofaas dlq replay report 95edb891-21bc-4681-af7e-9707964bd73a\n  \
    nanofaas dlq replay report --all"
)]
pub struct Replay {
    /// Name of the function
    name: String,
    /// Execution id
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

const REPLAY: LetterAction = LetterAction {
    method: Method::POST,
    suffix: ":replay",
    done: StatusCode::ACCEPTED,
    participle: "replayed",
};

impl Replay {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match &self.id {
            Some(id) => {
                let response = REPLAY.with_one(&session.api, &self.name, id).await?;
                if session.output.is_json() {
                    session.output.json(&response.body)?;
                } else {
                    session.output.line(&format!("{id} queued"))?;
                    note(&format!("see: nanofaas exec get {id} --watch"));
                }
            }
            None => {
                let count = REPLAY.with_all(&session.api, &self.name).await?;
                let answer = json!({ "function": self.name, "replayed": count });
                report(&session, &answer, &format!("{}: {} replayed", self.name, counted(count)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
