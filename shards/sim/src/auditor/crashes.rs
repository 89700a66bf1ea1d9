//! Replicas that end: no call goes to one that has just refused a call or broken off, what was not run is no attempt, and
//! what may have ended a replica is not tried at once.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{
    Answer, AttemptKey, Destination, Dispatch, Effect, EndpointId, ExecutionId, Now, Outcome, effect::Note,
    payload::code,
};

use super::{Auditor, Cause, Verdict};
use crate::{backend::is_replica, functions::ExchangeKey};

/// Time for which an address that did not take a call gets none.
const DOWN_US: u64 = 100_000;
/// Least time between two attempts of which the first ended a replica.
const PAUSE_US: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    /// Where attempts went.
    attempts: BTreeMap<ExchangeKey, (ExecutionId, EndpointId)>,
    /// Addresses of replicas, which are started again.
    managed: BTreeSet<(u16, EndpointId)>,
    /// Until when some of them get no calls.
    down: BTreeMap<(u16, EndpointId), u64>,
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
        match self.down.get(&(shard, endpoint)) {
            Some(until_us) if now_us < *until_us => {
                Err(format!("{} goes to an address that has just refused a call or broken off", dispatch.id))
            }
            _ => Ok(()),
        }
    }

    /// Whether an address gets no calls now.
    pub(super) fn is_known_to_be_down(&self, shard: u16, endpoint: EndpointId, now_us: u64) -> bool {
        self.down.get(&(shard, endpoint)).is_some_and(|until_us| now_us < *until_us)
    }

    /// An address is opened.
    pub(super) fn opened(&mut self, shard: u16, endpoint: EndpointId, address: &str) {
        if is_replica(address) {
            self.managed.insert((shard, endpoint));
        }
    }

    pub(super) fn step_is_over(&mut self, shard: u16, now_us: u64) {
        if let Some(endpoint) = self.downed.take() {
            self.is_down(shard, endpoint, now_us);
        }
    }

    fn is_down(&mut self, shard: u16, endpoint: EndpointId, now_us: u64) {
        let until_us = self.down.entry((shard, endpoint)).or_default();
        if *until_us <= now_us {
            *until_us = now_us + DOWN_US;
        }
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
            false => self.crashes.is_down(shard, endpoint, now.mono_us),
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
