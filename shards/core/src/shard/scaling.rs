//! Readings are taken, decisions made and given to the backend: from time to time, and at once when a call comes for
//! a function that has no replica.

use std::cmp::Reverse;

use crate::{
    answer::{Answer, Refusal},
    call::Ticket,
    effect::{Effect, Effects},
    endpoints::Endpoint,
    function::{Function, Life},
    keys::FunctionKey,
    name::Name,
    sabotage::{Sabotage, Sabotaged},
    scaling::{ConcurrencyControl, Readings, ScalingReport},
    settings::Autoscaler,
    shard::Shard,
    timers::Due,
};

/// Time between two batches of decisions.
const BATCH_PAUSE_US: u64 = 1000;

impl Shard {
    /// Decides about the functions whose turn it is, one batch.
    pub(super) fn scale_some(&mut self, fx: &mut Effects) {
        self.scaling.timer = None;
        let Some(autoscaler) = self.settings.autoscaler.clone() else { return self.impossible() };
        if self.scaling.turn.is_empty() {
            let scaled = self.functions.iter().filter(|(_, function)| function.scaling.is_some());
            self.scaling.turn = scaled.map(|(key, _)| key).collect();
        }
        for _ in 0..self.limits.batch_max {
            let Some(key) = self.scaling.turn.pop_front() else { break };
            self.scale_one(key, &autoscaler, fx);
        }
        let pause_us =
            if self.scaling.turn.is_empty() { autoscaler.poll_interval_us } else { BATCH_PAUSE_US };
        self.arm_scaling(pause_us);
    }

    /// Makes sure that decisions come while there is a function to decide about.
    pub(super) fn arm_scaling(&mut self, pause_us: u64) {
        let any = || self.functions.iter().any(|(_, function)| function.scaling.is_some());
        if self.settings.autoscaler.is_some() && self.scaling.timer.is_none() && any() {
            self.scaling.timer = Some(self.timers.insert(self.now.mono_us + pause_us, Due::Scaling));
        }
    }

    /// The autoscaler was turned on or off, or has another pace: it decides at once, and slots follow it or do not.
    pub(super) fn reconfigure_scaling(&mut self, before: Option<&Autoscaler>) {
        if before == self.settings.autoscaler.as_ref() {
            return;
        }
        if let Some(timer) = self.scaling.timer.take() {
            self.timers.remove(timer);
        }
        self.scaling.turn.clear();
        let on = self.settings.autoscaler.is_some();
        let scaled = self.functions.iter().filter(|(_, function)| function.scaling.is_some());
        for key in scaled.map(|(key, _)| key).collect::<Vec<_>>() {
            if let Some(function) = self.functions.get_mut(key) {
                function.follow_replicas(on);
            }
            self.ring(key);
        }
        self.arm_scaling(0);
    }

    /// A call waits for a function without replicas: it is not kept waiting for the next round.
    pub(super) fn wake(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        let asleep = function.is_managed() && function.desired == 0 && function.waiting_count() > 0;
        if asleep && let Some(autoscaler) = self.settings.autoscaler.clone() {
            self.scale_one(key, &autoscaler, fx);
        }
    }

    fn scale_one(&mut self, key: FunctionKey, autoscaler: &Autoscaler, fx: &mut Effects) {
        let now = self.now;
        let idle = |function: &&mut Function| function.is_managed() && function.life == Life::Live;
        // What a backend is working on is decided about when it is done. Stale when it was removed since the round began.
        let Some(function) = self.functions.get_mut(key).filter(idle) else { return };
        let readings = Readings {
            queue_depth: function.waiting_count(),
            in_flight: function.in_flight,
            rps: 0.0,
            replicas: function.desired,
        };
        // Its replicas are as many as somebody asked for, also when that is none.
        let Some(state) = function.scaling.as_mut() else { return };
        let replicas = state.decide(readings, function.counters.dispatches, autoscaler, now);
        function.follow_replicas(true);
        if let Some(replicas) = replicas {
            function.life = Life::Ordered;
            let first_to_go = first_to_go(function, replicas, self.sabotaged);
            fx.push(Effect::Scale { function: key, name: function.name, replicas, first_to_go });
        }
        self.ring(key);
    }

    /// Says what was decided last, and why.
    pub(super) fn get_scaling(&self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let told = match self.live_function(name) {
            None => Answer::Refused(Refusal::FunctionNotFound),
            Some((_, function)) if !function.is_managed() => Answer::Refused(Refusal::NotScalable),
            Some((_, function)) => Answer::Scaling(Box::new(self.report(function))),
        };
        fx.reply(ticket, told);
    }

    pub(super) fn report(&self, function: &Function) -> ScalingReport {
        let state = function.scaling.as_deref();
        let next_us = self.scaling.timer.and_then(|timer| self.timers.due_us(timer));
        ScalingReport {
            scaling: state.map(|state| state.scaling.clone()),
            enabled: self.settings.autoscaler.is_some(),
            replicas: (function.desired, function.endpoints.len() as u32),
            concurrency: (function.slots(), function.policy.concurrency),
            target_per_replica: state.map_or(0, |state| match state.scaling.control {
                ConcurrencyControl::Fixed => 0,
                _ => state.per_replica.target,
            }),
            decision: state.and_then(|state| state.decision.clone()),
            failure: state.and_then(|state| state.failure.clone()),
            next_ms: next_us
                .filter(|_| state.is_some())
                .map(|at_us| at_us.saturating_sub(self.now.mono_us) / 1000),
        }
    }
}

/// The replicas that go first when there are to be so many: those that take no calls, then those with the fewest, then the
/// newest. Empty, without an allocation, when none of those that are ready has to go; and when all have to.
pub(super) fn first_to_go(function: &Function, replicas: u32, sabotaged: Sabotaged) -> Box<[u64]> {
    let surplus = function.endpoints.len().saturating_sub(replicas as usize);
    if surplus == 0 || replicas == 0 {
        return Box::default();
    }
    let order = |endpoint: &Endpoint| (!endpoint.down, endpoint.in_flight, Reverse(endpoint.replica));
    let mut all: Vec<_> = function.endpoints.iter().map(order).collect();
    all.sort_unstable();
    if sabotaged.by(Sabotage::BusyReplicaGoes) {
        all.reverse();
    }
    all.into_iter().take(surplus).map(|(_, _, Reverse(replica))| replica).collect()
}
