//! `nanofaas dlq list`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde_json::Value;

use crate::{
    client::{Session, function_path},
    execution::show::complaint,
    failure::Failure,
    output::{Cell, CellStyle, Table, note, plain},
};

/// Arguments of `dlq list`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas dlq list report\n  \
    nanofaas dlq list report --limit 1000 -o json")]
pub struct ListDeadLetters {
    /// Name of the function
    name: String,
    /// How many to list at most [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl ListDeadLetters {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let query = self.limit.map_or(String::new(), |limit| format!("?limit={limit}"));
        let path = function_path(&self.name, &format!("/dead-letters{query}"));
        let (letters, body) = session.api.get(&path).await?;
        match letters.as_array() {
            Some(letters) if !session.output.is_json() => {
                session.output.table(&table(letters, SystemTime::now()))?;
                if letters.is_empty() {
                    note(&format!("{} has no dead letters", self.name));
                }
            }
            _ => session.output.json(&body)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(letters: &[Value], now: SystemTime) -> Table {
    let mut table = Table::new(&["EXECUTION", "AGE", "ATTEMPTS", "BYTES", "ERROR"]).cut();
    for letter in letters {
        let field = |name: &str| letter.get(name).filter(|value| !value.is_null());
        let cell = |text: Option<String>| text.map_or(Cell::new("-", CellStyle::Faint), Cell::from);
        let died = field("deadAtMillis").and_then(Value::as_u64);
        let error = field("error").or_else(|| field("lastError")).and_then(complaint);
        table.row(vec![
            cell(field("executionId").map(plain)),
            cell(died.map(|millis| age(millis, now))),
            cell(field("attempt").map(plain)),
            cell(field("payloadBytes").map(plain)),
            // A message may have many lines; each letter has one here.
            error.map_or(cell(field("status").map(plain)), |text| {
                Cell::new(text.replace(|c: char| c.is_control(), " "), CellStyle::Bad)
            }),
        ]);
    }
    table
}

/// How long ago that was, in one unit. A server whose clock is ahead has letters of this second.
fn age(millis: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH + Duration::from_millis(millis);
    match now.duration_since(then).unwrap_or_default().as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (seconds, expected) in
            [(1_000_005, "0s"), (999_941, "59s"), (999_000, "16m"), (990_000, "2h"), (0, "11d")]
        {
            assert_eq!(age(seconds * 1000, now), expected);
        }
    }
}
