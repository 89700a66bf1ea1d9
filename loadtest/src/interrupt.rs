//! SIGINT and SIGTERM: the first ends what runs early, so that its results are still written; the second ends at once.
//!
//! A thread waits for them. Before it ends the process it kills the servers that were started here.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::server;

/// Exit code of a run that was ended early: that of a program ended by SIGINT.
pub const EXIT_CODE: u8 = 130;

/// Whether to end early. Copies are about the same thing.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    is_set: Arc<AtomicBool>,
}

impl Interrupt {
    /// Catches the signals of this process from now on.
    ///
    /// # Errors
    /// When the system refuses a handler or a thread.
    pub fn catch() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let is_set = Arc::clone(&interrupt.is_set);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if is_set.swap(true, Ordering::Relaxed) {
                    server::kill_all();
                    std::process::exit(i32::from(EXIT_CODE));
                }
            }
        })?;
        Ok(interrupt)
    }

    /// Ends early, as a signal would.
    pub fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }
}
