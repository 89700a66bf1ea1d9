//! The model of admission: calls, joins, callers that leave, cancellations.

use super::{
    oracle::{Execution, KEYS_TTL_MS, OnRecord, Oracle, State, Waiter},
    registry::Life,
    step::Call,
};

impl Oracle {
    pub(super) fn call(&mut self, ticket: u64, call: &Call, exists: impl Fn(u64) -> bool) {
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
        let must_wait =
            !self.can_dispatch(at) || !self.functions[at].queue.is_empty() || !self.has_room_to_come_back(at);
        // What is accepted waits at least until it has been written down.
        let waits = must_wait || call.accepted;
        if waits && self.waiting(at).len() >= self.functions[at].policy.queue_size as usize {
            self.functions[at].counts.rejections += 1;
            return self.reply(ticket, "refused QueueFull");
        }
        if waits && self.queued_bytes() + u64::from(call.bytes) > self.granted_bytes {
            return self.reply(ticket, "refused Overloaded");
        }
        self.create(ticket, call, at);
        if call.accepted {
            self.reply(ticket, &format!("accepted {ticket}"));
        }
        self.dispatch_or_enqueue(at, ticket);
    }

    fn create(&mut self, ticket: u64, call: &Call, function: usize) {
        let limit_ms = call.timeout_ms.unwrap_or(self.functions[function].policy.timeout_ms);
        let record = self.next_order();
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
            digest: call.key.map_or(0, |(_, digest)| digest),
            code: "",
            last_code: "",
            stage: "",
            limit_ms: 0,
            finished_ms: 0,
            kept_from_ms: 0,
            joined_late: false,
            attempts_before: 0,
            revived: false,
            max_age_ms: call.max_age_ms.filter(|_| call.accepted),
            expires_ms: None,
            expiry: None,
            discarded: false,
            tried: false,
            was_tried: false,
            place: 0,
            crashes: 0,
            careful_until_ms: 0,
            on_record: OnRecord { starts: self.starts, ..OnRecord::default() },
            job_until_unix_ms: 0,
            record,
            claimed: record,
            key_written_ms: 0,
            queued_unix_ms: self.unix_ms,
            finished_unix_ms: 0,
            recovered: false,
        };
        self.executions.insert(ticket, execution);
        if !call.accepted {
            self.wait_for(ticket, ticket, limit_ms);
        }
        self.arm_expiry(ticket);
        if let Some((key, digest)) = call.key {
            self.keys.insert((call.name, key), (ticket, digest, self.now_ms));
        }
    }

    fn join(&mut self, ticket: u64, call: &Call, execution: u64) {
        let (now_ms, record) = (self.now_ms, self.next_order());
        let left_ms = self.attempt_at(execution, self.executions[&execution].attempt);
        let left_ms = left_ms.map_or(0, |at| self.attempts[at].timeout_ms - now_ms);
        let until_unix_ms = self.unix_ms + left_ms;
        let joined = self.get(execution);
        if call.accepted {
            if !joined.accepted {
                (joined.record, joined.claimed) = (record, record);
                joined.on_record = OnRecord::default();
                // Its time among the accepted ones starts now.
                if joined.is_terminal() {
                    joined.kept_from_ms = now_ms;
                    joined.joined_late = true;
                }
                joined.accepted = true;
                joined.job_until_unix_ms = until_unix_ms;
                self.write(execution);
            }
            return self.reply(ticket, &format!("accepted {execution}"));
        }
        if joined.is_terminal() {
            let answer = joined.answer(execution);
            return self.reply(ticket, &answer);
        }
        let function = joined.function;
        self.functions[function].counts.joins += 1;
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

    pub(super) fn leave(&mut self, ticket: u64) {
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

    pub(super) fn cancel(&mut self, ticket: u64, execution: u64, exists: impl Fn(u64) -> bool) {
        if !exists(execution) {
            return self.reply(ticket, "refused ExecutionNotFound");
        }
        if self.executions[&execution].state != State::Queued {
            return self.reply(ticket, "refused NotCancellable");
        }
        self.finish(execution, State::Error, "CANCELLED");
        self.reply(ticket, "execution");
    }

    pub(super) fn give_up(&mut self) {
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
    pub(super) fn leave_queue(&mut self, function: usize) {
        let executions = &self.executions;
        self.functions[function].queue.retain(|ticket| {
            let execution = &executions[ticket];
            execution.state == State::Queued && !execution.discarded
        });
    }
}
