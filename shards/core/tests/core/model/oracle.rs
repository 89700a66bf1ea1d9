//! The naive model: plain lists, searched from the front, no optimisation. What it says must happen is compared
//! with what the shard does.

use std::collections::BTreeMap;

use shard_core::Policy;

use super::{
    registry::{Function, Life},
    step::{Call, Result, Step},
};

/// The limits that the model knows of; milliseconds.
pub(super) const TTL_MS: u64 = 60_000;
pub(super) const SWEEP_MS: u64 = 5_000;
pub(super) const KEYS_TTL_MS: u64 = 30_000;
pub(super) const RETRY_WAIT_MS_MAX: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    Running,
    Success,
    Error,
    Timeout,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    deadline_ms: u64,
    limit_ms: u32,
    order: u64,
    gone: bool,
}

#[derive(Debug)]
pub(super) struct Execution {
    pub(super) function: usize,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) accepted: bool,
    pub(super) waiters: Vec<Waiter>,
    latest_deadline_ms: u64,
    /// End of its back-off, with its place among timers.
    backoff: Option<(u64, u64)>,
    bytes: u64,
    key: Option<(u8, u8)>,
    pub(super) code: &'static str,
    pub(super) last_code: &'static str,
    stage: &'static str,
    limit_ms: u32,
    pub(super) finished_ms: u64,
    /// Left no record.
    pub(super) discarded: bool,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) execution: u64,
    pub(super) number: u32,
    function: usize,
    timeout_ms: u64,
    order: u64,
    /// Still holds its slot.
    pub(super) holds: bool,
    /// The dispatcher still has it.
    exchange: bool,
    connecting: bool,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) now_ms: u64,
    pub(super) second: u64,
    pub(super) granted_bytes: u64,
    pub(super) functions: Vec<Function>,
    pub(super) names: BTreeMap<u8, usize>,
    pub(super) executions: BTreeMap<u64, Execution>,
    pub(super) attempts: Vec<Attempt>,
    /// Function name and key, to execution, digest and when it was written.
    keys: BTreeMap<(u8, u8), (u64, u8, u64)>,
    /// Executions in the order of their endings.
    pub(super) finished: Vec<u64>,
    drained: bool,
    order: u64,
    pub(super) out: Vec<String>,
}

impl Oracle {
    /// Says what a step causes. `exists` tells whether the record of an execution is still kept: when old ones
    /// go is checked apart.
    pub(super) fn step(&mut self, step: &Step, exists: impl Fn(u64) -> bool) -> Vec<String> {
        self.fire_timers();
        match step {
            Step::Turn => {}
            Step::Call { ticket, call } => self.call(*ticket, call, exists),
            Step::Answer { execution, number, result } => self.answer(*execution, *number, *result),
            Step::Callback { ticket, execution, number, result } => {
                if exists(*execution) {
                    self.callback(*ticket, *execution, *number, *result);
                } else {
                    self.reply(*ticket, "refused ExecutionNotFound");
                }
            }
            Step::Connecting { execution, number, connecting } => {
                if let Some(at) = self.attempt_at(*execution, *number) {
                    self.attempts[at].connecting = *connecting;
                }
            }
            Step::Leave { ticket } => self.leave(*ticket),
            Step::Cancel { ticket, execution } => self.cancel(*ticket, *execution, exists),
            Step::Drain { .. } => self.give_up(),
            registry => self.registry_step(registry),
        }
        for function in 0..self.functions.len() {
            while self.dispatch_next(function) {}
        }
        std::mem::take(&mut self.out)
    }

    /// Executions that still live or ended lately, with their attempt.
    pub(super) fn latest_executions(&self, count: usize) -> Vec<(u64, u32)> {
        let newest = self.executions.iter().rev().take(count);
        newest.map(|(ticket, execution)| (*ticket, execution.attempt)).collect()
    }

    /// Attempts that the dispatcher has not reported yet.
    pub(super) fn exchanges(&self) -> Vec<(u64, u32)> {
        let open = self.attempts.iter().filter(|attempt| attempt.exchange);
        open.map(|attempt| (attempt.execution, attempt.number)).collect()
    }

    pub(super) fn waiting_tickets(&self) -> Vec<u64> {
        let all = self.executions.values().flat_map(|execution| &execution.waiters);
        all.filter(|waiter| !waiter.gone).map(|waiter| waiter.ticket).collect()
    }

