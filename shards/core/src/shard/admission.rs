//! A call is admitted, joined to an earlier one, or refused; a caller leaves or cancels.
//!
//! Order: drain → server's rate limit → lookup → function's rate limit → idempotency → queue → slot.

use std::sync::Arc;

use crate::{
    answer::{Answer, Refusal, State},
    call::{Idempotency, Invoke, Ticket},
    effect::Effects,
    execution::{Activity, Course, Ending, Execution, Live, ResultDelivery, Waiter, Watcher},
    function::Function,
    id::ExecutionId,
    id_table::TableNumber,
    keys::{ExecutionKey, FunctionKey},
    limits::Limits,
    payload::{Failure, code},
    room::Part,
    sabotage::Sabotage,
    shard::{Shard, reading::Reader, state::Drain},
    timers::{Due, TimerKey},
};

/// Old idempotency keys that a new one takes along: more than one, so that expiry catches up under load.
const KEYS_PER_CLAIM: usize = 2;

/// What became of a call that was not refused.
enum Admission {
    /// A new execution.
    Created(ExecutionKey),
    /// An earlier execution with the same key answers it, as soon as its record is safe.
    Accepted(ExecutionKey, ExecutionId),
    /// The same, as soon as it is written down that its result goes to the address that came with the call.
    Addressed(ExecutionKey, ExecutionId),
    /// The same for one that has ended and is on no record yet.
    Ended(ExecutionKey, Idempotency),
    /// An earlier execution with the same key answers it.
    Answered(Answer),
    /// The same, as soon as the answer is read from disk.
    Read(ExecutionKey),
    /// It waits for an earlier execution with the same key.
    Joined,
}

impl Shard {
    /// A call arrives. `accepted`: it is answered now and its result fetched later.
    pub(super) fn invoke(&mut self, ticket: Ticket, call: Invoke, accepted: bool, fx: &mut Effects) {
        match self.admit(ticket, call, accepted) {
            Ok(Admission::Created(execution)) if accepted => self.accept(execution, ticket, fx),
            Ok(Admission::Created(execution)) => self.dispatch_or_enqueue(execution, fx),
            Ok(Admission::Accepted(execution, id)) => self.accept_running(execution, id, ticket, fx),
            Ok(Admission::Addressed(execution, id)) => self.accept_addressed(execution, id, ticket, fx),
            Ok(Admission::Ended(execution, key)) => self.accept_ended(execution, key, ticket, fx),
            Ok(Admission::Answered(answer)) => fx.reply(ticket, answer),
            Ok(Admission::Read(execution)) => self.read_for(execution, Reader::Call(ticket), fx),
            Ok(Admission::Joined) => {}
            Err(refusal) => fx.reply(ticket, Answer::Refused(refusal)),
        }
    }

