//! Whoever is refused is refused for a reason that there is, and told a time after which it makes sense to come back.
//!
//! What takes an account of others is judged where that account is exact: a queue is, unless callers with keys may have
//! joined each other in it.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{Control, ExecutionId, Input, Name, Refusal, Request, Ticket};

use super::{Asked, Auditor, Verdict};
use crate::swarm::Swarm;

/// See the module.
#[derive(Debug)]
pub(super) struct Refusals {
    /// The sync queue may be on.
    sync_queue: bool,
    /// Shards that take nothing new.
    draining: BTreeSet<u16>,
    /// Who registers or removes a name, until that is answered.
    changing: BTreeMap<Ticket, Name>,
    /// Who gives a dead letter up, until that is answered.
    purging: BTreeMap<Ticket, ExecutionId>,
    /// What the request of this step is about.
    name: Option<Name>,
    id: Option<ExecutionId>,
    /// Registrations that made an attempt: how long those take is what a full queue's time to come back is made of.
    started: BTreeSet<u64>,
}

impl Refusals {
    pub(super) fn new(swarm: &Swarm) -> Refusals {
        Refusals {
            sync_queue: swarm.settings.sync_queue.is_some() || swarm.may_configure(),
            draining: BTreeSet::new(),
            changing: BTreeMap::new(),
            purging: BTreeMap::new(),
            name: None,
            id: None,
            started: BTreeSet::new(),
        }
    }

    /// A shard is about to be given this.
    pub(super) fn input(&mut self, shard: u16, input: &Input) {
        (self.name, self.id) = (None, None);
        if let Input::Control(Control::Drain { .. }) = input {
            self.draining.insert(shard);
        }
        let Input::Ask(ticket, request) = input else { return };
        (self.name, self.id) = match request {
            Request::Invoke(call) | Request::Enqueue(call) => (Some(call.name), None),
            Request::Register(spec) => (Some(spec.name), None),
            Request::Remove(name) | Request::DrainOnce(name) => (Some(*name), None),
            Request::Replay { name, id } | Request::Purge { name, id } => (Some(*name), Some(*id)),
            Request::Cancel(id) => (None, Some(*id)),
            _ => (None, None),
        };
        match request {
            Request::Register(spec) => drop(self.changing.insert(*ticket, spec.name)),
            Request::Remove(name) => drop(self.changing.insert(*ticket, *name)),
            Request::Purge { id, .. } => drop(self.purging.insert(*ticket, *id)),
            _ => {}
        }
    }

    /// Somebody has an answer.
    pub(super) fn answered(&mut self, ticket: Ticket) {
        self.purging.remove(&ticket);
        self.changing.remove(&ticket);
    }

    /// A registration's first attempt goes out, or another one.
    pub(super) fn starts(&mut self, epoch: u64) {
        self.started.insert(epoch);
    }

    /// Other shards begin, and know of nothing.
    pub(super) fn forget(&mut self) {
        self.draining.clear();
        self.changing.clear();
        self.purging.clear();
        self.started.clear();
    }

    /// Whether a name is being registered or removed for somebody else.
    pub(super) fn is_changing(&self, name: &Name, asker: Option<Ticket>) -> bool {
        self.changing.iter().any(|(ticket, of)| of == name && Some(*ticket) != asker)
    }
}

