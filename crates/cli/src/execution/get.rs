//! `nanofaas exec get`.

use std::process::ExitCode;

use clap::Args;

use super::{path, show, watch};
use crate::{client::Session, failure::Failure};

/// Arguments of `exec get`.
#[derive(Args)]
#[command(after_help = "Exit code: 1 when the execution ended as error or timeout, 0 otherwise.\n\n\
    Examples:\n  \
    nanofaas exec get 95edb891-21bc-4681-af7e-9707964bd73a\n  \
    nanofaas exec get 95edb891-21bc-4681-af7e-9707964bd73a --watch -o json")]
pub struct GetExecution {
    /// Execution id, as invoke and enqueue print it
    id: String,
    /// Wait for the end; Ctrl-C stops the waiting, not the execution
    #[arg(short, long)]
    watch: bool,
}

impl GetExecution {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let status = if self.watch {
            watch::until_end(&session.api, &self.id).await?
        } else {
            session.api.get(&path(&self.id)).await?
        };
        show::end(&session, status)
    }
}
