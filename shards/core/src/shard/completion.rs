//! Attempts end, executions are retried or end.
//!
//! An attempt is *settled* once: that gives its slot back. What settles it is the first of the HTTP answer, a
//! callback, and the attempt's timeout. Its entry stays until nothing can come from the dispatcher any more, so
//! that what comes later is known to be late.

use crate::{
    answer::{Answer, Refusal, Stage, State},
    call::Ticket,
    effect::{Effect, Effects, Note},
    execution::{Activity, Course, Ending, Execution},
    function::{Function, Life},
    id::ExecutionId,
    input::DispatchEvent,
    journal::{End, EndResult, Record},
    keys::{AttemptKey, ExecutionKey, FunctionKey},
    payload::{Failure, Output, code},
    report::{Outcome, Report},
    sabotage::Sabotage,
    shard::{JobStage, Shard, state::Drain},
};

impl Shard {
    /// The dispatcher says something about an attempt, which may have been aborted in the meantime.
    pub(super) fn dispatch_event(&mut self, key: AttemptKey, event: DispatchEvent, fx: &mut Effects) {
        let connecting = match event {
            DispatchEvent::Finished(report) => return self.dispatch_finished(key, report, fx),
            DispatchEvent::JobCreated => return self.job_created(key),
            DispatchEvent::JobEnded(failure) => return self.job_ended(key, failure, fx),
            DispatchEvent::JobLost => return self.job_lost(key, fx),
            DispatchEvent::Connecting => true,
            DispatchEvent::Sent => false,
        };
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.connecting = connecting;
        }
    }

    /// The dispatcher is done with an attempt.
    fn dispatch_finished(&mut self, key: AttemptKey, report: Report, fx: &mut Effects) {
        // Aborted in the meantime: the abort was the last word on it.
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let (execution, id, settled) = (attempt.execution, attempt.id, attempt.settled);
        let function = attempt.function;
        if report.outcome == Outcome::Deferred {
            attempt.exchange_over = true;
            if settled {
                // The callback overtook the answer that said so. That is no second completion.
                self.forget_attempt(key);
                return;
            }
            // What has ended stays as it is.
            let execution = self.executions.get_mut(execution);
            if let Some(execution) = execution.filter(|execution| execution.is_running()) {
                execution.cold_start = report.cold_start;
                execution.init_ms = report.init_ms;
            }
            return;
        }
        if let Outcome::NotRun(_) | Outcome::Crashed(_) = report.outcome {
            let endpoint = attempt.endpoint;
            self.endpoint_is_down(function, endpoint);
        }
        let drainer = self.take_drainer(key);
        let current = self.is_current(execution, key);
        if !settled {
            self.settle(key);
        }
        self.forget_attempt(key);
        if settled || !current {
            self.late(function, id, "the attempt was already decided", fx);
        } else {
            self.conclude(execution, report, fx);
        }
        self.forget_function_if_gone(function);
        self.tell_drainer(drainer, fx);
    }

    /// A function reports by callback.
    pub(super) fn callback(
        &mut self,
        ticket: Ticket,
        id: ExecutionId,
        number: Option<u32>,
        outcome: Outcome,
        fx: &mut Effects,
    ) {
        let Some(key) = self.find_key(id) else {
            fx.reply(ticket, Answer::Refused(Refusal::ExecutionNotFound));
            return;
        };
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let stale_too = self.sabotaged.by(Sabotage::StaleCallbackAccepted);
        let current = stale_too || number.is_none_or(|number| number == execution.attempt);
        let running = execution.is_running();
        let attempt = execution.in_flight.filter(|_| current);
        let function = execution.function;
        let mut applied = false;
        let mut drainer = None;
        if let Some(attempt) = attempt
            && outcome != Outcome::Deferred
            && self.settle(attempt)
        {
            drainer = self.take_drainer(attempt);
            self.let_exchange_end(attempt, fx);
            applied = running;
        }
        if applied {
            let execution = self.executions.get(key);
            let report = Report {
                outcome,
                // What the answer said about the replica still holds.
                cold_start: execution.is_some_and(|execution| execution.cold_start),
                init_ms: execution.and_then(|execution| execution.init_ms),
                bad_output: false,
            };
            self.conclude(key, report, fx);
        } else {
            let reason = if current { "the execution does not run" } else { "it is from another attempt" };
            self.late(function, id, reason, fx);
        }
        self.forget_function_if_gone(function);
        self.tell_drainer(drainer, fx);
        fx.reply(ticket, Answer::Callback { applied });
    }

    /// The attempt's time is over.
    pub(super) fn attempt_timed_out(&mut self, key: AttemptKey, fx: &mut Effects) {
        let drainer = self.take_drainer(key);
        let Some(attempt) = self.attempts.get(key) else { return self.impossible() };
        let (execution, function) = (attempt.execution, attempt.function);
        // Of a job that was created a callback was to come as well; and it is to be ended.
        let deferred = attempt.exchange_over || attempt.job == Some(JobStage::Created);
        let current = self.is_current(execution, key);
        if !attempt.exchange_over {
            fx.push(Effect::Abort { attempt: key });
        }
        let settled_now = self.settle(key);
        self.forget_attempt(key);
        if settled_now {
            self.nobody_reported(execution, function, deferred, current, fx);
        }
        self.forget_function_if_gone(function);
        self.tell_drainer(drainer, fx);
    }

    /// An attempt was given up. One that was `deferred` to a callback that never came is an orphan.
    fn nobody_reported(
        &mut self,
        execution: ExecutionKey,
        function: FunctionKey,
        deferred: bool,
        current: bool,
        fx: &mut Effects,
    ) {
        let Some(function) = self.functions.get_mut(function) else { return self.impossible() };
        function.counters.orphans += u64::from(deferred);
        if !current {
            return;
        }
        let limit_ms = function.policy.timeout_ms;
        let last = !function.life.is_live()
            || self
                .executions
                .get(execution)
                .is_none_or(|execution| execution.attempts_made() >= execution.attempts_of(&function.policy));
        let failure = Box::new(if deferred {
            Failure::no_callback(limit_ms)
        } else {
            let message = format!(
                "The function did not answer within {limit_ms} ms; raise `timeoutMs` or make it faster"
            );
            Failure::new(code::FUNCTION_TIMEOUT, message)
        });
        if deferred && last {
            if let Some(execution) = self.executions.get_mut(execution) {
                execution.last_failure = Some(failure);
            }
            self.finish(execution, Ending::TimedOut { stage: Stage::Function, limit_ms }, fx);
            return;
        }
        let outcome = Outcome::Failure { failure, retryable: true, retry_after_ms: None };
        self.conclude(execution, Report::warm(outcome), fx);
    }

    pub(super) fn is_current(&self, execution: ExecutionKey, attempt: AttemptKey) -> bool {
        self.executions
            .get(execution)
            .is_some_and(|execution| execution.in_flight == Some(attempt) && execution.is_running())
    }

    /// Gives the slot of an attempt back. `false`: it was given back before.
    pub(super) fn settle(&mut self, key: AttemptKey) -> bool {
        let Some(attempt) = self.attempts.get_mut(key).filter(|attempt| !attempt.settled) else {
            return false;
        };
        attempt.settled = true;
        let function_key = attempt.function;
        let Some(function) = self.functions.get_mut(function_key) else {
            self.impossible();
            return true;
        };
        if self.sabotaged.by(Sabotage::AdoptedWithoutSlot) {
            function.in_flight = function.in_flight.max(1);
        }
        function.in_flight -= 1;
        if self.sabotaged.by(Sabotage::SlotReleasedTwice) {
            function.in_flight = function.in_flight.saturating_sub(1);
        }
        function.observe_service(self.now.mono_us - attempt.dispatched_us);
        if let Some(endpoint) = attempt.endpoint
            && let Some(endpoint) =
                function.endpoints.find_mut(endpoint, || self.endpoints.get(endpoint).map(|open| open.place))
        {
            endpoint.in_flight -= 1;
        }
        self.note_slot_release(function_key);
        self.ring(function_key);
        true
    }

    /// Forgets a removed function whose last attempt has come home. Called after that attempt was concluded,
    /// which still needs it.
    pub(super) fn forget_function_if_gone(&mut self, key: FunctionKey) {
        if self
            .functions
            .get(key)
            .is_some_and(|function| function.life == Life::Gone && function.in_flight == 0)
        {
            self.forget_function(key);
        }
    }

    /// A callback decided an attempt: its HTTP answer may still come, and its slot is already used again. At most
    /// as many exchanges as there are slots may go on like this: a function that calls back and never answers
    /// would collect connections at the rate of its calls.
    fn let_exchange_end(&mut self, key: AttemptKey, fx: &mut Effects) {
        let Some(attempt) = self.attempts.get_mut(key) else { return self.impossible() };
        // Also of a job that nobody has heard of yet nothing can come.
        if attempt.exchange_over || attempt.job == Some(JobStage::Unrecorded) {
            self.forget_attempt(key);
            return;
        }
        let Some(function) = self.functions.get_mut(attempt.function) else { return self.impossible() };
        attempt.lingers = true;
        function.lingering += 1;
        if function.lingering > function.policy.concurrency {
            self.forget_attempt(key);
            fx.push(Effect::Abort { attempt: key });
        }
    }

    /// Nothing can come from the dispatcher for this attempt any more.
    pub(super) fn forget_attempt(&mut self, key: AttemptKey) {
        let Some(attempt) = self.attempts.remove(key) else { return self.impossible() };
        self.timers.remove(attempt.timer);
        if attempt.lingers
            && let Some(function) = self.functions.get_mut(attempt.function)
        {
            function.lingering -= 1;
        }
        if let Some(execution) = self.executions.get_mut(attempt.execution)
            && execution.in_flight == Some(key)
        {
            execution.in_flight = None;
        }
    }

    fn late(&mut self, function: FunctionKey, id: ExecutionId, reason: &'static str, fx: &mut Effects) {
        if let Some(function) = self.functions.get_mut(function) {
            function.counters.late_completions += 1;
        }
        fx.push(Effect::Note(Note::Late { id, reason }));
    }

    /// A settled attempt of a running execution: the execution ends, or another attempt follows.
    pub(super) fn conclude(&mut self, key: ExecutionKey, report: Report, fx: &mut Effects) {
        // It waits again.
        let Some(outcome) = self.outcome_of(key, report.outcome, fx) else { return };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let function = self.functions.get_mut(execution.function);
        execution.cold_start = report.cold_start;
        execution.init_ms = report.init_ms.filter(|_| report.cold_start);
        match outcome {
            Outcome::Success(output) => {
                if let Some(function) = function.filter(|_| report.bad_output) {
                    function.counters.bad_outputs += 1;
                }
                self.finish(key, Ending::Output(Some(output)), fx);
            }
            Outcome::Failure { failure, retryable, retry_after_ms } => {
                // A batch of deadlines may still be on its way: what is past its own is not sent again.
                let deadline_us = execution.live.as_ref().map_or(0, |live| live.deadline_us);
                let wanted = execution.accepted
                    || (deadline_us > self.now.mono_us && self.phase.drain != Drain::GivenUp);
                let again = retryable
                    && wanted
                    && function.is_some_and(|function| {
                        function.life.is_live()
                            && execution.attempts_made() < execution.attempts_of(&function.policy)
                    });
                let expires_us = execution.live.as_ref().map_or(0, |live| live.expires_us);
                if again && expires_us != 0 && expires_us <= self.now.mono_us {
                    let failure = Failure { body: None, ..*failure };
                    let id = execution.id;
                    execution.last_failure = Some(Box::new(failure.clone()));
                    if execution.accepted {
                        // Its end says nothing of it.
                        self.write(Record::Requeued { id, failure }, fx);
                    }
                    self.expire(key, fx);
                } else if again {
                    self.retry(key, failure, retry_after_ms, fx);
                } else {
                    self.finish(key, Ending::Failed(failure), fx);
                }
            }
            // Filtered out by both callers, and made into one of the others.
            Outcome::Deferred | Outcome::NotRun(_) | Outcome::Crashed(_) => {}
        }
    }

    /// Ends an execution: timers and places are given back, and what it came to is shown: of one that was accepted when
    /// that is written down, else at once.
    pub(super) fn finish(&mut self, key: ExecutionKey, ending: Ending, fx: &mut Effects) {
        let Some(before) = self.end(key, ending, fx) else { return self.impossible() };
        // Of one whose acceptance could not be written down nobody knows.
        if self.executions.get(key).is_some_and(|execution| execution.accepted && !execution.unwritten) {
            self.conceal_end(key, before, fx);
        } else {
            self.write_and_show_end(key, fx);
        }
    }

    /// The same when what is safe by now says that it ended like this: then it is shown at once.
    pub(super) fn finish_at_once(&mut self, key: ExecutionKey, ending: Ending, fx: &mut Effects) {
        if self.end(key, ending, fx).is_none() {
            return self.impossible();
        }
        self.write_and_show_end(key, fx);
    }

    /// Ends an execution, and leaves it to the caller to say so. Returns what it did before; `None`: it had ended.
    fn end(&mut self, key: ExecutionKey, ending: Ending, fx: &mut Effects) -> Option<Activity> {
        let now = self.now;
        let state = ending.state();
        let before = self.leave_queue(key, ending)?;
        let ran = before == Activity::Running;
        let execution = self.executions.get_mut(key)?;
        let live = execution.live.as_mut()?;
        execution.finished_ms = now.unix_ms;
        execution.finished_us = now.mono_us;
        self.timers.remove(live.expiry);
        let (dispatched_us, queued_us, accepted_us) = (live.dispatched_us, live.queued_us, live.accepted_us);
        self.retention.accepted -= usize::from(execution.accepted);
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.accounting.finished += 1;
            count_ending(function, execution, state, ran);
            // After `Note::FunctionGone` its series must not come back.
            if ran && state != State::Timeout && function.life != Life::Gone {
                fx.push(Effect::Note(Note::Finished {
                    function: execution.function,
                    queue_wait_us: dispatched_us.saturating_sub(queued_us),
                    latency_us: now.mono_us - dispatched_us,
                    e2e_us: now.mono_us - accepted_us,
                    init_ms: execution.init_ms,
                }));
            }
        }
        Some(before)
    }

    /// How an execution ended, for the record, and whether it would be a dead letter if it was accepted.
    pub(super) fn end_of(&self, key: ExecutionKey) -> Option<(End, bool)> {
        let execution = self.executions.get(key)?;
        let ending = execution.ending()?;
        let lost = self.sabotaged.by(Sabotage::RemovalDropsCalls) && ending.is_of_removal();
        let dead = ending.is_for_another_try() && !lost;
        let result = match ending {
            // What is on disk only is on record.
            Ending::OnDisk { .. } => return None,
            Ending::Output(output) => EndResult::Output(output.clone().unwrap_or_else(Output::null)),
            Ending::Failed(failure) => EndResult::Failed(failure.clone()),
            Ending::TimedOut { stage, limit_ms } => {
                EndResult::TimedOut { stage: *stage, limit_ms: *limit_ms }
            }
        };
        let end = End {
            result,
            dispatched_ms: execution.dispatched_ms,
            finished_ms: execution.finished_ms,
            cold_start: execution.cold_start,
            init_ms: execution.init_ms,
        };
        Some((end, dead))
    }

    /// Moves an execution out of its queue, its back-off or its run, to its end. Returns what it did before; `None`: it
    /// had ended.
    pub(super) fn leave_queue(&mut self, key: ExecutionKey, ending: Ending) -> Option<Activity> {
        let execution = self.executions.get_mut(key)?;
        let Course::Active(before) = execution.course else { return None };
        execution.course = Course::Ended(ending);
        let mut backoff = None;
        let mut in_backlog = false;
        let mut sync_wait = None;
        if let Some(live) = execution.live.as_mut() {
            backoff = live.backoff.take();
            in_backlog = live.in_backlog;
            sync_wait = live.sync_wait.take();
            self.bytes.queued -= std::mem::take(&mut live.queued_bytes);
        }
        for timer in backoff.into_iter().chain(sync_wait) {
            self.timers.remove(timer);
        }
        let function_key = execution.function;
        let Some(function) = self.functions.get_mut(function_key) else { return Some(before) };
        function.sync_waiting -= u32::from(sync_wait.is_some());
        match before {
            Activity::Running => function.accounting.running -= 1,
            Activity::Queued => {
                function.accounting.queued -= 1;
                if !function.parked.remove(&key) && backoff.is_none() {
                    let executions = &self.executions;
                    let queue = if in_backlog { &mut function.backlog } else { &mut function.queue };
                    queue.forget_one(|key| executions.get(key).is_some_and(Execution::is_queued));
                }
            }
        }
        Some(before)
    }
}

fn count_ending(function: &mut Function, execution: &Execution, state: State, ran: bool) {
    match state {
        State::Success => function.counters.successes += 1,
        State::Error => function.counters.errors += 1,
        State::Queued | State::Running | State::Timeout => {}
    }
    if ran && state != State::Timeout {
        if execution.cold_start {
            function.counters.cold_starts += 1;
        } else {
            function.counters.warm_starts += 1;
        }
    }
}
