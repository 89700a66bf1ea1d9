//! Attempts that have a job of their own: it is created and ends, or is ended because nobody waits for it any more.
//!
//! The attempt holds its slot from before its job is created until a callback, the end of the job or its timeout decides
//! it. A job that goes on after its callback is an exchange that lingers.

use crate::{
    effect::{Destination, Effect, Effects, Note},
    execution::{Activity, Course, Ending},
    journal::{Promise, Record},
    keys::{AttemptKey, ExecutionKey, FunctionKey},
    payload::Failure,
    report::{Outcome, Report},
    sabotage::Sabotage,
    shard::{Attempt, JobStage, Shard, dispatch::dispatch_of},
    timers::{Due, TimerKey},
};

impl Shard {
    /// The job of an accepted execution may outlive the server. It is ordered when it is on record which attempt it is of, and
    /// until when that may go on: without that a later owner would make the attempt again, and the job would run for nothing.
    pub(super) fn record_job(&mut self, key: AttemptKey, fx: &mut Effects) {
        let Some(attempt) = self.attempts.get_mut(key) else { return self.impossible() };
        attempt.job = Some(JobStage::Unrecorded);
        let execution = attempt.execution;
        let id = attempt.id;
        let Some(until_ms) = self.job_until_ms(key) else { return self.impossible() };
        let Some(execution) = self.executions.get(execution) else { return self.impossible() };
        let attempt = execution.attempt;
        self.write(Record::JobOrdered { id, attempt, until_ms }, fx);
        self.journal.promise(Promise::Job(key));
        if self.sabotaged.by(Sabotage::JobOrderedEarly) {
            self.order_job(key, fx);
        }
    }

    /// When the time of an attempt's job is over, on the clock that people read. `None`: it has none that is open.
    pub(super) fn job_until_ms(&self, key: AttemptKey) -> Option<u64> {
        let attempt = self.attempts.get(key).filter(|attempt| attempt.job.is_some() && !attempt.settled)?;
        let timeout_ms = u64::from(self.functions.get(attempt.function)?.policy.timeout_ms);
        let age_ms = (self.now.mono_us - attempt.dispatched_us) / 1000;
        Some((self.now.unix_ms + timeout_ms).saturating_sub(age_ms))
    }

    /// The attempt is on record: its time begins, and its job is created.
    pub(super) fn order_job(&mut self, key: AttemptKey, fx: &mut Effects) {
        let unrecorded = |attempt: &&mut Attempt| attempt.job == Some(JobStage::Unrecorded);
        // Stale when a callback that did not say which attempt it meant has decided it, or its function was removed.
        let Some(attempt) = self.attempts.get_mut(key).filter(unrecorded) else { return };
        let (execution, function) = (attempt.execution, attempt.function);
        let Some(policy) = self.functions.get(function).map(|function| &function.policy) else {
            return self.impossible();
        };
        let timeout_us = u64::from(policy.timeout_ms) * 1000;
        // Of how long attempts take, a disk that fails is no part.
        (attempt.job, attempt.dispatched_us) = (Some(JobStage::Ordered), self.now.mono_us);
        attempt.timer = self.timers.insert(self.now.mono_us + timeout_us, Due::Attempt(key));
        let execution = self.executions.get(execution);
        let Some((execution, live)) =
            execution.and_then(|execution| Some((execution, execution.live.as_deref()?)))
        else {
            return self.impossible();
        };
        let ids = (key, execution.id, execution.attempt);
        fx.push(Effect::Dispatch(dispatch_of(ids, live, Destination::Job(function), timeout_us)));
    }

    /// An execution that was given back has an attempt that goes on: it holds its slot, and waits for what was promised. `false`:
    /// there is no slot for it.
    pub(super) fn adopt(&mut self, key: ExecutionKey, until_ms: u64) -> bool {
        let now = self.now;
        let order = self.next_order();
        let Some(execution) = self.executions.get_mut(key) else { return false };
        let Some(live) = execution.live.as_mut() else { return false };
        let Some(function) = self.functions.get_mut(execution.function) else { return false };
        if function.in_flight >= function.policy.concurrency {
            return false;
        }
        if !self.sabotaged.by(Sabotage::AdoptedWithoutSlot) {
            function.in_flight += 1;
        }
        function.accounting.queued -= 1;
        function.accounting.running += 1;
        let timeout_ms = u64::from(function.policy.timeout_ms);
        // The clock may have been set meanwhile.
        let mut left_us = until_ms.saturating_sub(now.unix_ms).min(timeout_ms) * 1000;
        if self.sabotaged.by(Sabotage::AdoptedTimeAnew) {
            left_us = timeout_ms * 1000;
        }
        let dispatched_us = (now.mono_us + left_us).saturating_sub(timeout_ms * 1000);
        let attempt = self.attempts.insert(Attempt {
            execution: key,
            id: execution.id,
            function: execution.function,
            endpoint: None,
            timer: TimerKey::NONE,
            dispatched_us,
            settled: false,
            lingers: false,
            exchange_over: false,
            connecting: false,
            job: Some(JobStage::Created),
            drainer: None,
        });
        execution.course = Course::Active(Activity::Running);
        execution.in_flight = Some(attempt);
        execution.dispatched_ms = until_ms.saturating_sub(timeout_ms);
        (live.dispatched_us, live.order) = (dispatched_us, order);
        self.phase.adopted.push((attempt, now.mono_us + left_us));
        true
    }

