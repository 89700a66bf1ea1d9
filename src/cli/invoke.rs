//! `nanofaas invoke`: call a function and wait for its output.
//!
//! The output goes to stdout as the function wrote it; with `-o json` the whole envelope does. A function that
//! failed or timed out is an exit code of 1 and its message on stderr.

use std::{io::Read, process::ExitCode};

use clap::Args;
use hyper::{HeaderMap, header::HeaderValue};
use serde_json::value::RawValue;

use super::{call::Call, client::Session, failure::Failure, output::note};

/// Arguments of `invoke`.
#[derive(Args)]
pub(super) struct Invoke {
    /// Name of the function
    name: String,
    /// The input: JSON text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    data: String,
    /// Time for the whole call, waiting and retries included
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
    /// Makes a repeated call return the first one's result
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Trace id that the function gets
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
}

impl Invoke {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let mut headers = HeaderMap::new();
        for (flag, header, value) in [
            ("--idempotency-key", "idempotency-key", &self.idempotency_key),
            ("--trace-id", "x-trace-id", &self.trace_id),
        ] {
            let Some(value) = value else { continue };
            let value = HeaderValue::from_str(value)
                .map_err(|_| Failure::Usage(format!("{flag}: {value:?} cannot be sent in a header")))?;
            headers.insert(header, value);
        }
        let input = input(&self.data)?;
        let call = Call { function: &self.name, input: &input, headers, timeout_ms: self.timeout_ms };
        let outcome = session.api.invoke(call).await?;
        if session.output.is_json() {
            session.output.json(&outcome.body)?;
        } else if outcome.succeeded() {
            session.output.line(&outcome.output)?;
        }
        if outcome.succeeded() {
            return Ok(ExitCode::SUCCESS);
        }
        note(&format!("error: {}", outcome.complaint()));
        Ok(ExitCode::FAILURE)
    }
}

/// Reads what `-d` names; the bytes stay as they are.
fn input(data: &str) -> Result<Box<RawValue>, Failure> {
    let (origin, text) = match data.strip_prefix('@') {
        None => ("-d", data.to_owned()),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
            ("stdin", text)
        }
        Some(path) => (
            path,
            std::fs::read_to_string(path)
                .map_err(|error| Failure::Failed(format!("cannot read {path}: {error}")))?,
        ),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::Failed(format!("{origin} is not JSON: {error}; a text needs quotes: -d '\"hello\"'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_keeps_its_bytes() {
        let text = "{\"n\": 1.50, \"big\": 123456789012345678901234567890}";
        assert_eq!(input(text).expect("JSON").get(), text);
        assert_eq!(input(" 1 ").expect("JSON").get(), "1");
        assert!(input("hello").is_err());
        assert!(input("").is_err());
        assert!(input("@/does/not/exist").is_err());
    }
}
