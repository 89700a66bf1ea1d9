//! Whether more shards on more cores serve more: how many requests the cores could serve, by the CPU time that they take.
//!
//! The load generator runs on the same machine. Where it shares cores with the server it takes time from it and empties its
//! caches, and that must not be mistaken for a cost of sharding. So one server with n shards is compared with n servers
//! of one shard each, on the same cores, under the same load: those have nothing to do with each other, and what they
//! serve together is n times what one core serves next to this generator.
//!
//! CPU time per request is taken, not requests per second: a core that did nothing else could serve `1 / CPU time` of
//! them. Of several threads the busiest is full first, so it sets the limit: `capacity = 1 / (CPU time per answer × share of
//! the busiest thread)`.

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
    /// Servers with one shard on a core each.
    pub apart: Side,
    /// One server with as many shards, on the same cores.
    pub together: Side,
    /// Capacity of the one server in proportion to that of one shard on one core: median of the rounds' ratios.
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

/// A server, or several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Shards, threads and cores of all together.
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
    /// Nothing measured yet.
    pub fn new(shards: usize) -> Side {
        Side { shards, rounds: Vec::new() }
    }

    fn median(&self, value: impl Fn(&Share) -> f64) -> f64 {
        median(self.rounds.iter().map(value)).unwrap_or_default()
    }
}

impl Scaling {
    /// Computes the ratios and the verdict.
    pub fn finish(&mut self, error_rate_max: f64) {
        let (apart, together) = (&self.apart, &self.together);
        // One shard on one core is the part of those that are apart.
        let shards = together.shards as f64;
        let ratio = |value: &dyn Fn(&Share) -> Option<f64>| {
            let pairs = apart.rounds.iter().zip(&together.rounds);
            let ratios =
                pairs.filter_map(|(apart, together)| Some(shards * value(together)? / value(apart)?));
            median(ratios.filter(|ratio| ratio.is_finite()))
        };
        self.capacity_ratio = ratio(&Share::capacity_per_s);
        self.even_ratio = ratio(&|share| Some(1.0 / share.cpu_us));
        self.measured_ratio = ratio(&|share| Some(share.throughput_per_s));
        let error_rate = |side: &Side| side.median(|share| share.error_rate);
        let is_clean = error_rate(apart).max(error_rate(together)) <= error_rate_max;
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
        let shards = self.together.shards;
        for (side, what) in
            [(&self.apart, format!("{shards} × 1 shard")), (&self.together, format!("{shards} shards"))]
        {
            table.row([
                what,
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
        lines.push(format!(
            "{word} capacity of {} shards at least {} ×",
            self.together.shards, self.ratio_min
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(apart: (f64, f64), together: (f64, f64)) -> Scaling {
        let side = |(cpu_us, busiest_share)| Side {
            shards: 2,
            rounds: vec![Share { cpu_us, busiest_share, throughput_per_s: 1.0, ..Share::default() }],
        };
        let (apart, together) = (side(apart), side(together));
        let mut scaling = Scaling { apart, together, ratio_min: 1.7, ..Scaling::default() };
        scaling.finish(0.001);
        scaling
    }

    #[test]
    fn the_busiest_thread_is_the_limit() {
        let even = scaling((10.0, 0.5), (11.0, 0.5));
        assert!(
            even.is_met && (even.capacity_ratio.expect("a ratio") - 20.0 / 11.0).abs() < 1e-9,
            "{even:?}"
        );
        let spread = even.even_ratio.expect("a ratio");
        assert!((spread - 20.0 / 11.0).abs() < 1e-9, "spread evenly already: {even:?}");
        // All the work on one of the two threads: the second core is of no use.
        let uneven = scaling((10.0, 0.5), (10.0, 1.0));
        assert!(!uneven.is_met && uneven.capacity_ratio == Some(1.0), "{uneven:?}");
        assert_eq!(uneven.even_ratio, Some(2.0));
        assert!(!scaling((10.0, 0.5), (13.0, 0.5)).is_met);
        assert!(!scaling((0.0, 0.0), (0.0, 0.0)).is_met, "nothing was measured");
    }

    #[test]
    fn failures_spoil_it() {
        let mut failing = scaling((10.0, 0.5), (10.0, 0.5));
        failing.together.rounds[0].error_rate = 0.1;
        failing.finish(0.001);
        assert!(!failing.is_met);
    }
}