    /// Everything is back: attempts that were made before go on, and their jobs are looked for.
    pub(super) fn look_for_jobs(&mut self, fx: &mut Effects) {
        for (key, due_us) in std::mem::take(&mut self.phase.adopted) {
            // A callback may have decided it meanwhile.
            let Some(attempt) = self.attempts.get_mut(key) else { continue };
            attempt.timer = self.timers.insert(due_us, Due::Attempt(key));
            let (id, function) = (attempt.id, attempt.function);
            let Some(execution) = self.executions.get(attempt.execution) else { return self.impossible() };
            fx.push(Effect::AdoptJob { attempt: key, id, number: execution.attempt, function });
        }
    }

    /// The job of an attempt that was made before the server started is not there. Unless a callback came, the attempt counts for
    /// nothing, like one that ended with its server.
    pub(super) fn job_lost(&mut self, key: AttemptKey, fx: &mut Effects) {
        // Its time was over meanwhile.
        let Some(attempt) = self.attempts.get(key) else { return };
        let (execution, function, is_decided) = (attempt.execution, attempt.function, attempt.settled);
        if !is_decided && self.sabotaged.by(Sabotage::LostJobIgnored) {
            return;
        }
        let current = self.is_current(execution, key);
        if !is_decided {
            // How long it took is not known.
            let service_us = self.functions.get(function).map_or(0, |function| function.service_us);
            self.settle(key);
            if let Some(function) = self.functions.get_mut(function) {
                function.service_us = service_us;
            }
        }
        self.forget_attempt(key);
        if !is_decided && current {
            self.wait_once_more(execution, fx);
        }
        self.forget_function_if_gone(function);
    }

    /// An execution waits again at its place, for an attempt with another number: nobody knows what became of this one.
    fn wait_once_more(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let (id, attempt) = (execution.id, execution.attempt);
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        if live.expires_us != 0 && live.expires_us <= self.now.mono_us {
            self.expire(key, fx);
            return;
        }
        live.attempts_before += 1;
        fx.push(Effect::Note(Note::JobLost { id, attempt }));
        // Whoever has its slot next may have a job too: after a crash there would be one slot too few.
        self.write(Record::JobLost { id }, fx);
        self.put_back(key, fx);
    }

    /// A job was created: its attempt waits for a callback, or for the end of the job.
    pub(super) fn job_created(&mut self, key: AttemptKey) {
        // Given up in the meantime: that ends the job too.
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        // Said twice, or of an attempt that has none.
        let Some(job) = attempt.job.as_mut().filter(|job| **job != JobStage::Created) else { return };
        *job = JobStage::Created;
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
        let attempt = self.attempts.get(key).filter(|attempt| !attempt.settled);
        // What runs is no job, or was decided before.
        let Some((attempt, job)) = attempt.and_then(|attempt| Some((attempt, attempt.job?))) else { return };
        if self.sabotaged.by(Sabotage::JobKept) {
            return;
        }
        let (function_key, is_orphan) = (attempt.function, late && job == JobStage::Created);
        if let Some(function) = self.functions.get_mut(function_key) {
            function.counters.orphans += u64::from(is_orphan);
        }
        let drainer = self.take_drainer(key);
        if job != JobStage::Unrecorded {
            fx.push(Effect::Abort { attempt: key });
        }
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
        if self.functions.get(function).is_none_or(|function| function.jobs_in_flight() == 0) {
            return Vec::new();
        }
        let is_its =
            |attempt: &Attempt| attempt.function == function && !attempt.settled && attempt.job.is_some();
        let attempts = self.attempts.iter().filter(|(_, attempt)| is_its(attempt));
        let mut running: Vec<_> = attempts.map(|(key, attempt)| (attempt.execution, key)).collect();
        let order_of =
            |key| self.executions.get(key).and_then(|execution| Some(execution.live.as_ref()?.order));
        running.sort_unstable_by_key(|(execution, _)| order_of(*execution));
        running.truncate(most);
        running
    }
}
