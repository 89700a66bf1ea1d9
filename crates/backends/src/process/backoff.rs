//! How long to wait before a replica is started again. Pure.
//!
//! The pause doubles with every death, so that a program that cannot run costs little; it starts small, so that
//! one that died by accident is back at once.

use std::time::Duration;

/// First pause.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A replica that was ready this long had recovered: its next death is a new trouble.
const RECOVERY_TIME: Duration = Duration::from_secs(60);

/// The pauses of one replica.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: BACKOFF_MIN }
    }
}

impl Backoff {
    /// The pause after a death. `ready_for` is how long the replica was ready before.
    pub fn pause_after(&mut self, ready_for: Duration) -> Duration {
        let pause = if ready_for >= RECOVERY_TIME { BACKOFF_MIN } else { self.next };
        self.next = (pause * 2).min(BACKOFF_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_health() {
        let mut backoff = Backoff::default();
        for (ready_for_s, pause_ms) in [
            (0, 100),
            (59, 200),
            (0, 400),
            (60, 100),
            (0, 200),
            (0, 400),
            (0, 800),
            (0, 1600),
            (0, 3200),
            (0, 6400),
            (0, 12_800),
            (0, 25_600),
            (0, 30_000),
            (59, 30_000),
            (61, 100),
        ] {
            let pause = backoff.pause_after(Duration::from_secs(ready_for_s));
            assert_eq!(pause, Duration::from_millis(pause_ms), "after {ready_for_s} s");
        }
    }
}
