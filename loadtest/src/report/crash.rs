//! What a crash run found, for people, as JSON and as Markdown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Table, number, time};

/// Version of the format.
pub const SCHEMA: u32 = 1;

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
    /// Unknown after the last restart. Must be 0.
    pub lost: u64,
    /// Known, but without a result in time. Must be 0.
    pub unfinished: u64,
    /// Run more often than their attempts: at-least-once allows it.
    pub run_again: u64,
    /// Seen finished, and later with another result or none. Must be 0.
    pub changed: u64,
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
    }
}

impl Findings {
    /// Whether nothing was found that must not be, among at least one accepted call.
    pub fn is_good(&self) -> bool {
        let bad = self.lost
            + self.unfinished
            + self.changed
            + self.never_run
            + self.keys_broken
            + self.functions_lost
            + self.tears_unsaid
            + self.still_refused;
        bad == 0 && self.accepted > 0
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
            ("finished", findings.finished, "all"),
            ("lost", findings.lost, "0"),
            ("never finished", findings.unfinished, "0"),
            ("run more than once", findings.run_again, any),
            ("result changed", findings.changed, "0"),
            ("result without a run", findings.never_run, "0"),
            ("idempotency key broken", findings.keys_broken, "0"),
            ("functions lost", findings.functions_lost, "0"),
        ];
        match self.faults.fault.as_str() {
            "torn" => rows.push(("torn end not mentioned", findings.tears_unsaid, "0")),
            "full" => rows.push(("refused although there was room again", findings.still_refused, "0")),
            _ => {}
        }
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
                "{} enqueues: {} accepted, {} refused because they could not be written down, {} refused otherwise, {} \
                 without an answer; {} synchronous calls: {} answered; {} calls while nobody listened",
                number(calls.enqueues as f64),
                number(calls.accepted as f64),
                number(calls.not_stored as f64),
                number(calls.refused as f64),
                number(calls.unanswered as f64),
                number(calls.invokes as f64),
                number(calls.invokes_answered as f64),
                number(calls.not_connected as f64)
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
        let crash = Crash { findings, setup: vec!["two shards".to_owned()], ..Crash::default() };
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
