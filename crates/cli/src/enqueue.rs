//! `nanofaas enqueue`: hand a call to a function and do not wait for its output.
//!
//! The execution id goes to stdout, alone, so that a script can keep it; what to do with it goes to stderr. With
//! `--watch` the command goes on as `exec get --watch` does.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use nanofaas_base::duration::parse_duration;

use super::{
    call::CallRequest,
    client::Session,
    execution::{show, watch},
    failure::Failure,
    input::{CallArguments, set},
    output::note,
};

/// Longest time that an execution may be told to wait, as the server has it: a day.
const MAX_AGE_MAX: Duration = Duration::from_secs(86_400);

/// Arguments of `enqueue`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas enqueue report -d '{\"month\":\"2026-05\"}'\n  \
    nanofaas enqueue report -d @order.json --watch\n  \
    id=$(nanofaas enqueue report -d 1) && nanofaas exec get $id --watch\n\n\
    Exit code: 0 when the server accepted the call; with --watch 1 when the function failed or timed out.")]
pub struct Enqueue {
    #[command(flatten)]
    call: CallArguments,
    /// Where the server sends the result, signed (http or https)
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// Longest time in the queue, such as 30s; after that the execution ends as EXPIRED
    #[arg(long, value_name = "DURATION", value_parser = max_age)]
    max_age: Option<Duration>,
    /// Sent as with invoke, but no caller waits here, so a server may ignore it; see --max-age
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
    /// Wait for the end and show the result
    #[arg(short, long)]
    watch: bool,
}

impl Enqueue {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let mut call = CallRequest { timeout_ms: self.timeout_ms, ..self.call.call()? };
        let max_age_ms = self.max_age.map(|age| age.as_millis().to_string());
        set(&mut call.headers, "--callback-url", "x-callback-url", self.callback_url.as_deref())?;
        set(&mut call.headers, "--max-age", "x-max-age-ms", max_age_ms.as_deref())?;
        let accepted = session.api.enqueue(call).await?;
        if self.watch {
            note(&format!("{} is queued", accepted.id));
            return show::end(&session, watch::until_end(&session.api, &accepted.id).await?);
        }
        if session.output.is_json() {
            session.output.json(&accepted.body)?;
        } else {
            session.output.line(&accepted.id)?;
            note(&format!("queued; see: nanofaas exec get {} --watch", accepted.id));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn max_age(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(1)..=MAX_AGE_MAX).contains(&age) {
        Ok(age)
    } else {
        Err("from 1ms to 24h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, expected) in [("30s", Some(30_000)), ("1500", Some(1500)), ("24h", Some(86_400_000))] {
            assert_eq!(max_age(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
        for text in ["0", "25h", "soon", "-1s", ""] {
            assert!(max_age(text).is_err(), "{text}");
        }
    }
}
