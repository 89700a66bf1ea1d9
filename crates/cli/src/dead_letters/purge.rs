//! `nanofaas dlq purge`.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{counted, every::LetterAction, every_id, report};
use crate::{client::Session, failure::Failure, output::note};

/// Arguments of `dlq purge`.
#[derive(Args)]
#[command(
    after_help = "A purged dead letter is gone for good. With --all the command asks first on a terminal; in a \
    script it does not ask.\n\n\
    Examples:\n  \
    nanofaas dlq purge report 95edb891-21bc-4681-af7e-9707964bd73a\n  \
    nanofaas dlq purge report --all --yes"
)]
pub struct Purge {
    /// Name of the function
    name: String,
    /// Execution id
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

const PURGE: LetterAction =
    LetterAction { method: Method::DELETE, suffix: "", done: StatusCode::NO_CONTENT, participle: "purged" };

impl Purge {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match &self.id {
            Some(id) => {
                PURGE.with_one(&session.api, &self.name, id).await?;
                let answer = json!({ "function": self.name, "executionId": id, "result": "purged" });
                report(&session, &answer, &format!("{id} purged"))?;
            }
            None if self.must_ask() && !self.is_confirmed(&session).await? => {
                note("nothing was purged");
                return Ok(ExitCode::FAILURE);
            }
            None => {
                let count = PURGE.with_all(&session.api, &self.name).await?;
                let answer = json!({ "function": self.name, "purged": count });
                report(&session, &answer, &format!("{}: {} purged", self.name, counted(count)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn must_ask(&self) -> bool {
        !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    async fn is_confirmed(&self, session: &Session) -> Result<bool, Failure> {
        let count = every_id(&session.api, &self.name).await?.len();
        if count == 0 {
            return Ok(true);
        }
        let question = format!("Drop {} of {} for good? [y/N] ", counted(count), self.name);
        io::stderr().write_all(question.as_bytes())?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| Failure::Failed(format!("no answer: {error}")))?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}
