//! What is measured in rounds, several things in turns: one measurement, and the middle of many.

use serde::{Deserialize, Serialize};

use super::Summary;

/// One thing in one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Successes per second.
    pub throughput_per_s: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Share of the calls that failed or had no answer.
    pub error_rate: f64,
    /// CPU time of the server per answer in microseconds, when its process is known.
    pub server_cpu_us: Option<f64>,
}

impl Round {
    /// The numbers of a run.
    pub fn new(run: &Summary) -> Round {
        Round {
            throughput_per_s: run.total.throughput_per_s,
            p50_ms: run.total.latency.p50_ms,
            p99_ms: run.total.latency.p99_ms,
            error_rate: run.total.error_rate,
            server_cpu_us: run.server.as_ref().map(|server| server.cpu_us_per_answer),
        }
    }

    /// Each number's median.
    pub fn median(rounds: &[Round]) -> Round {
        let of = |value: fn(&Round) -> Option<f64>| median(rounds.iter().filter_map(value));
        Round {
            throughput_per_s: of(|round| Some(round.throughput_per_s)).unwrap_or_default(),
            p50_ms: of(|round| Some(round.p50_ms)).unwrap_or_default(),
            p99_ms: of(|round| Some(round.p99_ms)).unwrap_or_default(),
            error_rate: of(|round| Some(round.error_rate)).unwrap_or_default(),
            server_cpu_us: of(|round| round.server_cpu_us),
        }
    }
}

/// The ratios of two things' CPU time per answer, round by round: what slows the machine down for a while slows both, and
/// cancels out.
pub fn cpu_ratios(rounds: &[Round], base: &[Round]) -> Vec<f64> {
    let ratio = |(round, base): (&Round, &Round)| Some(round.server_cpu_us? / base.server_cpu_us?);
    rounds.iter().zip(base).filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

/// Bounds between which the median of whatever the values were drawn from lies, in at least 95 of 100 such draws; `None` for
/// fewer than six values, which cannot tell.
///
/// Each value is below that median with a probability of one half, however the values are distributed. So the number of
/// those below is binomial, and as many are left out at either end as it stays under with at most 2.5 % (the interval
/// of the sign test: W. J. Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).
pub fn median_interval(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    // The probability that `below` values are below, and that at most so many are.
    let (mut exactly, mut at_most, mut below) = (0.5f64.powi(count as i32), 0.0, 0);
    while at_most + exactly <= 0.025 && below < count {
        at_most += exactly;
        exactly *= (count - below) as f64 / (below + 1) as f64;
        below += 1;
    }
    let first = below.checked_sub(1)?;
    Some([*values.get(first)?, *values.get(count - 1 - first)?])
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_machine_that_slows_down_changes_no_ratio() {
        let rounds = |cpu: &[f64]| {
            let round = |us: &f64| Round { server_cpu_us: Some(*us), ..Round::default() };
            cpu.iter().map(round).collect::<Vec<Round>>()
        };
        let (base, other) = (rounds(&[10.0, 20.0, 10.0]), rounds(&[11.0, 22.0, 11.0]));
        let ratios = cpu_ratios(&other, &base);
        assert!(ratios.len() == 3 && ratios.iter().all(|ratio| (ratio - 1.1).abs() < 1e-9), "{ratios:?}");
        assert!(cpu_ratios(&other, &[]).is_empty());
    }

    #[test]
    fn the_median_lies_between_values_that_tables_name() {
        // Ranks for 95 %, as tables of the sign test have them.
        for (count, ranks) in
            [(5, None), (6, Some([1.0, 6.0])), (9, Some([2.0, 8.0])), (15, Some([4.0, 12.0]))]
                .into_iter()
                .chain([(25, Some([8.0, 18.0])), (60, Some([22.0, 39.0])), (1000, Some([469.0, 532.0]))])
        {
            let values = (1..=count).rev().map(f64::from).collect();
            assert_eq!(median_interval(values), ranks, "{count} values");
        }
        assert_eq!(median_interval(Vec::new()), None);
    }
}