    pub(super) fn in_flight(&self, function: usize) -> usize {
        self.attempts.iter().filter(|attempt| attempt.function == function && attempt.holds).count()
    }

    /// Executions that wait for a slot or for the end of a back-off.
    pub(super) fn waiting(&self, function: usize) -> Vec<u64> {
        let all = self.executions.iter().filter(|(_, execution)| {
            execution.function == function && execution.state == State::Queued && !execution.discarded
        });
        all.map(|(ticket, _)| *ticket).collect()
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        let all = self.executions.values();
        all.filter(|execution| execution.state == State::Queued && !execution.discarded)
            .map(|execution| execution.bytes)
            .sum()
    }

    /// Whether a key's execution may or may not have been renewed by now: the model does not know.
    pub(super) fn key_is_uncertain(&self, name: u8, key: u8) -> bool {
        let Some((execution, _, written_ms)) = self.keys.get(&(name, key)) else { return false };
        let execution = &self.executions[execution];
        let renewed_ms = if execution.is_terminal() { execution.finished_ms } else { self.now_ms };
        self.now_ms >= written_ms + KEYS_TTL_MS
            && self.now_ms < renewed_ms + KEYS_TTL_MS
            && execution.is_terminal()
    }

    fn call(&mut self, ticket: u64, call: &Call, exists: impl Fn(u64) -> bool) {
        if self.drained {
            return self.reply(ticket, "refused ShuttingDown");
        }
        let live = |at: &&usize| self.functions[**at].life == Life::Live;
        let Some(at) = self.names.get(&call.name).filter(live).copied() else {
            return self.reply(ticket, "refused FunctionNotFound");
        };
        if !self.functions[at].admit(self.second) {
            return self.reply(ticket, "refused RateLimited");
        }
        if let Some((key, digest)) = call.key
            && let Some((execution, bound, written_ms)) = self.keys.get(&(call.name, key)).copied()
            && exists(execution)
            && !(self.executions[&execution].is_terminal() && self.now_ms >= written_ms + KEYS_TTL_MS)
        {
            if digest != bound {
                return self.reply(ticket, "refused KeyReused");
            }
            return self.join(ticket, call, execution);
        }
        let must_wait = !self.can_dispatch(at) || !self.functions[at].queue.is_empty();
        if must_wait && self.waiting(at).len() >= self.functions[at].policy.queue_size as usize {
            self.functions[at].counts.rejections += 1;
            return self.reply(ticket, "refused QueueFull");
        }
        if must_wait && self.queued_bytes() + u64::from(call.bytes) > self.granted_bytes {
            return self.reply(ticket, "refused Overloaded");
        }
        self.create(ticket, call, at);
        if call.accepted {
            self.reply(ticket, &format!("accepted {ticket}"));
        }
        if must_wait {
            self.functions[at].queue.push(ticket);
        } else {
            self.dispatch(ticket);
        }
    }

    fn create(&mut self, ticket: u64, call: &Call, function: usize) {
        let limit_ms = call.timeout_ms.unwrap_or(self.functions[function].policy.timeout_ms);
        let execution = Execution {
            function,
            state: State::Queued,
            attempt: 0,
            accepted: call.accepted,
            waiters: Vec::new(),
            latest_deadline_ms: 0,
            backoff: None,
            bytes: u64::from(call.bytes),
            key: call.key.map(|(key, _)| (call.name, key)),
            code: "",
            last_code: "",
            stage: "",
            limit_ms: 0,
            finished_ms: 0,
            discarded: false,
        };
        self.executions.insert(ticket, execution);
        if !call.accepted {
            self.wait_for(ticket, ticket, limit_ms);
        }
        if let Some((key, digest)) = call.key {
            self.keys.insert((call.name, key), (ticket, digest, self.now_ms));
        }
    }

    fn join(&mut self, ticket: u64, call: &Call, execution: u64) {
        let joined = self.get(execution);
        if call.accepted {
            joined.accepted = true;
            return self.reply(ticket, &format!("accepted {execution}"));
        }
        if joined.is_terminal() {
            let answer = joined.answer(execution);
            return self.reply(ticket, &answer);
        }
        let function = joined.function;
        let limit_ms = call.timeout_ms.unwrap_or(self.functions[function].policy.timeout_ms);
        self.wait_for(execution, ticket, limit_ms);
    }

