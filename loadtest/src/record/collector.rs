//! Puts together what the sending threads counted: totals, and a row per second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Tally, interval_log::IntervalLog, recorder::Interval};

/// One second of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Seconds from the start, the warm-up included.
    pub second: u32,
    /// Calls that an open loop should have begun.
    pub intended: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that were answered and failed, or were not answered.
    pub failed: u64,
    /// Median latency in milliseconds of the answers that came in this second.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// Cores that the server used, when it was watched.
    pub server_cores: Option<f64>,
    /// Memory of the server at the end of the second, in bytes.
    pub server_resident_bytes: Option<u64>,
}

/// A second that is not complete.
#[derive(Debug, Default)]
struct Open {
    /// Threads that have reported it.
    reports: usize,
    tallies: BTreeMap<(usize, usize), Tally>,
}

/// What happened so far.
#[derive(Debug)]
pub struct Collector {
    /// Tallies by function and phase.
    pub totals: Vec<Vec<Tally>>,
    /// Seconds that every thread is through with.
    pub rows: Vec<Row>,
    /// Names of functions with their phases, for the log.
    names: Vec<Vec<String>>,
    log: Option<IntervalLog>,
    /// Seconds that a thread has still to report.
    open: BTreeMap<u32, Open>,
    threads: usize,
    finished: usize,
}

impl Collector {
    /// `names[n]` are the phases of function `n`, as they are called in the log.
    pub fn new(names: Vec<Vec<String>>, threads: usize, log: Option<IntervalLog>) -> Collector {
        let totals = names.iter().map(|phases| vec![Tally::default(); phases.len()]).collect();
        Collector { totals, rows: Vec::new(), names, log, open: BTreeMap::new(), threads, finished: 0 }
    }

    /// Takes what one thread counted in one second.
    pub(crate) fn take(&mut self, interval: Interval) {
        let open = self.open.entry(interval.second).or_default();
        open.reports += 1;
        for (target, phase, tally) in interval.tallies {
            open.tallies.entry((target, phase)).or_default().add(&tally);
        }
        self.finished += usize::from(interval.is_last);
        // A second is complete when every thread that still runs has reported it.
        while let Some(first) = self.open.first_entry() {
            let is_complete = first.get().reports >= self.threads || self.finished == self.threads;
            if !is_complete {
                break;
            }
            let (second, open) = first.remove_entry();
            self.close(second, &open.tallies);
        }
    }

    /// Whether all threads have sent everything.
    pub fn is_complete(&self) -> bool {
        self.finished == self.threads
    }

    /// The log, to be closed.
    pub fn take_log(&mut self) -> Option<IntervalLog> {
        self.log.take()
    }

    fn close(&mut self, second: u32, tallies: &BTreeMap<(usize, usize), Tally>) {
        let mut all = Tally::default();
        for ((target, phase), tally) in tallies {
            if let (Some(log), Some(histogram)) = (&self.log, tally.latency.histogram()) {
                log.add(&self.names[*target][*phase], second, histogram);
            }
            self.totals[*target][*phase].add(tally);
            all.add(tally);
        }
        self.rows.push(Row {
            second,
            intended: all.counts.intended,
            succeeded: all.counts.succeeded,
            failed: all.counts.failed + all.counts.unanswered,
            p50_ms: all.latency.quantile_ms(0.5),
            p99_ms: all.latency.quantile_ms(0.99),
            max_ms: all.latency.max_ms(),
            server_cores: None,
            server_resident_bytes: None,
        });
    }
}
