//! What the book says in the end, held against what came to the functions.

use std::{collections::BTreeSet, time::Duration};

use super::{
    caller::{function_of, has_callback},
    endpoint::Behaviour,
    ledger::{Ledger, LedgerEntry, Seen},
    runs::Runs,
};
use crate::report::crash::Findings;

/// Findings that are described one by one.
const EXAMPLES_MAX: usize = 20;
/// A request that had been sent before may be read so much later by the endpoint.
const READ_DELAY_MAX: Duration = Duration::from_millis(250);

/// What the book and the requests show of the server.
pub(super) fn judge(ledger: &Ledger, runs: &Runs, functions: u64, attempts_max: u32) -> Findings {
    let mut findings = Findings { accepted: ledger.ids.len() as u64, ..Findings::default() };
    let mut keys_broken: BTreeSet<&str> = ledger.keys_broken.keys().map(String::as_str).collect();
    let mut examples: Vec<String> = ledger.keys_broken.values().cloned().collect();
    for id in &ledger.ids {
        let entry = &ledger.entries[id];
        let mut faults = Vec::new();
        judge_end(id, entry, runs, attempts_max, &mut findings, &mut faults);
        judge_changes(id, entry, runs, &mut findings, &mut faults);
        judge_numbers(id, entry, runs, &mut findings, &mut faults);
        judge_deliveries(entry, &mut findings, &mut faults);
        let is_overflowed = ledger.overflowed.contains(&function_of(entry.number, functions));
        if is_dead_letter(entry) && !is_overflowed && !ledger.letters.contains(id) {
            findings.letters_lost += 1;
            faults.push("failed for good, and is on no list of dead letters".to_owned());
        }
        // Two executions of one keyed call: the first was accepted, but its key was forgotten.
        if let Some(key) = entry.key.as_deref().filter(|_| runs.ids(entry.number) > 1)
            && keys_broken.insert(key)
        {
            faults.push("has an idempotency key and ran under several ids".to_owned());
        }
        examples.extend(faults.iter().map(|fault| format!("{id} (call {}): {fault}", entry.number)));
    }
    findings.keys_broken = keys_broken.len() as u64;
    findings.examples = pick(examples);
    findings
}

/// Some of each kind: a frequent one does not hide the others.
fn pick(examples: Vec<String>) -> Vec<String> {
    let kind = |example: &str| {
        example.split_once("): ").map_or("", |(_, fault)| fault)[..].chars().take(12).collect::<String>()
    };
    let mut picked: Vec<String> = Vec::new();
    for example in examples {
        let same = picked.iter().filter(|other| kind(other) == kind(&example)).count();
        if same < EXAMPLES_MAX / 5 && picked.len() < EXAMPLES_MAX {
            picked.push(example);
        }
    }
    picked
}

fn judge_end(
    id: &str,
    entry: &LedgerEntry,
    runs: &Runs,
    attempts_max: u32,
    findings: &mut Findings,
    faults: &mut Vec<String>,
) {
    let count = runs.of(id).len();
    match &entry.latest {
        Seen::Unknown if entry.is_purged || entry.may_be_purged => findings.forgotten += 1,
        Seen::Unknown => {
            findings.lost += 1;
            faults.push("accepted, and unknown after the last restart".to_owned());
        }
        Seen::Open => {
            findings.unfinished += 1;
            faults.push("accepted, and neither succeeded nor failed in the end".to_owned());
        }
        Seen::Ended(end) => {
            findings.finished += 1;
            let name = end.code.as_ref().filter(|_| end.is_cancelled() || end.is_removed());
            *findings.by_status.entry(name.unwrap_or(&end.status).clone()).or_default() += 1;
            if count == 0 && !end.is_cancelled() && !end.is_removed() {
                findings.never_run += 1;
                faults.push("has a result, but never reached the function".to_owned());
            }
        }
    }
    if let Some(changed) = &entry.changed
        && entry.cancelled.is_none()
    {
        findings.changed += 1;
        faults.push(format!("result changed: {changed}"));
    }
    let runs_planned = Behaviour::of(entry.number).runs(attempts_max) as usize;
    findings.run_again += u64::from(entry.replay.is_none() && count > runs_planned);
}