impl Auditor {
    /// Checks that there is a reason. `own`: who is refused asked in this very step.
    pub(super) fn has_reason(
        &self,
        shard: u16,
        asker: Ticket,
        asked: &Asked,
        refusal: &Refusal,
        own: bool,
    ) -> Verdict {
        let Refusals { name, id, .. } = self.refusals;
        let registration = name.and_then(|name| self.registrations.current(&name));
        let run = id.and_then(|id| self.executions.get(id)).filter(|run| !run.is_muddy());
        let wrong = |why: &str| Err(format!("ticket {} was refused as {refusal:?}: {why}", asker.0));
        match refusal {
            Refusal::FunctionNotFound if own => {
                let changing = name.is_none_or(|name| self.refusals.is_changing(&name, Some(asker)));
                if registration.is_some() && !changing && !matches!(asked, Asked::Register) {
                    return wrong("the function is there");
                }
            }
            Refusal::FunctionExists if own => {
                let changing = name.is_none_or(|name| self.refusals.is_changing(&name, Some(asker)));
                if registration.is_none() && !changing {
                    return wrong("there is no such function");
                }
            }
            Refusal::DeadLetterNotFound if own => {
                let is_one = run.is_some_and(|run| run.dead && Some(run.name) == name);
                let others = || self.refusals.purging.iter().filter(|(ticket, _)| **ticket != asker);
                let is_given_up = others().any(|(_, of)| Some(*of) == id);
                if is_one && !is_given_up && id.is_some_and(|id| self.records.end_is_safe(id)) {
                    return wrong("it is a dead letter");
                }
            }
            Refusal::NotCancellable(state) if own => {
                let waits = run.is_some_and(|run| run.promised && !run.running && run.ended.is_none());
                if waits {
                    return wrong("it waits");
                }
                if run.is_some_and(|run| run.running) && state.is_terminal() {
                    return wrong("it runs");
                }
            }
            Refusal::QueueFull { queue_depth, retry_after_s, .. } => {
                let Some(registration) = registration.filter(|_| own) else { return Ok(()) };
                let (epoch, size) = (registration.epoch, registration.policy.queue_size);
                if *queue_depth < size {
                    return wrong("there is a place, it says itself");
                }
                if self.queues.exact_depth(epoch).is_some_and(|depth| depth < size) {
                    return wrong("there is a place");
                }
                let started = self.refusals.started.contains(&epoch);
                let longest_ms = if started { registration.policy.timeout_ms } else { 0 };
                let latest_s = longest_ms.div_ceil(1000) + 1;
                let planned = self.refusals.sync_queue && matches!(asked, Asked::Call { .. });
                if !planned && *retry_after_s > latest_s {
                    return wrong("no attempt has taken so long");
                }
            }
            Refusal::KeyReused => {
                let Asked::Call { id, .. } = asked else { return wrong("it has no key") };
                if !self.executions.key_has_another_digest(*id) {
                    return wrong("nobody sent another payload with its key");
                }
            }
            Refusal::KeyInUse { id: holder }
                if !id.is_some_and(|id| self.goes_on_with_key_of(*holder, id)) =>
            {
                return wrong("nothing that goes on has its key");
            }
            Refusal::Overloaded { what, .. }
                if what.contains("limits.specs-bytes")
                    && self.specs.have_room(asker, |epoch| self.slots.held_by(epoch) > 0) =>
            {
                return wrong("there is room for its spec");
            }
            Refusal::SyncQueueRejected { .. } if !self.refusals.sync_queue => {
                return wrong("the sync queue is off");
            }
            Refusal::ShuttingDown if !self.refusals.draining.contains(&shard) => {
                return wrong("the server goes on");
            }
            Refusal::StoreUnavailable if !self.records.has_failed(shard) => {
                return wrong("the disk has taken everything");
            }
            _ => {}
        }
        match retry_after_s(refusal) {
            Some(0) => wrong("it is to come back at once"),
            _ => Ok(()),
        }
    }
}

impl Auditor {
    /// Whether an execution has the same key as another one, and has not ended, as far as its shard may show that.
    fn goes_on_with_key_of(&self, id: ExecutionId, other: ExecutionId) -> bool {
        let Some((run, other)) =
            self.executions.get(id).zip(self.executions.get(other)).filter(|_| id != other)
        else {
            return false;
        };
        let goes_on = run.ended.is_none() || run.is_muddy() || !self.records.end_is_known_to_be_safe(id);
        goes_on && run.key.is_some() && (run.name, &run.key) == (other.name, &other.key)
    }
}

/// After how many seconds whoever is refused is to come back.
fn retry_after_s(refusal: &Refusal) -> Option<u32> {
    match refusal {
        Refusal::RateLimited { retry_after_s, .. }
        | Refusal::QueueFull { retry_after_s, .. }
        | Refusal::SyncQueueRejected { retry_after_s, .. }
        | Refusal::Overloaded { retry_after_s, .. } => Some(*retry_after_s),
        _ => None,
    }
}
