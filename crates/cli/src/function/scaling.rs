//! `nanofaas fn scaling`: the autoscaler's last decision and what it was made from.
//!
//! The reason comes first. The rest is shown as it comes, single values as fields, lists and objects as tables: what
//! a decision depends on changes with the autoscaler.

use std::{io, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value};

use crate::{
    client::{Session, function_path},
    execution::show::moment,
    failure::Failure,
    output::{Cell, CellStyle, Output, Table, plain},
};

/// Arguments of `fn scaling`.
#[derive(Args)]
#[command(
    after_help = "Only for functions in mode DEPLOYMENT. `fn scale` sets the number of replicas by hand."
)]
pub struct Scaling {
    /// Name of the function
    name: String,
}

impl Scaling {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let (scaling, body) = session.api.get(&function_path(&self.name, "/scaling")).await?;
        match scaling.as_object() {
            Some(decision) if !session.output.is_json() => print(&session.output, decision)?,
            _ => session.output.json(&body)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(output: &Output, decision: &Map<String, Value>) -> io::Result<()> {
    if let Some(reason) = decision.get("reason").and_then(Value::as_str) {
        output.line(reason)?;
        output.line("")?;
    }
    let is_single = |value: &Value| !value.is_object() && !value.is_array();
    let singles = decision.iter().filter(|(name, value)| is_single(value) && *name != "reason");
    let singles: Map<_, _> = singles.map(|(name, value)| readable(name, value)).collect();
    output.fields(&singles, &["function"])?;
    for (name, value) in decision.iter().filter(|(_, value)| !is_single(value)) {
        let Some(table) = table(value) else { continue };
        output.line(&format!("\n{name}"))?;
        output.table(&table)?;
    }
    Ok(())
}

/// A moment as text, anything else as it is.
fn readable(name: &str, value: &Value) -> (String, Value) {
    match (name.strip_suffix("AtMillis"), value.as_i64().and_then(moment)) {
        (Some(name), Some(text)) => (format!("{name}At"), text.into()),
        _ => (name.to_owned(), value.clone()),
    }
}

/// A list of objects with a column per member, a list of anything else with one column, an object with a row per
/// member; `None` for what is empty.
fn table(value: &Value) -> Option<Table> {
    let rows: Vec<Map<String, Value>> = match value {
        Value::Object(members) if members.values().all(Value::is_object) => {
            let named = members.iter().map(|(name, member)| {
                let mut row = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
                row.extend(member.as_object().cloned().unwrap_or_default());
                row
            });
            named.collect()
        }
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                Map::from_iter([
                    ("name".to_owned(), name.as_str().into()),
                    ("value".to_owned(), value.clone()),
                ])
            })
            .collect(),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| match entry {
                Value::Object(entry) => entry.clone(),
                other => Map::from_iter([("value".to_owned(), other.clone())]),
            })
            .collect(),
        _ => return None,
    };
    let mut columns: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    if columns.is_empty() {
        return None;
    }
    let mut table = Table::new(&columns.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    for row in &rows {
        let cell = |name: &&String| match row.get(name.as_str()) {
            None | Some(Value::Null) => Cell::new("-", CellStyle::Faint),
            Some(value) => plain(value).into(),
        };
        table.row(columns.iter().map(cell).collect());
    }
    Some(table)
}
