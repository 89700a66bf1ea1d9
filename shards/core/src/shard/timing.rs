//! What happens when a deadline passes.

use crate::{
    answer::{Answer, Stage},
    call::{Extra, Ticket},
    effect::Effects,
    execution::{Activity, Course, Ending},
    keys::ExecutionKey,
    payload::{Failure, code},
    sabotage::Sabotage,
    shard::Shard,
    timers::Due,
};

impl Shard {
    /// Fires what is due, at most one batch.
    pub(super) fn fire_timers(&mut self, fx: &mut Effects) {
        for _ in 0..self.limits.batch_max {
            let Some(due) = self.timers.pop_due(self.now.mono_us) else { break };
            match due {
                Due::Waiter(execution, ticket) => self.wait_is_over(execution, ticket, fx),
                Due::QueueWait(execution) => self.queue_wait_is_over(execution, fx),
                Due::Attempt(attempt) => self.attempt_timed_out(attempt, fx),
                Due::Backoff(execution) => self.backoff_is_over(execution),
                Due::Expiry(execution) => self.expired(execution, fx),
                Due::Watch(execution, ticket) => self.watch_is_over(execution, ticket, fx),
                Due::Scaling => self.scale_some(fx),
                Due::Sweep => self.sweep(fx),
                Due::Reconcile(function) => self.reconcile(function, fx),
                Due::Endpoint(function, endpoint) => self.endpoint_is_due(function, endpoint, fx),
            }
        }
    }

    /// A caller's deadline: it gets its answer. The execution ends with its last caller, unless it was accepted
    /// for later; an attempt in flight keeps its slot until it comes home, but a job is ended.
    fn wait_is_over(&mut self, key: ExecutionKey, ticket: Ticket, fx: &mut Effects) {
        self.index.joined.remove(&ticket);
        let stage = self.stage_of(key);
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let id = execution.id;
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        let Some(waiter) = live.remove_waiter(ticket) else { return self.impossible() };
        let limit_ms = waiter.limit_ms;
        let last = live.waiter_count() == 0 && !execution.accepted;
        if !waiter.gone {
            fx.reply(ticket, Answer::TimedOut { id, stage, limit_ms });
            if let Some(function) = self.functions.get_mut(execution.function) {
                function.counters.timeouts += 1;
            }
        }
        if last {
            let attempt = execution.in_flight;
            self.finish(key, Ending::TimedOut { stage, limit_ms }, fx);
            self.end_job(attempt, true, fx);
        }
    }

    fn stage_of(&self, key: ExecutionKey) -> Stage {
        let Some(execution) = self.executions.get(key) else { return Stage::Queue };
        let attempt = execution.in_flight.and_then(|attempt| self.attempts.get(attempt));
        match (&execution.course, attempt) {
            (Course::Active(Activity::Running), Some(attempt)) if attempt.connecting => Stage::Dispatch,
            (Course::Active(Activity::Running) | Course::Ended(_), _) => Stage::Function,
            (Course::Active(Activity::Queued), _) => match self.functions.get(execution.function) {
                Some(function) if !function.has_replica() => Stage::Replica,
                _ => Stage::Queue,
            },
        }
    }

    /// When an accepted execution may no longer wait; 0 is never.
    pub(super) fn expiry_of(&self, extra: Option<&Extra>) -> u64 {
        let max_age_ms = extra.and_then(|extra| extra.max_age_ms);
        let max_age_ms = max_age_ms.map(|ms| ms >> u32::from(self.sabotaged.by(Sabotage::AgesTooFast)));
        max_age_ms.map_or(0, |max_age_ms| self.now.mono_us + u64::from(max_age_ms) * 1000)
    }

    /// Sets the end of an execution's wait.
    pub(super) fn arm_expiry(&mut self, key: ExecutionKey, expires_us: u64) {
        if expires_us == 0 {
            return;
        }
        let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) else {
            return self.impossible();
        };
        live.expires_us = expires_us;
        live.expiry = self.timers.insert(expires_us, Due::Expiry(key));
    }

    /// An accepted execution is as old as its caller lets it become. What runs goes on.
    fn expired(&mut self, key: ExecutionKey, fx: &mut Effects) {
        if self.executions.get(key).is_some_and(|execution| execution.is_queued()) {
            self.expire(key, fx);
        }
    }

    /// Ends an execution that has waited too long.
    pub(super) fn expire(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let max_age_ms =
            execution.live.as_ref().and_then(|live| live.extra.as_ref()?.max_age_ms).unwrap_or_default();
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.counters.expired += 1;
        }
        let message = format!(
            "The execution still waited after {max_age_ms} ms, its X-Max-Age-Ms; raise that, or the function's concurrency"
        );
        let failure = Box::new(Failure::new(code::EXPIRED, message));
        self.finish(key, Ending::Failed(failure), fx);
    }

    /// A retry has waited long enough: to the tail of the queue.
    fn backoff_is_over(&mut self, key: ExecutionKey) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if let Some(live) = execution.live.as_mut() {
            live.backoff = None;
            if !self.journal.is_safe(live.record) && self.journal.decides(live.record) {
                // Queued when its record is safe.
                return;
            }
        }
        let function = execution.function;
        if let Some(function) = self.functions.get_mut(function) {
            function.parked.remove(&key);
        }
        self.enqueue(key);
    }
}
