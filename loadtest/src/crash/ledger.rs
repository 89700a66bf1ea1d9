//! The client's book: every call that was accepted, what was asked about it, and what was shown of it since.
//!
//! It is written when an answer has come, and read against the server and against the endpoint at the end (`judgement`). It knows
//! nothing of how the server works. What is shown once is the end, until a replay is asked for. A request whose answer
//! did not come proves nothing: the server may have heard it or not, and either is accepted.
//!
//! Several threads read while one asks for changes. An answer that was asked for before a change is not held against what follows
//! it: readers take a [`Ticket`] before they ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// What the server says of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does not know it.
    Unknown,
    /// It waits or runs.
    Open,
    /// It has ended.
    Ended(End),
}

/// An end, as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) status: String,
    /// Code of its error.
    pub(super) code: Option<String>,
    /// Output and error, as they were written.
    pub(super) result: String,
}

impl End {
    /// It was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.code.as_deref() == Some("CANCELLED")
    }

    /// It waited when its function was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.code.as_deref() == Some("FUNCTION_REMOVED")
    }

    /// The run that it came from, if it came from one and says so.
    pub(super) fn run(&self) -> Option<u32> {
        let (_, rest) = self.result.split_once("\"run\":").or_else(|| self.result.split_once("run "))?;
        let rest = rest.trim_start();
        rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    }
}

/// A change that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is not to run.
    Cancel,
    /// It is no dead letter any more.
    Purge,
    /// It is to run again.
    Replay,
}

/// What the server said to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    /// It is done, and promised.
    Promised,
    /// It cannot be done, and was not.
    Refused,
    /// Nothing, or not in time, or that it cannot be written down.
    Uncertain,
}

/// The moment at which a question was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Ticket(u64);

/// A replay that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replay {
    pub(super) at: Instant,
    pub(super) is_promised: bool,
}

/// An accepted call.
#[derive(Debug)]
pub(super) struct LedgerEntry {
    pub(super) number: u64,
    pub(super) key: Option<String>,
    /// The end that was shown since the latest replay.
    pub(super) shown: Option<End>,
    /// Those that were shown before, when it was a dead letter.
    pub(super) earlier: Vec<End>,
    /// The latest that was seen.
    pub(super) latest: Seen,
    /// What else was seen after an end had been shown.
    pub(super) changed: Option<String>,
    /// Since when it is promised that it does not run.
    pub(super) cancelled: Option<Instant>,
    /// Its being given up was promised.
    pub(super) is_purged: bool,
    /// Its being given up was asked for; whether it happened is not known.
    pub(super) may_be_purged: bool,
    /// It was on a list after it had been given up.
    pub(super) came_back: bool,
    pub(super) replay: Option<Replay>,
    pub(super) delivered: Vec<End>,
    /// A delivery that is none of the ends that were shown.
    pub(super) delivered_otherwise: Option<End>,
    /// The latest change.
    changed_at: Ticket,
    /// When its end was shown: another reader may have asked before, and be told of later.
    shown_at: Ticket,
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<String, LedgerEntry>,
    /// Ids in the order of their acceptance, to pick from.
    pub(super) ids: Vec<String>,
    /// Ids by idempotency key.
    keys: BTreeMap<String, String>,
    /// Keys that stood for more than one, and what they stood for.
    pub(super) keys_broken: BTreeMap<String, String>,
    /// Delivered before the 202 was read.
    early: BTreeMap<String, Vec<End>>,
    /// On a list of dead letters at the end.
    pub(super) letters: BTreeSet<String>,
    /// Functions whose list was full once: their oldest letters are dropped on purpose.
    pub(super) overflowed: BTreeSet<u64>,
    pub(super) counts: LedgerCounts,
    clock: Ticket,
}

