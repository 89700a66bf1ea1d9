//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shard_core::Now;

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
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_us: self.mono_us(), unix_ms: unix.as_millis() as u64 }
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
