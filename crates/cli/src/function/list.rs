//! `nanofaas fn list`.

use std::process::ExitCode;

use serde_json::Value;

use crate::{
    client::Session,
    failure::Failure,
    output::{Cell, CellStyle, Table, plain},
};

/// Lists the functions.
pub(super) async fn run(session: Session) -> Result<ExitCode, Failure> {
    let (functions, body) = session.api.get("/v1/functions").await?;
    match functions.as_array() {
        Some(functions) if !session.output.is_json() => session.output.table(&table(functions))?,
        _ => session.output.json(&body)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(functions: &[Value]) -> Table {
    let mut table =
        Table::new(&["NAME", "MODE", "BACKEND", "CONCURRENCY", "QUEUE", "TIMEOUT MS", "RUNS"]).cut();
    for function in functions {
        let field = |name: &str| function.get(name).filter(|value| !value.is_null()).map(plain);
        let cell = |text: Option<String>| text.map_or(Cell::new("-", CellStyle::Faint), Cell::from);
        let runs = field("runtimeCommand").or_else(|| field("image")).or_else(|| field("endpointUrl"));
        table.row(vec![
            cell(field("name")),
            cell(field("effectiveExecutionMode").or_else(|| field("executionMode"))),
            cell(field("deploymentBackend")),
            cell(field("concurrency")),
            cell(field("queueSize")),
            cell(field("timeoutMs")),
            cell(runs),
        ]);
    }
    table
}