/// What was written into it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LedgerCounts {
    pub(super) shown: u64,
    pub(super) delivered: u64,
    pub(super) cancels: u64,
    pub(super) purges: u64,
    pub(super) replays: u64,
    pub(super) uncertain: u64,
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
        if self.entries.contains_key(id) {
            return;
        }
        let entry = LedgerEntry {
            number,
            key: key.map(str::to_owned),
            shown: None,
            earlier: Vec::new(),
            latest: Seen::Open,
            changed: None,
            cancelled: None,
            is_purged: false,
            may_be_purged: false,
            came_back: false,
            replay: None,
            delivered: Vec::new(),
            delivered_otherwise: None,
            changed_at: Ticket::default(),
            shown_at: Ticket::default(),
        };
        self.entries.insert(id.to_owned(), entry);
        self.ids.push(id.to_owned());
        for end in self.early.remove(id).unwrap_or_default() {
            self.deliver(id, end);
        }
    }

    /// For a question that is asked now.
    pub(super) fn ticket(&self) -> Ticket {
        self.clock
    }

    /// The server says this of an execution.
    pub(super) fn see(&mut self, id: &str, seen: Seen, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.changed_at > ticket || seen == Seen::Open && entry.shown_at > ticket {
            return;
        }
        match &seen {
            Seen::Ended(end) => {
                self.counts.shown += 1;
                if entry.shown.is_none() {
                    self.clock.0 += 1;
                    entry.shown_at = self.clock;
                }
                entry.show(end);
            }
            Seen::Open => entry.show_open(),
            Seen::Unknown => {}
        }
        entry.latest = seen;
    }

    /// A dead letter is on its function's list.
    pub(super) fn list(&mut self, id: &str, end: End, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.changed_at <= ticket) else { return };
        entry.came_back |= entry.is_purged;
        self.see(id, Seen::Ended(end), ticket);
    }

    /// A result was delivered.
    pub(super) fn deliver(&mut self, id: &str, end: End) {
        let Some(entry) = self.entries.get_mut(id) else {
            self.early.entry(id.to_owned()).or_default().push(end);
            return;
        };
        self.counts.delivered += 1;
        if entry.shown.is_none() {
            self.clock.0 += 1;
            entry.shown_at = self.clock;
        }
        // One from before a replay may come late.
        if !entry.earlier.contains(&end) && !entry.takes(&end) {
            entry.delivered_otherwise = Some(end.clone());
        }
        if !entry.delivered.contains(&end) {
            entry.delivered.push(end);
        }
    }

    /// A change is asked for.
    pub(super) fn ask(&mut self, id: &str, change: Change) {
        self.clock.0 += 1;
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.changed_at = self.clock;
        if change == Change::Replay {
            entry.earlier.extend(entry.shown.take());
            entry.replay = Some(Replay { at: Instant::now(), is_promised: false });
        }
    }

    /// The answer to that.
    pub(super) fn answer(&mut self, id: &str, change: Change, outcome: RequestOutcome) {
        self.clock.0 += 1;
        self.counts.uncertain += u64::from(outcome == RequestOutcome::Uncertain);
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.changed_at = self.clock;
        match (change, outcome) {
            (Change::Cancel, RequestOutcome::Promised) => {
                self.counts.cancels += 1;
                entry.cancelled = Some(Instant::now());
            }
            (Change::Purge, RequestOutcome::Promised) => {
                self.counts.purges += 1;
                entry.is_purged = true;
            }
            (Change::Purge, RequestOutcome::Uncertain) => entry.may_be_purged = true,
            (Change::Replay, RequestOutcome::Promised) => {
                self.counts.replays += 1;
                // Read while it was asked for.
                let old = entry.shown.take_if(|shown| entry.earlier.contains(shown));
                drop(old);
                entry.replay = entry.replay.map(|replay| Replay { is_promised: true, ..replay });
            }
            (Change::Replay, RequestOutcome::Refused) => {
                entry.shown = entry.shown.take().or(entry.earlier.pop());
                entry.replay = None;
            }
            (Change::Replay, RequestOutcome::Uncertain)
            | (Change::Cancel, RequestOutcome::Refused | RequestOutcome::Uncertain)
            | (Change::Purge, RequestOutcome::Refused) => {}
        }
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
}

impl LedgerEntry {
    fn show(&mut self, end: &End) {
        if self.takes(end) {
            return;
        }
        let first = self.shown.as_ref().map(|shown| format!("{} {}", shown.status, shown.result));
        let text =
            format!("{} was shown first, then {} {}", first.unwrap_or_default(), end.status, end.result);
        self.changed.get_or_insert(text);
    }

    /// Whether an end can be the one of this execution; it is from now on.
    fn takes(&mut self, end: &End) -> bool {
        let may_be_replayed = self.replay.is_some_and(|replay| !replay.is_promised);
        match &self.shown {
            None => {
                // An old one after a promised replay is judged by what reached the function.
                if may_be_replayed || !self.earlier.contains(end) {
                    self.shown = Some(end.clone());
                }
                true
            }
            Some(shown) if shown == end => true,
            // The replay of which no answer came happened.
            Some(shown) if may_be_replayed && self.earlier.contains(shown) => {
                self.shown = Some(end.clone());
                true
            }
            Some(_) => false,
        }
    }

