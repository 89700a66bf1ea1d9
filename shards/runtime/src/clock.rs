//! The one place that reads clocks.
//!
//! The monotonic one is tokio's: the system's own, except in tests that pause it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shard_core::Now;
use tokio::time::Instant;

/// What the monotonic clock shows when it starts: 31 years. What an earlier server left behind is older than this one,
/// and its age has to be subtracted from the time of this clock.
pub(crate) const START_US: u64 = 1_000_000_000_000_000;

/// A monotonic and a wall clock, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_us: self.mono_us(), unix_ms: self.unix().as_millis() as u64 }
    }

    /// Time since the epoch. In tests it goes with the monotonic clock, so that a seed decides it too.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn unix(&self) -> Duration {
        if cfg!(test) {
            Duration::from_secs(1_700_000_000) + self.start.elapsed()
        } else {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
        }
    }

    /// The monotonic clock alone.
    pub(crate) fn mono_us(&self) -> u64 {
        START_US + self.start.elapsed().as_micros() as u64
    }

    /// The instant that a deadline on the monotonic clock stands for.
    pub(crate) fn instant(&self, mono_us: u64) -> Instant {
        self.start + Duration::from_micros(mono_us.saturating_sub(START_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_of_what_was_there_before_the_start_can_be_subtracted() {
        let clock = Clock::new();
        let year_us = 365 * 86_400 * 1_000_000;
        assert!(clock.mono_us() > 20 * year_us);
        let us = clock.mono_us();
        assert_eq!(
            clock.instant(us).saturating_duration_since(clock.start),
            Duration::from_micros(us - START_US)
        );
    }
}
