//! `nanofaas top`: what a server is doing, live.
//!
//! A look at the metrics (`source`, `scrape`, `exposition`) and the one before it make a picture (`picture`): rates are of
//! the second between the two, quantiles those that the server tells. On a terminal the picture, the order and the
//! filter (`state`, `columns`, `keys`) are drawn again and again (`view`, `live`, `screen`); otherwise, and with
//! `--once`, it is printed (`once`).

mod columns;
mod exposition;
mod figures;
mod keys;
mod live;
mod once;
mod picture;
mod scrape;
mod screen;
mod source;
mod state;
mod view;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;

use self::{source::Source, view::ViewOptions};
use super::{arguments::ServerOptions, client::Session, failure::Failure, output::Output};

/// Arguments of `top`.
#[derive(Args)]
#[command(after_help = "Columns, for the last second except P50 and P99:\n  \
    RATE/S, ERR/S, RETRY/S  new executions; failures and missed deadlines; retries\n  \
    P50, P99                from acceptance to end, all attempts included, over the last one to two minutes\n  \
    QUEUE, BUSY             calls that wait; slots in use / all slots\n  \
    REPL                    replicas ready / replicas wanted\n\n\
    Above them: the same for all functions together, responses of the API by class of their status, and rejected\n\
    requests by reason (as nanofaas_refusals_total).\n\n\
    Keys: q quits, arrows sort and scroll, / filters by name, p pauses, ? shows all of them.\n\
    Without a terminal top prints once, as with --once.\n\n\
    Examples:\n  \
    nanofaas top\n  \
    nanofaas top --management http://10.0.0.7:8081\n  \
    nanofaas top --once -o json | jq '.functions[] | select(.errorsPerSecond > 0)'")]
pub struct Top {
    /// Print one table, made from two scrapes a second apart, and exit
    #[arg(long)]
    once: bool,
    /// Management address of the server [default: NANOFAAS_MANAGEMENT, else the context's, else port 8081 of the
    /// server's host]
    #[arg(long, value_name = "URL")]
    management: Option<String>,
}

impl Top {
    pub(super) async fn run(self, target: &ServerOptions, output: Output) -> Result<ExitCode, Failure> {
        let session = Session::open(target, output)?;
        let management = Session::management(target, self.management.as_deref())?;
        let is_seen = io::stdin().is_terminal() && io::stdout().is_terminal();
        let look = ViewOptions::new(management.address(), session.output.is_coloured());
        let source = Source::new(management, session.api);
        if self.once || session.output.is_json() || !is_seen {
            once::run(source, &session.output).await
        } else {
            live::run(source, look).await
        }
    }
}
