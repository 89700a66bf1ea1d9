//! Signals that end the server.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    last: Option<Instant>,
    /// A file grew beyond the limit of the process. Caught so that it does not end it: the write fails as well.
    _file_size: Signal,
}

/// Signals this close to each other are one: `timeout`, for one, sends it to the process and then to its group, and that
/// is nobody who has lost patience.
const ECHO_TIME: Duration = Duration::from_millis(100);

/// Number of SIGXFSZ, the same on every Linux.
const FILE_SIZE: i32 = 25;

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            let is_echo = self.last.is_some_and(|last| last.elapsed() < ECHO_TIME);
            if !is_echo {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}
