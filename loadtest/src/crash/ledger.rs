//! The client's book: every call that was accepted, and what was seen of it since.
//!
//! It is written when an answer has come, and read against the server and against the endpoint at the end. It knows nothing of
//! how the server works.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::{Behaviour, Runs};
use crate::report::crash::Findings;

/// Findings that are described one by one.
const EXAMPLES_MAX: usize = 20;

/// What the server says of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does not know it.
    Unknown,
    /// It waits or runs.
    Open,
    /// It has ended: its status, and its result as it was written.
    Ended(String, String),
}

/// An accepted call.
#[derive(Debug)]
struct Entry {
    number: u64,
    key: Option<String>,
    /// The first end that was seen.
    ended: Option<(String, String)>,
    /// The latest that was seen.
    latest: Seen,
    /// Another result was seen after the first.
    is_changed: bool,
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// Ids in the order of their acceptance, to pick from.
    ids: Vec<String>,
    /// Ids by idempotency key.
    keys: BTreeMap<String, String>,
    /// Keys that stood for more than one, and what they stood for.
    keys_broken: BTreeMap<String, String>,
}

impl Ledger {
    /// A call was accepted under this id.
    pub(super) fn accept(&mut self, id: &str, number: u64, key: Option<&str>) {
        if let Some(key) = key {
            let first = self.keys.entry(key.to_owned()).or_insert_with(|| id.to_owned());
            if first != id {
                self.keys_broken.insert(key.to_owned(), format!("key {key}: first {first}, later {id}"));
            }
        }
        if !self.entries.contains_key(id) {
            let (key, latest) = (key.map(str::to_owned), Seen::Open);
            self.entries.insert(id.to_owned(), Entry { number, key, ended: None, latest, is_changed: false });
            self.ids.push(id.to_owned());
        }
    }

