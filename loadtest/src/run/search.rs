//! Finds the highest rate that keeps a goal: doubles it until the goal is missed, then halves the gap.
//!
//! A goal counts as missed at a rate only when it is missed every time it is tried there: a neighbour on the machine can
//! spoil one try, but nothing can make a slow server fast.

/// One try.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SearchStep<T> {
    /// Calls per second.
    pub rate: f64,
    /// Whether the goal was kept.
    pub is_good: bool,
    /// What was measured.
    pub measured: T,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// First rate.
    pub start: f64,
    /// No rate is higher.
    pub rate_max: f64,
    /// Ends when the gap between a good and a bad rate is no larger than this share of the good one.
    pub precision: f64,
    /// Tries at a rate before the goal counts as missed.
    pub tries: u32,
}

/// No rate is lower, in calls per second.
const RATE_MIN: f64 = 1.0;

impl Search {
    /// The highest good rate, if there is any. `measure` tries a rate and says whether it keeps the goal.
    pub fn run<E>(self, mut measure: impl FnMut(f64) -> Result<bool, E>) -> Result<Option<f64>, E> {
        let mut is_good = |rate: f64| -> Result<bool, E> {
            for _ in 0..self.tries.max(1) {
                if measure(rate)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let mut rate = self.start.clamp(RATE_MIN, self.rate_max);
        let (mut good, mut bad) = (None, None);
        while good.is_none() || bad.is_none() {
            if is_good(rate)? {
                good = Some(rate);
                if rate >= self.rate_max {
                    return Ok(good);
                }
                rate = (rate * 2.0).min(self.rate_max);
            } else {
                bad = Some(rate);
                if rate <= RATE_MIN {
                    return Ok(None);
                }
                rate = (rate / 2.0).max(RATE_MIN);
            }
        }
        // Both are there now.
        let (Some(mut good), Some(mut bad)) = (good, bad) else { return Ok(None) };
        while bad - good > self.precision * good && bad - good >= RATE_MIN {
            let middle = (good + bad) / 2.0;
            if is_good(middle)? { good = middle } else { bad = middle }
        }
        Ok(Some(good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { start: 100.0, rate_max: 1e6, precision: 0.02, tries: 1 };

    fn search(search: Search, is_good: impl Fn(f64) -> bool) -> (Option<f64>, Vec<f64>) {
        let mut rates = Vec::new();
        let found = search.run(|rate| {
            rates.push(rate);
            Ok::<bool, ()>(is_good(rate))
        });
        (found.expect("no errors"), rates)
    }

    #[test]
    fn the_limit_is_found_from_both_sides() {
        for limit in [3.0, 90.0, 100.0, 12_345.0, 400_000.0] {
            let (found, rates) = search(SEARCH, |rate| rate <= limit);
            let found = found.expect("a rate");
            assert!(found <= limit && found >= limit * 0.97 - 1.0, "{found} for {limit}");
            assert!(rates.len() < 30, "{rates:?}");
        }
        assert_eq!(search(SEARCH, |_| true).0, Some(1e6));
        assert_eq!(search(SEARCH, |_| false).0, None);
    }

    #[test]
    fn a_spoiled_try_is_forgiven() {
        let count = std::cell::Cell::new(0);
        let spoiled = |rate: f64| {
            count.set(count.get() + 1);
            rate <= 1000.0 && count.get() % 2 == 0
        };
        let (found, _) = search(Search { tries: 2, ..SEARCH }, spoiled);
        assert!(found.expect("a rate") > 950.0, "{found:?}");
    }
}
