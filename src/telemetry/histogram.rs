//! Durations of one kind: buckets since the start, and quantiles of the last one to two periods.
//!
//! A duration is counted once, finely, in the window of the current period. When a period ends, the window becomes the
//! previous one, and what was in that is added to the coarse buckets of all that is past. So buckets, count and sum
//! cover everything, quantiles and the longest what is recent, and a kind that is not in use any more costs its
//! buckets only. How long a period is, is decided by whoever calls [`Histogram::rotate`].

use super::scale::{self, BOUNDS_US, BUCKET_OF, BUCKETS, BucketIndex, DECADES, STEPS};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// What has left both windows.
    past: [u64; BUCKETS],
    sum_us: u64,
    current: Window,
    previous: Window,
}

/// Durations of one period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Window {
    /// Counts by step, for the decades in use.
    decades: [Option<Box<[u32; STEPS]>>; DECADES],
    below: u32,
    above: u32,
    longest_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration_us: u64) {
        self.sum_us = self.sum_us.saturating_add(duration_us);
        let window = &mut self.current;
        window.longest_us = window.longest_us.max(duration_us);
        let count = match scale::place_of(duration_us) {
            BucketIndex::Below => &mut window.below,
            BucketIndex::Above => &mut window.above,
            BucketIndex::Step { decade, step } => {
                &mut window.decades[decade].get_or_insert_with(|| Box::new([0; STEPS]))[step]
            }
        };
        *count = count.saturating_add(1);
    }

    /// Ends a period.
    pub fn rotate(&mut self) {
        self.previous.add_to(&mut self.past);
        self.previous = std::mem::take(&mut self.current);
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in self.past.iter_mut().zip(&other.past) {
            *bucket += count;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.current.merge(&other.current);
        self.previous.merge(&other.previous);
    }

    /// Sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Numbers of durations up to each of [`BOUNDS_US`]; the last one is the number of all.
    pub fn cumulative(&self) -> [u64; BUCKETS] {
        let mut buckets = self.past;
        self.current.add_to(&mut buckets);
        self.previous.add_to(&mut buckets);
        let mut total = 0;
        for bucket in &mut buckets {
            total += *bucket;
            *bucket = total;
        }
        buckets
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.cumulative()[BUCKETS - 1]
    }

    /// What is recent: the current and the previous period.
    pub fn recent(&self) -> Recent {
        let mut window = self.current.clone();
        window.merge(&self.previous);
        Recent { count: window.count(), window }
    }
}

impl Window {
    fn add_to(&self, buckets: &mut [u64; BUCKETS]) {
        buckets[0] += u64::from(self.below);
        buckets[BUCKETS - 1] += u64::from(self.above);
        for (decade, counts) in self.decades.iter().enumerate() {
            for (step, count) in counts.iter().flat_map(|counts| counts.iter().enumerate()) {
                buckets[usize::from(BUCKET_OF[decade][step])] += u64::from(*count);
            }
        }
    }

    fn merge(&mut self, other: &Window) {
        self.below = self.below.saturating_add(other.below);
        self.above = self.above.saturating_add(other.above);
        self.longest_us = self.longest_us.max(other.longest_us);
        for (counts, more) in self.decades.iter_mut().zip(&other.decades) {
            let Some(more) = more else { continue };
            let Some(counts) = counts else {
                *counts = Some(more.clone());
                continue;
            };
            for (count, more) in counts.iter_mut().zip(more.iter()) {
                *count = count.saturating_add(*more);
            }
        }
    }

    fn count(&self) -> u64 {
        let steps = self.decades.iter().flatten().flat_map(|counts| counts.iter());
        steps.chain([&self.below, &self.above]).map(|count| u64::from(*count)).sum()
    }

    /// Lower bound, upper bound in microseconds and count of everything that was counted, in order.
    fn steps(&self) -> impl Iterator<Item = (f64, f64, u32)> + '_ {
        let decades = self.decades.iter().enumerate().flat_map(|(decade, counts)| {
            counts.iter().flat_map(move |counts| {
                counts.iter().enumerate().map(move |(step, count)| {
                    let (lower, upper) = scale::bounds_us(decade, step);
                    (lower, upper, *count)
                })
            })
        });
        let below = (0.0, scale::LOWEST_US as f64, self.below);
        let above = (scale::HIGHEST_US as f64, self.longest_us as f64, self.above);
        std::iter::once(below).chain(decades).chain(std::iter::once(above)).filter(|(_, _, count)| *count > 0)
    }
}

