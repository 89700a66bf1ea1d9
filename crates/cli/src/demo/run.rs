//! One example after the other: build, register, call with every payload.

use std::{path::Path, time::Instant};

use hyper::HeaderMap;
use serde_json::{Value, value::RawValue};

use super::examples::Example;
use crate::{
    call::{CallRequest, Outcome, envelope},
    client::ApiClient,
    failure::Failure,
    function::{apply, spec},
    json::{equal, shorten},
    output::{Cell, CellStyle, Table, note},
    payload::{self, file_name},
};

/// Longest result that is shown, in characters.
const RESULT_CHARS_MAX: usize = 48;

/// One line of the table: a function and a payload, or a function that got nowhere.
#[derive(Debug)]
pub(super) struct DemoRow {
    function: String,
    runtime: String,
    payload: String,
    status: String,
    result: String,
    verdict: DemoVerdict,
    /// The first call of the function.
    cold_ms: Option<f64>,
    /// A later call.
    warm_ms: Option<f64>,
    input: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DemoVerdict {
    Ok,
    Differs,
    Failed,
}

impl DemoRow {
    /// Whether the output was the expected one.
    pub(super) fn is_good(&self) -> bool {
        self.verdict == DemoVerdict::Ok
    }

    fn failed(function: &str, runtime: &str, payload: &str, status: &str, result: String) -> DemoRow {
        DemoRow {
            function: function.to_owned(),
            runtime: runtime.to_owned(),
            payload: payload.to_owned(),
            status: status.to_owned(),
            result,
            verdict: DemoVerdict::Failed,
            cold_ms: None,
            warm_ms: None,
            input: None,
        }
    }
}

/// Builds, registers and calls one example.
pub(super) async fn run(api: &ApiClient, example: &Example) -> Vec<DemoRow> {
    let name = example.name();
    let failed = |runtime: &str, status: &str, reason: String| {
        note(&format!("{name}: {reason}"));
        vec![DemoRow::failed(&name, runtime, "-", status, reason)]
    };
    let spec = match spec::read(&example.function_file()) {
        Ok(spec) => spec,
        Err(failure) => return failed("-", "bad file", failure.to_string()),
    };
    let runtime = runtime(&spec.fields);
    if let Err(reason) = example.build().await {
        return failed(&runtime, "not built", reason);
    }
    let started = Instant::now();
    match apply::apply(api, &spec, true).await {
        Ok(applied) => note(&format!("{name}: {} in {} ms", applied.result, started.elapsed().as_millis())),
        Err(failure) => return failed(&runtime, "refused", failure.to_string()),
    }
    let files = match payload::find(&example.payloads()) {
        Ok(files) => files,
        Err(failure) => return failed(&runtime, "no payload", failure.to_string()),
    };
    let mut rows = Vec::new();
    for file in files {
        rows.push(call(api, &spec.name, &runtime, &file, rows.is_empty()).await);
    }
    note(&format!("{name}: {} payloads", rows.len()));
    rows
}

/// Calls the function with one payload; the first time twice, to tell cold from warm.
async fn call(api: &ApiClient, function: &str, runtime: &str, file: &Path, first: bool) -> DemoRow {
    let name = file_name(file);
    let payload = match payload::read(file) {
        Ok(payload) => payload,
        Err(reason) => return DemoRow::failed(function, runtime, &name, "bad payload", reason),
    };
    let (mut result, mut ms) = timed(api, function, &payload.input).await;
    let mut cold_ms = None;
    if first && result.is_ok() {
        cold_ms = Some(ms);
        (result, ms) = timed(api, function, &payload.input).await;
    }
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => return DemoRow::failed(function, runtime, &name, "refused", failure.to_string()),
    };
    let actual: Value = serde_json::from_str(&outcome.output).unwrap_or(Value::Null);
    let verdict = match () {
        () if !outcome.succeeded() => DemoVerdict::Failed,
        () if equal(&payload.expected, &actual) => DemoVerdict::Ok,
        () => DemoVerdict::Differs,
    };
    let result = if outcome.succeeded() { outcome.output.clone() } else { outcome.complaint() };
    DemoRow {
        function: function.to_owned(),
        runtime: runtime.to_owned(),
        payload: name,
        status: outcome.status,
        result,
        verdict,
        cold_ms,
        warm_ms: Some(ms),
        input: Some(payload.input),
    }
}

async fn timed(api: &ApiClient, function: &str, input: &RawValue) -> (Result<Outcome, Failure>, f64) {
    let started = Instant::now();
    let call = CallRequest { function, body: envelope(input), headers: HeaderMap::new(), timeout_ms: None };
    let result = api.invoke(call).await;
    (result, started.elapsed().as_secs_f64() * 1000.0)
}

/// What runs the function: the program's name and how it is called.
fn runtime(fields: &serde_json::Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let words = text("runtimeCommand").and_then(shlex::split).unwrap_or_default();
    let program = words.first().map(|program| file_name(Path::new(program)));
    let program = program.or_else(|| text("image").map(str::to_owned)).unwrap_or_else(|| "-".to_owned());
    format!("{program}, {}", text("runtimeMode").unwrap_or("HTTP"))
}

/// The table of all rows.
pub(super) fn table(rows: &[DemoRow]) -> Table {
    let mut table =
        Table::new(&["FUNCTION", "RUNTIME", "PAYLOAD", "STATUS", "EXPECTED", "COLD MS", "WARM MS", "RESULT"]);
    for row in rows {
        let look = if row.is_good() { CellStyle::Good } else { CellStyle::Bad };
        let verdict = match row.verdict {
            DemoVerdict::Ok => "ok",
            DemoVerdict::Differs => "differs",
            DemoVerdict::Failed => "failed",
        };
        let ms =
            |ms: Option<f64>| ms.map_or(Cell::new("-", CellStyle::Faint), |ms| format!("{ms:.1}").into());
        table.row(vec![
            row.function.clone().into(),
            row.runtime.clone().into(),
            row.payload.clone().into(),
            Cell::new(
                row.status.clone(),
                if row.status == "success" { CellStyle::Good } else { CellStyle::Bad },
            ),
            Cell::new(verdict, look),
            ms(row.cold_ms),
            ms(row.warm_ms),
            shorten(&row.result, RESULT_CHARS_MAX).into(),
        ]);
    }
    table
}

/// The good row that is shortest to type.
pub(super) fn shortest_input(rows: &[DemoRow]) -> Option<(&str, &str)> {
    let good = rows.iter().filter(|row| row.is_good() && !row.result.contains("\"error\""));
    let inputs = good.filter_map(|row| Some((row.function.as_str(), row.input.as_ref()?.get())));
    inputs.filter(|(_, input)| !input.contains('\n')).min_by_key(|(_, input)| input.len())
}