    fn wait_for(&mut self, execution: u64, ticket: u64, limit_ms: u32) {
        let deadline_ms = self.now_ms + u64::from(limit_ms);
        let order = self.next_order();
        let waiter = Waiter { ticket, deadline_ms, limit_ms, order, gone: false };
        let execution = self.get(execution);
        execution.waiters.push(waiter);
        execution.latest_deadline_ms = execution.latest_deadline_ms.max(deadline_ms);
    }

    fn leave(&mut self, ticket: u64) {
        let awaited =
            |execution: &&mut Execution| execution.waiters.iter().any(|waiter| waiter.ticket == ticket);
        let Some(execution) = self.executions.values_mut().find(awaited) else { return };
        for waiter in execution.waiters.iter_mut().filter(|waiter| waiter.ticket == ticket) {
            waiter.gone = true;
        }
        let others = execution.waiters.iter().any(|waiter| !waiter.gone);
        if execution.accepted || others {
            execution.waiters.retain(|waiter| waiter.ticket != ticket);
        } else if execution.state == State::Queued {
            execution.waiters.clear();
            execution.discarded = true;
            let (function, key) = (execution.function, execution.key);
            self.leave_queue(function);
            if let Some(key) = key {
                self.keys.remove(&key);
            }
        }
    }

    fn cancel(&mut self, ticket: u64, execution: u64, exists: impl Fn(u64) -> bool) {
        if !exists(execution) {
            return self.reply(ticket, "refused ExecutionNotFound");
        }
        if self.executions[&execution].state != State::Queued {
            return self.reply(ticket, "refused NotCancellable");
        }
        self.finish(execution, State::Error, "CANCELLED");
        self.reply(ticket, "execution");
    }

    fn give_up(&mut self) {
        self.drained = true;
        let waiting: Vec<u64> = (0..self.functions.len()).flat_map(|at| self.waiting(at)).collect();
        for ticket in waiting {
            if self.executions[&ticket].accepted {
                continue;
            }
            let execution = self.get(ticket);
            execution.discarded = true;
            let (function, key) = (execution.function, execution.key);
            for waiter in std::mem::take(&mut execution.waiters) {
                if !waiter.gone {
                    self.reply(waiter.ticket, "refused ShuttingDown");
                }
            }
            self.leave_queue(function);
            if let Some(key) = key {
                self.keys.remove(&key);
            }
        }
    }

    /// Takes out of a function's queue what no longer waits.
    fn leave_queue(&mut self, function: usize) {
        let executions = &self.executions;
        self.functions[function].queue.retain(|ticket| {
            let execution = &executions[ticket];
            execution.state == State::Queued && !execution.discarded
        });
    }

    fn can_dispatch(&self, at: usize) -> bool {
        let function = &self.functions[at];
        function.life == Life::Live
            && self.in_flight(at) < function.policy.concurrency as usize
            && (!function.managed || function.ready != 0)
    }

    fn dispatch_next(&mut self, at: usize) -> bool {
        if !self.can_dispatch(at) || self.functions[at].queue.is_empty() {
            return false;
        }
        let ticket = self.functions[at].queue.remove(0);
        self.dispatch(ticket);
        true
    }

    fn dispatch(&mut self, ticket: u64) {
        let (now_ms, order) = (self.now_ms, self.next_order());
        let at = self.executions[&ticket].function;
        let Policy { timeout_ms, .. } = self.functions[at].policy;
        let execution = self.get(ticket);
        execution.state = State::Running;
        execution.attempt += 1;
        let number = execution.attempt;
        let left_ms = execution.latest_deadline_ms.saturating_sub(now_ms);
        let remaining_ms = if execution.accepted {
            u64::from(timeout_ms)
        } else {
            left_ms.min(u64::from(timeout_ms)).max(1)
        };
        let key = if execution.key.is_some() && number == 1 { " with key" } else { "" };
        self.attempts.push(Attempt {
            execution: ticket,
            number,
            function: at,
            timeout_ms: now_ms + u64::from(timeout_ms),
            order,
            holds: true,
            exchange: true,
            connecting: false,
        });
        let name = self.functions[at].name;
        self.out.push(format!("dispatch f{name} {ticket}#{number} for {remaining_ms}{key}"));
    }

