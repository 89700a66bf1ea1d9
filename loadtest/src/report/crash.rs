//! What a crash run found, for people, as JSON and as Markdown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Table, number, time};

/// Version of the format.
pub const SCHEMA: u32 = 2;

/// A crash run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// Version of the format.
    pub schema: u32,
    /// `crash`, to tell the file from others.
    pub command: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What was done, in words.
    pub setup: Vec<String>,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// What the moments of the kills follow from.
    pub seed: u64,
    /// What else went wrong.
    pub faults: Faults,
    /// How often the server was killed.
    pub kills: u64,
    /// Of these, before it was ready.
    pub kills_while_starting: u64,
    /// Time from the start of the program until it was ready: the median.
    pub ready_ms_median: f64,
    /// The longest.
    pub ready_ms_max: f64,
    /// Calls as the callers saw them.
    pub calls: Calls,
    /// What became of what was accepted.
    pub findings: Findings,
    /// Whether the fault was noticed by the server or its callers; otherwise nothing is proven.
    pub is_tried: bool,
    /// Whether nothing was found that must not be.
    pub is_good: bool,
}

/// What went wrong besides the kills.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Its name on the command line.
    pub fault: String,
    /// What stood for a disk that becomes full.
    pub disk: Option<String>,
    /// Starts before which the end of the log was torn.
    pub tears: u64,
    /// How often the disk became full.
    pub fills: u64,
    /// Kills while it was.
    pub kills_while_full: u64,
    /// How often the disk hung.
    pub hangs: u64,
    /// Kills while it did.
    pub kills_while_hung: u64,
    /// Kills after which a part of what was not synced was cut off.
    pub cuts: u64,
    /// Calls of the server that a hanging disk held up.
    pub syncs_hung: u64,
    /// Calls of the server that were made slow.
    pub syncs_slow: u64,
}

/// Calls as the callers saw them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// Enqueue requests that were written.
    pub enqueues: u64,
    /// Of these, answered with 202.
    pub accepted: u64,
    /// Answered with 503 STORE_UNAVAILABLE.
    pub not_stored: u64,
    /// Answered with 404, because the function was removed.
    pub no_function: u64,
    /// Answered with anything else.
    pub refused: u64,
    /// Not answered, because the server was killed: nothing is promised.
    pub unanswered: u64,
    /// Synchronous calls that were written.
    pub invokes: u64,
    /// Of these, answered.
    pub invokes_answered: u64,
    /// Calls that were due while nobody listened.
    pub not_connected: u64,
    /// Longest time that an enqueue waited for its answer, or for the server's end.
    pub enqueue_ms_max: f64,
    /// Enqueues that waited longer than 8 s.
    pub answered_late: u64,
    /// Ends that were read, waited for, or on a list.
    pub ends_shown: u64,
    /// Results that were delivered.
    pub delivered: u64,
    /// Executions that were cancelled, with 202.
    pub cancelled: u64,
    /// Dead letters that were given up, with 204.
    pub purged: u64,
    /// Dead letters that were replayed, with 202.
    pub replayed: u64,
    /// Of these three, without an answer that says what happened: nothing is promised.
    pub uncertain: u64,
    /// Functions that were removed, with 204.
    pub removals: u64,
    /// Callbacks that were sent after the kill of the server that they were for.
    pub late_callbacks: u64,
}