/// Whether cancels, purges and replays held.
fn judge_changes(
    id: &str,
    entry: &LedgerEntry,
    runs: &Runs,
    findings: &mut Findings,
    faults: &mut Vec<String>,
) {
    if let Some(cancelled) = entry.cancelled {
        let has_run = runs.of(id).iter().any(|request| request.at > cancelled + READ_DELAY_MAX);
        let is_cancelled = matches!(&entry.latest, Seen::Ended(end) if end.is_cancelled());
        if has_run || !is_cancelled || entry.changed.is_some() {
            findings.cancels_taken_back += 1;
            let run = if has_run { ", and it ran afterwards" } else { "" };
            faults.push(format!("cancelled with 202, in the end {:?}{run}", entry.latest));
        }
    }
    if entry.came_back {
        findings.purges_taken_back += 1;
        faults.push("given up with 204, and on a list of dead letters later".to_owned());
    }
    if let Some(replay) = entry.replay.filter(|replay| replay.is_promised) {
        let has_run = runs.of(id).iter().any(|request| request.at >= replay.at);
        let needs_no_run =
            matches!(&entry.latest, Seen::Ended(end) if end.is_cancelled() || end.is_removed());
        if !has_run && !needs_no_run && !matches!(entry.latest, Seen::Unknown) {
            findings.replays_taken_back += 1;
            faults.push("replayed with 202, and never run again".to_owned());
        }
    }
}

/// Whether attempts have numbers of their own, and each result is that of an attempt that could tell it.
fn judge_numbers(
    id: &str,
    entry: &LedgerEntry,
    runs: &Runs,
    findings: &mut Findings,
    faults: &mut Vec<String>,
) {
    if let Some((attempt, first, then)) = runs.repeated(id) {
        findings.numbers_repeated += 1;
        faults.push(format!("number repeated: attempt {attempt} came after {first} kills and after {then}"));
    }
    if let Some(run) = entry.shown.as_ref().and_then(|end| end.run())
        && runs.is_told_late(id, run)
    {
        findings.decided_late += 1;
        faults.push(format!("decided by a callback of run {run}, which a kill had ended"));
    }
}

fn judge_deliveries(entry: &LedgerEntry, findings: &mut Findings, faults: &mut Vec<String>) {
    if let Some(end) = &entry.delivered_otherwise {
        findings.delivered_otherwise += 1;
        faults.push(format!("delivered as {end:?}, shown as {:?}", entry.shown));
    }
    if is_undelivered(entry) {
        findings.undelivered += 1;
        faults.push(format!("not delivered: its end {:?}", entry.latest));
    }
}

/// Whether its end was to be delivered, and was not.
pub(super) fn is_undelivered(entry: &LedgerEntry) -> bool {
    let Seen::Ended(end) = &entry.latest else { return false };
    // Who gives a dead letter up waits for nothing.
    has_callback(entry.number) && !entry.is_purged && !entry.may_be_purged && !entry.delivered.contains(end)
}