/// Recent durations of a [`Histogram`].
#[derive(Debug)]
pub struct Recent {
    window: Window,
    count: u64,
}

impl Recent {
    /// The longest, in seconds; 0 when there is none.
    pub fn longest_seconds(&self) -> f64 {
        self.window.longest_us as f64 / 1e6
    }

    /// The duration that this part (0 to 1) of all do not exceed, in seconds, interpolated within its step; NaN when
    /// there is none, as the exposition format has it.
    pub fn quantile_seconds(&self, part: f64) -> f64 {
        let rank = part * self.count as f64;
        let longest_us = self.window.longest_us as f64;
        let mut before = 0.0;
        for (lower, upper, count) in self.window.steps() {
            let count = f64::from(count);
            if before + count >= rank {
                let within = (rank - before) / count;
                return (lower + (upper - lower) * within).min(longest_us) / 1e6;
            }
            before += count;
        }
        // Nothing was counted: with any count, the last step reaches the rank.
        f64::NAN
    }
}

/// Upper bounds of [`Histogram::cumulative`] but the last, in seconds.
pub fn bounds_seconds() -> impl Iterator<Item = f64> {
    BOUNDS_US.iter().map(|bound_us| *bound_us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations_us: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        durations_us.into_iter().for_each(|duration_us| histogram.record(duration_us));
        histogram
    }

    #[test]
    fn bounds_are_inclusive_and_every_period_counts() {
        let mut histogram = of([0, 100, 101, 60_000_000, 60_000_001]);
        for _ in 0..4 {
            let counts = histogram.cumulative();
            assert_eq!((counts[0], counts[1], counts[17], counts[18], histogram.count()), (2, 3, 4, 5, 5));
            assert!((histogram.sum_seconds() - 120.000_202).abs() < 1e-9);
            histogram.rotate();
        }
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let recent = of(1..=10_000).recent();
        for part in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let (told, truth) = (recent.quantile_seconds(part), part * 10_000.0 / 1e6);
            assert!((told - truth).abs() <= truth * 0.05, "{part}: {told} instead of {truth}");
        }
        let one = of([57_300]).recent();
        assert!((one.quantile_seconds(0.99) - 0.0573).abs() < 0.003, "{}", one.quantile_seconds(0.99));
        assert!(one.quantile_seconds(0.5) <= one.quantile_seconds(0.99));
        let extremes = of([0, 3_000_000_000]).recent();
        assert!(extremes.quantile_seconds(0.5) <= 1e-5 && extremes.quantile_seconds(0.99) > 100.0);
        assert!((extremes.longest_seconds() - 3000.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_recent_leaves_after_two_periods() {
        let mut histogram = of([1_000_000]);
        histogram.rotate();
        histogram.record(1_000);
        assert!((histogram.recent().longest_seconds() - 1.0).abs() < 1e-9);
        histogram.rotate();
        assert!((histogram.recent().longest_seconds() - 0.001).abs() < 1e-9);
        assert!(histogram.recent().quantile_seconds(0.99) <= 0.001);
        histogram.rotate();
        assert_eq!(histogram.recent().longest_seconds(), 0.0);
        assert!(histogram.recent().quantile_seconds(0.5).is_nan());
        assert_eq!(histogram.count(), 2);
    }

    #[test]
    fn merging_is_counting_together() {
        let (mut one, mut other) = (of([5, 700, 90_000]), of([6, 800, 200_000_000]));
        one.rotate();
        other.rotate();
        [1, 30].into_iter().for_each(|duration_us| one.record(duration_us));
        let mut both = of([5, 700, 90_000, 6, 800, 200_000_000]);
        both.rotate();
        [1, 30].into_iter().for_each(|duration_us| both.record(duration_us));
        one.merge(&other);
        assert_eq!(one, both);
    }
}
