//! How a replica is asked to go: politely, urgently, not at all. Pure.
//!
//! The watchdog lets calls in flight finish on the first SIGTERM and ends everything at once on the second. When
//! it is stuck, SIGQUIT makes its guard kill everything. Only when that fails too is the guard killed: it cleans
//! up better than anybody can after it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

/// The shards send calls to a replica until they have heard that it goes.
const TERM_DELAY: Duration = Duration::from_millis(100);

/// A call may take its timeout, and this for killing what exceeded it and for answering.
const DRAIN_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// Time the watchdog has after the second SIGTERM.
const SECOND_TERM_GRACE: Duration = Duration::from_secs(1);

/// Time the guard has to kill everything; it takes milliseconds unless the machine is in trouble.
const GUARD_KILL_TIMEOUT: Duration = Duration::from_millis(2500);

/// When to send what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When to ask.
    pub term_at: Instant,
    /// When to kill.
    pub kill_at: Instant,
}

impl Stop {
    /// Calls in flight may finish within the function's timeout.
    pub fn draining(timeout: Duration) -> Stop {
        let term_at = Instant::now() + TERM_DELAY;
        Stop { term_at, kill_at: term_at + timeout + DRAIN_TIMEOUT_MARGIN }
    }

    /// Begins now and ends within `grace`.
    pub fn within(grace: Duration) -> Stop {
        let now = Instant::now();
        Stop { term_at: now, kill_at: now + grace }
    }

    /// The signal that follows after so many were sent, and its time.
    pub fn signal(&self, sent: usize) -> Option<(Instant, Signal)> {
        match sent {
            0 => Some((self.term_at, Signal::TERM)),
            1 => Some((self.urge_at(), Signal::TERM)),
            2 => Some((self.kill_at, Signal::QUIT)),
            3 => Some((self.kill_at + GUARD_KILL_TIMEOUT, Signal::KILL)),
            _ => None,
        }
    }

    /// Shortly before the kill, but never before half of the time is over.
    fn urge_at(&self) -> Instant {
        let total = self.kill_at.saturating_duration_since(self.term_at);
        self.kill_at - SECOND_TERM_GRACE.min(total / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_grow_more_urgent() {
        for (total_ms, urge_ms) in [(10_000, 9000), (2000, 1000), (1000, 500), (0, 0)] {
            let stop = Stop::within(Duration::from_millis(total_ms));
            let after = |ms| stop.term_at + Duration::from_millis(ms);
            assert_eq!(stop.signal(0), Some((stop.term_at, Signal::TERM)));
            assert_eq!(stop.signal(1), Some((after(urge_ms), Signal::TERM)));
            assert_eq!(stop.signal(2), Some((after(total_ms), Signal::QUIT)));
            assert_eq!(stop.signal(3), Some((after(total_ms) + GUARD_KILL_TIMEOUT, Signal::KILL)));
            assert_eq!(stop.signal(4), None);
        }
    }

    #[test]
    fn a_drain_outlasts_the_longest_call() {
        let stop = Stop::draining(Duration::from_secs(30));
        assert!(stop.urge_at() >= stop.term_at + Duration::from_secs(30));
    }
}
