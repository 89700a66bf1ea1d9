//! The model of attempts: dispatches, completions, retries and deadlines.

use shard_core::Policy;

use super::{
    oracle::{Attempt, Oracle, RETRY_WAIT_MS_MAX, State, Waiter},
    registry::{Function, Life, Reconcile, Replica},
    replicas::CRASH_WAIT_MS,
    step::Result,
};

/// Time, rank, order, execution, and ticket or attempt.
type Timer = (u64, u8, u64, u64, u64);

impl Oracle {
    pub(super) fn can_dispatch(&self, at: usize) -> bool {
        let function = &self.functions[at];
        function.life == Life::Live
            && self.in_flight(at) < function.policy.concurrency as usize
            && (!function.managed || function.up() > 0)
    }

    pub(super) fn dispatch_or_enqueue(&mut self, at: usize, ticket: u64) {
        self.get(ticket).place = self.next_order();
        if !self.can_dispatch(at) || !self.functions[at].queue.is_empty() {
            self.functions[at].queue.push(ticket);
        } else if self.would_risk_the_last(ticket) {
            self.wait_for_another(ticket);
        } else {
            self.dispatch(ticket);
        }
    }

    pub(super) fn dispatch_next(&mut self, at: usize) -> bool {
        if !self.can_dispatch(at) || self.functions[at].queue.is_empty() {
            return false;
        }
        let ticket = self.functions[at].queue.remove(0);
        match self.would_risk_the_last(ticket) {
            true => self.wait_for_another(ticket),
            false => self.dispatch(ticket),
        }
        true
    }

    pub(super) fn dispatch(&mut self, ticket: u64) {
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
        let key = if execution.key.is_some() && !execution.tried { " with key" } else { "" };
        execution.was_tried = std::mem::replace(&mut execution.tried, true);
        let name = self.functions[at].name;
        let text = format!("dispatch f{name} {ticket}#{number} for {remaining_ms}{key}");
        let waits_for_record = self.executions[&ticket].accepted && self.functions[at].jobs;
        self.attempts.push(Attempt {
            execution: ticket,
            number,
            function: at,
            timeout_ms: now_ms + u64::from(timeout_ms),
            order,
            holds: true,
            exchange: true,
            connecting: false,
            promised: false,
            adopted: false,
            unrecorded: waits_for_record.then_some(text.clone()),
            replica: None,
        });
        if waits_for_record {
            let until_ms = self.unix_ms + u64::from(timeout_ms);
            self.get(ticket).job_until_unix_ms = until_ms;
            self.ordered.push((ticket, number));
        } else {
            self.out.push(text);
        }
        self.write(ticket);
    }

    /// The attempt is on record: its job is ordered, and its time begins.
    pub(super) fn order_job(&mut self, ticket: u64, number: u32) {
        let order = self.next_order();
        let Some(at) = self.attempt_at(ticket, number) else { return };
        let attempt = &mut self.attempts[at];
        attempt.order = order;
        self.out.extend(attempt.unrecorded.take());
    }

    /// An attempt that was made before a crash goes on, if there is a slot for it.
    pub(super) fn adopt(&mut self, ticket: u64, at: usize) -> bool {
        let place = self.next_order();
        let Policy { timeout_ms, concurrency, .. } = self.functions[at].policy;
        if !self.functions[at].jobs || self.in_flight(at) >= concurrency as usize {
            return false;
        }
        let (now_ms, unix_ms) = (self.now_ms, self.unix_ms);
        let execution = self.get(ticket);
        let left_ms = execution.job_until_unix_ms.saturating_sub(unix_ms).min(timeout_ms.into());
        (execution.state, execution.place) = (State::Running, place);
        let number = execution.attempt;
        self.attempts.push(Attempt {
            execution: ticket,
            number,
            function: at,
            timeout_ms: now_ms + left_ms,
            order: place,
            holds: true,
            exchange: true,
            connecting: false,
            promised: true,
            adopted: true,
            unrecorded: Some(format!("adopt {ticket}#{number}")),
            replica: None,
        });
        self.functions[at].counts.adopted += 1;
        true
    }

