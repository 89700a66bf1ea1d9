//! Counts on one sending thread.

use std::{mem, ops::Range, sync::mpsc::Sender};

use super::Tally;

/// Length of an interval.
const INTERVAL_NS: u64 = 1_000_000_000;

/// What one thread counted in one second.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Seconds from the start of the run to its beginning.
    pub(crate) second: u32,
    /// Index of the function, phase, counts.
    pub(crate) tallies: Vec<(usize, usize, Tally)>,
    /// The thread sends nothing after it.
    pub(crate) is_last: bool,
}

/// What a call was, for counting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Index of the function.
    pub(crate) target: usize,
    /// 0 is the warm-up.
    pub(crate) phase: usize,
    /// When it should have begun.
    pub(crate) intended_ns: u64,
    /// When it was sent; `None`: it was not.
    pub(crate) sent_ns: Option<u64>,
}

/// Counts of one thread since the last interval ended.
#[derive(Debug)]
pub(crate) struct Recorder {
    tallies: Vec<Vec<Tally>>,
    /// The measured time.
    window_ns: Range<u64>,
    interval_end_ns: u64,
    collector: Sender<Interval>,
}

impl Recorder {
    /// `phases[n]` is how many phases function `n` has.
    pub(crate) fn new(phases: &[usize], window_ns: Range<u64>, collector: Sender<Interval>) -> Recorder {
        let tallies = phases.iter().map(|count| vec![Tally::default(); *count]).collect();
        Recorder { tallies, window_ns, interval_end_ns: INTERVAL_NS, collector }
    }

    /// The measured time ends here.
    pub(crate) fn end_at(&mut self, end_ns: u64) {
        self.window_ns.end = end_ns;
    }

    /// When [`Recorder::tick`] has something to do.
    pub(crate) fn next_tick_ns(&self) -> u64 {
        self.interval_end_ns
    }

    /// Hands over what was counted, if the interval is over.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        while now_ns >= self.interval_end_ns {
            self.hand_over(false);
            self.interval_end_ns += INTERVAL_NS;
        }
    }

    /// Hands over the rest.
    pub(crate) fn finish(mut self) {
        self.hand_over(true);
    }

    /// The counts of a function in a phase.
    pub(crate) fn tally(&mut self, target: usize, phase: usize) -> &mut Tally {
        &mut self.tallies[target][phase]
    }

    /// An answer, and whether it is a success.
    #[inline]
    pub(crate) fn answer(&mut self, times: Times, now_ns: u64, is_success: bool) {
        let is_in_window = self.window_ns.contains(&now_ns);
        let tally = &mut self.tallies[times.target][times.phase];
        tally.counts.answers_in_window += u64::from(is_in_window);
        let latency_ns = now_ns.saturating_sub(times.intended_ns);
        if is_success {
            tally.counts.succeeded += 1;
            tally.counts.successes_in_window += u64::from(is_in_window);
            tally.latency.record(latency_ns);
            match times.sent_ns {
                Some(sent_ns) if sent_ns != times.intended_ns => {
                    tally.service.record(now_ns.saturating_sub(sent_ns));
                }
                _ => {}
            }
        } else {
            tally.counts.failed += 1;
            tally.failed.record(latency_ns);
        }
    }

    /// A call without an answer.
    pub(crate) fn unanswered(&mut self, times: Times, now_ns: u64, code: &str) {
        let tally = &mut self.tallies[times.target][times.phase];
        tally.counts.unanswered += 1;
        tally.counts.not_sent += u64::from(times.sent_ns.is_none());
        tally.latency.record(now_ns.saturating_sub(times.intended_ns));
        tally.count_code(code, 1);
    }

    fn hand_over(&mut self, is_last: bool) {
        let mut tallies = Vec::new();
        for (target, phases) in self.tallies.iter_mut().enumerate() {
            for (phase, tally) in phases.iter_mut().enumerate() {
                if !tally.is_empty() {
                    tallies.push((target, phase, mem::take(tally)));
                }
            }
        }
        let second = (self.interval_end_ns / INTERVAL_NS - 1) as u32;
        // Without a collector the run is over.
        let _ = self.collector.send(Interval { second, tallies, is_last });
    }
}
