//! `nanofaas invoke`: call a function and wait for its output.
//!
//! The output goes to stdout as the function wrote it; with `-o json` the whole envelope does. A function that
//! failed or timed out is an exit code of 1 and its message on stderr.

use std::process::ExitCode;

use clap::Args;

use super::{call::Call, client::Session, failure::Failure, input::CallArguments, output::note};

/// Arguments of `invoke`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas invoke hello -d '{\"name\":\"world\"}'\n  \
    nanofaas invoke resize -d @picture.json --timeout-ms 2000 -o json\n  \
    date +%s | nanofaas invoke hello -d @-")]
pub(super) struct Invoke {
    #[command(flatten)]
    call: CallArguments,
    /// Time for the whole call, waiting and retries included
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
}

impl Invoke {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let input = self.call.input()?;
        let call = Call { timeout_ms: self.timeout_ms, ..self.call.call(&input)? };
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
