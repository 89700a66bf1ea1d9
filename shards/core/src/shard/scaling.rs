//! Readings are taken, decisions made and given to the backend: from time to time, and at once when a call comes for
//! a function that has no replica.

use crate::{
    answer::{Answer, Refusal},
    effect::{Effect, Effects},
    function::{Function, Life},
    input::Ticket,
    name::Name,
    scaling::{
        ConcurrencyControl, Cooldowns, Decision, Load, PerReplica, Readings, Rule, Scaling, ScalingReport,
        ScalingView, decide,
    },
    settings::Autoscaler,
    shard::{FunctionKey, Shard},
    timers::Due,
};

/// Time between two batches of decisions.
const BATCH_PAUSE_US: u64 = 1000;

/// How a function's replicas are doing. Times are monotonic.
#[derive(Debug)]
pub(crate) struct ScalingState {
    pub(crate) scaling: Scaling,
    per_replica: PerReplica,
    /// Dispatches at the last reading, and when that was.
    dispatches: u64,
    read_us: Option<u64>,
    up_us: Option<u64>,
    /// When their number was last changed, by a decision or by a person.
    changed_us: Option<u64>,
    decision: Option<(Decision, u64)>,
    /// The rule behind an order that the backend has not answered yet, and when it was given.
    ordered: Option<(Rule, u64)>,
    failure: Option<Box<str>>,
    /// Attempts that may be in flight now.
    pub(crate) effective: u32,
}

impl ScalingState {
    pub(crate) fn new(scaling: Scaling, configured: u32) -> ScalingState {
        ScalingState {
            per_replica: PerReplica::new(&scaling.control),
            scaling,
            dispatches: 0,
            read_us: None,
            up_us: None,
            changed_us: None,
            decision: None,
            ordered: None,
            failure: None,
            effective: configured,
        }
    }

    /// The backend took note of a number, or could not; a decision had asked for it, or a person.
    pub(crate) fn scaled(&mut self, failure: Option<&str>, now_us: u64) {
        let ordered = self.ordered.take();
        match (failure, ordered) {
            (None, Some((rule, at_us))) => {
                self.changed_us = Some(at_us);
                // What wakes a function says nothing about how much follows: more may be added at once.
                if rule == Rule::ScaleUp {
                    self.up_us = Some(at_us);
                }
            }
            // What a person set is not taken back at once.
            (None, None) => self.changed_us = Some(now_us),
            // Nothing changed, so no cooldown begins: the next decision tries again.
            (Some(failure), Some(_)) => self.failure = Some(failure.into()),
            (Some(_), None) => {}
        }
    }

    fn view(&self) -> ScalingView {
        ScalingView { scaling: self.scaling.clone(), target_per_replica: self.per_replica.target }
    }
}

impl Function {
    /// How it is scaled, for metrics.
    pub(crate) fn scaling_view(&self) -> Option<ScalingView> {
        self.scaling.as_ref().filter(|_| self.managed).map(|state| state.view())
    }

    /// Lets the number of attempts in flight follow the replicas that are there.
    pub(crate) fn follow_replicas(&mut self, autoscaler_on: bool) {
        let (replicas, configured) = (self.endpoints.len() as u32, self.policy.concurrency);
        let Some(state) = self.scaling.as_mut() else { return };
        state.effective = if autoscaler_on && self.managed {
            state.per_replica.effective(&state.scaling.control, replicas, configured)
        } else {
            configured
        };
    }
}

impl Shard {
    /// Decides about the functions whose turn it is, one batch.
    pub(super) fn scale_some(&mut self, fx: &mut Effects) {
        self.scaling_timer = None;
        let Some(autoscaler) = self.settings.autoscaler.clone() else { return };
        if self.scaling_turn.is_empty() {
            let scaled = self.functions.iter().filter(|(_, function)| function.scaling.is_some());
            self.scaling_turn = scaled.map(|(key, _)| key).collect();
        }
        for _ in 0..self.limits.batch_max {
            let Some(key) = self.scaling_turn.pop_front() else { break };
            self.scale_one(key, &autoscaler, fx);
        }
        let pause_us =
            if self.scaling_turn.is_empty() { autoscaler.poll_interval_us } else { BATCH_PAUSE_US };
        self.arm_scaling(pause_us);
    }

