//! Work about everything that waits, in bounded batches: a removal, the end of readers' waits, the end of callers' waits.
//! The first batch is done at once; the rest follows with [`crate::Input::Turn`], and other work comes in between.

use crate::{
    answer::{Answer, Refusal},
    effect::Effects,
    execution::{Ending, Execution, Watcher},
    keys::{ExecutionKey, FunctionKey},
    payload::{Failure, code},
    sabotage::Sabotage,
    shard::Shard,
    timers::TimerKey,
};

/// Executions that are looked at for each that a batch may change.
const LOOKS: usize = 16;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    /// What waits for a function that is removed ends.
    Removal(FunctionKey),
    /// Readers are answered; from this position on.
    Watches(usize),
    /// Synchronous callers that wait for a slot are sent away; from this position on.
    Callers(usize),
}

impl Shard {
    /// Begins something, and goes on with it later.
    pub(super) fn begin(&mut self, chore: Chore, fx: &mut Effects) {
        self.chores.push_back(chore);
        if self.chores.len() == 1 {
            self.work_off(fx);
        }
    }

    /// Does one batch of what is left to do.
    pub(super) fn work_off(&mut self, fx: &mut Effects) {
        // Nothing is left to do.
        let Some(chore) = self.chores.front().copied() else { return };
        let next = match chore {
            Chore::Removal(key) => self.end_some_waiting(key, fx).then_some(chore),
            Chore::Watches(from) => self.end_some_watches(from, fx).map(Chore::Watches),
            Chore::Callers(from) => self.send_some_away(from, fx).map(Chore::Callers),
        };
        // In turn: a long one does not keep the others from their first batch.
        self.chores.pop_front();
        match (next, chore) {
            (Some(next), _) => self.chores.push_back(next),
            (None, Chore::Removal(key)) => self.queue_has_ended(key, fx),
            (None, _) => {}
        }
    }

    /// Ends what waits for a function. `true`: more does.
    fn end_some_waiting(&mut self, key: FunctionKey, fx: &mut Effects) -> bool {
        let most = self.limits.batch_max;
        self.end_some_jobs(key, most, fx);
        for _ in 0..most {
            let Some(execution) = self.first_waiting(key) else { break };
            if self.sabotaged.by(Sabotage::RemovalForgetsQueue) {
                return false;
            }
            let failure = self.removed_failure(key, "could run");
            // The record of the removal says that what waits ends with it.
            self.finish_at_once(execution, Ending::Failed(failure), fx);
        }
        self.first_waiting(key).is_some() || !self.running_jobs(key, 1).is_empty()
    }

    /// What an execution ends with whose function is removed before it `came` so far.
    pub(super) fn removed_failure(&self, key: FunctionKey, came: &str) -> Box<Failure> {
        let name = self.functions.get(key).map(|function| function.name);
        let name = name.as_ref().map_or("", |name| name.as_str());
        let message = format!("Function '{name}' was removed before the execution {came}");
        Box::new(Failure::new(code::FUNCTION_REMOVED, message))
    }

    fn first_waiting(&mut self, key: FunctionKey) -> Option<ExecutionKey> {
        let function = self.functions.get_mut(key)?;
        let executions = &self.executions;
        let waits = |key| executions.get(key).is_some_and(|execution| execution.is_queued());
        let queued = function.queue.front(waits).or_else(|| function.backlog.front(waits));
        queued.or_else(|| function.parked.first().copied())
    }

    /// Answers readers. Returns where to go on.
    fn end_some_watches(&mut self, from: usize, fx: &mut Effects) -> Option<usize> {
        let is_watched =
            |execution: &Execution| execution.live.as_ref().is_some_and(|live| !live.watchers.is_empty());
        let (watched, next) = self.some_executions(from, is_watched);
        for key in watched {
            let live = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut());
            // Who cancelled it hears of the record of that.
            let reads = |watcher: &mut Watcher| watcher.timer != TimerKey::NONE;
            let watchers = live.map(|live| live.watchers.extract_if(.., reads).collect()).unwrap_or_default();
            self.tell(key, watchers, fx);
        }
        next
    }

    /// Refuses callers that still wait. Returns where to go on.
    fn send_some_away(&mut self, from: usize, fx: &mut Effects) -> Option<usize> {
        let waits = |execution: &Execution| execution.is_queued() && !execution.accepted;
        let (waiting, next) = self.some_executions(from, waits);
        for key in waiting {
            for ticket in self.take_waiters(key) {
                fx.reply(ticket, Answer::Refused(Refusal::ShuttingDown));
            }
            self.discard(key, fx);
        }
        next
    }

    /// Executions of a kind from a position on, and where to go on.
    fn some_executions(
        &self,
        from: usize,
        wanted: impl Fn(&Execution) -> bool,
    ) -> (Vec<ExecutionKey>, Option<usize>) {
        let mut found = Vec::new();
        let looks = self.limits.batch_max.saturating_mul(LOOKS);
        for (looked, (key, execution)) in self.executions.iter_from(from).enumerate() {
            if looked == looks || found.len() == self.limits.batch_max {
                return (found, Some(key.index()));
            }
            if wanted(execution) {
                found.push(key);
            }
        }
        (found, None)
    }
}
