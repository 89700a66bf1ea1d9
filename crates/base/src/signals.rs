//! The signals by which people end a server or a command.
//!
//! The watchdog has its own (`nanofaas_watchdog::stop`): what signals it is a program, and every signal is meant.

use std::{
    future::poll_fn,
    io,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals this close to each other are one: `timeout`, for one, sends it to the process and then to its group, and that
/// is nobody who has lost patience.
const ECHO_TIME: Duration = Duration::from_millis(100);

/// Number of SIGXFSZ, the same on every Linux.
const FILE_SIZE: i32 = 25;

/// Some kinds of signals, none of which ends this process by itself any more.
pub struct Signals {
    kinds: Vec<Signal>,
    last: Option<Instant>,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen(kinds: &[SignalKind]) -> io::Result<Signals> {
        let kinds = kinds.iter().map(|kind| signal(*kind)).collect::<io::Result<_>>()?;
        Ok(Signals { kinds, last: None })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        loop {
            poll_fn(|context| match self.kinds.iter_mut().any(|kind| kind.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            let is_echo = self.last.is_some_and(|last| last.elapsed() < ECHO_TIME);
            if !is_echo {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}

/// Lets a write fail that would make a file larger than the process may write, instead of ending the process.
///
/// # Errors
/// The system refuses.
pub fn survive_large_files() -> io::Result<()> {
    // Caught once, it stays caught.
    signal(SignalKind::from_raw(FILE_SIZE)).map(drop)
}
