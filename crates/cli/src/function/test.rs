//! `nanofaas fn test`: call a function with payload files and compare.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use hyper::HeaderMap;
use serde_json::{Value, json};

use crate::{
    call::{CallRequest, envelope},
    client::{ApiClient, Session},
    failure::Failure,
    json::equal,
    payload::{self, file_name},
};

/// Arguments of `fn test`.
#[derive(Args)]
pub struct Test {
    /// Name of the function
    name: String,
    /// Payload file, or directory of payload files (*.json)
    #[arg(long, value_name = "FILE|DIR")]
    payloads: PathBuf,
    /// Time for each call
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
}

/// How one payload did.
struct PayloadVerdict {
    file: String,
    description: String,
    passed: bool,
    /// What went wrong: names and values.
    notes: Vec<(&'static str, String)>,
}

impl Test {
    pub(crate) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let mut verdicts = Vec::new();
        for path in payload::find(&self.payloads)? {
            let verdict = self.check(&session.api, &path).await;
            if !session.output.is_json() {
                session.output.line(&verdict.for_people())?;
            }
            verdicts.push(verdict);
        }
        let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
        let failed = verdicts.len() - passed;
        if session.output.is_json() {
            let cases: Vec<Value> = verdicts.iter().map(PayloadVerdict::for_programs).collect();
            let summary = json!({ "passed": passed, "failed": failed, "cases": cases });
            session.output.json(summary.to_string().as_bytes())?;
        } else {
            session.output.line(&format!("{passed} passed, {failed} failed"))?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn check(&self, api: &ApiClient, path: &Path) -> PayloadVerdict {
        let file = file_name(path);
        let payload = match payload::read(path) {
            Ok(payload) => payload,
            Err(error) => return PayloadVerdict::broken(file, error),
        };
        let call = CallRequest {
            function: &self.name,
            body: envelope(&payload.input),
            headers: HeaderMap::new(),
            timeout_ms: self.timeout_ms,
        };
        let outcome = match api.invoke(call).await {
            Ok(outcome) => outcome,
            Err(failure) => return PayloadVerdict::broken(file, format!("invocation failed: {failure}")),
        };
        let notes = if !outcome.succeeded() {
            vec![("status", outcome.status.clone()), ("error", outcome.complaint())]
        } else {
            let actual: Value = serde_json::from_str(&outcome.output).unwrap_or(Value::Null);
            match equal(&payload.expected, &actual) {
                true => Vec::new(),
                false => vec![("expected", payload.expected.to_string()), ("actual", outcome.output)],
            }
        };
        PayloadVerdict { file, description: payload.description, passed: notes.is_empty(), notes }
    }
}

impl PayloadVerdict {
    /// A case that could not be tried.
    fn broken(file: String, description: String) -> PayloadVerdict {
        PayloadVerdict { file, description, passed: false, notes: Vec::new() }
    }

    fn for_people(&self) -> String {
        let mark = if self.passed { "✅" } else { "❌" };
        let mut text = format!("{mark} {} - {}", self.file, self.description);
        let width = self.notes.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
        for (name, value) in &self.notes {
            text.push_str(&format!("\n  {:<width$} {value}", format!("{name}:")));
        }
        text
    }

    fn for_programs(&self) -> Value {
        let mut case = json!({ "file": self.file, "description": self.description, "passed": self.passed });
        for (name, value) in &self.notes {
            case[*name] = json!(value);
        }
        case
    }
}