/// What became of what was accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Executions that were promised by a 202.
    pub accepted: u64,
    /// Of these, with a result after the last restart.
    pub finished: u64,
    /// The same by status.
    pub by_status: BTreeMap<String, u64>,
    /// Unknown after the last restart, because they had been given up.
    pub forgotten: u64,
    /// Unknown after the last restart otherwise. Must be 0.
    pub lost: u64,
    /// Known, but without a result in time. Must be 0.
    pub unfinished: u64,
    /// Run more often than their attempts: at-least-once allows it.
    pub run_again: u64,
    /// Seen finished, and later with another result or none. Must be 0.
    pub changed: u64,
    /// Cancelled with 202, and not cancelled or run later. Must be 0.
    pub cancels_taken_back: u64,
    /// Given up with 204, and a dead letter later. Must be 0.
    pub purges_taken_back: u64,
    /// Replayed with 202, and never run again. Must be 0.
    pub replays_taken_back: u64,
    /// Functions that were removed with 204, and there after a restart. Must be 0.
    pub removals_taken_back: u64,
    /// Failed for good, and on no list of dead letters. Must be 0.
    pub letters_lost: u64,
    /// Executions two of whose requests carried one attempt's number. Must be 0.
    pub numbers_repeated: u64,
    /// Ended by a callback of an attempt that a kill had ended. Must be 0.
    pub decided_late: u64,
    /// Delivered with another result than the one that was shown. Must be 0.
    pub delivered_otherwise: u64,
    /// Not delivered in time. Must be 0.
    pub undelivered: u64,
    /// Enqueues that waited longer than 8 s for their answer. Must be 0.
    pub answered_late: u64,
    /// Finished without ever having reached the function. Must be 0.
    pub never_run: u64,
    /// Idempotency keys that stood for more than one execution. Must be 0.
    pub keys_broken: u64,
    /// Functions that were unknown after a restart, over all restarts. Must be 0.
    pub functions_lost: u64,
    /// Starts that said nothing of the torn end. Must be 0.
    pub tears_unsaid: u64,
    /// Whether (1) calls were refused in the end although the disk had room. Must be 0.
    pub still_refused: u64,
    /// Some of what must not be, one by one.
    pub examples: Vec<String>,
}

impl Calls {
    /// Adds another caller's.
    pub fn add(&mut self, other: &Calls) {
        self.enqueues += other.enqueues;
        self.accepted += other.accepted;
        self.not_stored += other.not_stored;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.invokes += other.invokes;
        self.invokes_answered += other.invokes_answered;
        self.not_connected += other.not_connected;
        self.no_function += other.no_function;
        self.enqueue_ms_max = self.enqueue_ms_max.max(other.enqueue_ms_max);
        self.answered_late += other.answered_late;
    }
}

impl Findings {
    /// Whether nothing was found that must not be, among at least one accepted call.
    pub fn is_good(&self) -> bool {
        self.forbidden().iter().all(|(_, count)| *count == 0) && self.accepted > 0
    }

    /// Answers that were taken back, of all kinds.
    pub fn taken_back(&self) -> u64 {
        self.cancels_taken_back
            + self.purges_taken_back
            + self.replays_taken_back
            + self.removals_taken_back
            + self.changed
    }

    /// What must not be, by name.
    fn forbidden(&self) -> [(&'static str, u64); 18] {
        [
            ("lost", self.lost),
            ("never finished", self.unfinished),
            ("result changed", self.changed),
            ("cancel taken back", self.cancels_taken_back),
            ("purge taken back", self.purges_taken_back),
            ("replay taken back", self.replays_taken_back),
            ("removal taken back", self.removals_taken_back),
            ("dead letter lost", self.letters_lost),
            ("number repeated", self.numbers_repeated),
            ("decided by a callback from before a kill", self.decided_late),
            ("delivered otherwise than shown", self.delivered_otherwise),
            ("not delivered", self.undelivered),
            ("result without a run", self.never_run),
            ("idempotency key broken", self.keys_broken),
            ("functions lost", self.functions_lost),
            ("enqueue answered after more than 8 s", self.answered_late),
            ("torn end not mentioned", self.tears_unsaid),
            ("refused although the disk worked again", self.still_refused),
        ]
    }
}

impl Crash {
    /// The table, for a terminal and for Markdown.
    pub fn table(&self) -> Table {
        let findings = &self.findings;
        let mut table = Table::new(["after the last restart", "count", "allowed"]);
        let any = "any";
        let mut rows = vec![
            ("accepted with 202", findings.accepted, any),
            ("finished", findings.finished, "all others"),
            ("given up and forgotten", findings.forgotten, any),
            ("run more than once", findings.run_again, any),
        ];
        let fault = self.faults.fault.as_str();
        let is_asked = |name: &str| match name {
            "torn end not mentioned" => fault == "torn",
            "refused although the disk worked again" => ["full", "hung", "slow"].contains(&fault),
            _ => true,
        };
        let forbidden = findings.forbidden().into_iter().filter(|(name, _)| is_asked(name));
        rows.extend(forbidden.map(|(name, count)| (name, count, "0")));
        for (name, count, allowed) in rows {
            table.row([name.to_owned(), number(count as f64), allowed.to_owned()]);
        }
        table
    }

