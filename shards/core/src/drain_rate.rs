//! How fast a function's queue drains, as observed.
//!
//! A *sample* is a slot that was given back while all were taken and somebody waited for it. The rate is samples
//! ÷ the time during which all slots were taken before them, over a sliding window. Dispatches over wall time
//! would measure how much was asked for instead: a function that is called twice a second drains twice a second,
//! and would refuse the first burst that comes.
//!
//! The window is a ring of buckets, so memory is fixed and nothing is kept per call; its edge is therefore off by
//! up to one bucket. The time since the last sample says nothing until it is longer than usual: then the function
//! has slowed down, and it counts.

/// Parts of the window.
const BUCKETS: usize = 16;

#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    samples: u64,
    busy_us: u64,
}

/// See the module. Times are on the monotonic clock.
#[derive(Debug)]
pub(crate) struct DrainRate {
    bucket_us: u64,
    buckets: [Bucket; BUCKETS],
    /// Number of the newest bucket since the clock's zero.
    newest: u64,
    total: Bucket,
    /// Since when all slots are taken, or have been since the last sample.
    full_since_us: Option<u64>,
    /// When the last sample was taken: several slots may be given back at once.
    sampled_us: Option<u64>,
}

impl DrainRate {
    pub(crate) fn new(window_us: u64) -> DrainRate {
        DrainRate {
            bucket_us: (window_us / BUCKETS as u64).max(1),
            buckets: [Bucket::default(); BUCKETS],
            newest: 0,
            total: Bucket::default(),
            full_since_us: None,
            sampled_us: None,
        }
    }

    /// The last free slot was taken.
    pub(crate) fn filled(&mut self, now_us: u64) {
        self.full_since_us.get_or_insert(now_us);
    }

    /// A slot was given back, which makes one free; `waited`: somebody waits for it.
    pub(crate) fn released(&mut self, now_us: u64, waited: bool) {
        let full_since_us = self.full_since_us.take();
        if !waited {
            return;
        }
        match full_since_us {
            Some(since_us) => self.add(now_us, now_us - since_us.min(now_us)),
            None if self.sampled_us == Some(now_us) => self.add(now_us, 0),
            None => {}
        }
    }

    /// Samples per microsecond, when there are at least this many and they took any time.
    pub(crate) fn per_us(&mut self, now_us: u64, samples_min: u32) -> Option<f64> {
        self.advance(now_us);
        let Bucket { samples, busy_us } = self.total;
        if samples == 0 || samples < u64::from(samples_min) {
            return None;
        }
        let usual_us = busy_us / samples;
        let open_us = self.full_since_us.map_or(0, |since_us| now_us.saturating_sub(since_us));
        let time_us = busy_us + open_us.saturating_sub(usual_us);
        (time_us > 0).then(|| samples as f64 / time_us as f64)
    }

    fn add(&mut self, now_us: u64, busy_us: u64) {
        self.advance(now_us);
        let bucket = &mut self.buckets[(self.newest % BUCKETS as u64) as usize];
        bucket.samples += 1;
        bucket.busy_us += busy_us;
        self.total.samples += 1;
        self.total.busy_us += busy_us;
        self.sampled_us = Some(now_us);
    }

    /// Forgets what has left the window.
    fn advance(&mut self, now_us: u64) {
        let number = now_us / self.bucket_us;
        let stale = number.saturating_sub(self.newest).min(BUCKETS as u64);
        for step in 1..=stale {
            let bucket = &mut self.buckets[((number - stale + step) % BUCKETS as u64) as usize];
            let Bucket { samples, busy_us } = std::mem::take(bucket);
            self.total.samples -= samples;
            self.total.busy_us -= busy_us;
        }
        self.newest = self.newest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn slots_given_back_to_who_waits_are_counted_over_the_time_that_all_were_taken() {
        let mut rate = DrainRate::new(16 * SECOND);
        rate.filled(0);
        for second in 1..=3 {
            rate.released(second * SECOND, true);
            rate.filled(second * SECOND);
        }
        assert_eq!(rate.per_us(3 * SECOND, 4), None);
        assert_eq!(rate.per_us(3 * SECOND, 3), Some(1e-6));
        // An interval that is no longer than usual says nothing, a longer one does.
        assert_eq!(rate.per_us(4 * SECOND, 3), Some(1e-6));
        assert_eq!(rate.per_us(10 * SECOND, 3), Some(3.0 / 9e6));
    }

    #[test]
    fn idle_time_does_not_count() {
        let mut rate = DrainRate::new(16 * SECOND);
        rate.filled(0);
        rate.released(SECOND, true);
        rate.filled(SECOND);
        rate.released(2 * SECOND, false);
        assert_eq!(rate.per_us(9 * SECOND, 1), Some(1e-6));
    }

    #[test]
    fn slots_given_back_together_all_count() {
        let mut rate = DrainRate::new(16 * SECOND);
        rate.filled(0);
        rate.released(SECOND, true);
        rate.released(SECOND, true);
        rate.released(SECOND, true);
        assert_eq!(rate.per_us(SECOND, 1), Some(3e-6));
    }

    #[test]
    fn a_slot_given_back_while_another_was_free_is_no_sample() {
        let mut rate = DrainRate::new(16 * SECOND);
        rate.filled(0);
        rate.released(SECOND, true);
        rate.released(2 * SECOND, true);
        assert_eq!(rate.per_us(2 * SECOND, 1), Some(1e-6));
    }

    #[test]
    fn what_has_left_the_window_is_forgotten() {
        let mut rate = DrainRate::new(16 * SECOND);
        rate.filled(0);
        rate.released(SECOND, true);
        assert!(rate.per_us(16 * SECOND, 1).is_some());
        assert_eq!(rate.per_us(17 * SECOND, 1), None);
        rate.filled(100 * SECOND);
        rate.released(102 * SECOND, true);
        assert_eq!(rate.per_us(102 * SECOND, 1), Some(0.5e-6));
    }

    #[test]
    fn a_clock_that_stands_still_makes_no_rate() {
        let mut rate = DrainRate::new(0);
        rate.filled(5);
        rate.released(5, true);
        assert_eq!(rate.per_us(5, 0), None);
    }
}
