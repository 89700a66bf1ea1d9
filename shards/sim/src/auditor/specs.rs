//! Specs: those of a shard's functions take no more bytes than they may, and nobody is refused for them while there is room.
//!
//! What a shard counts is known within bounds: it counts at least the functions that callers know of, and at most those that
//! may be there as well, because they are being registered, were not, or have attempts in flight after their removal.

use std::collections::BTreeMap;

use shard_core::{FunctionSpec, Name, Seating, Ticket};

use super::Verdict;
use crate::swarm::Swarm;

/// See the module.
#[derive(Debug)]
pub(super) struct Specs {
    seating: Seating,
    bytes_max: u64,
    registered: BTreeMap<Name, u64>,
    /// Who registers what.
    asked: BTreeMap<Ticket, (Name, u64)>,
    /// Whose registration was refused, and may be at its backend yet.
    refused: BTreeMap<Name, u64>,
    /// Removed ones, by their registration.
    removed: BTreeMap<u64, (Name, u64)>,
}

impl Specs {
    pub(super) fn new(swarm: &Swarm) -> Specs {
        Specs {
            seating: Seating::of(swarm.shards),
            bytes_max: swarm.limits.specs_bytes_max,
            registered: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    pub(super) fn asked(&mut self, ticket: Ticket, spec: &FunctionSpec) {
        self.asked.insert(ticket, (spec.name, spec.document.len() as u64));
    }

    pub(super) fn registered(&mut self, ticket: Ticket) -> Verdict {
        let Some((name, bytes)) = self.asked.remove(&ticket) else { return Ok(()) };
        self.refused.remove(&name);
        self.registered.insert(name, bytes);
        let shard = self.shard_of(&name);
        let bytes = self.bytes_on(shard, self.registered.iter().map(|(name, bytes)| (*name, *bytes)));
        match bytes > self.bytes_max {
            true => Err(format!("{bytes} bytes of specs are registered, more than {}", self.bytes_max)),
            false => Ok(()),
        }
    }

    /// A request to register was refused, and is rolled back if it could not be written down.
    pub(super) fn refused(&mut self, ticket: Ticket, unwritten: bool) {
        if let Some((name, bytes)) = self.asked.remove(&ticket).filter(|_| unwritten) {
            self.refused.insert(name, bytes);
        }
    }

    pub(super) fn removed(&mut self, name: Name, epoch: u64) {
        if let Some(bytes) = self.registered.remove(&name) {
            self.removed.insert(epoch, (name, bytes));
        }
    }

    /// What is on record is registered from now on.
    pub(super) fn crashed(&mut self, on_record: &BTreeMap<Name, FunctionSpec>) {
        self.asked.clear();
        self.refused.clear();
        self.removed.clear();
        self.registered = on_record.iter().map(|(name, spec)| (*name, spec.document.len() as u64)).collect();
    }

    /// Whether there surely was room for what this caller wants registered. `is_held`: a registration has attempts in flight.
    pub(super) fn have_room(&self, ticket: Ticket, is_held: impl Fn(u64) -> bool) -> bool {
        let Some((name, bytes)) = self.asked.get(&ticket) else { return false };
        let registered = self.registered.iter().chain(&self.refused).map(|(name, bytes)| (*name, *bytes));
        let asked = self.asked.iter().filter(|(other, _)| **other != ticket).map(|(_, asked)| *asked);
        let removed = self.removed.iter().filter(|(epoch, _)| is_held(**epoch)).map(|(_, spec)| *spec);
        let counted_max = self.bytes_on(self.shard_of(name), registered.chain(asked).chain(removed));
        counted_max + bytes <= self.bytes_max
    }

    fn bytes_on(&self, shard: u16, specs: impl Iterator<Item = (Name, u64)>) -> u64 {
        specs.filter(|(name, _)| self.shard_of(name) == shard).map(|(_, bytes)| bytes).sum()
    }

    fn shard_of(&self, name: &Name) -> u16 {
        self.seating.owner_of(name.owner_hash())
    }
}
