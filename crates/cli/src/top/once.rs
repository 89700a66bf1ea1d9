//! `top --once`: two looks a second apart, for scripts and for terminals that are none.

use std::{process::ExitCode, time::Duration};

use serde_json::{Value, json};

use super::{
    columns::{Column, RowOrder},
    figures,
    picture::{FunctionRow, Picture},
    source::Source,
    view::header,
};
use crate::{
    failure::Failure,
    output::{Cell, CellStyle, Output, Table, note},
};

/// Time between the two looks.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the picture: a table, or an object with `server`, `total` and `functions`.
pub(super) async fn run(mut source: Source, output: &Output) -> Result<ExitCode, Failure> {
    source.look().await?;
    tokio::time::sleep(SAMPLE_INTERVAL).await;
    let picture = source.look().await?;
    let mut rows: Vec<&FunctionRow> = picture.rows.iter().collect();
    RowOrder::default().sort(&mut rows);
    if output.is_json() {
        output.json(object(&picture, &rows).to_string().as_bytes())?;
    } else {
        note(&header::server(&picture.process, picture.cpus));
        note(&header::total(&picture));
        note(&header::answers(&picture, usize::MAX));
        output.table(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[&FunctionRow]) -> Table {
    let mut table = Table::new(&Column::ALL.map(Column::title));
    for row in rows {
        let look = |column: Column| match column {
            Column::Errors if row.errors > Some(0.0) => CellStyle::Bad,
            _ => CellStyle::Plain,
        };
        table.row(Column::ALL.iter().map(|column| Cell::new(column.text(row), look(*column))).collect());
    }
    table
}

/// What is not known is null; of the reasons of refusals those are there that occurred.
fn object(picture: &Picture, rows: &[&FunctionRow]) -> Value {
    let process = &picture.process;
    json!({
        "server": {
            "uptimeSeconds": figures::now_seconds() - process.started_seconds,
            "shards": process.shards,
            "drift": process.drift,
            "residentBytes": process.resident_bytes,
            "cpus": picture.cpus,
            "answersPerSecond": picture.answers.as_ref().map(|answers| by_name(&answers.classes)),
            "refusalsPerSecond": picture.answers.as_ref().map(|answers| by_name(&answers.refusals)),
        },
        "total": numbers(&picture.total),
        "functions": rows.iter().map(|row| {
            let mut function = json!({ "name": row.name, "mode": row.mode });
            if let (Some(function), Value::Object(numbers)) = (function.as_object_mut(), numbers(row)) {
                function.extend(numbers);
                let replicas = |it: super::scrape::ReplicaCounts| json!({ "ready": it.ready, "desired": it.desired });
                function.insert("replicas".to_owned(), row.replicas.map_or(Value::Null, replicas));
            }
            function
        }).collect::<Vec<_>>(),
    })
}

fn by_name(rates: &[(String, f64)]) -> Value {
    rates.iter().map(|(name, rate)| (name.clone(), json!(rate))).collect::<serde_json::Map<_, _>>().into()
}

fn numbers(row: &FunctionRow) -> Value {
    let ms = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e3);
    json!({
        "ratePerSecond": row.rate,
        "p50Ms": ms(row.p50),
        "p99Ms": ms(row.p99),
        "errorsPerSecond": row.errors,
        "retriesPerSecond": row.retries,
        "queueDepth": row.queue_depth,
        "inFlight": row.in_flight,
        "concurrency": row.concurrency,
    })
}