    /// What else there is to say.
    pub fn remarks(&self) -> Vec<String> {
        let calls = &self.calls;
        let statuses = self.findings.by_status.iter();
        let statuses: Vec<String> =
            statuses.map(|(status, count)| format!("{} {status}", number(*count as f64))).collect();
        let mut lines = vec![
            format!(
                "killed {} times, {} of them before it was ready (seed {}); ready after {}, at most {}",
                self.kills,
                self.kills_while_starting,
                self.seed,
                time(self.ready_ms_median),
                time(self.ready_ms_max)
            ),
            format!(
                "{} enqueues: {} accepted, {} refused because they could not be written down, {} because their function was \
                 removed, {} refused otherwise, {} without an answer, the longest after {}; {} synchronous calls: {} \
                 answered; {} calls while nobody listened",
                number(calls.enqueues as f64),
                number(calls.accepted as f64),
                number(calls.not_stored as f64),
                number(calls.no_function as f64),
                number(calls.refused as f64),
                number(calls.unanswered as f64),
                time(calls.enqueue_ms_max),
                number(calls.invokes as f64),
                number(calls.invokes_answered as f64),
                number(calls.not_connected as f64)
            ),
            format!(
                "{} ends read, {} delivered; {} cancels, {} purges and {} replays promised, {} more without \
                 a certain answer; {} removals of a function; {} callbacks that came after a kill",
                number(calls.ends_shown as f64),
                number(calls.delivered as f64),
                number(calls.cancelled as f64),
                number(calls.purged as f64),
                number(calls.replayed as f64),
                number(calls.uncertain as f64),
                number(calls.removals as f64),
                number(calls.late_callbacks as f64)
            ),
            format!(
                "finished as: {}",
                if statuses.is_empty() { "-".to_owned() } else { statuses.join(", ") }
            ),
        ];
        let faults = &self.faults;
        if faults.tears > 0 {
            lines.push(format!("the end of the log was torn {} times", faults.tears));
        }
        if let Some(disk) = &faults.disk {
            lines.push(format!(
                "the disk ({disk}) became full {} times; {} of the kills came while it was",
                faults.fills, faults.kills_while_full
            ));
        }
        if faults.hangs > 0 {
            lines.push(format!(
                "the disk hung {} times and held {} calls up; {} of the kills came while it did",
                faults.hangs, faults.syncs_hung, faults.kills_while_hung
            ));
        }
        if faults.syncs_slow > 0 {
            lines.push(format!("the disk was slow {} times", number(faults.syncs_slow as f64)));
        }
        if faults.cuts > 0 {
            lines.push(format!("what was not yet on disk was cut off after {} of the kills", faults.cuts));
        }
        if !self.is_tried {
            lines.push("nobody noticed the fault: this run proves nothing".to_owned());
        }
        if self.is_interrupted {
            lines.push("interrupted: fewer cycles than asked for".to_owned());
        }
        lines
    }

    /// A section for a document.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (index, row) in self.table().rows().iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if index == 0 {
                text += "|---|--:|--:|\n";
            }
        }
        text.push('\n');
        for line in self.setup.iter().chain(&self.remarks()) {
            text += &format!("- {line}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_a_table() {
        let findings = Findings { accepted: 1200, finished: 1199, lost: 1, ..Findings::default() };
        let crash =
            Crash { findings, is_tried: true, setup: vec!["two shards".to_owned()], ..Crash::default() };
        let text = crash.markdown();
        for part in
            ["|---|--:|--:|\n", "| accepted with 202 | 1 200 | any |", "| lost | 1 | 0 |", "- two shards"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[test]
    fn without_calls_nothing_is_proven() {
        assert!(!Findings::default().is_good());
        assert!(Findings { accepted: 1, finished: 1, run_again: 1, ..Findings::default() }.is_good());
    }
}
