//! Attempts that have a job of their own: it is created and ends, or is ended because nobody waits for it any more.
//!
//! The attempt holds its slot from before its job is created until a callback, the end of the job or its timeout decides
//! it. A job that goes on after its callback is an exchange that lingers.

use crate::{
    effect::{Effect, Effects},
    execution::Ending,
    keys::{AttemptKey, ExecutionKey, FunctionKey},
    payload::Failure,
    report::{Outcome, Report},
    sabotage::Sabotage,
    shard::{Attempt, Shard},
};

impl Shard {
    /// A job was created: its attempt waits for a callback, or for the end of the job.
    pub(super) fn job_created(&mut self, key: AttemptKey) {
        // Given up in the meantime: that ends the job too.
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if std::mem::replace(&mut attempt.promised, true) {
            return;
        }
        if let Some(function) = self.functions.get_mut(attempt.function) {
            function.counters.jobs_created += 1;
        }
    }

    /// A job has ended. After its callback that is nothing new; before, none will come.
    pub(super) fn job_ended(&mut self, key: AttemptKey, failure: Box<Failure>, fx: &mut Effects) {
        // It was aborted in the meantime: that was the last word on it.
        let Some(attempt) = self.attempts.get(key) else { return };
        let (execution, function, is_decided) = (attempt.execution, attempt.function, attempt.settled);
        let drainer = self.take_drainer(key);
        let current = self.is_current(execution, key);
        if !is_decided {
            if self.sabotaged.by(Sabotage::JobEndIgnored) {
                return;
            }
            self.settle(key);
        }
        self.forget_attempt(key);
        if !is_decided && current {
            let outcome = Outcome::Failure { failure, retryable: true, retry_after_ms: None };
            self.conclude(execution, Report::warm(outcome), fx);
        }
        self.forget_function_if_gone(function);
        self.tell_drainer(drainer, fx);
    }

    /// The job of an attempt that nobody waits for any more is ended, and gives its slot back. `late`: its callback should
    /// have come by now.
    pub(super) fn end_job(&mut self, attempt: Option<AttemptKey>, late: bool, fx: &mut Effects) {
        // It waited for a slot.
        let Some(key) = attempt else { return };
        // What runs is no job, or was decided before.
        let Some(attempt) = self.attempts.get(key).filter(|attempt| attempt.has_job && !attempt.settled)
        else {
            return;
        };
        if self.sabotaged.by(Sabotage::JobKept) {
            return;
        }
        let (function_key, is_orphan) = (attempt.function, late && attempt.promised);
        if let Some(function) = self.functions.get_mut(function_key) {
            function.counters.orphans += u64::from(is_orphan);
        }
        let drainer = self.take_drainer(key);
        fx.push(Effect::Abort { attempt: key });
        self.settle(key);
        self.forget_attempt(key);
        self.forget_function_if_gone(function_key);
        self.tell_drainer(drainer, fx);
    }

    /// Ends what runs for a function that is removed, if that is jobs: so many at most.
    pub(super) fn end_some_jobs(&mut self, function: FunctionKey, most: usize, fx: &mut Effects) {
        for (execution, attempt) in self.running_jobs(function, most) {
            let failure = self.removed_failure(function, "ended");
            // The record of the removal says that what is not over ends with it.
            self.finish_at_once(execution, Ending::Failed(failure), fx);
            self.end_job(Some(attempt), false, fx);
        }
    }

    /// Executions whose jobs run for a function, with their attempts, in the order in which they came.
    pub(super) fn running_jobs(&self, function: FunctionKey, most: usize) -> Vec<(ExecutionKey, AttemptKey)> {
        if !self.functions.get(function).is_some_and(|function| function.has_jobs() && function.in_flight > 0)
        {
            return Vec::new();
        }
        let is_its = |attempt: &Attempt| attempt.function == function && !attempt.settled;
        let attempts = self.attempts.iter().filter(|(_, attempt)| is_its(attempt));
        let mut running: Vec<_> = attempts.map(|(key, attempt)| (attempt.execution, key)).collect();
        let order_of =
            |key| self.executions.get(key).and_then(|execution| Some(execution.live.as_ref()?.order));
        running.sort_unstable_by_key(|(execution, _)| order_of(*execution));
        running.truncate(most);
        running
    }
}
