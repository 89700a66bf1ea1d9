//! Counts and distributions of one function in one phase.

use std::collections::BTreeMap;

use super::Distribution;

/// Most different error codes that are told apart; further ones count as [`OTHER_CODES`].
const CODES_MAX: usize = 64;
/// Name under which further codes are counted.
pub const OTHER_CODES: &str = "other";

/// What happened to the calls that should have begun in a phase.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Plain counts.
    pub counts: Counts,
    /// From the intended start to the answer: successes, and calls without an answer with the time that was waited for
    /// them. To leave those out would hide the worst.
    pub latency: Distribution,
    /// The same from the time at which the request was really sent; only in open loops.
    pub service: Distribution,
    /// From the intended start to the answer of calls that failed.
    pub failed: Distribution,
    /// Failed calls by HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Failed calls by the code in the answer, or by what went wrong on this side.
    pub by_code: BTreeMap<String, u64>,
}

/// Plain counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that the schedule of an open loop asked for.
    pub intended: u64,
    /// Requests that were sent, including retries.
    pub sent: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that were answered and failed.
    pub failed: u64,
    /// Calls without an answer: timed out, broken connections, never sent.
    pub unanswered: u64,
    /// Of these, calls that were never sent, because no connection was free.
    pub not_sent: u64,
    /// Answers that came within the measured time, whenever the call began.
    pub answers_in_window: u64,
    /// Of these, successes.
    pub successes_in_window: u64,
    /// Bytes of answers.
    pub bytes_received: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Calls that were told to wait for the first time.
    pub told_to_wait: u64,
    /// Seconds they were told to wait.
    pub told_seconds: u64,
    /// Of those calls, how many called again.
    pub retried: u64,
    /// Of these, how many were admitted at the first retry.
    pub first_retry_admitted: u64,
    /// How many were admitted at a later one.
    pub later_retry_admitted: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        let pairs = [
            (&mut self.intended, other.intended),
            (&mut self.sent, other.sent),
            (&mut self.succeeded, other.succeeded),
            (&mut self.failed, other.failed),
            (&mut self.unanswered, other.unanswered),
            (&mut self.not_sent, other.not_sent),
            (&mut self.answers_in_window, other.answers_in_window),
            (&mut self.successes_in_window, other.successes_in_window),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.told_to_wait, other.told_to_wait),
            (&mut self.told_seconds, other.told_seconds),
            (&mut self.retried, other.retried),
            (&mut self.first_retry_admitted, other.first_retry_admitted),
            (&mut self.later_retry_admitted, other.later_retry_admitted),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
    }
}

impl Tally {
    /// Adds everything that another tally has.
    pub fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.failed.add(&other.failed);
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        for (code, count) in &other.by_code {
            self.count_code(code, *count);
        }
    }

    /// Counts failures with this code.
    pub(crate) fn count_code(&mut self, code: &str, count: u64) {
        if let Some(known) = self.by_code.get_mut(code) {
            *known += count;
        } else {
            let code = if self.by_code.len() < CODES_MAX { code } else { OTHER_CODES };
            *self.by_code.entry(code.to_owned()).or_default() += count;
        }
    }

    /// Whether nothing happened.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_bounded_and_none_is_lost() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.count_code(&format!("CODE_{number}"), 1);
        }
        assert!(tally.by_code.len() <= CODES_MAX + 1);
        assert_eq!(tally.by_code.values().sum::<u64>(), 1000);
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!(sum.by_code.values().sum::<u64>(), 2000);
    }
}
