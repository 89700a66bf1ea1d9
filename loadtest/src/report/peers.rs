//! Targets that were measured in alternating rounds: medians, and ratios to the first.

use serde::{Deserialize, Serialize};

use super::{
    Summary,
    table::{Table, number, percent, time},
};

/// One target in one round.
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
    /// CPU time of the target per answer in microseconds, when its process is known.
    pub server_cpu_us: Option<f64>,
}

/// One target in all rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// Medians of the rounds.
    pub median: Round,
    /// Median throughput in proportion to that of the first target.
    pub throughput_ratio: f64,
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
}

/// Computes medians and ratios.
pub fn finish(peers: &mut [Peer]) {
    for peer in peers.iter_mut() {
        let of = |value: fn(&Round) -> Option<f64>| median(peer.rounds.iter().filter_map(value).collect());
        peer.median = Round {
            throughput_per_s: of(|round| Some(round.throughput_per_s)).unwrap_or_default(),
            p50_ms: of(|round| Some(round.p50_ms)).unwrap_or_default(),
            p99_ms: of(|round| Some(round.p99_ms)).unwrap_or_default(),
            error_rate: of(|round| Some(round.error_rate)).unwrap_or_default(),
            server_cpu_us: of(|round| round.server_cpu_us),
        };
    }
    let first = peers.first().map_or(0.0, |peer| peer.median.throughput_per_s);
    for peer in peers {
        peer.throughput_ratio = if first > 0.0 { peer.median.throughput_per_s / first } else { 0.0 };
    }
}

/// One row per target.
pub fn table(peers: &[Peer]) -> Table {
    let mut table = Table::new([
        "median of rounds",
        "success/s",
        "ratio",
        "lowest",
        "highest",
        "p50",
        "p99",
        "errors",
        "CPU/answer",
    ]);
    for peer in peers {
        let rates = || peer.rounds.iter().map(|round| round.throughput_per_s);
        let cpu = peer.median.server_cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1} µs"));
        table.row([
            peer.name.clone(),
            number(peer.median.throughput_per_s),
            format!("{:.2}", peer.throughput_ratio),
            number(rates().fold(f64::INFINITY, f64::min)),
            number(rates().fold(0.0, f64::max)),
            time(peer.median.p50_ms),
            time(peer.median.p99_ms),
            percent(peer.median.error_rate),
            cpu,
        ]);
    }
    table
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let rounds = |rates: &[f64]| {
            let round = |rate: &f64| Round { throughput_per_s: *rate, ..Round::default() };
            rates.iter().map(round).collect::<Vec<Round>>()
        };
        let mut peers = [
            Peer { rounds: rounds(&[100.0, 10.0, 110.0]), ..Peer::default() },
            Peer { rounds: rounds(&[40.0, 60.0]), ..Peer::default() },
        ];
        finish(&mut peers);
        assert_eq!(peers.clone().map(|peer| peer.median.throughput_per_s), [100.0, 50.0]);
        assert_eq!(peers.map(|peer| peer.throughput_ratio), [1.0, 0.5]);
        assert_eq!(median(Vec::new()), None);
    }
}