    fn admit(&mut self, ticket: Ticket, mut call: Invoke, accepted: bool) -> Result<Admission, Refusal> {
        if self.phase.drain != Drain::Open {
            return Err(Refusal::ShuttingDown);
        }
        let second = self.now.second();
        if !self.calls.admit(second) {
            return Err(Refusal::RateLimited {
                function: false,
                limit_per_second: self.settings.calls_per_second,
                retry_after_s: self.calls.retry_after_s(self.now.mono_us),
            });
        }
        let key = self.live_function(&call.name).ok_or(Refusal::FunctionNotFound)?.0;
        let function = self.functions.get_mut(key).ok_or(Refusal::FunctionNotFound)?;
        let window = match self.sabotaged.by(Sabotage::WindowFollowsWallClock) {
            true => self.now.unix_ms / 1000,
            false => second,
        };
        if let Some(limit_per_second) = function.policy.rate_limit_per_second
            && !function.rate.admit(window, limit_per_second)
            && !self.sabotaged.by(Sabotage::RateIgnored)
        {
            let retry_after_s = function.rate.retry_after_s(self.now.mono_us);
            return Err(Refusal::RateLimited { function: true, limit_per_second, retry_after_s });
        }
        let callback_url = call.extra.as_mut().and_then(|extra| extra.callback_url.take());
        if let Some(sent) = call.extra.as_ref().and_then(|extra| extra.idempotency.as_ref()) {
            let label = Arc::clone(&function.label);
            if let Some(admission) = self.join(ticket, &call, accepted, &label, sent, &callback_url)? {
                return Ok(admission);
            }
        }
        let function = self.functions.get_mut(key).ok_or(Refusal::FunctionNotFound)?;
        let goes_out =
            function.can_dispatch() && function.queue.is_empty() && function.has_room_to_come_back();
        // What is accepted waits at least until it has been written down.
        if accepted || !goes_out {
            if !accepted {
                self.admit_to_sync_queue(key)?;
            }
            let function = self.functions.get_mut(key).ok_or(Refusal::FunctionNotFound)?;
            let half_full = self.sabotaged.by(Sabotage::QueueHalfUsed)
                && function.waiting_count() * 2 > function.policy.queue_size;
            if let Some(refusal) = queue_refusal(function).or_else(|| {
                let queue_depth = function.policy.queue_size;
                half_full.then_some(Refusal::QueueFull { queue_depth, est_wait_us: None, retry_after_s: 1 })
            }) {
                function.counters.queue_rejections += 1;
                if self.sabotaged.by(Sabotage::ComesBackAtOnce)
                    && let Refusal::QueueFull { queue_depth, est_wait_us, .. } = refusal
                {
                    return Err(Refusal::QueueFull { queue_depth, est_wait_us, retry_after_s: 0 });
                }
                return Err(refusal);
            }
            if !self.bytes.have_room_for(call.payload.bytes()) {
                let retry_after_s = Limits::retry_after_s(function.estimated_wait_us(1));
                return Err(Refusal::Overloaded { what: "limits.queued-bytes", retry_after_s });
            }
            // It may wait for long: it must not keep a whole read buffer alive.
            call.payload.detach();
        }
        if !accepted
            && self.settings.sync_queue.is_some()
            && let Some(function) = self.functions.get_mut(key)
        {
            function.counters.sync_admitted += 1;
        }
        Ok(Admission::Created(self.create(ticket, call, key, callback_url, accepted)))
    }

    /// Uses an earlier execution with the same key. `None`: there is none, go on.
    fn join(
        &mut self,
        ticket: Ticket,
        call: &Invoke,
        accepted: bool,
        label: &Arc<str>,
        sent: &Idempotency,
        callback_url: &Option<Box<str>>,
    ) -> Result<Option<Admission>, Refusal> {
        let claim = self.index.keys.get(label, &sent.key).copied();
        let claim = claim.filter(|_| !self.sabotaged.by(Sabotage::KeyForgotten));
        let Some(claim) = claim else { return Ok(None) };
        let Some(execution) = self.executions.get_mut(claim.execution) else { return Ok(None) };
        // The sweep comes only now and then. While its execution runs, a key does not expire.
        if execution.live.is_none() && claim.is_expired(self.now.mono_us, self.limits.keys_ttl_us) {
            return Ok(None);
        }
        if claim.digest != sent.digest && !self.sabotaged.by(Sabotage::DigestIgnored) {
            return Err(Refusal::KeyReused);
        }
        if accepted && execution.has_ended() {
            let admission = match execution.accepted && !execution.unwritten {
                true => Admission::Accepted(claim.execution, execution.id),
                false => Admission::Ended(claim.execution, sent.clone()),
            };
            return Ok(Some(admission));
        }
        if accepted {
            // One result is delivered to one address: the first that was given.
            let addressed = execution.delivery.is_none() && callback_url.is_some();
            if addressed {
                let brought = |url| ResultDelivery::brought(url, ticket);
                execution.delivery = callback_url.clone().map(brought);
            }
            self.retention.accepted += usize::from(!execution.accepted);
            return Ok(Some(match addressed && execution.accepted && !execution.unwritten {
                true => Admission::Addressed(claim.execution, execution.id),
                false => Admission::Accepted(claim.execution, execution.id),
            }));
        }
        if let Some(answer) = execution.answer() {
            return Ok(Some(Admission::Answered(answer)));
        }
        if execution.is_on_disk() {
            return self.may_read().map(|()| Some(Admission::Read(claim.execution)));
        }
        let Some(live) = execution.live.as_mut() else { return Ok(None) };
        if live.waiter_count() >= self.limits.waiters_max {
            let what = "callers that wait for one execution";
            return Err(Refusal::Overloaded { what, retry_after_s: 1 });
        }
        let function = self.functions.get(execution.function);
        let limit_ms = call.timeout_ms.or_else(|| Some(function?.policy.timeout_ms)).unwrap_or_default();
        let deadline_us = self.now.mono_us + u64::from(limit_ms) * 1000;
        let timer = self.timers.insert(deadline_us, Due::Waiter(claim.execution, ticket));
        live.joined.push(Waiter { ticket, timer, limit_ms, gone: false });
        live.deadline_us = live.deadline_us.max(deadline_us);
        self.index.joined.insert(ticket, claim.execution);
        Ok(Some(Admission::Joined))
    }

