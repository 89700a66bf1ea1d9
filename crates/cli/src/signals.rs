//! The signals that ask a command to end: for those that have something to put back in order first.

use nanofaas_base::signals::Signals;
use tokio::signal::unix::SignalKind;

use super::failure::Failure;

/// Listens for SIGINT, SIGTERM and SIGHUP.
pub(super) fn listen() -> Result<Signals, Failure> {
    Signals::listen(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))
}
