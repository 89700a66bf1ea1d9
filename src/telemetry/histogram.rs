//! A histogram of durations with fixed buckets.

/// Upper bounds of the buckets, in microseconds. The last bucket, without a bound, comes after them.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration_us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound_us| *bound_us < duration_us);
        self.buckets[bucket] += 1;
        self.sum_us += duration_us;
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.sum_us += other.sum_us;
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Upper bound in seconds and number of durations up to it, for each bucket with a bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut total = 0;
        BOUNDS_US.iter().zip(&self.buckets).map(move |(bound_us, count)| {
            total += count;
            (*bound_us as f64 / 1e6, total)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        let mut histogram = Histogram::default();
        for duration_us in [0, 100, 101, 60_000_000, 60_000_001] {
            histogram.record(duration_us);
        }
        let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!((counts[0], counts[1], counts[17], histogram.count()), (2, 3, 4, 5));
        assert!((histogram.sum_seconds() - 120.000_202).abs() < 1e-9);
    }
}