    fn create(
        &mut self,
        ticket: Ticket,
        call: Invoke,
        function_key: FunctionKey,
        callback_url: Option<Box<str>>,
        accepted: bool,
    ) -> ExecutionKey {
        let now = self.now;
        let (label, timeout_ms) = match self.functions.get_mut(function_key) {
            Some(function) => {
                function.counters.invocations += 1;
                function.accounting.admitted += 1;
                function.accounting.queued += 1;
                (Arc::clone(&function.label), function.policy.timeout_ms)
            }
            None => (Arc::from(call.name.as_str()), 0),
        };
        let limit_ms = call.timeout_ms.unwrap_or(timeout_ms);
        let deadline_us = now.mono_us + u64::from(limit_ms) * 1000;
        let idempotency = call.extra.as_ref().and_then(|extra| extra.idempotency.clone());
        let key = self.executions.insert(Execution {
            id: call.id,
            id_table: TableNumber::default(),
            function: function_key,
            label: Arc::clone(&label),
            course: Course::Active(Activity::Queued),
            shown: None,
            attempt: 0,
            accepted,
            unwritten: false,
            end_is_safe: false,
            keyed: idempotency.is_some(),
            cold_start: false,
            init_ms: None,
            created_ms: now.unix_ms,
            dispatched_ms: 0,
            finished_ms: 0,
            finished_us: 0,
            last_failure: None,
            delivery: callback_url.map(ResultDelivery::new),
            dead: None,
            in_flight: None,
            live: None,
        });
        let waiter = (!accepted).then(|| Waiter {
            ticket,
            timer: match self.sabotaged.by(Sabotage::DeadlineForgotten) {
                true => TimerKey::NONE,
                false => self.timers.insert(deadline_us, Due::Waiter(key, ticket)),
            },
            limit_ms,
            gone: false,
        });
        let expires_us = if accepted { self.expiry_of(call.extra.as_deref()) } else { 0 };
        self.retention.accepted += usize::from(accepted);
        let live = Live { waiter, deadline_us, ..Live::new(call.payload, call.extra, now.mono_us) };
        if let Some(execution) = self.executions.get_mut(key) {
            execution.live = Some(Box::new(live));
        }
        self.arm_expiry(key, expires_us);
        self.index_id(key);
        if let Some(idempotency) = idempotency {
            self.index.keys.put(&label, &idempotency, key, now.mono_us);
            self.expire_keys(KEYS_PER_CLAIM);
            // Keys of executions that still run are passed over, which counts as nothing to do.
            let mut left = KEYS_PER_CLAIM;
            while left > 0 && self.lacks_room(Part::Keys, self.index.keys.len() as u64) {
                self.expire_keys(1);
                left -= 1;
            }
            self.arm_sweep();
        }
        key
    }

