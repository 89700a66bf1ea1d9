//! What the shard has and what the model has, after each step.

use shard_core::invariant;

use super::{
    drive::Drive,
    oracle::{ACCEPTED_TTL_MS, SWEEP_MS, TTL_MS},
    registry::{Counts, Life},
};

impl Drive {
    /// Executions, functions and endpoints as the model has them; what has ended stays until its time, and the
    /// oldest go first.
    pub(super) fn compare(&mut self) {
        if let Err(what) = invariant::check(&self.shard) {
            self.expect(false, &what);
        }
        let known: Vec<u64> = self.oracle.executions.keys().copied().collect();
        for ticket in known {
            let real = self.probe(ticket);
            let execution = &self.oracle.executions[&ticket];
            let state = format!("{:?}", execution.state).to_lowercase();
            let (attempt, code, last) = (execution.attempt, execution.code, execution.last_code);
            let expected = format!("{state} {attempt} {code:?} {last:?}");
            let gone = execution.discarded;
            let may_be_gone = gone || execution.is_terminal();
            let same = real.as_ref().map_or(may_be_gone, |real| !gone && *real == expected);
            self.expect(same, &format!("execution {ticket} is {real:?}, not {expected}"));
        }
        self.compare_retention();
        self.compare_timers();
        let live: Vec<usize> = self.oracle.names.values().copied().collect();
        for at in live {
            self.compare_function(at);
        }
        let open: usize = self.oracle.functions.iter().map(|function| function.open_count()).sum();
        self.expect(open == self.open.len(), &format!("{} endpoints are open, not {open}", self.open.len()));
    }

    /// The oldest records of a kind go first, not before their time unless there are too many, and not long after it.
    fn compare_retention(&mut self) {
        for (accepted, ttl_ms) in [(false, TTL_MS), (true, ACCEPTED_TTL_MS)] {
            self.compare_kind(accepted, ttl_ms);
        }
        let all = self.oracle.finished.clone();
        let kept = all.iter().filter(|ticket| self.probe(**ticket).is_some()).count();
        self.expect(kept as u64 <= self.shard.room_held().executions, "more records than allowed");
        self.compare_room();
    }

    /// Of synchronous executions, or of those that were accepted.
    fn compare_kind(&mut self, accepted: bool, ttl_ms: u64) {
        let executions = &self.oracle.executions;
        let of_kind =
            |ticket: &&u64| executions[*ticket].accepted == accepted && !executions[*ticket].recovered;
        let finished: Vec<(u64, u64)> = self
            .oracle
            .finished
            .iter()
            .filter(of_kind)
            .map(|ticket| (*ticket, executions[ticket].kept_from_ms))
            .collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            finished.iter().partition(|(ticket, _)| self.probe(*ticket).is_some());
        let now_ms = self.oracle.now_ms;
        let late = kept.iter().any(|(_, ended_ms)| now_ms - ended_ms >= ttl_ms + SWEEP_MS);
        self.expect(!late, "a record was kept too long");
        // Of those that ended at the same time any may go first.
        if let Some(youngest_gone_ms) = gone.iter().map(|(_, ended_ms)| *ended_ms).max() {
            let in_order = kept.iter().all(|(_, ended_ms)| *ended_ms >= youngest_gone_ms);
            self.expect(in_order, "a younger record went before an older one");
            // With those that are of the other kind since, because somebody was promised their results.
            let not_older = self.oracle.finished.iter().filter(|ticket| {
                let execution = &self.oracle.executions[ticket];
                let is_of_kind = execution.accepted == accepted && !execution.recovered;
                let was_of_kind = !accepted && execution.joined_late;
                is_of_kind && execution.kept_from_ms >= youngest_gone_ms
                    || was_of_kind && execution.finished_ms >= youngest_gone_ms
            });
            let not_older = not_older.count();
            // Half of the room is for each kind, whatever the other one needs; and nothing goes while the server has more.
            let is_too_much = self.rooms.least.is_some_and(|least| not_older as u64 > least / 2);
            let in_time = now_ms - youngest_gone_ms >= ttl_ms || is_too_much;
            self.expect(in_time, "a record went before its time");
        }
    }

    /// One timer for each caller, attempt and back-off, and one for the next sweep; with the sync queue on, up to
    /// one more for each caller that waits there.
    fn compare_timers(&self) {
        let totals = self.shard.totals();
        let sweep = usize::from(totals.finished > 0 || totals.keys > 0);
        let due = self.oracle.timers().count();
        let real = totals.timers;
        let waits: u32 = self.shard.functions().map(|(_, view)| view.sync_queue_depth).sum();
        self.expect(
            (due..=due + 1 + waits as usize).contains(&real) && real >= due + sweep,
            &format!("{real} timers, not {due}"),
        );
    }

    fn compare_function(&self, at: usize) {
        let function = &self.oracle.functions[at];
        let name = format!("f{}", function.name);
        let view = self.shard.functions().find(|(_, view)| view.name == name).map(|(_, view)| view);
        self.expect(view.is_some() == (function.life == Life::Live), "visible are the functions that live");
        let Some(view) = view else { return };
        let (running, queued) = (self.oracle.in_flight(at), self.oracle.waiting(at).len());
        self.expect(
            (view.in_flight as usize, view.queue_depth as usize) == (running, queued),
            &format!(
                "{name}: {} in flight, not {running}; {} wait, not {queued}",
                view.in_flight, view.queue_depth
            ),
        );
        self.expect(view.in_flight <= view.concurrency, "more in flight than slots");
        let (real, model) = (view.counters, function.counts);
        let real = Counts {
            successes: real.successes,
            errors: real.errors,
            retries: real.retries,
            timeouts: real.timeouts,
            rejections: real.queue_rejections,
            dead: real.dead_letters,
            expired: real.expired,
            orphans: real.orphans,
            jobs: real.jobs_created,
            late: real.late_completions,
            crashes: real.crashes,
            ..model
        };
        self.expect(real == model, &format!("{name}: counted {real:?}, not {model:?}"));
    }
}
