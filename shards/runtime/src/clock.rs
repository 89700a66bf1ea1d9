//! The one place that reads clocks.
//!
//! The monotonic one is tokio's: the system's own, except in tests that pause it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shard_core::Now;
use tokio::time::Instant;

/// A monotonic and a wall clock, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_us: self.mono_us(), unix_ms: self.unix().as_millis() as u64 }
    }

    /// Time since the epoch. In tests it goes with the monotonic clock, so that a seed decides it too.
    fn unix(&self) -> Duration {
        if cfg!(test) {
            Duration::from_secs(1_700_000_000) + self.start.elapsed()
        } else {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
        }
    }

    /// The monotonic clock alone.
    pub(crate) fn mono_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The instant that a deadline on the monotonic clock stands for.
    pub(crate) fn instant(&self, mono_us: u64) -> Instant {
        self.start + Duration::from_micros(mono_us)
    }
}
