//! `nanofaas invoke`: call a function and wait for its output.
//!
//! The output goes to stdout as the function wrote it; with `-o json` the whole envelope does. A function that
//! failed or timed out is an exit code of 1, its message and the execution's id on stderr. With `--raw` bytes go in and
//! out as they are.

use std::process::ExitCode;

use clap::Args;
use hyper::StatusCode;
use nanofaas_web::client::Response;

use super::{
    call::CallRequest, client::Session, failure::Failure, input::CallArguments, json::shorten, output::note,
};

/// Arguments of `invoke`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas invoke hello -d '{\"name\":\"world\"}'\n  \
    nanofaas invoke resize -d @picture.json --timeout-ms 2000 -o json\n  \
    date +%s | nanofaas invoke hello -d @-\n  \
    nanofaas invoke thumbnail --raw --content-type image/png -d @cat.png > small.png")]
pub struct Invoke {
    #[command(flatten)]
    call: CallArguments,
    /// Time for the whole call, waiting and retries included
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
}

impl Invoke {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        if self.call.raw && session.output.is_json() {
            return Err(Failure::Usage(
                "--raw: what a function answers to bytes is no JSON; leave -o out".to_owned(),
            ));
        }
        let call = CallRequest { timeout_ms: self.timeout_ms, ..self.call.call()? };
        if self.call.raw {
            return raw(&session, session.api.invoke_raw(call).await?);
        }
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
        if let Some(id) = &outcome.id {
            note_execution(id);
        }
        Ok(ExitCode::FAILURE)
    }
}

/// Says where the rest of the story is.
fn note_execution(id: &str) {
    note(&format!("execution {id}; see: nanofaas exec get {id}"));
}

/// Prints the answer of a raw call.
fn raw(session: &Session, response: Response) -> Result<ExitCode, Failure> {
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
    if response.status == StatusCode::OK {
        session.output.text(&response.body)?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = header("x-execution-error").unwrap_or("FUNCTION_ERROR");
    let said = String::from_utf8_lossy(&response.body);
    match said.trim() {
        "" => note(&format!("error: the function failed ({code})")),
        said => note(&format!("error: {} ({code})", shorten(said, 4096))),
    }
    if let Some(id) = header("x-execution-id") {
        note_execution(id);
    }
    Ok(ExitCode::FAILURE)
}
