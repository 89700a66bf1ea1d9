//! What is remembered of a function whose replicas the shard decides about: the last reading, decision and order.

use super::{Cooldowns, Decision, Load, PerReplica, Readings, Rule, Scaling, ScalingView, decide};
use crate::{settings::Autoscaler, time::Now};

/// How a function's replicas are doing. Times are monotonic.
#[derive(Debug)]
pub(crate) struct ScalingState {
    pub(crate) scaling: Scaling,
    pub(crate) per_replica: PerReplica,
    /// Dispatches at the last reading, and when that was.
    dispatches: u64,
    read_us: Option<u64>,
    up_us: Option<u64>,
    /// When their number was last changed, by a decision or by a person.
    changed_us: Option<u64>,
    pub(crate) decision: Option<(Decision, u64)>,
    /// The rule behind an order that the backend has not answered yet, and when it was given.
    ordered: Option<(Rule, u64)>,
    pub(crate) failure: Option<Box<str>>,
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

    pub(crate) fn view(&self) -> ScalingView {
        ScalingView { scaling: self.scaling.clone(), target_per_replica: self.per_replica.target }
    }

    /// Decides, from these readings and how much was dispatched since the last ones. How many replicas there are to be, if
    /// that is another number than before.
    pub(crate) fn decide(
        &mut self,
        readings: Readings,
        dispatches: u64,
        autoscaler: &Autoscaler,
        now: Now,
    ) -> Option<u32> {
        let elapsed_us = self.read_us.map_or(0, |read_us| now.mono_us - read_us);
        let new_dispatches = dispatches - self.dispatches;
        let rps = if elapsed_us == 0 { 0.0 } else { new_dispatches as f64 * 1e6 / elapsed_us as f64 };
        (self.dispatches, self.read_us) = (dispatches, Some(now.mono_us));
        let since = |at_us: Option<u64>| at_us.map(|at_us| now.mono_us - at_us);
        let cooldowns = Cooldowns {
            since_up_us: since(self.up_us),
            since_change_us: since(self.changed_us),
            up_us: autoscaler.upscale_cooldown_us,
            down_us: autoscaler.downscale_cooldown_us,
        };
        let decision = decide(&self.scaling, &Readings { rps, ..readings }, &cooldowns);
        let load = Load {
            now_us: now.mono_us,
            ratio: decision.load,
            idle: !readings.has_work() && new_dispatches == 0,
            at_max: decision.before >= self.scaling.max_replicas,
            shrinking: decision.wanted < decision.before,
        };
        self.per_replica.adapt(&self.scaling.control, &load);
        let (rule, replicas) = (decision.rule, decision.result);
        let change = replicas != decision.before;
        self.failure = None;
        self.ordered = change.then_some((rule, now.mono_us));
        self.decision = Some((decision, now.unix_ms));
        change.then_some(replicas)
    }
}
