//! Whether more shards on more cores serve more: how many requests each set of cores could serve, by the CPU time that they
//! take.
//!
//! The load generator runs on the same machine, and where it shares cores with the server, requests per second say how the
//! two shared them. So the server is kept busy and its CPU time per request is taken: a core that did nothing else could
//! serve `1 / CPU time` requests per second. Of several threads the busiest is full first, so it sets the limit:
//! `capacity = 1 / (CPU time per answer × share of the busiest thread)`. With work spread evenly over n threads that is n
//! cores divided by the CPU time per answer.

use serde::{Deserialize, Serialize};

use super::{
    rounds::median,
    table::{Table, number, percent},
};

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// The comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Version of the format.
    pub schema: u32,
    /// `scaling`, to tell the file from others.
    pub command: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What was done, in words.
    pub setup: Vec<String>,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// One shard on one core.
    pub one: Side,
    /// Several shards on as many cores.
    pub many: Side,
    /// Capacity of the many in proportion to that of the one: median of the rounds' ratios.
    pub capacity_ratio: Option<f64>,
    /// The same if the work were spread evenly: cores divided by the CPU time of all threads.
    pub even_ratio: Option<f64>,
    /// Successes per second in proportion, as measured, whatever the load generator took.
    pub measured_ratio: Option<f64>,
    /// Goal for the capacity.
    pub ratio_min: f64,
    /// Whether it is reached, with every call answered.
    pub is_met: bool,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Shards, threads and cores.
    pub shards: usize,
    /// Round by round.
    pub rounds: Vec<Share>,
}

/// A server in one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Successes per second.
    pub throughput_per_s: f64,
    /// CPU time of the server per answer in microseconds.
    pub cpu_us: f64,
    /// Share of its busiest thread in that.
    pub busiest_share: f64,
    /// Cores that the server used.
    pub server_cores: f64,
    /// Cores that the load generator used.
    pub harness_cores: f64,
    /// Share of the calls that failed or had no answer.
    pub error_rate: f64,
}

impl Share {
    /// Answers per second at which the busiest thread is full.
    pub fn capacity_per_s(&self) -> Option<f64> {
        let capacity = 1e6 / (self.cpu_us * self.busiest_share);
        capacity.is_finite().then_some(capacity)
    }
}

impl Side {
    fn median(&self, value: impl Fn(&Share) -> f64) -> f64 {
        median(self.rounds.iter().map(value)).unwrap_or_default()
    }
}

impl Scaling {
    /// Computes the ratios and the verdict.
    pub fn finish(&mut self, error_rate_max: f64) {
        let (one, many) = (&self.one, &self.many);
        let ratio = |value: &dyn Fn(&Share) -> Option<f64>| {
            let pairs = one.rounds.iter().zip(&many.rounds);
            let ratios = pairs.filter_map(|(one, many)| Some(value(many)? / value(one)?));
            median(ratios.filter(|ratio| ratio.is_finite()))
        };
        let shards = many.shards as f64 / one.shards.max(1) as f64;
        self.capacity_ratio = ratio(&Share::capacity_per_s);
        self.even_ratio = ratio(&|share| Some(1.0 / share.cpu_us)).map(|ratio| ratio * shards);
        self.measured_ratio = ratio(&|share| Some(share.throughput_per_s));
        let error_rate = |side: &Side| side.median(|share| share.error_rate);
        let is_clean = error_rate(one).max(error_rate(many)) <= error_rate_max;
        self.is_met = is_clean && self.capacity_ratio.is_some_and(|ratio| ratio >= self.ratio_min);
    }

    /// One row per server.
    pub fn table(&self) -> Table {
        let mut table = Table::new([
            "medians",
            "CPU/answer",
            "busiest thread",
            "capacity/s",
            "measured/s",
            "server cores",
            "loadtest cores",
            "errors",
        ]);
        for side in [&self.one, &self.many] {
            let shards =
                if side.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", side.shards) };
            table.row([
                shards,
                format!("{:.2} µs", side.median(|share| share.cpu_us)),
                percent(side.median(|share| share.busiest_share)),
                number(side.median(|share| share.capacity_per_s().unwrap_or_default())),
                number(side.median(|share| share.throughput_per_s)),
                format!("{:.2}", side.median(|share| share.server_cores)),
                format!("{:.2}", side.median(|share| share.harness_cores)),
                percent(side.median(|share| share.error_rate)),
            ]);
        }
        table
    }

    /// What follows from it, in a few lines.
    pub fn verdicts(&self) -> Vec<String> {
        let times =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2} ×"));
        let mut lines = Vec::new();
        if self.is_interrupted {
            lines.push("interrupted: some rounds are missing".to_owned());
        }
        lines.push(format!(
            "capacity: {}; {} with the work spread evenly; {} measured, next to the load generator",
            times(self.capacity_ratio),
            times(self.even_ratio),
            times(self.measured_ratio)
        ));
        let word = if self.is_met { "ok    " } else { "BROKEN" };
        lines.push(format!("{word} capacity of {} shards at least {} ×", self.many.shards, self.ratio_min));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(one: (f64, f64), many: (f64, f64)) -> Scaling {
        let side = |shards, (cpu_us, busiest_share)| Side {
            shards,
            rounds: vec![Share { cpu_us, busiest_share, throughput_per_s: 1.0, ..Share::default() }],
        };
        let mut scaling =
            Scaling { one: side(1, one), many: side(2, many), ratio_min: 1.7, ..Scaling::default() };
        scaling.finish(0.001);
        scaling
    }

    #[test]
    fn the_busiest_thread_is_the_limit() {
        let even = scaling((10.0, 1.0), (11.0, 0.5));
        assert!(
            even.is_met && (even.capacity_ratio.expect("a ratio") - 20.0 / 11.0).abs() < 1e-9,
            "{even:?}"
        );
        let spread = even.even_ratio.expect("a ratio");
        assert!((spread - 20.0 / 11.0).abs() < 1e-9, "spread evenly already: {even:?}");
        // All the work on one of the two threads: the second core is of no use.
        let uneven = scaling((10.0, 1.0), (10.0, 1.0));
        assert!(!uneven.is_met && uneven.capacity_ratio == Some(1.0), "{uneven:?}");
        assert_eq!(uneven.even_ratio, Some(2.0));
        assert!(!scaling((10.0, 1.0), (13.0, 0.5)).is_met);
        assert!(!scaling((0.0, 0.0), (0.0, 0.0)).is_met, "nothing was measured");
    }

    #[test]
    fn failures_spoil_it() {
        let mut failing = scaling((10.0, 1.0), (10.0, 0.5));
        failing.many.rounds[0].error_rate = 0.1;
        failing.finish(0.001);
        assert!(!failing.is_met);
    }
}