    fn answer(&mut self, execution: u64, number: u32, result: Result) {
        let Some(at) = self.attempt_at(execution, number) else { return };
        let held = self.attempts[at].holds;
        if result == Result::Promise {
            self.attempts[at].exchange = false;
            self.attempts.retain(|attempt| attempt.exchange || attempt.holds);
            return;
        }
        self.attempts.remove(at);
        if held && self.executions[&execution].state == State::Running {
            self.conclude(execution, result, "FAILED");
        } else {
            self.count_late(execution);
        }
    }

    fn callback(&mut self, ticket: u64, execution: u64, number: Option<u32>, result: Result) {
        let target = &self.executions[&execution];
        let (state, current, function) = (target.state, target.attempt, target.function);
        let fits = number.is_none_or(|number| number == current) && result != Result::Promise;
        let held = self.attempt_at(execution, current).filter(|at| fits && self.attempts[*at].holds);
        if let Some(at) = held {
            self.attempts[at].holds = false;
            let lingers = self
                .attempts
                .iter()
                .filter(|attempt| attempt.function == function && !attempt.holds && attempt.exchange)
                .count();
            if !self.attempts[at].exchange {
                self.attempts.remove(at);
            } else if lingers > self.functions[function].policy.concurrency as usize {
                self.attempts.remove(at);
                self.out.push(format!("abort {execution}#{current}"));
            }
        }
        let applied = held.is_some() && state == State::Running;
        if applied {
            self.conclude(execution, result, "FAILED");
        } else {
            self.count_late(execution);
        }
        self.reply(ticket, if applied { "applied" } else { "ignored" });
    }

    fn conclude(&mut self, ticket: u64, result: Result, code: &'static str) {
        let wait_ms = match result {
            Result::Ok => return self.finish(ticket, State::Success, ""),
            Result::Refuse | Result::Promise => return self.finish(ticket, State::Error, code),
            Result::Fail(after_ms) => u64::from(after_ms).min(RETRY_WAIT_MS_MAX),
        };
        let execution = &self.executions[&ticket];
        let at = execution.function;
        let function = &self.functions[at];
        let awaited = execution.accepted || (execution.latest_deadline_ms > self.now_ms && !self.drained);
        if !awaited || function.life != Life::Live || execution.attempt >= function.policy.attempts_max {
            return self.finish(ticket, State::Error, code);
        }
        self.dispatch_next(at);
        let at_once = wait_ms == 0 && self.can_dispatch(at) && self.functions[at].queue.is_empty();
        if !at_once && self.waiting(at).len() >= self.functions[at].policy.queue_size as usize {
            self.functions[at].counts.rejections += 1;
            return self.finish(ticket, State::Error, code);
        }
        self.functions[at].counts.retries += 1;
        let order = self.next_order();
        let until_ms = self.now_ms + wait_ms;
        let execution = self.get(ticket);
        execution.state = State::Queued;
        execution.last_code = code;
        if at_once {
            self.dispatch(ticket);
        } else if wait_ms > 0 {
            execution.backoff = Some((until_ms, order));
        } else {
            self.functions[at].queue.push(ticket);
        }
    }

    pub(super) fn finish(&mut self, ticket: u64, state: State, code: &'static str) {
        let now_ms = self.now_ms;
        let execution = self.get(ticket);
        execution.state = state;
        execution.code = if state == State::Timeout { "TIMEOUT" } else { code };
        execution.finished_ms = now_ms;
        execution.backoff = None;
        let answer = execution.answer(ticket);
        let function = execution.function;
        for waiter in std::mem::take(&mut execution.waiters) {
            if !waiter.gone {
                self.reply(waiter.ticket, &answer);
            }
        }
        self.leave_queue(function);
        self.finished.push(ticket);
        match state {
            State::Success => self.functions[function].counts.successes += 1,
            State::Error => self.functions[function].counts.errors += 1,
            _ => {}
        }
    }

    /// Fires what is due, the earliest first; at the same time callers come first, then attempts.
    fn fire_timers(&mut self) {
        while let Some((_, rank, _, ticket, about)) = self.next_timer() {
            match rank {
                0 => self.wait_is_over(ticket, about),
                1 => self.attempt_is_over(ticket, about as u32),
                _ => {
                    let execution = self.get(ticket);
                    execution.backoff = None;
                    let function = execution.function;
                    self.functions[function].queue.push(ticket);
                }
            }
        }
    }

