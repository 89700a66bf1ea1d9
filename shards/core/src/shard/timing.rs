//! What happens when a deadline passes.

use crate::{
    answer::{Answer, Stage, State},
    effect::Effects,
    execution::Ending,
    input::Ticket,
    shard::{ExecutionKey, Shard},
    timers::Due,
};

impl Shard {
    /// Fires what is due, at most one batch.
    pub(super) fn fire_timers(&mut self, fx: &mut Effects) {
        for _ in 0..self.limits.batch_max {
            let Some(due) = self.timers.pop_due(self.now.mono_us) else { break };
            match due {
                Due::Waiter(execution, ticket) => self.wait_is_over(execution, ticket, fx),
                Due::Attempt(attempt) => self.attempt_timed_out(attempt, fx),
                Due::Backoff(execution) => self.backoff_is_over(execution),
                Due::Sweep => self.sweep(),
            }
        }
    }

    /// A caller's deadline: it gets its answer. The execution ends with its last caller, unless it was accepted
    /// for later; an attempt in flight keeps its slot until it comes home.
    fn wait_is_over(&mut self, key: ExecutionKey, ticket: Ticket, fx: &mut Effects) {
        self.joined.remove(&ticket);
        let stage = self.stage_of(key);
        let Some(execution) = self.executions.get_mut(key) else { return };
        let id = execution.id;
        let Some(live) = execution.live.as_mut() else { return };
        let Some(waiter) = live.remove_waiter(ticket) else { return };
        let limit_ms = waiter.limit_ms;
        let last = live.waiter_count() == 0 && !execution.accepted;
        if !waiter.gone {
            fx.reply(ticket, Answer::TimedOut { id, stage, limit_ms });
            if let Some(function) = self.functions.get_mut(execution.function) {
                function.counters.timeouts += 1;
            }
        }
        if last {
            self.finish(key, State::Timeout, Ending::TimedOut { stage, limit_ms }, fx);
        }
    }

    fn stage_of(&self, key: ExecutionKey) -> Stage {
        let Some(execution) = self.executions.get(key) else { return Stage::Queue };
        let attempt = execution.in_flight.and_then(|attempt| self.attempts.get(attempt));
        match (execution.state, attempt) {
            (State::Running, Some(attempt)) if attempt.connecting => Stage::Dispatch,
            (State::Running, _) => Stage::Function,
            _ => Stage::Queue,
        }
    }

    /// A retry has waited long enough: to the tail of the queue.
    fn backoff_is_over(&mut self, key: ExecutionKey) {
        let Some(execution) = self.executions.get_mut(key) else { return };
        if let Some(live) = execution.live.as_mut() {
            live.backoff = None;
        }
        let function = execution.function;
        if let Some(function) = self.functions.get_mut(function) {
            function.backing_off.remove(&key);
        }
        self.enqueue(key);
    }
}
