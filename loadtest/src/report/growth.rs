//! Whether the server's work per request grows with what it has to remember: CPU time over the number of functions, and
//! over the number of retained executions.

use serde::{Deserialize, Serialize};

use super::{
    rounds::{Round, cpu_ratios, median, median_interval},
    table::{Table, bytes, number, percent},
};

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// All curves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Version of the format.
    pub schema: u32,
    /// `growth`, to tell the file from others.
    pub command: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What was done, in words.
    pub setup: Vec<String>,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// Most that a point may be away from the first, as a share.
    pub deviation_max: f64,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Whether every point of every curve keeps the limit.
    pub is_flat: bool,
}

/// CPU time over one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What grows: `functions` or `retained executions`.
    pub what: String,
    /// Points by size; the first is what the others are compared with.
    pub points: Vec<Point>,
    /// Largest deviation of a point, as a share; `None` when a point was not measured.
    pub flatness: Option<f64>,
}

/// One size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How many.
    pub size: u64,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// Medians of the rounds.
    pub median: Round,
    /// Median over the rounds of the CPU time per answer in proportion to that of the first point in the same round, less
    /// one.
    pub deviation: Option<f64>,
    /// What that median lies between, in 95 of 100 such measurements.
    #[serde(default)]
    pub interval: Option<[f64; 2]>,
    /// Memory of the server before the first round, in bytes.
    pub resident_bytes: u64,
}

impl Growth {
    /// Computes medians, deviations and the verdict. A share of failures over `error_rate_max` spoils it: answers that fail
    /// do not cost what others cost.
    pub fn finish(&mut self, error_rate_max: f64) {
        for curve in &mut self.curves {
            let base = curve.points.first().map(|point| point.rounds.clone()).unwrap_or_default();
            for point in &mut curve.points {
                point.median = Round::median(&point.rounds);
                let deviations = cpu_ratios(&point.rounds, &base).into_iter().map(|ratio| ratio - 1.0);
                point.deviation = median(deviations.clone());
                point.interval = median_interval(deviations.collect());
            }
            let deviations: Option<Vec<f64>> = curve.points.iter().map(|point| point.deviation).collect();
            curve.flatness = deviations.map(|all| all.into_iter().map(f64::abs).fold(0.0, f64::max));
        }
        let is_flat = |curve: &Curve| {
            let is_good = curve.points.iter().all(|point| point.median.error_rate <= error_rate_max);
            is_good && curve.flatness.is_some_and(|flatness| flatness <= self.deviation_max)
        };
        self.is_flat = !self.curves.is_empty() && self.curves.iter().all(is_flat);
    }

    /// One line for each curve, and one for what follows.
    pub fn verdicts(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        if self.is_interrupted {
            lines.push("interrupted: some rounds are missing".to_owned());
        }
        for curve in &self.curves {
            let flatness = curve.flatness.map_or_else(|| "not measured".to_owned(), percent);
            lines.push(format!("{}: flat within {flatness}", curve.what));
        }
        let word = if self.is_flat { "ok    " } else { "BROKEN" };
        lines.push(format!("{word} every point within {} of the first", percent(self.deviation_max)));
        lines
    }
}

impl Curve {
    /// One row per point.
    pub fn table(&self) -> Table {
        let titles = [
            &self.what,
            "CPU/answer",
            "lowest",
            "highest",
            "deviation",
            "95 % interval",
            "success/s",
            "errors",
            "memory",
        ];
        let mut table = Table::new(titles);
        let micros = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{us:.2} µs"));
        for point in &self.points {
            let cpu = || point.rounds.iter().filter_map(|round| round.server_cpu_us);
            table.row([
                number(point.size as f64),
                micros(point.median.server_cpu_us),
                micros(cpu().reduce(f64::min)),
                micros(cpu().reduce(f64::max)),
                point.deviation.map_or_else(|| "-".to_owned(), signed_percent),
                point.interval.map_or_else(
                    || "-".to_owned(),
                    |[from, to]| format!("{} … {}", signed_percent(from), signed_percent(to)),
                ),
                number(point.median.throughput_per_s),
                percent(point.median.error_rate),
                bytes(point.resident_bytes as f64),
            ]);
        }
        table
    }
}

fn signed_percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(curves: &[&[&[f64]]]) -> Growth {
        let round = |us: &f64| Round { server_cpu_us: Some(*us), ..Round::default() };
        let point = |cpu: &&[f64]| Point { rounds: cpu.iter().map(round).collect(), ..Point::default() };
        let curve =
            |points: &&[&[f64]]| Curve { points: points.iter().map(point).collect(), ..Curve::default() };
        let mut growth = Growth { deviation_max: 0.1, ..Growth::default() };
        growth.curves = curves.iter().map(curve).collect();
        growth.finish(0.001);
        growth
    }

    #[test]
    fn the_verdict_is_about_the_worst_point_of_the_worst_curve() {
        // The second round was slow for everyone.
        let flat = growth(&[&[&[10.0, 20.0], &[10.5, 21.0]], &[&[10.0], &[9.5]]]);
        assert!(flat.is_flat, "{flat:?}");
        for grown in [
            growth(&[&[&[10.0], &[10.0]], &[&[10.0], &[12.0]]]),
            growth(&[&[&[10.0], &[8.0]]]),
            growth(&[&[&[10.0], &[]]]),
            growth(&[]),
        ] {
            assert!(!grown.is_flat, "{grown:?}");
        }
        assert_eq!(growth(&[&[&[10.0], &[]]]).curves[0].flatness, None);
    }

    #[test]
    fn answers_that_fail_prove_nothing() {
        let mut failing = growth(&[&[&[10.0], &[10.0]]]);
        failing.curves[0].points[1].rounds[0].error_rate = 0.5;
        failing.finish(0.001);
        assert!(!failing.is_flat);
    }
}