    /// Time, rank, order, execution, and ticket or attempt.
    fn next_timer(&self) -> Option<(u64, u8, u64, u64, u64)> {
        let waiters = self.executions.iter().flat_map(|(ticket, execution)| {
            let of = move |waiter: &Waiter| (waiter.deadline_ms, 0, waiter.order, *ticket, waiter.ticket);
            execution.waiters.iter().map(of)
        });
        let attempts = self
            .attempts
            .iter()
            .map(|attempt| (attempt.timeout_ms, 1, attempt.order, attempt.execution, attempt.number.into()));
        let backoffs = self.executions.iter().filter(|(_, execution)| !execution.discarded).filter_map(
            |(ticket, execution)| execution.backoff.map(|(until_ms, order)| (until_ms, 2, order, *ticket, 0)),
        );
        waiters.chain(attempts).chain(backoffs).filter(|timer| timer.0 <= self.now_ms).min()
    }

    fn wait_is_over(&mut self, ticket: u64, waiter: u64) {
        let stage = self.stage(ticket);
        let execution = self.get(ticket);
        let function = execution.function;
        let Some(at) = execution.waiters.iter().position(|other| other.ticket == waiter) else { return };
        let waiter = execution.waiters.remove(at);
        let last = execution.waiters.is_empty() && !execution.accepted;
        if last {
            execution.stage = stage;
            execution.limit_ms = waiter.limit_ms;
        }
        if !waiter.gone {
            self.reply(waiter.ticket, &format!("timeout {ticket} {stage} {}", waiter.limit_ms));
            self.functions[function].counts.timeouts += 1;
        }
        if last {
            self.finish(ticket, State::Timeout, "");
        }
    }

    fn stage(&self, ticket: u64) -> &'static str {
        let execution = &self.executions[&ticket];
        let attempt = self.attempt_at(ticket, execution.attempt).map(|at| &self.attempts[at]);
        match (execution.state, attempt) {
            (State::Running, Some(attempt)) if attempt.connecting => "dispatch",
            (State::Running, _) => "function",
            _ => "queue",
        }
    }

    fn attempt_is_over(&mut self, ticket: u64, number: u32) {
        let Some(at) = self.attempt_at(ticket, number) else { return };
        let attempt = self.attempts.remove(at);
        let function = attempt.function;
        if attempt.exchange {
            self.out.push(format!("abort {ticket}#{number}"));
        }
        if !attempt.holds {
            return;
        }
        let orphan = !attempt.exchange;
        self.functions[function].counts.orphans += u64::from(orphan);
        if self.executions[&ticket].state != State::Running {
            return;
        }
        let Function { life, policy: Policy { attempts_max, timeout_ms, .. }, .. } = self.functions[function];
        if orphan && (number >= attempts_max || life != Life::Live) {
            let execution = self.get(ticket);
            execution.last_code = "FUNCTION_TIMEOUT";
            execution.stage = "function";
            execution.limit_ms = timeout_ms;
            return self.finish(ticket, State::Timeout, "");
        }
        self.conclude(ticket, Result::Fail(0), "FUNCTION_TIMEOUT");
    }

    fn count_late(&mut self, execution: u64) {
        let function = self.executions[&execution].function;
        self.functions[function].counts.late += 1;
    }

    fn attempt_at(&self, execution: u64, number: u32) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.execution == execution && attempt.number == number)
    }

    fn get(&mut self, ticket: u64) -> &mut Execution {
        self.executions.get_mut(&ticket).expect("executions stay in the model")
    }

    pub(super) fn reply(&mut self, ticket: u64, answer: &str) {
        self.out.push(format!("reply {ticket}: {answer}"));
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

impl Execution {
    pub(super) fn is_terminal(&self) -> bool {
        !matches!(self.state, State::Queued | State::Running)
    }

    fn answer(&self, ticket: u64) -> String {
        match self.state {
            State::Success => format!("success {ticket}"),
            State::Timeout => format!("timeout {ticket} {} {}", self.stage, self.limit_ms),
            _ => format!("error {ticket} {}", self.code),
        }
    }
}
