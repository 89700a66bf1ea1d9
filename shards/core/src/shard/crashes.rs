//! Replicas that end, with the calls that are on their way to them or run in them.
//!
//! The dispatcher sees it first: an address refuses a call, or breaks off. It is *down* then, at once and before any
//! backend has noticed (`probes`). What was refused was not run; it is no attempt, and waits again at its place.
//!
//! A call that ran when its replica ended may be why. It is not tried at once, not where it could end the last replica
//! while another one starts, and not a third time when two have ended.
//!
//! All this is about replicas that a backend starts again. A fixed address that refuses a call failed an attempt.

use crate::{
    effect::{Effect, Effects, Note},
    execution::{Activity, Course},
    keys::ExecutionKey,
    payload::{Failure, code},
    report::Outcome,
    sabotage::Sabotage,
    shard::{Shard, state::Drain},
    timers::Due,
};

/// Least time until a call during which a replica ended is tried again.
pub(super) const CRASH_WAIT_US: u64 = 1_000_000;
/// Time for which it does not go to the last replica while another one is wanted: that one may never start.
const CAUTION_US_MAX: u64 = 60_000_000;
/// Replicas that may end during one call.
const CRASHES_MAX: u32 = 2;

impl Shard {
    /// What the end of an attempt means for its execution. `None`: nothing was run, and it waits again.
    pub(super) fn outcome_of(
        &mut self,
        key: ExecutionKey,
        outcome: Outcome,
        fx: &mut Effects,
    ) -> Option<Outcome> {
        let failed = |failure, retryable| Outcome::Failure { failure, retryable, retry_after_ms: None };
        match outcome {
            Outcome::NotRun(failure) => match self.waits_again(key) {
                true => {
                    self.give_back(key, fx);
                    None
                }
                false => Some(failed(failure, true)),
            },
            Outcome::Crashed(failure) => {
                let execution = self.executions.get_mut(key)?;
                let function = self.functions.get_mut(execution.function);
                let managed = function.as_ref().is_some_and(|function| function.is_managed());
                if !managed && failure.code != code::FUNCTION_CRASHED {
                    // A fixed address broke off. Why is not known.
                    return Some(failed(failure, true));
                }
                if let Some(function) = function {
                    function.counters.crashes += 1;
                }
                let careful_until_us = self.now.mono_us + CAUTION_US_MAX;
                let crashes = execution.live.as_mut().map_or(1, |live| {
                    live.careful_until_us = careful_until_us;
                    live.crashes = live.crashes.saturating_add(1);
                    live.crashes
                });
                let failure = Failure { code: code::FUNCTION_CRASHED.into(), ..*failure };
                let again = crashes < CRASHES_MAX || self.sabotaged.by(Sabotage::PoisonForgotten);
                Some(failed(Box::new(failure), again))
            }
            other => Some(other),
        }
    }

    /// Whether an execution whose attempt was not run has something to wait for.
    fn waits_again(&self, key: ExecutionKey) -> bool {
        let Some(execution) = self.executions.get(key) else { return false };
        let Some(function) = self.functions.get(execution.function) else { return false };
        let Some(live) = execution.live.as_ref() else { return false };
        let awaited =
            execution.accepted || (live.deadline_us > self.now.mono_us && self.phase.drain != Drain::GivenUp);
        let counts = self.sabotaged.by(Sabotage::NotRunCounts);
        function.is_managed() && function.life.is_live() && awaited && !counts
    }

    /// A call that was not run waits again, before all that came after it, as if it had not been sent.
    fn give_back(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let expires_us = execution.live.as_ref().map_or(0, |live| live.expires_us);
        if expires_us != 0 && expires_us <= self.now.mono_us {
            self.expire(key, fx);
            return;
        }
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let (id, attempt) = (execution.id, execution.attempt);
        // Nobody has seen this number, and the next attempt has it.
        execution.attempt -= 1;
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        // It may have gone out without a wait, with its payload in the read buffer.
        live.payload.detach();
        live.is_tried = live.was_tried;
        fx.push(Effect::Note(Note::NotRun { id, attempt }));
        self.put_back(key, fx);
    }

    /// What ran waits, before all that came after it.
    pub(super) fn put_back(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let backlogged = self.is_backlogged(execution);
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let function_key = execution.function;
        execution.course = Course::Active(Activity::Queued);
        execution.dispatched_ms = 0;
        execution.cold_start = false;
        execution.init_ms = None;
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        live.in_backlog = backlogged;
        let order = live.order;
        self.start_waiting(key);
        let executions = &self.executions;
        let came_before = |other: ExecutionKey| {
            let live = executions.get(other).and_then(|execution| execution.live.as_ref());
            live.is_none_or(|live| live.order < order)
        };
        if let Some(function) = self.functions.get_mut(function_key) {
            function.accounting.running -= 1;
            function.accounting.queued += 1;
            let queue = if backlogged { &mut function.backlog } else { &mut function.queue };
            queue.put_back(key, came_before);
        }
        self.start_sync_wait(key);
        self.ring(function_key);
        self.wake(function_key, fx);
    }

    /// Whether this execution has ended a replica, and would now go to the last one while another starts.
    pub(super) fn would_risk_the_last(&self, key: ExecutionKey) -> bool {
        let Some(execution) = self.executions.get(key) else { return false };
        if self.sabotaged.by(Sabotage::LastReplicaRisked) {
            return false;
        }
        if execution.live.as_ref().is_none_or(|live| live.careful_until_us <= self.now.mono_us) {
            return false;
        }
        let function = self.functions.get(execution.function);
        function.is_some_and(|function| {
            function.is_managed() && function.endpoints.up() == 1 && function.desired > 1
        })
    }

    /// It is looked at again after a while. Others have their turn.
    pub(super) fn wait_for_another(&mut self, key: ExecutionKey) {
        let timer = self.timers.insert(self.now.mono_us + CRASH_WAIT_US, Due::Backoff(key));
        if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
            live.backoff = Some(timer);
            live.in_backlog = false;
        }
        self.end_sync_wait(key);
        self.park(key);
    }
}
