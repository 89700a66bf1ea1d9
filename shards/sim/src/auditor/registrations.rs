//! Which functions there are, by what their callers were told: one registration per name at a time.

use std::collections::BTreeMap;

use shard_core::{FunctionSpec, Name, Policy, Ticket};

use super::Verdict;

/// A registration of a name.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) policy: Policy,
    /// Tells registrations of one name apart.
    pub(super) epoch: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    asked: BTreeMap<Ticket, (Name, Policy)>,
    current: BTreeMap<Name, Registration>,
    epochs: u64,
}

impl Registrations {
    pub(super) fn asked(&mut self, ticket: Ticket, spec: &FunctionSpec) {
        self.asked.insert(ticket, (spec.name, spec.policy.clone()));
    }

    /// A request to register was refused.
    pub(super) fn refused(&mut self, ticket: Ticket) {
        self.asked.remove(&ticket);
    }

    pub(super) fn registered(&mut self, ticket: Ticket) -> Verdict {
        let Some((name, policy)) = self.asked.remove(&ticket) else {
            return Err(format!("ticket {} was told of a registration that it did not ask for", ticket.0));
        };
        self.epochs += 1;
        match self.current.insert(name, Registration { policy, epoch: self.epochs }) {
            None => Ok(()),
            Some(_) => Err(format!("{name} was registered while it was registered")),
        }
    }

    pub(super) fn removed(&mut self, name: &Name) -> Verdict {
        match self.current.remove(name) {
            Some(_) => Ok(()),
            None => Err(format!("{name} was removed while it was not registered")),
        }
    }

    pub(super) fn current(&self, name: &Name) -> Option<&Registration> {
        self.current.get(name)
    }

    /// Checks that there are as many functions as callers were told of.
    pub(super) fn are(&self, count: usize) -> Verdict {
        let known = self.current.len();
        if known == count {
            return Ok(());
        }
        Err(format!("shards have {count} functions, callers know of {known}"))
    }
}
