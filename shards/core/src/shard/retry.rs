//! A failed attempt is followed by another: at the tail of the queue, after its back-off.

use crate::{
    effect::{Effect, Effects, Note},
    execution::{Activity, Course, Ending},
    function::Function,
    journal::{Promise, Record},
    keys::ExecutionKey,
    payload::{Failure, code},
    sabotage::Sabotage,
    shard::{Shard, crashes::CRASH_WAIT_US},
    timers::Due,
};

impl Shard {
    /// Queues a failed execution again, at the tail, after its back-off.
    pub(super) fn retry(
        &mut self,
        key: ExecutionKey,
        failure: Box<Failure>,
        retry_after_ms: Option<u32>,
        fx: &mut Effects,
    ) {
        let random = self.next_random();
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let (id, number, function_key) = (execution.id, execution.attempt, execution.function);
        let (made, accepted) = (execution.attempts_made(), execution.accepted);
        let backlogged = self.is_backlogged(execution);
        // The slot that the failure gave back is for the head of the queue, which may make a place free. If that has a job, it takes
        // the slot on record, and so after this attempt has given it back there: at the end of the step.
        let has_jobs = self.functions.get(function_key).is_some_and(Function::has_jobs);
        if !has_jobs {
            self.dispatch_next(function_key, fx);
        }
        let Some(function) = self.functions.get_mut(function_key) else { return self.impossible() };
        let retry_after_ms = retry_after_ms.filter(|_| !self.sabotaged.by(Sabotage::PauseIgnored));
        let wait_us = retry_wait_us(function, made, retry_after_ms, self.limits.retry_wait_us_max, random);
        let wait_us =
            if failure.code == code::FUNCTION_CRASHED { wait_us.max(CRASH_WAIT_US) } else { wait_us };
        let at_once = wait_us == 0 && !backlogged && function.can_dispatch() && function.queue.is_empty();
        // It counts against the queue until it is dispatched, also when that is at once.
        let leaves = u32::from(has_jobs && function.can_dispatch() && !function.queue.is_empty());
        if function.waiting_count() - leaves >= function.places() {
            function.counters.queue_rejections += 1;
            if self.sabotaged.by(Sabotage::RetryDropped) {
                return;
            }
            self.finish(key, Ending::Failed(failure), fx);
            return;
        }
        function.counters.retries += 1;
        function.accounting.running -= 1;
        function.accounting.queued += 1;
        fx.push(Effect::Note(Note::Retry { id, attempt: number, code: failure.code.clone() }));
        // Of an earlier attempt only code and message are ever shown.
        let failure = Failure { body: None, ..*failure };
        let must_be_safe = accepted && !self.sabotaged.by(Sabotage::RetriedBeforeWrite);
        if accepted {
            // The next number is used when it is certain that no other server uses it once more.
            self.write(Record::Requeued { id, failure: failure.clone() }, fx);
        }
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        execution.course = Course::Active(Activity::Queued);
        if !self.sabotaged.by(Sabotage::TimesKept) {
            execution.dispatched_ms = 0;
        }
        execution.cold_start = false;
        execution.init_ms = None;
        execution.last_failure = Some(Box::new(failure));
        if let Some(live) = execution.live.as_mut() {
            live.queued_us = self.now.mono_us;
            // The first attempt may have gone out without a wait, with its payload in the read buffer.
            live.payload.detach();
        }
        if must_be_safe {
            self.await_record(key, Promise::Retry(key));
        }
        if wait_us > 0 {
            let timer = self.timers.insert(self.now.mono_us + wait_us, Due::Backoff(key));
            if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
                live.backoff = Some(timer);
            }
            self.park(key);
            // A replica may start while the back-off lasts.
            self.wake(function_key, fx);
        } else if must_be_safe {
            self.wake(function_key, fx);
        } else if !at_once {
            self.enqueue(key);
            self.wake(function_key, fx);
        } else if self.would_risk_the_last(key) {
            // An earlier attempt ended a replica, and this one failed otherwise.
            self.wait_for_another(key);
        } else {
            self.dispatch(key, fx);
        }
    }
}

/// Exponential back-off with full jitter (Brooker: "Exponential Backoff And Jitter"), never shorter than the
/// function asks for, never longer than the bound.
fn retry_wait_us(
    function: &Function,
    attempt: u32,
    retry_after_ms: Option<u32>,
    wait_us_max: u64,
    random: u64,
) -> u64 {
    let base_us = u64::from(function.policy.retry_backoff_ms) * 1000;
    let ceiling_us = base_us.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(wait_us_max);
    let jittered_us = if ceiling_us == 0 { 0 } else { random % (ceiling_us + 1) };
    jittered_us.max(u64::from(retry_after_ms.unwrap_or(0)) * 1000).min(wait_us_max)
}