    /// Makes sure that decisions come while there is a function to decide about.
    pub(super) fn arm_scaling(&mut self, pause_us: u64) {
        let any = || self.functions.iter().any(|(_, function)| function.scaling.is_some());
        if self.settings.autoscaler.is_some() && self.scaling_timer.is_none() && any() {
            self.scaling_timer = Some(self.timers.insert(self.now.mono_us + pause_us, Due::Scaling));
        }
    }

    /// The autoscaler was turned on or off, or has another pace: it decides at once, and slots follow it or do not.
    pub(super) fn reconfigure_scaling(&mut self, before: Option<&Autoscaler>) {
        if before == self.settings.autoscaler.as_ref() {
            return;
        }
        if let Some(timer) = self.scaling_timer.take() {
            self.timers.remove(timer);
        }
        self.scaling_turn.clear();
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
        let Some(function) = self.functions.get(key) else { return };
        let asleep = function.managed && function.desired == 0 && function.waiting_count() > 0;
        if asleep && let Some(autoscaler) = self.settings.autoscaler.clone() {
            self.scale_one(key, &autoscaler, fx);
        }
    }

    fn scale_one(&mut self, key: FunctionKey, autoscaler: &Autoscaler, fx: &mut Effects) {
        let now = self.now;
        // What a backend is working on is decided about when it is done.
        let idle =
            |function: &&mut Function| function.managed && !function.busy && function.life == Life::Live;
        let Some(function) = self.functions.get_mut(key).filter(idle) else { return };
        let readings = Readings {
            queue_depth: function.waiting_count(),
            in_flight: function.in_flight,
            rps: 0.0,
            replicas: function.desired,
        };
        let dispatches = function.counters.dispatches;
        let Some(state) = function.scaling.as_mut() else { return };
        let elapsed_us = state.read_us.map_or(0, |read_us| now.mono_us - read_us);
        let new_dispatches = dispatches - state.dispatches;
        let rps = if elapsed_us == 0 { 0.0 } else { new_dispatches as f64 * 1e6 / elapsed_us as f64 };
        (state.dispatches, state.read_us) = (dispatches, Some(now.mono_us));
        let since = |at_us: Option<u64>| at_us.map(|at_us| now.mono_us - at_us);
        let cooldowns = Cooldowns {
            since_up_us: since(state.up_us),
            since_change_us: since(state.changed_us),
            up_us: autoscaler.upscale_cooldown_us,
            down_us: autoscaler.downscale_cooldown_us,
        };
        let decision = decide(&state.scaling, &Readings { rps, ..readings }, &cooldowns);
        let load = Load {
            now_us: now.mono_us,
            ratio: decision.load,
            idle: !readings.has_work() && new_dispatches == 0,
            at_max: decision.before >= state.scaling.max_replicas,
            shrinking: decision.wanted < decision.before,
        };
        state.per_replica.adapt(&state.scaling.control, &load);
        let (rule, replicas) = (decision.rule, decision.result);
        let change = replicas != decision.before;
        state.failure = None;
        state.ordered = change.then_some((rule, now.mono_us));
        state.decision = Some((decision, now.unix_ms));
        function.follow_replicas(true);
        if change {
            function.busy = true;
            fx.push(Effect::Scale { function: key, name: function.name, replicas });
        }
        self.ring(key);
    }

    /// Says what was decided last, and why.
    pub(super) fn get_scaling(&self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let told = match self.live_function(name) {
            None => Answer::Refused(Refusal::FunctionNotFound),
            Some((_, function)) if !function.managed => Answer::Refused(Refusal::NotScalable),
            Some((_, function)) => Answer::Scaling(Box::new(self.report(function))),
        };
        fx.reply(ticket, told);
    }

    pub(super) fn report(&self, function: &Function) -> ScalingReport {
        let state = function.scaling.as_deref();
        let next_us = self.scaling_timer.and_then(|timer| self.timers.due_us(timer));
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
