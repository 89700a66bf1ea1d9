//! `nanofaas dev`: a server to develop with.

use std::process::ExitCode;

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::{failure::Failure, serve, settings::Settings};
use crate::config::Base;

/// Arguments of `dev`.
#[derive(Args)]
pub(super) struct Dev {
    #[command(flatten)]
    settings: Settings,
    /// Process id of the parent to end with; how `demo` leaves nothing behind even when it is killed
    #[arg(long, hide = true, value_name = "PID")]
    end_with: Option<i32>,
}

impl Dev {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let loaded = self.settings.load(Base::Dev)?;
        if let Some(parent) = self.end_with {
            end_with(parent)?;
        }
        serve::start(loaded.config)
    }
}

/// Asks the kernel for SIGTERM when the parent dies.
fn end_with(parent: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::Failed(format!("cannot bind to the parent process: {error}")))?;
    // It may have died before the request: then nobody would ever send the signal.
    match getppid().map(|pid| pid.as_raw_nonzero().get()) {
        Some(pid) if pid == parent => Ok(()),
        _ => Err(Failure::Failed("the parent process is gone".to_owned())),
    }
}
