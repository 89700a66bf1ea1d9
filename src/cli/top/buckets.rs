//! Quantiles of what a histogram has counted between two looks at it.

/// A histogram as it is exported: upper bounds in seconds, ascending, and how many were at most that.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets(Vec<(f64, f64)>);

/// Where a quantile lies, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantile {
    /// About here.
    At(f64),
    /// Somewhere beyond the last bound.
    Over(f64),
}

impl Quantile {
    /// Something to sort by.
    pub(super) fn seconds(self) -> f64 {
        match self {
            Quantile::At(seconds) | Quantile::Over(seconds) => seconds,
        }
    }
}

impl Buckets {
    /// Puts a bucket in its place.
    pub(super) fn set(&mut self, bound: f64, count: f64) {
        let place = self.0.partition_point(|(other, _)| *other < bound);
        match self.0.get_mut(place).filter(|(other, _)| *other == bound) {
            Some(bucket) => bucket.1 = count,
            None => self.0.insert(place, (bound, count)),
        }
    }

    /// Adds another histogram with the same bounds.
    pub(super) fn add(&mut self, other: &Buckets) {
        for (bound, count) in &other.0 {
            let sum = self.at(*bound).unwrap_or(0.0) + count;
            self.set(*bound, sum);
        }
    }

    /// What was counted since `before`. Where counters went back, everything is new.
    pub(super) fn since(&self, before: &Buckets) -> Buckets {
        let old = |bound: f64| before.at(bound).unwrap_or(0.0);
        if self.0.iter().any(|(bound, count)| *count < old(*bound)) {
            return self.clone();
        }
        Buckets(self.0.iter().map(|(bound, count)| (*bound, count - old(*bound))).collect())
    }

    /// The quantile, linear within a bucket, as Prometheus' `histogram_quantile` has it; `None` when nothing was
    /// counted.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Quantile> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = quantile * total;
        let is_below = |count: f64| count < rank || count == 0.0;
        let place = self.0.partition_point(|(_, count)| is_below(*count)).min(self.0.len() - 1);
        let (lower, below) = place.checked_sub(1).map_or((0.0, 0.0), |before| self.0[before]);
        let (upper, count) = self.0[place];
        if upper.is_infinite() {
            return Some(Quantile::Over(lower));
        }
        let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
        Some(Quantile::At(lower + (upper - lower) * share.clamp(0.0, 1.0)))
    }

    fn at(&self, bound: f64) -> Option<f64> {
        let place = self.0.partition_point(|(other, _)| *other < bound);
        self.0.get(place).filter(|(other, _)| *other == bound).map(|(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(f64, f64)]) -> Buckets {
        let mut buckets = Buckets::default();
        // Whatever the order.
        counts.iter().rev().for_each(|(bound, count)| buckets.set(*bound, *count));
        buckets
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles() {
        use Quantile::{At, Over};
        for (counts, quantile, expected) in [
            (&[][..], 0.5, None),
            (&[(1.0, 0.0), (INF, 0.0)], 0.5, None),
            (&[(1.0, 10.0), (INF, 10.0)], 0.5, Some(At(0.5))),
            (&[(1.0, 10.0), (2.0, 10.0), (INF, 10.0)], 1.0, Some(At(1.0))),
            (&[(1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (INF, 8.0)], 0.75, Some(At(3.0))),
            (&[(1.0, 0.0), (2.0, 4.0), (INF, 4.0)], 0.0, Some(At(1.0))),
            (&[(1.0, 0.0), (2.0, 4.0), (INF, 4.0)], 0.5, Some(At(1.5))),
            (&[(1.0, 5.0), (INF, 10.0)], 0.99, Some(Over(1.0))),
            (&[(INF, 10.0)], 0.99, Some(Over(0.0))),
        ] {
            assert_eq!(buckets(counts).quantile(quantile), expected, "{counts:?} {quantile}");
        }
    }

    #[test]
    fn differences() {
        let before = buckets(&[(1.0, 3.0), (INF, 5.0)]);
        for (now, expected) in [
            (&[(1.0, 3.0), (INF, 6.0)][..], &[(1.0, 0.0), (INF, 1.0)][..]),
            (&[(1.0, 3.0), (2.0, 1.0), (INF, 6.0)], &[(1.0, 0.0), (2.0, 1.0), (INF, 1.0)]),
            // It started again.
            (&[(1.0, 1.0), (INF, 9.0)], &[(1.0, 1.0), (INF, 9.0)]),
        ] {
            assert_eq!(buckets(now).since(&before), buckets(expected));
        }
        assert_eq!(before.since(&Buckets::default()), before);
        let mut sum = before.clone();
        sum.add(&buckets(&[(1.0, 1.0), (2.0, 1.0), (INF, 1.0)]));
        assert_eq!(sum, buckets(&[(1.0, 4.0), (2.0, 1.0), (INF, 6.0)]));
    }
}
