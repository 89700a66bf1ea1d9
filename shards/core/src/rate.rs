//! Rate windows: whole seconds of the monotonic clock, so that a wall clock that is set moves none of them.

use crate::limits::Limits;

/// Counts calls within one second.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RateWindow {
    second: u64,
    used: u32,
}

impl RateWindow {
    /// Admits one call, or not.
    pub(crate) fn admit(&mut self, second: u64, limit: u32) -> bool {
        if second > self.second {
            *self = RateWindow { second, used: 0 };
        }
        let admitted = self.used < limit;
        self.used += u32::from(admitted);
        admitted
    }

    /// Seconds until the next window opens.
    pub(crate) fn retry_after_s(&self, mono_us: u64) -> u32 {
        until_after(self.second, mono_us)
    }
}

/// Seconds until `second` is over, rounded up, at least 1.
fn until_after(second: u64, mono_us: u64) -> u32 {
    let end_us = second.saturating_add(1).saturating_mul(1_000_000);
    Limits::retry_after_s(end_us.saturating_sub(mono_us))
}

/// Calls of the server's limit that were leased to this shard.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CallLease {
    second: u64,
    calls: u32,
}

impl CallLease {
    /// Whether a call in this second needs another lease first.
    pub(crate) fn is_spent(&self, second: u64) -> bool {
        self.calls == 0 || second > self.second
    }

    /// Adds leased calls. Calls leased for an earlier second are void.
    pub(crate) fn grant(&mut self, second: u64, calls: u32) {
        if second > self.second {
            *self = CallLease { second, calls };
        } else if second == self.second {
            self.calls = self.calls.saturating_add(calls);
        }
    }

    /// Uses one call, or not.
    pub(crate) fn admit(&mut self, second: u64) -> bool {
        let admitted = !self.is_spent(second);
        self.calls -= u32::from(admitted);
        admitted
    }

    /// Seconds until another second's calls may be leased.
    pub(crate) fn retry_after_s(&self, mono_us: u64) -> u32 {
        until_after(self.second, mono_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_exceeds_its_limit_and_stays_in_the_newest_second() {
        let mut window = RateWindow::default();
        let admitted = [10, 10, 10, 9, 10, 11, 10, 11].map(|second| window.admit(second, 2));
        assert_eq!(admitted, [true, true, false, false, false, true, true, false]);
    }

    #[test]
    fn leased_calls_end_with_their_second() {
        let mut lease = CallLease::default();
        assert!(lease.is_spent(5) && !lease.admit(5));
        lease.grant(5, 1);
        lease.grant(5, 1);
        assert!(lease.admit(5) && lease.admit(4) && !lease.admit(5));
        lease.grant(5, 1);
        lease.grant(4, 9);
        assert!(!lease.admit(6) && lease.admit(5) && !lease.admit(5));
    }

    #[test]
    fn who_is_refused_comes_back_when_the_second_is_over() {
        let mut window = RateWindow::default();
        window.admit(10, 0);
        let mut lease = CallLease::default();
        lease.grant(10, 0);
        for (mono_us, after_s) in
            [(8_999_999, 3), (9_000_000, 2), (10_000_000, 1), (10_999_999, 1), (20_000_000, 1)]
        {
            assert_eq!(
                (window.retry_after_s(mono_us), lease.retry_after_s(mono_us)),
                (after_s, after_s),
                "{mono_us}"
            );
        }
    }
}