    fn show_open(&mut self) {
        let Some(shown) = &self.shown else { return };
        let may_be_replayed = self.replay.is_some_and(|replay| !replay.is_promised);
        if !(may_be_replayed && self.earlier.contains(shown)) {
            let text = format!("{} {} was shown first, then no end", shown.status, shown.result);
            self.changed.get_or_insert(text);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::crash) fn ended(result: &str) -> Seen {
        Seen::Ended(end("success", None, result))
    }

    pub(in crate::crash) fn end(status: &str, code: Option<&str>, result: &str) -> End {
        End { status: status.to_owned(), code: code.map(str::to_owned), result: result.to_owned() }
    }

    /// Shown as a dead letter after this run.
    fn letter(run: u32) -> End {
        end("error", Some("FUNCTION_ERROR"), &format!("never, run {run}"))
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.accept("a", 4, None);
        ledger
    }

    #[test]
    fn a_result_names_its_run() {
        assert_eq!(end("success", None, r#"{"number":4,"run":12} null"#).run(), Some(12));
        assert_eq!(letter(3).run(), Some(3));
        assert_eq!(end("error", Some("CANCELLED"), "cancelled").run(), None);
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_held_against_it() {
        let mut ledger = ledger();
        let before = ledger.ticket();
        ledger.ask("a", Change::Cancel);
        let meanwhile = ledger.ticket();
        ledger.answer("a", Change::Cancel, RequestOutcome::Promised);
        ledger.see("a", Seen::Ended(end("error", Some("CANCELLED"), "")), ledger.ticket());
        ledger.see("a", Seen::Open, before);
        ledger.see("a", Seen::Open, meanwhile);
        assert_eq!(ledger.entries["a"].changed, None);
        ledger.see("a", Seen::Open, ledger.ticket());
        assert!(ledger.entries["a"].changed.is_some());
    }

    #[test]
    fn an_answer_from_before_another_reader_saw_the_end_is_not_held_against_it() {
        let mut ledger = ledger();
        let before = ledger.ticket();
        ledger.deliver("a", letter(1));
        ledger.see("a", Seen::Open, before);
        assert_eq!(ledger.entries["a"].changed, None);
        ledger.see("a", Seen::Open, ledger.ticket());
        assert!(ledger.entries["a"].changed.is_some());
    }

    #[test]
    fn a_replay_has_another_end() {
        let mut ledger = ledger();
        ledger.list("a", letter(3), ledger.ticket());
        ledger.ask("a", Change::Replay);
        // Read while it is asked for, and delivered late.
        ledger.see("a", Seen::Ended(letter(3)), ledger.ticket());
        ledger.answer("a", Change::Replay, RequestOutcome::Promised);
        ledger.deliver("a", letter(3));
        ledger.see("a", Seen::Open, ledger.ticket());
        ledger.see("a", Seen::Ended(letter(6)), ledger.ticket());
        ledger.deliver("a", letter(6));
        let entry = &ledger.entries["a"];
        assert_eq!((&entry.changed, &entry.delivered_otherwise), (&None, &None));
        assert_eq!(entry.shown, Some(letter(6)));
        ledger.deliver("a", letter(5));
        ledger.see("a", Seen::Ended(letter(7)), ledger.ticket());
        assert_eq!(ledger.entries["a"].delivered_otherwise, Some(letter(5)));
        assert!(ledger.entries["a"].changed.is_some());
    }

    #[test]
    fn a_replay_without_an_answer_may_have_happened() {
        for happens in [false, true] {
            let mut ledger = ledger();
            ledger.list("a", letter(3), ledger.ticket());
            ledger.ask("a", Change::Replay);
            ledger.answer("a", Change::Replay, RequestOutcome::Uncertain);
            ledger.see("a", Seen::Ended(letter(3)), ledger.ticket());
            if happens {
                ledger.see("a", Seen::Open, ledger.ticket());
                ledger.see("a", Seen::Ended(letter(6)), ledger.ticket());
            }
            assert_eq!(ledger.entries["a"].changed, None);
            ledger.see("a", Seen::Ended(letter(if happens { 3 } else { 6 })), ledger.ticket());
            ledger.see("a", Seen::Ended(letter(9)), ledger.ticket());
            assert!(ledger.entries["a"].changed.is_some(), "{happens}");
        }
        let mut ledger = ledger();
        ledger.list("a", letter(3), ledger.ticket());
        ledger.ask("a", Change::Replay);
        ledger.answer("a", Change::Replay, RequestOutcome::Refused);
        ledger.see("a", Seen::Ended(letter(6)), ledger.ticket());
        assert!(ledger.entries["a"].changed.is_some());
    }

    #[test]
    fn what_was_given_up_comes_back_to_no_list() {
        let mut ledger = ledger();
        ledger.list("a", letter(3), ledger.ticket());
        let before = ledger.ticket();
        ledger.ask("a", Change::Purge);
        ledger.answer("a", Change::Purge, RequestOutcome::Promised);
        ledger.list("a", letter(3), before);
        assert!(!ledger.entries["a"].came_back);
        ledger.list("a", letter(3), ledger.ticket());
        assert!(ledger.entries["a"].came_back);
    }

    #[test]
    fn what_is_delivered_before_the_answer_is_kept() {
        let mut ledger = Ledger::default();
        ledger.deliver("a", letter(1));
        ledger.accept("a", 4, None);
        ledger.see("a", Seen::Ended(letter(2)), ledger.ticket());
        assert!(ledger.entries["a"].changed.is_some());
    }
}
