//! How finely durations are told apart, on the way to quantiles and to the buckets of the exposition.
//!
//! Seven decades from 10 µs to 100 s of 35 steps each: a tenth wide from 1 to 2.5, a quarter from 2.5 to 5, a half from 5
//! to 10 times the decade. No step is wider than a tenth of its lower bound, so a quantile interpolated within one is
//! off by a few percent at most. All of [`BOUNDS_US`] are bounds of steps, which makes the buckets exact.

/// Upper bounds of the buckets of the exposition, in microseconds. The last bucket, without a bound, comes after.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Buckets of the exposition, the one without a bound included.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Decades with steps of their own.
pub const DECADES: usize = 7;
/// Steps of a decade.
pub const STEPS: usize = 35;
/// Where the first decade begins, in microseconds.
pub const LOWEST_US: u64 = 10;
/// Where the last decade ends, in microseconds.
pub const HIGHEST_US: u64 = 100_000_000;

/// The bucket of the exposition that a step is part of, by decade and step.
pub const BUCKET_OF: [[u8; STEPS]; DECADES] = buckets_of_steps();

/// Where a duration is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketIndex {
    /// Up to [`LOWEST_US`].
    Below,
    /// In a step.
    Step {
        /// Which decade, below [`DECADES`].
        decade: usize,
        /// Which of its steps, below [`STEPS`].
        step: usize,
    },
    /// Longer than [`HIGHEST_US`].
    Above,
}

/// Where a duration is counted. Upper bounds belong to their steps, as those of the exposition do.
pub fn place_of(duration_us: u64) -> BucketIndex {
    if duration_us <= LOWEST_US {
        return BucketIndex::Below;
    }
    if duration_us > HIGHEST_US {
        return BucketIndex::Above;
    }
    // Bounds are whole numbers of half a tenth of a decade (27.5 is one). With `v ≤ h × unit ÷ 2 ⇔ (2v − 1) ÷ unit < h`
    // they are compared without fractions.
    let decade = (duration_us - 1).ilog10() as usize - 1;
    let half = (2 * duration_us - 1) / 10u64.pow(decade as u32);
    let step = match half {
        ..50 => (half - 20) / 2,
        50..100 => 15 + (half - 50) / 5,
        _ => 25 + (half - 100) / 10,
    };
    BucketIndex::Step { decade, step: step as usize }
}

/// Lower and upper bound of a step, in microseconds.
pub fn bounds_us(decade: usize, step: usize) -> (f64, f64) {
    let half_unit = 10u64.pow(decade as u32) as f64 / 2.0;
    let below = if step == 0 { 20 } else { half_bound(step - 1) };
    (below as f64 * half_unit, half_bound(step) as f64 * half_unit)
}

/// Upper bound of a step, in halves of a tenth of its decade.
const fn half_bound(step: usize) -> u64 {
    let step = step as u64;
    match step {
        ..15 => 20 + 2 * (step + 1),
        15..25 => 50 + 5 * (step - 14),
        _ => 100 + 10 * (step - 24),
    }
}

const fn buckets_of_steps() -> [[u8; STEPS]; DECADES] {
    let mut buckets = [[0; STEPS]; DECADES];
    let (mut decade, mut unit) = (0, 1);
    while decade < DECADES {
        let mut step = 0;
        while step < STEPS {
            let mut bucket = 0;
            while bucket < BOUNDS_US.len() && 2 * BOUNDS_US[bucket] < half_bound(step) * unit {
                bucket += 1;
            }
            buckets[decade][step] = bucket as u8;
            step += 1;
        }
        decade += 1;
        unit *= 10;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_within_the_bounds_of_its_step() {
        let mut durations: Vec<u64> = (11..200_000).collect();
        durations.extend((200_000..=HIGHEST_US).step_by(9_973));
        durations.extend(BOUNDS_US.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]));
        durations.push(HIGHEST_US);
        for duration_us in durations {
            let BucketIndex::Step { decade, step } = place_of(duration_us) else { panic!("{duration_us}") };
            let (lower, upper) = bounds_us(decade, step);
            let duration = duration_us as f64;
            assert!(lower < duration && duration <= upper, "{duration_us}: {lower} to {upper}");
            assert!(upper <= lower * 1.1 + 1e-6, "{duration_us}: {lower} to {upper}");
            let bucket = usize::from(BUCKET_OF[decade][step]);
            assert_eq!(bucket, BOUNDS_US.partition_point(|bound| *bound < duration_us), "{duration_us}");
        }
        assert_eq!((place_of(0), place_of(10)), (BucketIndex::Below, BucketIndex::Below));
        assert_eq!((place_of(HIGHEST_US + 1), place_of(u64::MAX)), (BucketIndex::Above, BucketIndex::Above));
    }
}
