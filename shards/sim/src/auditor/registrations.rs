//! Which functions there are, by what their callers were told: one registration per name at a time.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{FunctionSpec, Name, Policy, Target, Ticket};

use super::Verdict;

/// A registration of a name.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) policy: Policy,
    /// Where its calls go, as it was asked for.
    pub(super) target: Target,
    /// Tells registrations of one name apart.
    pub(super) epoch: u64,
    /// Executions that a crash gave back to it: so many may wait for another attempt, whatever its queue takes.
    pub(super) restored: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    asked: BTreeMap<Ticket, (Name, Policy, Target)>,
    current: BTreeMap<Name, Registration>,
    /// Names that somebody asked to register, or to remove, in vain or not, since the last crash: who was told that it
    /// could not be written down does not know what is on the disk.
    registering: BTreeSet<Name>,
    removing: BTreeSet<Name>,
    epochs: u64,
}

impl Registrations {
    pub(super) fn asked(&mut self, ticket: Ticket, spec: &FunctionSpec) {
        self.registering.insert(spec.name);
        self.asked.insert(ticket, (spec.name, spec.policy.clone(), spec.target.clone()));
    }

    /// A removal was asked for.
    pub(super) fn removes(&mut self, name: Name) {
        self.removing.insert(name);
    }

    /// A request to register was refused.
    pub(super) fn refused(&mut self, ticket: Ticket) {
        self.asked.remove(&ticket);
    }

    pub(super) fn registered(&mut self, ticket: Ticket) -> Verdict {
        let Some((name, policy, target)) = self.asked.remove(&ticket) else {
            return Err(format!("ticket {} was told of a registration that it did not ask for", ticket.0));
        };
        self.epochs += 1;
        match self.current.insert(name, Registration { policy, target, epoch: self.epochs, restored: 0 }) {
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

    /// What is on record is registered from now on; callers were told of nothing else.
    pub(super) fn crashed(
        &mut self,
        on_record: &BTreeMap<Name, FunctionSpec>,
        unfinished: &BTreeMap<Name, u32>,
    ) -> Verdict {
        for name in self.current.keys() {
            if !on_record.contains_key(name) && !self.removing.contains(name) {
                return Err(format!("{name} was registered, and the crash has undone that"));
            }
        }
        let asked = |name: &Name| self.registering.contains(name) || self.removing.contains(name);
        for name in on_record.keys() {
            if !self.current.contains_key(name) && !asked(name) {
                return Err(format!("{name} was not registered, and is there after the crash"));
            }
        }
        self.asked.clear();
        self.registering.clear();
        self.removing.clear();
        self.current.clear();
        for (name, FunctionSpec { policy, target, .. }) in on_record {
            self.epochs += 1;
            let restored = unfinished.get(name).copied().unwrap_or_default();
            let registration =
                Registration { policy: policy.clone(), target: target.clone(), epoch: self.epochs, restored };
            self.current.insert(*name, registration);
        }
        Ok(())
    }

    /// All that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Name, &Registration)> {
        self.current.iter()
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