    /// The server says this of an execution. `is_safe`: an end must be on disk, so that it is the end.
    pub(super) fn see(&mut self, id: &str, seen: Seen, is_safe: bool) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Seen::Ended(status, result) = &seen {
            let end = (status.clone(), result.clone());
            match &entry.ended {
                None => entry.ended = is_safe.then_some(end),
                Some(first) => entry.is_changed |= *first != end,
            }
        } else if entry.ended.is_some() && seen == Seen::Open {
            entry.is_changed = true;
        }
        entry.latest = seen;
    }

    /// How many were accepted.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The id at a place, in the order of acceptance.
    pub(super) fn id(&self, place: usize) -> Option<&str> {
        self.ids.get(place).map(String::as_str)
    }

    /// The call at a place, if it has an idempotency key: its number, its key.
    pub(super) fn keyed(&self, place: usize) -> Option<(u64, String)> {
        let entry = self.entries.get(self.ids.get(place)?)?;
        Some((entry.number, entry.key.clone()?))
    }

    /// Ids whose end was not seen since the latest restart, or at all.
    pub(super) fn open(&self) -> Vec<String> {
        let is_open = |id: &&String| !matches!(self.entries[*id].latest, Seen::Ended(..));
        self.ids.iter().filter(is_open).cloned().collect()
    }

    /// After a restart everything has to be seen again.
    pub(super) fn forget_latest(&mut self) {
        for entry in self.entries.values_mut() {
            entry.latest = Seen::Open;
        }
    }

    /// What the book says in the end, with what the endpoint counted.
    pub(super) fn findings(&self, runs: &Runs, attempts_max: u32) -> Findings {
        let mut findings = Findings { accepted: self.ids.len() as u64, ..Findings::default() };
        let mut keys_broken: BTreeSet<&str> = self.keys_broken.keys().map(String::as_str).collect();
        let mut examples: Vec<String> = self.keys_broken.values().cloned().collect();
        for id in &self.ids {
            let entry = &self.entries[id];
            let count = runs.by_execution.get(id).copied().unwrap_or_default();
            let mut add = |what: &str| examples.push(format!("{id} (call {}): {what}", entry.number));
            match &entry.latest {
                Seen::Unknown => {
                    findings.lost += 1;
                    add("accepted, and unknown after the last restart");
                }
                Seen::Open => {
                    findings.unfinished += 1;
                    add("accepted, and neither succeeded nor failed in the end");
                }
                Seen::Ended(status, _) => {
                    findings.finished += 1;
                    *findings.by_status.entry(status.clone()).or_default() += 1;
                    if count == 0 {
                        findings.never_run += 1;
                        add("has a result, but never reached the function");
                    }
                }
            }
            if entry.is_changed {
                findings.changed += 1;
                add("was seen finished, and later something else");
            }
            findings.run_again += u64::from(count > Behaviour::of(entry.number).runs(attempts_max));
            // Two executions of one keyed call: the first was accepted, but its key was forgotten.
            let ids = runs.by_number.get(&entry.number).map_or(0, |ids| ids.len());
            if let Some(key) = entry.key.as_deref().filter(|_| ids > 1)
                && keys_broken.insert(key)
            {
                add("has an idempotency key and ran under several ids");
            }
        }
        findings.keys_broken = keys_broken.len() as u64;
        examples.truncate(EXAMPLES_MAX);
        findings.examples = examples;
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: &str) -> Seen {
        Seen::Ended("success".to_owned(), result.to_owned())
    }

    fn runs(executions: &[(&str, u64, u32)]) -> Runs {
        let mut runs = Runs::default();
        for (id, number, count) in executions {
            runs.by_execution.insert((*id).to_owned(), *count);
            runs.by_number.entry(*number).or_default().insert((*id).to_owned());
        }
        runs
    }

    #[test]
    fn what_is_accepted_has_to_end_somewhere() {
        let mut ledger = Ledger::default();
        for (id, number) in [("fine", 4), ("lost", 5), ("open", 6), ("again", 7), ("failing", 11)] {
            ledger.accept(id, number, None);
        }
        ledger.see("fine", ended("1"), true);
        ledger.see("lost", Seen::Unknown, true);
        ledger.see("again", ended("1"), true);
        ledger.see("failing", Seen::Ended("error".to_owned(), String::new()), true);
        ledger.see("somebody else's", Seen::Unknown, true);
        assert_eq!(ledger.open(), ["lost", "open"]);
        let runs = runs(&[("fine", 4, 1), ("again", 7, 2), ("failing", 11, 3)]);
        let findings = ledger.findings(&runs, 3);
        assert_eq!((findings.accepted, findings.finished), (5, 3));
        assert_eq!((findings.lost, findings.unfinished, findings.run_again), (1, 1, 1));
        assert_eq!((findings.changed, findings.never_run, findings.keys_broken), (0, 0, 0));
        assert_eq!(findings.by_status["error"], 1);
        assert_eq!(findings.examples.len(), 2, "{findings:?}");
        assert!(!findings.is_good());
    }

    #[test]
    fn an_end_is_the_end() {
        let mut ledger = Ledger::default();
        for (id, number) in [("same", 4), ("other result", 5), ("runs again", 6)] {
            ledger.accept(id, number, None);
            ledger.see(id, ended("1"), true);
        }
        ledger.accept("not on disk", 8, None);
        ledger.see("not on disk", ended("1"), false);
        ledger.forget_latest();
        assert_eq!(ledger.open().len(), 4);
        ledger.see("not on disk", ended("2"), true);
        ledger.see("same", ended("1"), true);
        ledger.see("other result", ended("2"), true);
        ledger.see("runs again", Seen::Open, true);
        ledger.see("runs again", ended("1"), true);
        let runs = runs(&[("same", 4, 1), ("other result", 5, 2), ("not on disk", 8, 2)]);
        let findings = ledger.findings(&runs, 3);
        assert_eq!((findings.changed, findings.never_run, findings.lost), (2, 1, 0), "{findings:?}");
    }

    #[test]
    fn a_key_stands_for_one_execution() {
        let mut ledger = Ledger::default();
        ledger.accept("a", 4, Some("k"));
        ledger.accept("a", 4, Some("k"));
        ledger.see("a", ended("1"), true);
        assert!(ledger.findings(&runs(&[("a", 4, 1)]), 3).is_good());
        assert_eq!(ledger.keyed(0), Some((4, "k".to_owned())));
        assert_eq!(ledger.findings(&runs(&[("a", 4, 1), ("b", 4, 1)]), 3).keys_broken, 1);
        ledger.accept("b", 4, Some("k"));
        assert_eq!(ledger.findings(&runs(&[("a", 4, 1)]), 3).keys_broken, 1);
    }
}
