//! Targets that were measured in alternating rounds: medians, and ratios to the first.

use serde::{Deserialize, Serialize};

use super::{
    rounds::Round,
    table::{Table, number, percent, time},
};

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

/// Computes medians and ratios.
pub fn finish(peers: &mut [Peer]) {
    for peer in peers.iter_mut() {
        peer.median = Round::median(&peer.rounds);
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
    }
}