    /// Sends what was just admitted when a slot is free, without a detour through the queue.
    pub(super) fn dispatch_or_enqueue(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let function = self.functions.get(execution.function).filter(|_| !self.is_backlogged(execution));
        if function.is_some_and(|function| function.can_dispatch() && function.queue.is_empty()) {
            if self.would_risk_the_last(key) {
                return self.wait_for_another(key);
            }
            let order = self.next_order();
            if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
                live.order = order;
            }
            self.dispatch(key, fx);
        } else {
            let function = execution.function;
            self.enqueue(key);
            self.wake(function, fx);
        }
    }

    /// A caller is gone. Its place in the queue is free at once, unless others wait for the same execution. What
    /// runs goes on, at most to the deadline that the caller would have had.
    pub(super) fn abandon(&mut self, ticket: Ticket, id: Option<ExecutionId>, fx: &mut Effects) {
        if self.leave_read(ticket) {
            return;
        }
        let joined = self.index.joined.remove(&ticket);
        // Stale: its answer is on its way to a caller that has just left, and the execution may be forgotten by now.
        let Some(key) = joined.or_else(|| self.find_key(id?)) else { return };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        // Stale, for the same reason: it has ended.
        let Some(live) = execution.live.as_mut() else { return };
        if let Some(position) = live.watchers.iter().position(|watcher| watcher.ticket == ticket) {
            self.timers.remove(live.watchers.swap_remove(position).timer);
            return;
        }
        // It does not wait for the end: it was answered, or will be when a record is safe.
        let Some(waiter) = live.waiter_mut(ticket) else { return };
        waiter.gone = true;
        if execution.accepted || live.is_awaited() {
            if let Some(waiter) = live.remove_waiter(ticket) {
                self.timers.remove(waiter.timer);
            }
        } else if execution.is_queued() {
            // Nobody knows its id: keeping a record would let callers that come and go fill the memory.
            self.discard(key, fx);
        }
    }

    /// Ends an execution that still waits. Of one that was accepted the answer comes when that is written down.
    pub(super) fn cancel(&mut self, ticket: Ticket, id: ExecutionId, fx: &mut Effects) {
        let Some(key) = self.find_key(id) else {
            return fx.reply(ticket, Answer::Refused(Refusal::ExecutionNotFound));
        };
        if self.sabotaged.by(Sabotage::CancelRefused) {
            return fx.reply(ticket, Answer::Refused(Refusal::NotCancellable(State::Running)));
        }
        if self.executions.get(key).is_some_and(|execution| execution.is_queued()) {
            let failure = Failure::new(code::CANCELLED, "The execution was cancelled while it was queued");
            self.finish(key, Ending::Failed(Box::new(failure)), fx);
        } else if !self.is_being_cancelled(key) {
            let state = self.executions.get(key).map_or(State::Error, Execution::shown_state);
            return fx.reply(ticket, Answer::Refused(Refusal::NotCancellable(state)));
        }
        let Some(execution) = self.executions.get_mut(key) else {
            // It has ended, and there was no room to keep it.
            return fx.reply(ticket, Answer::Refused(Refusal::ExecutionNotFound));
        };
        let view = Answer::Execution(Box::new(execution.view()));
        let Some(live) = execution.live.as_mut() else { return fx.reply(ticket, view) };
        if self.journal.is_delayed(live.record) {
            return fx.reply(ticket, Answer::Refused(Refusal::StoreUnavailable));
        }
        if live.watchers.len() >= self.limits.waiters_max {
            let what = "callers that wait for the end of one execution";
            return fx.reply(ticket, Answer::Refused(Refusal::Overloaded { what, retry_after_s: 1 }));
        }
        if self.sabotaged.by(Sabotage::GivenUpBeforeWrite) {
            return fx.reply(ticket, view);
        }
        live.watchers.push(Watcher { ticket, timer: TimerKey::NONE });
    }

    /// Whether it was cancelled, and that is being written down.
    fn is_being_cancelled(&self, key: ExecutionKey) -> bool {
        let concealed = self.executions.get(key).filter(|execution| execution.shown.is_some());
        concealed.is_some_and(|execution| match execution.ending() {
            Some(Ending::Failed(failure)) => failure.code == code::CANCELLED,
            _ => false,
        })
    }

    /// Ends the waits of everybody who waits for an execution's result. Returns those who are still there.
    pub(super) fn take_waiters(&mut self, key: ExecutionKey) -> Vec<Ticket> {
        let live = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut());
        let mut tickets = Vec::new();
        for waiter in live.into_iter().flat_map(|live| live.take_waiters()) {
            self.timers.remove(waiter.timer);
            self.index.joined.remove(&waiter.ticket);
            if !waiter.gone {
                tickets.push(waiter.ticket);
            }
        }
        tickets
    }
}

/// Refuses when nothing more may wait.
pub(super) fn queue_refusal(function: &Function) -> Option<Refusal> {
    let queue_depth = function.waiting_count();
    (queue_depth >= function.policy.queue_size).then(|| Refusal::QueueFull {
        queue_depth,
        est_wait_us: function.known_wait_us(queue_depth + 1),
        retry_after_s: Limits::retry_after_s(function.estimated_wait_us(1)),
    })
}