    /// Everything is back: attempts that go on have their deadlines, and their jobs are looked for.
    pub(super) fn look_for_jobs(&mut self) {
        for at in 0..self.attempts.len() {
            let order = self.next_order();
            self.attempts[at].order = order;
            self.out.extend(self.attempts[at].unrecorded.take());
        }
    }

    pub(super) fn answer(&mut self, execution: u64, number: u32, result: Result) {
        let now_ms = self.now_ms;
        let Some(at) = self.attempt_at(execution, number) else { return };
        let held = self.attempts[at].holds;
        if result == Result::Promise {
            self.attempts[at].exchange = false;
            self.attempts.retain(|attempt| attempt.exchange || attempt.holds);
            return;
        }
        if result == Result::Created {
            let function = self.attempts[at].function;
            if self.functions[function].jobs {
                let first = !std::mem::replace(&mut self.attempts[at].promised, true);
                self.functions[function].counts.jobs += u64::from(first);
            }
            return;
        }
        let Attempt { function, replica, .. } = self.attempts.remove(at);
        if result == Result::Lost {
            if held && self.executions[&execution].state == State::Running {
                self.functions[function].counts.jobs_lost += 1;
                let starts = self.starts;
                let lost = self.get(execution);
                if lost.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms) {
                    // On record it is cut off.
                    lost.attempts_before += 1;
                    (lost.on_record.job, lost.on_record.starts) = (false, starts);
                }
                self.wait_at_its_place(execution);
            }
            return;
        }
        if result == Result::Ended {
            if held && self.executions[&execution].state == State::Running {
                self.functions[function].counts.jobs_failed += 1;
                self.conclude(execution, Result::Fail(0), "JOB_FAILED");
            }
            return;
        }
        if let Result::NotRun | Result::Crash = result {
            self.replica_is_down(function, replica);
        }
        if held && self.executions[&execution].state == State::Running {
            match result {
                Result::NotRun => self.was_not_run(execution),
                Result::Crash => self.crashed(execution),
                _ => self.conclude(execution, result, "FAILED"),
            }
        } else {
            // Of the function that made the attempt: a replay may have given the execution to another.
            self.functions[function].counts.late += 1;
        }
    }

    pub(super) fn callback(&mut self, ticket: u64, execution: u64, number: Option<u32>, result: Result) {
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
            if !self.attempts[at].exchange || self.attempts[at].unrecorded.is_some() {
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
            let function = self.executions[&execution].function;
            self.functions[function].counts.late += 1;
        }
        self.reply(ticket, if applied { "applied" } else { "ignored" });
    }

    pub(super) fn is_awaited(&self, ticket: u64) -> bool {
        let execution = &self.executions[&ticket];
        execution.accepted || (execution.latest_deadline_ms > self.now_ms && !self.drained)
    }

    pub(super) fn conclude(&mut self, ticket: u64, result: Result, code: &'static str) {
        let least_ms = if code == "FUNCTION_CRASHED" { CRASH_WAIT_MS } else { 0 };
        let wait_ms = match result {
            Result::Ok => return self.finish(ticket, State::Success, ""),
            Result::Fail(after_ms) => u64::from(after_ms).min(RETRY_WAIT_MS_MAX).max(least_ms),
            Result::Created | Result::Ended | Result::Lost => unreachable!("these decide nothing"),
            Result::Refuse | Result::Promise | Result::NotRun | Result::Crash => {
                return self.finish(ticket, State::Error, code);
            }
        };
        let execution = &self.executions[&ticket];
        let at = execution.function;
        let function = &self.functions[at];
        if !self.is_awaited(ticket)
            || function.life != Life::Live
            || execution.attempts_made() >= function.policy.attempts_of(execution.accepted)
        {
            return self.finish(ticket, State::Error, code);
        }
        if execution.expires_ms.is_some_and(|expires_ms| expires_ms <= self.now_ms) {
            self.get(ticket).last_code = code;
            return self.expire(ticket);
        }
        let jobs = self.functions[at].jobs;
        if !jobs {
            self.dispatch_next(at);
        }
        let leaves = usize::from(jobs && self.can_dispatch(at) && !self.functions[at].queue.is_empty());
        let accepted = self.executions[&ticket].accepted;
        let at_once = wait_ms == 0 && self.can_dispatch(at) && self.functions[at].queue.is_empty();
        if self.waiting(at).len() - leaves >= self.functions[at].places() {
            self.functions[at].counts.rejections += 1;
            self.functions[at].counts.lost_retries += 1;
            return self.finish(ticket, State::Error, code);
        }
        self.functions[at].counts.retries += 1;
        let (order, record) = (self.next_order(), self.next_order());
        let until_ms = self.now_ms + wait_ms;
        let execution = self.get(ticket);
        execution.state = State::Queued;
        execution.record = record;
        execution.last_code = code;
        self.write(ticket);
        let execution = self.get(ticket);
        if wait_ms > 0 {
            execution.backoff = Some((until_ms, order));
        } else if accepted {
            // When the record of the attempt is safe, after everything else that this step causes.
            self.recorded.push(ticket);
        } else if !at_once {
            self.enqueue(at, ticket);
        } else if self.would_risk_the_last(ticket) {
            self.wait_for_another(ticket);
        } else {
            self.dispatch(ticket);
        }
    }

    /// Puts something behind everything else that waits.
    pub(super) fn enqueue(&mut self, at: usize, ticket: u64) {
        self.get(ticket).place = self.next_order();
        self.functions[at].queue.push(ticket);
    }

    pub(super) fn finish(&mut self, ticket: u64, state: State, code: &'static str) {
        let (now_ms, unix_ms, record) = (self.now_ms, self.unix_ms, self.next_order());
        let execution = self.get(ticket);
        execution.state = state;
        execution.record = record;
        execution.finished_unix_ms = unix_ms;
        execution.recovered = false;
        execution.code = if state == State::Timeout { "TIMEOUT" } else { code };
        execution.finished_ms = now_ms;
        execution.kept_from_ms = now_ms;
        execution.backoff = None;
        execution.expiry = None;
        let (function, accepted) = (execution.function, execution.accepted);
        self.write(ticket);
        self.leave_queue(function);
        if accepted && code != "FUNCTION_REMOVED" {
            // When the record of its end is safe, after everything else that this step causes.
            self.recorded.push(ticket);
        } else {
            self.show(ticket);
        }
        match state {
            State::Success => self.functions[function].counts.successes += 1,
            State::Error => self.functions[function].counts.errors += 1,
            _ => {}
        }
    }

    /// Who waits for an execution that ended is told so.
    pub(super) fn show(&mut self, ticket: u64) {
        let execution = self.get(ticket);
        let answer = execution.answer(ticket);
        for waiter in std::mem::take(&mut execution.waiters) {
            if !waiter.gone {
                self.reply(waiter.ticket, &answer);
            }
        }
        if !self.bury(ticket) {
            self.finished.push(ticket);
        }
    }

    /// Fires what is due, the earliest first; at the same time callers come first, then attempts.
    pub(super) fn fire_timers(&mut self) {
        while let Some((_, rank, _, ticket, about)) = self.next_timer() {
            match rank {
                0 => self.wait_is_over(ticket, about),
                1 => self.attempt_is_over(ticket, about as u32),
                3 => self.expiry_is_over(ticket),
                4 => self.reconcile(ticket as usize),
                5 => self.replica_is_due(ticket as usize, about),
                _ => {
                    let execution = self.get(ticket);
                    execution.backoff = None;
                    let function = execution.function;
                    self.enqueue(function, ticket);
                }
            }
        }
    }

    fn next_timer(&self) -> Option<Timer> {
        self.timers().filter(|timer| timer.0 <= self.now_ms).min()
    }

    pub(super) fn timers(&self) -> impl Iterator<Item = Timer> {
        let waiters = self.executions.iter().flat_map(|(ticket, execution)| {
            let of = move |waiter: &Waiter| (waiter.deadline_ms, 0, waiter.order, *ticket, waiter.ticket);
            execution.waiters.iter().map(of)
        });
        let attempts =
            self.attempts.iter().filter(|attempt| attempt.unrecorded.is_none()).map(|attempt| {
                (attempt.timeout_ms, 1, attempt.order, attempt.execution, attempt.number.into())
            });
        let backoffs = self.executions.iter().filter(|(_, execution)| !execution.discarded).filter_map(
            |(ticket, execution)| execution.backoff.map(|(until_ms, order)| (until_ms, 2, order, *ticket, 0)),
        );
        let expiries = self.executions.iter().filter_map(|(ticket, execution)| {
            execution.expiry.map(|(until_ms, order)| (until_ms, 3, order, *ticket, 0))
        });
        let reconciles =
            self.functions.iter().enumerate().filter_map(|(at, function)| match function.reconcile {
                Some(Reconcile::At(until_ms, order)) if function.life != Life::Gone => {
                    Some((until_ms, 4, order, at as u64, 0))
                }
                _ => None,
            });
        let replicas = self.functions.iter().enumerate().flat_map(|(at, function)| {
            let due = |replica: &Replica| replica.down.as_ref().and_then(|down| down.due);
            let down = function.replicas.iter().filter_map(move |replica| Some((replica, due(replica)?)));
            down.map(move |(replica, (until_ms, order))| (until_ms, 5, order, at as u64, replica.number))
        });
        waiters.chain(attempts).chain(backoffs).chain(expiries).chain(reconciles).chain(replicas)
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
            self.end_job(ticket, true);
        }
    }

    /// Executions whose jobs run for a function, in the order in which they came.
    pub(super) fn running_jobs(&self, at: usize) -> Vec<u64> {
        let is_its = |attempt: &&Attempt| attempt.function == at && attempt.holds;
        let attempts = self.attempts.iter().filter(|_| self.functions[at].jobs).filter(is_its);
        let mut running: Vec<u64> = attempts.map(|attempt| attempt.execution).collect();
        running.sort_by_key(|ticket| self.executions[ticket].place);
        running
    }

    /// The job of an execution that has ended is ended, if it goes on without a callback.
    pub(super) fn end_job(&mut self, ticket: u64, late: bool) {
        let number = self.executions[&ticket].attempt;
        let Some(at) = self.attempt_at(ticket, number) else { return };
        let Attempt { function, holds, promised, ref unrecorded, .. } = self.attempts[at];
        let is_ordered = unrecorded.is_none();
        if !holds || !self.functions[function].jobs {
            return;
        }
        self.attempts.remove(at);
        let counts = &mut self.functions[function].counts;
        counts.orphans += u64::from(late && promised);
        counts.jobs_left += u64::from(late);
        self.out.extend(is_ordered.then(|| format!("abort {ticket}#{number}")));
    }

    fn stage(&self, ticket: u64) -> &'static str {
        let execution = &self.executions[&ticket];
        let attempt = self.attempt_at(ticket, execution.attempt).map(|at| &self.attempts[at]);
        match (execution.state, attempt) {
            (State::Running, Some(attempt)) if attempt.connecting => "dispatch",
            (State::Queued, _) => "queue",
            _ => "function",
        }
    }

    pub(super) fn attempt_is_over(&mut self, ticket: u64, number: u32) {
        let Some(at) = self.attempt_at(ticket, number) else { return };
        let attempt = self.attempts.remove(at);
        let function = attempt.function;
        if attempt.exchange {
            self.out.push(format!("abort {ticket}#{number}"));
        }
        if !attempt.holds {
            return;
        }
        let orphan = !attempt.exchange || attempt.promised;
        self.functions[function].counts.orphans += u64::from(orphan);
        if self.executions[&ticket].state != State::Running {
            return;
        }
        let Function { life, policy: Policy { timeout_ms, .. }, .. } = self.functions[function];
        let execution = &self.executions[&ticket];
        let attempts_max = self.functions[function].policy.attempts_of(execution.accepted);
        let made = execution.attempts_made();
        if orphan && (made >= attempts_max || life != Life::Live) {
            let execution = self.get(ticket);
            execution.last_code = "FUNCTION_TIMEOUT";
            execution.stage = "function";
            execution.limit_ms = timeout_ms;
            return self.finish(ticket, State::Timeout, "");
        }
        self.conclude(ticket, Result::Fail(0), "FUNCTION_TIMEOUT");
    }
}