/// Whether it has to be on the list of dead letters.
fn is_dead_letter(entry: &LedgerEntry) -> bool {
    let Seen::Ended(end) = &entry.latest else { return false };
    end.status != "success" && !end.is_cancelled() && !entry.is_purged && !entry.may_be_purged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::ledger::{
        Change, End, RequestOutcome,
        tests::{end, ended},
    };

    /// Each of these requests is one more, in the first life.
    fn runs(executions: &[(&str, u64, u32)]) -> Runs {
        let mut runs = Runs::default();
        for (id, number, count) in executions {
            for attempt in 1..=*count {
                runs.came(id, *number, attempt, 0);
            }
        }
        runs
    }

    fn judged(ledger: &Ledger, runs: &Runs) -> Findings {
        judge(ledger, runs, 8, 3)
    }

    fn ledger(calls: &[(&str, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (id, number) in calls {
            ledger.accept(id, *number, None);
        }
        ledger
    }

    fn see(ledger: &mut Ledger, id: &str, seen: Seen) {
        ledger.see(id, seen, ledger.ticket());
    }

    fn failed(run: u32) -> End {
        end("error", Some("FUNCTION_ERROR"), &format!("never, run {run}"))
    }

    #[test]
    fn what_is_accepted_has_to_end_somewhere() {
        let mut ledger = ledger(&[
            ("fine", 4),
            ("lost", 8),
            ("open", 6),
            ("again", 16),
            ("failing", 21),
            ("given up", 31),
        ]);
        see(&mut ledger, "fine", ended("1"));
        see(&mut ledger, "lost", Seen::Unknown);
        see(&mut ledger, "again", ended("1"));
        see(&mut ledger, "failing", Seen::Ended(failed(3)));
        ledger.letters.insert("failing".to_owned());
        see(&mut ledger, "somebody else's", Seen::Unknown);
        ledger.ask("given up", Change::Purge);
        ledger.answer("given up", Change::Purge, RequestOutcome::Uncertain);
        see(&mut ledger, "given up", Seen::Unknown);
        assert_eq!(ledger.open(), ["lost", "open", "given up"]);
        let runs = runs(&[("fine", 4, 1), ("again", 16, 2), ("failing", 21, 3)]);
        let findings = judged(&ledger, &runs);
        assert_eq!((findings.accepted, findings.finished, findings.forgotten), (6, 3, 1));
        assert_eq!((findings.lost, findings.unfinished, findings.run_again), (1, 1, 1));
        assert_eq!((findings.changed, findings.never_run, findings.keys_broken), (0, 0, 0));
        assert_eq!((findings.by_status["error"], findings.letters_lost), (1, 0));
        assert_eq!(findings.examples.len(), 2, "{findings:?}");
        assert!(!findings.is_good());
    }

    #[test]
    fn an_end_is_the_end() {
        let mut ledger = ledger(&[("same", 4), ("other result", 8), ("runs again", 6)]);
        for id in ["same", "other result", "runs again"] {
            see(&mut ledger, id, ended("1"));
        }
        ledger.forget_latest();
        assert_eq!(ledger.open().len(), 3);
        see(&mut ledger, "same", ended("1"));
        see(&mut ledger, "other result", ended("2"));
        see(&mut ledger, "runs again", Seen::Open);
        see(&mut ledger, "runs again", ended("1"));
        let runs = runs(&[("same", 4, 1), ("other result", 8, 2)]);
        let findings = judged(&ledger, &runs);
        assert_eq!((findings.changed, findings.never_run, findings.lost), (2, 1, 0), "{findings:?}");
    }

    #[test]
    fn a_key_stands_for_one_execution() {
        let mut ledger = Ledger::default();
        ledger.accept("a", 4, Some("k"));
        ledger.accept("a", 4, Some("k"));
        see(&mut ledger, "a", ended("1"));
        assert!(judged(&ledger, &runs(&[("a", 4, 1)])).is_good());
        assert_eq!(ledger.keyed(0), Some((4, "k".to_owned())));
        assert_eq!(judged(&ledger, &runs(&[("a", 4, 1), ("b", 4, 1)])).keys_broken, 1);
        ledger.accept("b", 4, Some("k"));
        assert_eq!(judged(&ledger, &runs(&[("a", 4, 1)])).keys_broken, 1);
    }

    #[test]
    fn a_cancel_is_kept() {
        let cancelled = || Seen::Ended(end("error", Some("CANCELLED"), ""));
        let mut ledger = ledger(&[("kept", 6), ("ran", 8), ("unanswered", 10)]);
        for (id, outcome) in [
            ("kept", RequestOutcome::Promised),
            ("ran", RequestOutcome::Promised),
            ("unanswered", RequestOutcome::Uncertain),
        ] {
            ledger.ask(id, Change::Cancel);
            ledger.answer(id, Change::Cancel, outcome);
        }
        see(&mut ledger, "kept", cancelled());
        see(&mut ledger, "ran", ended("1"));
        see(&mut ledger, "unanswered", ended("1"));
        let findings = judged(&ledger, &runs(&[("ran", 8, 1), ("unanswered", 10, 1)]));
        assert_eq!((findings.cancels_taken_back, findings.never_run, findings.letters_lost), (1, 0, 0));
        assert_eq!(findings.by_status["CANCELLED"], 1);
    }

    #[test]
    fn letters_are_kept_given_up_and_replayed() {
        let mut ledger =
            ledger(&[("kept", 20), ("dropped", 40), ("back", 60), ("replayed", 80), ("forgotten", 100)]);
        for id in ["kept", "dropped", "back", "replayed", "forgotten"] {
            ledger.list(id, failed(3), ledger.ticket());
        }
        let all = runs(&[("kept", 20, 3), ("dropped", 40, 3), ("back", 60, 3), ("forgotten", 100, 3)]);
        for (id, change) in
            [("back", Change::Purge), ("replayed", Change::Replay), ("forgotten", Change::Replay)]
        {
            ledger.ask(id, change);
            ledger.answer(id, change, RequestOutcome::Promised);
        }
        let mut all = all;
        all.came("replayed", 80, 4, 0);
        ledger.list("back", failed(3), ledger.ticket());
        see(&mut ledger, "replayed", Seen::Ended(failed(4)));
        see(&mut ledger, "forgotten", Seen::Ended(failed(3)));
        ledger.letters.extend(["kept", "replayed", "forgotten"].map(str::to_owned));
        let findings = judged(&ledger, &all);
        let taken_back = (findings.purges_taken_back, findings.replays_taken_back);
        assert_eq!((taken_back, findings.letters_lost, findings.changed), ((1, 1), 1, 0), "{findings:?}");
        // A full list drops its oldest.
        ledger.overflowed.insert(0);
        assert_eq!(judged(&ledger, &all).letters_lost, 0);
    }

    #[test]
    fn numbers_and_callbacks_belong_to_one_attempt() {
        let mut ledger = ledger(&[("a", 4), ("b", 14)]);
        let mut runs = Runs::default();
        for (life, id, number) in [(0, "a", 4), (1, "a", 4), (0, "b", 14)] {
            runs.came(id, number, 1, life);
        }
        runs.calls_back("a", 1, 1);
        runs.calls_back("a", 2, 1);
        see(&mut ledger, "a", ended(r#"{"number":4,"run":1}"#));
        see(&mut ledger, "b", ended(r#"{"number":14,"run":1}"#));
        let findings = judged(&ledger, &runs);
        assert_eq!((findings.numbers_repeated, findings.decided_late), (1, 1), "{findings:?}");
    }

    #[test]
    fn ends_are_delivered_as_they_are() {
        // Of these numbers some have a receiver.
        let mut ledger = ledger(&[("same", 7), ("other", 19), ("none", 37), ("without", 6)]);
        assert!([7, 19, 37].iter().all(|number| has_callback(*number)) && !has_callback(6));
        for id in ["same", "other", "none", "without"] {
            see(&mut ledger, id, ended("1"));
        }
        ledger.deliver("same", end("success", None, "1"));
        ledger.deliver("other", end("success", None, "2"));
        let all = runs(&[("same", 7, 1), ("other", 19, 1), ("none", 37, 1), ("without", 6, 1)]);
        let findings = judged(&ledger, &all);
        assert_eq!((findings.delivered_otherwise, findings.undelivered), (1, 2), "{findings:?}");
    }
}
