//! Replicas that end: what was not run is no attempt, and what may have ended a replica is not tried at once. Where calls go
//! meanwhile is the matter of `probes`.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{
    Answer, AttemptKey, Destination, Dispatch, Effect, EndpointId, ExecutionId, Now, Outcome, effect::Note,
    payload::code,
};

use super::{Auditor, Cause, Verdict, endpoints::Endpoints, probes::Probes};
use crate::{backend::is_replica, functions::ExchangeKey};

/// Least time between two attempts of which the first ended a replica.
const PAUSE_US: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    /// Where attempts went.
    attempts: BTreeMap<ExchangeKey, (ExecutionId, EndpointId)>,
    /// Addresses of replicas, which are started again.
    managed: BTreeSet<(u16, EndpointId)>,
    /// Those of them that get no calls.
    pub(super) probes: Probes,
    /// An attempt that this step reports as not run, or as crashed.
    reported: Option<(AttemptKey, ExecutionId, EndpointId, bool)>,
    /// An address that is down when the step is over: what the step did before cannot be told from what it did after.
    downed: Option<EndpointId>,
}

impl Crashes {
    /// A call goes out.
    pub(super) fn dispatched(&mut self, shard: u16, now_us: u64, dispatch: &Dispatch) -> Verdict {
        let Destination::Endpoint(endpoint) = dispatch.destination else { return Ok(()) };
        self.attempts.insert((shard, dispatch.attempt), (dispatch.id, endpoint));
        self.probes.dispatched(shard, endpoint, now_us).map_err(|what| format!("{}: {what}", dispatch.id))
    }

    /// An address is opened.
    pub(super) fn opened(&mut self, shard: u16, endpoint: EndpointId, address: &str) {
        self.probes.changed(shard, endpoint);
        if is_replica(address) {
            self.managed.insert((shard, endpoint));
        }
    }

    /// An address is closed.
    pub(super) fn closed(&mut self, shard: u16, endpoint: EndpointId) {
        self.probes.changed(shard, endpoint);
    }

    pub(super) fn step_is_over(&mut self, shard: u16, now_us: u64, open: &Endpoints) {
        if let Some(endpoint) = self.downed.take() {
            self.probes.is_down(shard, endpoint, now_us);
        }
        self.probes.settle(shard, now_us, open);
    }

    /// The shards are gone.
    pub(super) fn forget(&mut self) {
        *self = Crashes::default();
    }
}

impl Auditor {
    /// The dispatcher says how an attempt went. Asked before the account of slots is told.
    pub(super) fn heard_of(&mut self, shard: u16, attempt: AttemptKey, outcome: &Outcome) {
        let known = self.slots.holds((shard, attempt));
        let Some((id, endpoint)) = self.crashes.attempts.remove(&(shard, attempt)) else { return };
        let (refused, crashed) =
            (matches!(outcome, Outcome::NotRun(_)), matches!(outcome, Outcome::Crashed(_)));
        if known && (refused || crashed) && self.crashes.managed.contains(&(shard, endpoint)) {
            self.crashes.reported = Some((attempt, id, endpoint, refused));
        }
    }

    /// Addresses are probed when their pauses are over, before anything else happens in a step.
    pub(super) fn judge_probes(&mut self, shard: u16, now: Now, effects: &[Effect]) -> Verdict {
        for effect in effects {
            if let Effect::Probe { endpoint, .. } = effect {
                self.stats.probed += 1;
                self.crashes.probes.probed(shard, *endpoint, now.mono_us, &self.endpoints)?;
            }
        }
        if let Some(false) = self.crashes.probes.hear(shard, now.mono_us) {
            self.stats.probes_failed += 1;
        }
        Ok(())
    }

    /// What was reported counts, unless the time of that attempt was over before.
    pub(super) fn hear(&mut self, shard: u16, now: Now, effects: &[Effect]) {
        let Some((attempt, id, endpoint, refused)) = self.crashes.reported.take() else { return };
        let ended_by = |effect: &Effect| matches!(effect, Effect::Abort { attempt: of } if *of == attempt);
        if effects.iter().any(ended_by) {
            return;
        }
        let by_time = |effect: &Effect| match effect {
            Effect::Abort { .. } | Effect::Reply { answer: Answer::TimedOut { .. }, .. } => true,
            Effect::Note(Note::Retry { code, .. }) => code == code::FUNCTION_TIMEOUT,
            _ => false,
        };
        match effects.iter().any(by_time) {
            true => self.crashes.downed = Some(endpoint),
            false => self.crashes.probes.is_down(shard, endpoint, now.mono_us),
        }
        if refused {
            self.stats.refused += 1;
            self.cause = Cause::NotRun(id);
        } else {
            self.stats.crashed += 1;
        }
    }

    /// An attempt is said not to have been run.
    pub(super) fn not_run(&mut self, id: ExecutionId, number: u32) -> Verdict {
        if !matches!(self.cause, Cause::NotRun(of) if of == id) {
            return Err(format!(
                "attempt {number} of {id} is said not to have been run, and nobody reported that"
            ));
        }
        self.executions.not_run(id, number)?;
        let run = self.executions.get_mut(id)?;
        let name = run.name;
        if run.is_muddy() {
            // Its caller has left: it may go without a word. Until then it has a place.
            self.is_unsure_of_queue(&name);
            return Ok(());
        }
        let Some(function) = self.registrations.current(&name) else {
            return Err(format!("{id} waits again, and {name} is not registered"));
        };
        // It was admitted once, and what came since may have its place.
        let policy = &function.policy;
        let places = policy.queue_size.max(function.restored) + policy.concurrency;
        self.queues.again(id, (function.epoch, places))
    }

    /// An attempt is followed by another.
    pub(super) fn is_rightly_tried_again(&mut self, now: Now, id: ExecutionId, why: &str) -> Verdict {
        if matches!(self.cause, Cause::NotRun(of) if of == id) && why != code::FUNCTION_TIMEOUT {
            return Err(format!("an attempt of {id} was not run, and counts"));
        }
        if why == code::FUNCTION_CRASHED {
            self.executions.crashed_with(id, now.mono_us + PAUSE_US)?;
            self.caution.is_to_be_careful(id, now.mono_us);
        }
        Ok(())
    }
}
