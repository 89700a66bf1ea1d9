//! Slots are taken and attempts sent. Ready functions have their turn round-robin, in bounded batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    effect::{Destination, Dispatch, Effect, Effects},
    endpoints::{Endpoint, OpenEndpoint},
    execution::{Activity, Course, Execution, Live},
    function::{Function, Life, Runner},
    id::ExecutionId,
    journal::Record,
    keys::{AttemptKey, EndpointId, ExecutionKey, FunctionKey},
    sabotage::Sabotage,
    shard::{Attempt, JobStage, Shard},
    spec::ReplicaAddress,
    timers::{Due, TimerKey},
};

impl Shard {
    /// Puts an execution at the tail of its function's queue.
    pub(super) fn enqueue(&mut self, key: ExecutionKey) {
        let Some(function_key) = self.start_waiting(key) else { return self.impossible() };
        let in_backlog = self.executions.get(key).is_some_and(|execution| self.is_backlogged(execution));
        let order = self.next_order();
        if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
            live.in_backlog = in_backlog;
            live.order = order;
        }
        if let Some(function) = self.functions.get_mut(function_key) {
            let queue = if in_backlog { &mut function.backlog } else { &mut function.queue };
            queue.push(key);
        }
        self.start_sync_wait(key);
        self.ring(function_key);
    }

    /// The next place in the order of what waits for a function, behind all others.
    pub(super) fn next_order(&mut self) -> u64 {
        self.ordered += 1;
        self.ordered
    }

    /// Notes that an execution waits from now on, with its payload. Returns its function.
    pub(super) fn start_waiting(&mut self, key: ExecutionKey) -> Option<FunctionKey> {
        let execution = self.executions.get_mut(key)?;
        let live = execution.live.as_mut()?;
        live.queued_us = self.now.mono_us;
        if live.queued_bytes == 0 {
            live.queued_bytes = live.payload.bytes();
            self.bytes.queued += live.queued_bytes;
        }
        Some(execution.function)
    }

    /// Notes that a function may have something to dispatch.
    pub(super) fn ring(&mut self, key: FunctionKey) {
        // Stale when it was removed while it stood in the ring, and of what is restored without its function.
        let Some(function) = self.functions.get_mut(key) else { return };
        if !function.ringed && !function.queue.is_empty() && function.can_dispatch() {
            function.ringed = true;
            self.ring.push_back(key);
        }
    }

    /// Gives ready functions their turns, at most one batch.
    pub(super) fn serve(&mut self, fx: &mut Effects) {
        if self.phase.restoring {
            return;
        }
        let mut left = self.limits.batch_max;
        while left > 0 {
            let Some(key) = self.ring.pop_front() else { break };
            if let Some(function) = self.functions.get_mut(key) {
                function.ringed = false;
            }
            for _ in 0..self.limits.turn_max {
                if left == 0 || !self.dispatch_next(key, fx) {
                    break;
                }
                left -= 1;
            }
            if !self.sabotaged.by(Sabotage::TurnForgotten) {
                self.ring(key);
            }
        }
    }

    /// Dispatches the head of a function's queue if a slot is free. Returns whether it did.
    pub(super) fn dispatch_next(&mut self, key: FunctionKey, fx: &mut Effects) -> bool {
        let Some(function) = self.functions.get_mut(key).filter(|function| function.can_dispatch()) else {
            return false;
        };
        let executions = &self.executions;
        let waits = |key| executions.get(key).is_some_and(|execution| execution.is_queued());
        if self.sabotaged.by(Sabotage::HeadGoesLast)
            && let Some(head) = function.queue.pop(waits)
        {
            function.queue.push(head);
        }
        match function.queue.pop(waits) {
            Some(execution) if self.would_risk_the_last(execution) => {
                self.wait_for_another(execution);
                true
            }
            Some(execution) => {
                self.dispatch(execution, fx);
                true
            }
            None => false,
        }
    }

    /// The same for one that waits to be drained, if there is any.
    pub(super) fn dispatch_from_backlog(&mut self, key: FunctionKey, fx: &mut Effects) -> Option<AttemptKey> {
        let function = self.functions.get_mut(key).filter(|function| function.can_dispatch())?;
        let executions = &self.executions;
        let waits = |key| executions.get(key).is_some_and(|execution| execution.is_queued());
        let execution = function.backlog.pop(waits).or_else(|| function.queue.pop(waits))?;
        if self.would_risk_the_last(execution) {
            self.wait_for_another(execution);
            return None;
        }
        self.dispatch(execution, fx);
        self.executions.get(execution)?.in_flight
    }

    /// Whether an execution waits to be drained when it waits.
    pub(super) fn is_backlogged(&self, execution: &Execution) -> bool {
        execution.accepted
            && (self.phase.held || self.phase.start.is_being_written() || !self.settings.background_scheduler)
    }

    /// Takes a slot and sends the next attempt of a queued execution.
    pub(super) fn dispatch(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let now = self.now;
        let random = self.next_random();
        self.note_sync_dispatch(key, fx);
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        let Some(function) = self.functions.get_mut(execution.function) else { return self.impossible() };
        let destination = choose_destination(execution.function, function, random);
        let timeout_us = u64::from(function.policy.timeout_ms) * 1000;
        function.in_flight += 1;
        function.counters.dispatches += 1;
        function.accounting.queued -= 1;
        function.accounting.running += 1;

        let queued_bytes = std::mem::take(&mut live.queued_bytes);
        if !self.sabotaged.by(Sabotage::BytesKept) {
            self.bytes.queued -= queued_bytes;
        }
        live.dispatched_us = now.mono_us;
        let remaining_us = if execution.accepted {
            timeout_us
        } else {
            timeout_us.min(live.deadline_us.saturating_sub(now.mono_us))
        };
        execution.course = Course::Active(Activity::Running);
        execution.attempt += 1;
        execution.dispatched_ms = now.unix_ms;
        live.was_tried = std::mem::replace(&mut live.is_tried, true);
        let endpoint = match destination {
            Destination::Local | Destination::Job(_) => None,
            Destination::Endpoint(endpoint) => Some(endpoint),
        };
        let attempt = self.attempts.insert(Attempt {
            execution: key,
            id: execution.id,
            function: execution.function,
            endpoint,
            timer: TimerKey::NONE,
            dispatched_us: now.mono_us,
            settled: false,
            lingers: false,
            exchange_over: false,
            connecting: false,
            job: matches!(destination, Destination::Job(_)).then_some(JobStage::Ordered),
            drainer: None,
        });
        execution.in_flight = Some(attempt);
        if execution.accepted && matches!(destination, Destination::Job(_)) {
            return self.record_job(attempt, fx);
        }
        let timer = self.timers.insert(now.mono_us + timeout_us, Due::Attempt(attempt));
        if let Some(entry) = self.attempts.get_mut(attempt) {
            entry.timer = timer;
        }
        let written = execution.accepted.then_some((execution.id, execution.attempt));
        let ids = (attempt, execution.id, execution.attempt);
        fx.push(Effect::Dispatch(dispatch_of(ids, live, destination, remaining_us)));
        if let Some((id, attempt)) = written {
            self.write(Record::Attempted { id, attempt }, fx);
        }
    }

    /// The replicas of a function changed: addresses are opened and closed accordingly.
    pub(super) fn endpoints_changed(
        &mut self,
        key: FunctionKey,
        replicas: Vec<ReplicaAddress>,
        desired: u32,
        fx: &mut Effects,
    ) {
        // Stale when it comes after a removal. Nothing would close them again, and a fixed address is not the backend's.
        let Some(function) = self.functions.get_mut(key).filter(|function| {
            function.life != Life::Gone && (function.is_managed() || function.life.is_claimed())
        }) else {
            return;
        };
        function.desired = desired;
        if let Some(provisioned) = function.provisioned.as_mut() {
            // This is newer than what the backend said before, of a registration that is being written down.
            provisioned.endpoints.clear();
            provisioned.desired = desired;
        }
        let first = !function.has_replica();
        let all_stay = self.sabotaged.by(Sabotage::StaleReplicaCalled);
        // Both are looked up in order: there may be thousands, and a step must not take their square.
        let ready: BTreeMap<u64, &str> = replicas.iter().map(|of| (of.replica, &*of.address)).collect();
        let by_address = self.sabotaged.by(Sabotage::ReplicasMistaken);
        let stays = |endpoint: &Endpoint| match by_address {
            true => replicas.iter().any(|of| of.address == endpoint.address),
            false => ready.get(&endpoint.replica).is_some_and(|address| **address == *endpoint.address),
        };
        let closed = function.endpoints.take_unless(|endpoint| all_stay || stays(endpoint));
        self.number_endpoints(key);
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        let mut open: BTreeSet<u64> = function.endpoints.iter().map(|endpoint| endpoint.replica).collect();
        for endpoint in closed {
            self.close_endpoint(endpoint.id, fx);
        }
        for of in replicas {
            if open.insert(of.replica) {
                self.open_endpoint(key, of, fx);
            }
        }
        if let Some(function) = self.functions.get_mut(key) {
            function.follow_replicas(self.settings.autoscaler.is_some());
        }
        self.keep_one_in_reach(key);
        if first {
            self.restart_sync_waits(key);
        }
        self.ring(key);
    }

    /// Addresses of a function are in other places now.
    pub(super) fn number_endpoints(&mut self, key: FunctionKey) {
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        for (place, endpoint) in function.endpoints.iter().enumerate() {
            if let Some(open) = self.endpoints.get_mut(endpoint.id) {
                open.place = place as u32;
            }
        }
    }

    pub(super) fn open_endpoint(&mut self, key: FunctionKey, of: ReplicaAddress, fx: &mut Effects) {
        let ReplicaAddress { replica, address } = of;
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let place = function.endpoints.len() as u32;
        let id = self.endpoints.insert(OpenEndpoint { place, ..OpenEndpoint::default() });
        fx.push(Effect::OpenEndpoint {
            endpoint: id,
            function: function.name,
            address: Arc::clone(&address),
            concurrency: function.policy.concurrency,
        });
        function.endpoints.push(Endpoint { id, replica, address, in_flight: 0, down: false });
    }

    pub(super) fn close_endpoint(&mut self, endpoint: EndpointId, fx: &mut Effects) {
        if let Some(open) = self.endpoints.remove(endpoint) {
            self.timers.remove(open.retry);
        }
        fx.push(Effect::CloseEndpoint { endpoint });
    }
}

/// What is sent for an attempt: of this key, of this execution, with this number.
#[inline]
pub(super) fn dispatch_of(
    (attempt, id, number): (AttemptKey, ExecutionId, u32),
    live: &Live,
    destination: Destination,
    remaining_us: u64,
) -> Dispatch {
    let mut extra = live.extra.clone();
    if live.was_tried
        && let Some(extra) = extra.as_mut()
    {
        // A function that deduplicates by the key would answer a retry with the failure it remembers.
        extra.idempotency = None;
    }
    Dispatch {
        attempt,
        id,
        number,
        destination,
        payload: live.payload.clone(),
        remaining_ms: u32::try_from(remaining_us.div_ceil(1000)).unwrap_or(u32::MAX).max(1),
        extra,
    }
}

/// Where a function's next attempt goes. Call it only when there is somewhere.
fn choose_destination(key: FunctionKey, function: &mut Function, random: u64) -> Destination {
    match function.runner {
        Runner::Local => return Destination::Local,
        Runner::Jobs => return Destination::Job(key),
        Runner::Address | Runner::Backend => {}
    }
    function.endpoints.choose(random).map_or(Destination::Local, |endpoint| {
        endpoint.in_flight += 1;
        Destination::Endpoint(endpoint.id)
    })
}
