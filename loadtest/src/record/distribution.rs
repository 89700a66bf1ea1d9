//! A distribution of times: an HdrHistogram that takes no memory before its first value.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that is told apart, in nanoseconds: an hour. Longer ones count as this.
const TIME_NS_MAX: u64 = 3_600_000_000_000;
/// Decimal digits that are exact.
const DIGITS: u8 = 3;

/// Times in nanoseconds, exact to three digits.
#[derive(Debug, Clone, Default)]
pub struct Distribution(Option<Box<Histogram<u64>>>);

impl Distribution {
    /// Counts one time.
    #[inline]
    pub fn record(&mut self, time_ns: u64) {
        if self.0.is_none() {
            // The bounds are constants that the constructor accepts; without a histogram nothing is counted.
            self.0 = Histogram::new_with_bounds(1, TIME_NS_MAX, DIGITS).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(time_ns.max(1));
        }
    }

    /// Counts everything that another distribution has.
    pub fn add(&mut self, other: &Distribution) {
        match (&mut self.0, &other.0) {
            (Some(mine), Some(theirs)) => {
                // Same bounds on both sides: nothing can be out of range.
                let _ = mine.add(theirs.as_ref());
            }
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The time in milliseconds that a share of all is not longer than; 0 when nothing was counted.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| ms(histogram.value_at_quantile(quantile)))
    }

    /// Longest time in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| ms(histogram.max()))
    }

    /// Shortest time in milliseconds.
    pub fn min_ms(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| ms(histogram.min()))
    }

    /// Mean time in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| histogram.mean() / 1e6)
    }

    /// How many were longer than `limit`.
    pub fn count_above(&self, limit: Duration) -> u64 {
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.0
            .as_ref()
            .map_or(0, |histogram| histogram.len() - histogram.count_between(0, limit_ns.min(TIME_NS_MAX)))
    }

    /// The histogram, if anything was counted.
    pub(crate) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_deref()
    }
}

fn ms(time_ns: u64) -> f64 {
    time_ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_merges() {
        let (mut one, mut other, empty) =
            (Distribution::default(), Distribution::default(), Distribution::default());
        for ms in 1..=100 {
            one.record(ms * 1_000_000);
        }
        other.record(u64::MAX);
        one.add(&empty);
        one.add(&other);
        assert_eq!(one.count(), 101);
        assert!((one.quantile_ms(0.5) - 51.0).abs() < 0.1, "{}", one.quantile_ms(0.5));
        assert!(one.max_ms() >= 3_600_000.0);
        assert_eq!(one.count_above(Duration::from_millis(90)), 11);
        assert_eq!((empty.count(), empty.quantile_ms(0.99)), (0, 0.0));
    }
}
