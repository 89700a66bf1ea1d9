//! `nanofaas dlq`: the executions of a function that failed for good.

mod every;
mod list;
mod purge;
mod replay;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::{
    client::{ApiClient, Session, function_path, segment},
    failure::Failure,
};

/// What can be done with dead letters.
#[derive(Subcommand)]
pub enum DeadLetterCommand {
    /// List the dead letters of a function, newest first
    List(list::ListDeadLetters),
    /// Queue a dead letter again, or all of them
    Replay(replay::Replay),
    /// Drop a dead letter, or all of them
    Purge(purge::Purge),
}

impl DeadLetterCommand {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            DeadLetterCommand::List(list) => list.run(session).await,
            DeadLetterCommand::Replay(replay) => replay.run(session).await,
            DeadLetterCommand::Purge(purge) => purge.run(session).await,
        }
    }
}

/// Path of one dead letter, with what follows it.
fn letter_path(function: &str, id: &str, rest: &str) -> String {
    function_path(function, &format!("/dead-letters/{}{rest}", segment(id)))
}

/// Ids of all dead letters of a function, oldest first: what failed first is the first to run again.
async fn every_id(api: &ApiClient, function: &str) -> Result<Vec<String>, Failure> {
    // As many as a server lists; a function cannot have more.
    let (letters, _) = api.get(&function_path(function, "/dead-letters?limit=1000")).await?;
    let letters = letters.as_array().map(Vec::as_slice).unwrap_or_default();
    let id = |letter: &Value| Some(letter.get("executionId")?.as_str()?.to_owned());
    Ok(letters.iter().rev().filter_map(id).collect())
}

/// Says what was done where the server's answer has no body of its own: to a program what it wants to know, to people a
/// line.
fn report(session: &Session, answer: &Value, line: &str) -> Result<(), Failure> {
    if session.output.is_json() {
        session.output.json(answer.to_string().as_bytes())?;
    } else {
        session.output.line(line)?;
    }
    Ok(())
}

/// A number of dead letters.
fn counted(count: usize) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}
