//! `nanofaas store`: looks at and mends a data directory that no server uses.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use nanofaas::{config::Base, durable::functions::ApiFunctions};
use nanofaas_cli::{Failure, Output, Table};
use nanofaas_store::{
    StoreError,
    inspect::{Fault, Inspection},
};
use serde_json::json;

use super::settings::Settings;

/// Commands below `store`.
#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Check that everything in the store is as it was written
    Verify(StoreLocation),
    /// Drop broken records, and keep a copy of every changed file
    Repair(StoreLocation),
    /// Drop forgotten records, and merge all files into one
    Compact(StoreLocation),
    /// Show what is in the store
    Stats(StoreLocation),
}

/// Which store.
#[derive(Args)]
pub(super) struct StoreLocation {
    #[command(flatten)]
    settings: Settings,
    /// Look where `nanofaas dev` keeps its data
    #[arg(long)]
    dev: bool,
}

impl StoreCommand {
    pub(super) fn run(self, output: Output) -> Result<ExitCode, Failure> {
        match self {
            StoreCommand::Verify(place) => verify(&place.open()?, output),
            StoreCommand::Repair(place) => repair(&place.open()?, output),
            StoreCommand::Compact(place) => compact(&place.open()?, output),
            StoreCommand::Stats(place) => stats(&place.open()?, output),
        }
    }
}

impl StoreLocation {
    fn open(&self) -> Result<Inspection, Failure> {
        let loaded = self.settings.load(if self.dev { Base::Dev } else { Base::Serve })?;
        Inspection::open(&loaded.config.data_dir, &ApiFunctions).map_err(failure)
    }
}

fn failure(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}

fn verify(store: &Inspection, output: Output) -> Result<ExitCode, Failure> {
    let faults = store.verify().map_err(failure)?;
    let corrupt = faults.iter().any(|fault| !fault.is_torn);
    if output.is_json() {
        let faults: Vec<_> = faults.iter().map(json_of).collect();
        output.json(json!({ "whole": !corrupt, "faults": faults }).to_string().as_bytes())?;
    } else {
        let mut table = Table::new(&["FILE", "OFFSET", "FAULT", "CONSEQUENCE"]);
        for fault in &faults {
            let consequence = if fault.is_torn {
                "torn, as by a power failure while it was written: the next start cuts it off"
            } else {
                "corrupt: the server does not start; see `nanofaas store repair`"
            };
            let (path, offset) = (fault.path.display().to_string(), fault.offset.to_string());
            table.row(vec![path.into(), offset.into(), fault.what.into(), consequence.into()]);
        }
        if faults.is_empty() {
            output.line("everything is as it was written")?;
        } else {
            output.table(&table)?;
        }
    }
    Ok(if corrupt { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn repair(store: &Inspection, output: Output) -> Result<ExitCode, Failure> {
    let repairs = store.repair().map_err(failure)?;
    if output.is_json() {
        let repairs = repairs.iter().map(|repair| {
            let mut object = json_of(&repair.fault);
            object["droppedBytes"] = json!(repair.dropped_bytes);
            object["backup"] = json!(repair.backup);
            object
        });
        output.json(json!({ "repairs": repairs.collect::<Vec<_>>() }).to_string().as_bytes())?;
    } else if repairs.is_empty() {
        output.line("everything is as it was written, nothing was changed")?;
    } else {
        let mut table = Table::new(&["FILE", "OFFSET", "FAULT", "DROPPED BYTES", "COPY OF BEFORE"]);
        for repair in &repairs {
            table.row(vec![
                repair.fault.path.display().to_string().into(),
                repair.fault.offset.to_string().into(),
                repair.fault.what.into(),
                repair.dropped_bytes.to_string().into(),
                repair.backup.as_ref().map_or("-".to_owned(), |backup| backup.display().to_string()).into(),
            ]);
        }
        output.table(&table)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json_of(fault: &Fault) -> serde_json::Value {
    json!({ "file": fault.path, "offset": fault.offset, "what": fault.what, "torn": fault.is_torn })
}

fn compact(store: &Inspection, output: Output) -> Result<ExitCode, Failure> {
    let (before, after) = store.compact().map_err(failure)?;
    if output.is_json() {
        output.json(json!({ "bytesBefore": before, "bytesAfter": after }).to_string().as_bytes())?;
    } else {
        output.line(&format!("{before} bytes became {after}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stats(store: &Inspection, output: Output) -> Result<ExitCode, Failure> {
    let stats = store.stats().map_err(failure)?;
    if output.is_json() {
        let object = json!({
            "files": stats.segments,
            "bytes": stats.bytes,
            "functions": stats.functions,
            "queued": stats.queued,
            "finished": stats.finished,
            "deadLetters": stats.dead_letters,
            "queuedByFunction": stats.queued_by_function,
        });
        output.json(object.to_string().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["WHAT", "COUNT"]);
    for (what, count) in [
        ("files", stats.segments as u64),
        ("bytes", stats.bytes),
        ("functions", stats.functions as u64),
        ("executions to run", stats.queued as u64),
        ("executions that ended", stats.finished as u64),
        ("dead letters", stats.dead_letters as u64),
    ] {
        table.row(vec![what.into(), count.to_string().into()]);
    }
    for (function, count) in &stats.queued_by_function {
        table.row(vec![format!("executions to run of {function}").into(), count.to_string().into()]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}
