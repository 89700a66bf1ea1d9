//! What has ended a replica does not go to the last one that is ready while another one is wanted, for a minute.
//!
//! How many are wanted is what was reported last; of a registration that is being made, either what its backend answers or
//! what it reports meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{BackendEvent, EndpointId, ExecutionId, FunctionKey, Input};

use super::{Auditor, Verdict};

/// Time for which that holds.
const CAUTION_US: u64 = 60_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Caution {
    /// Until when what has ended a replica does not go to the last one.
    careful: BTreeMap<ExecutionId, u64>,
    wanted: BTreeMap<(u16, FunctionKey), Wanted>,
}

/// How many replicas a function wants.
#[derive(Debug, Default)]
struct Wanted {
    /// Any of these.
    numbers: BTreeSet<u32>,
    /// A backend has answered a registration, which may not be there yet: what it said is yet to count.
    is_new: bool,
    /// What counts from the end of this step on: deadlines that pass in it come before what it is given.
    next: Option<u32>,
}

impl Caution {
    /// A shard is about to be given this.
    pub(super) fn input(&mut self, shard: u16, input: &Input) {
        let Input::Backend(function, event) = input else { return };
        let number = match event {
            BackendEvent::EndpointsChanged { desired, .. } => *desired,
            BackendEvent::Scaled(Ok(replicas)) => *replicas,
            BackendEvent::Provisioned(Ok(provisioned)) => provisioned.desired,
            _ => return,
        };
        let wanted = self.wanted.entry((shard, *function)).or_default();
        wanted.is_new |= matches!(event, BackendEvent::Provisioned(_));
        wanted.numbers.insert(number);
        wanted.next = Some(number);
    }

    /// A step of a shard is over.
    pub(super) fn settle(&mut self, shard: u16) {
        for (_, wanted) in self.wanted.iter_mut().filter(|((of, _), _)| *of == shard) {
            if let Some(next) = wanted.next.take_if(|_| !wanted.is_new) {
                wanted.numbers = BTreeSet::from([next]);
            }
        }
    }

    /// A replica ended with it, and it is tried again.
    pub(super) fn is_to_be_careful(&mut self, id: ExecutionId, now_us: u64) {
        self.careful.insert(id, now_us + CAUTION_US);
    }

    /// It begins anew: it was a dead letter.
    pub(super) fn begins_anew(&mut self, id: ExecutionId) {
        self.careful.remove(&id);
    }

    /// The shards are gone.
    pub(super) fn forget(&mut self) {
        *self = Caution::default();
    }
}

impl Auditor {
    /// An attempt goes to an address of a replica.
    pub(super) fn risks_the_last(
        &mut self,
        shard: u16,
        now_us: u64,
        id: ExecutionId,
        endpoint: EndpointId,
    ) -> Verdict {
        let Some(function) = self.endpoints.function_of(shard, endpoint) else { return Ok(()) };
        let Some(wanted) = self.caution.wanted.get_mut(&(shard, function)) else { return Ok(()) };
        // It has an attempt: its registration is there.
        wanted.is_new = false;
        let until_us = self.caution.careful.get(&id).copied().unwrap_or_default();
        if until_us <= now_us || wanted.numbers.iter().any(|wanted| *wanted <= 1) {
            return Ok(());
        }
        let others = self.endpoints.open_with(shard, endpoint).filter(|other| *other != endpoint);
        let is_up = |other: &EndpointId| self.crashes.probes.may_be_up(shard, *other, now_us);
        match others.into_iter().any(|other| is_up(&other)) {
            true => Ok(()),
            false => Err(format!("{id} has ended a replica, and goes to the last one")),
        }
    }
}
