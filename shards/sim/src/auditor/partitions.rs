//! Partitions: every record belongs to that of what it is about, comes from the shard that seats it, and carries the epoch
//! that has begun there with this server. An epoch begins with a record that says so, before any other one, and none that
//! may still count begins twice.

use std::collections::BTreeMap;

use shard_core::{Entry, Epoch, Partition, Record, Seating};

use super::Verdict;
use crate::disk::Told;

/// See the module.
#[derive(Debug)]
pub(super) struct Partitions {
    seating: Seating,
    /// Without a disk no epochs begin.
    is_durable: bool,
    /// The newest epoch of each that no crash can take away.
    over: BTreeMap<Partition, Epoch>,
    /// Those that have begun with this server.
    begun: BTreeMap<Partition, Epoch>,
    /// Of each shard: those of them that a crash can take away, and the numbers of the records that say so.
    unsafe_starts: Vec<Vec<(u64, Partition, Epoch)>>,
}

impl Partitions {
    pub(super) fn new(shards: u16, is_durable: bool) -> Partitions {
        Partitions {
            seating: Seating::of(shards),
            is_durable,
            over: BTreeMap::new(),
            begun: BTreeMap::new(),
            unsafe_starts: vec![Vec::new(); usize::from(shards)],
        }
    }

    pub(super) fn seating(&self) -> Seating {
        self.seating
    }

    /// A shard has this written.
    pub(super) fn recorded(&mut self, shard: u16, number: u64, entry: &Entry) -> Verdict {
        let Entry { partition, epoch, record } = entry;
        is_of(*partition, record)?;
        let seat = self.seating.shard_of(*partition);
        if seat != shard {
            return Err(format!("shard {shard} writes about {partition:?}, which shard {seat} seats"));
        }
        if let Record::Started { epoch: begins, .. } = record {
            let over = self.over.get(partition).copied().unwrap_or_default();
            if begins != epoch || *begins <= over || !self.is_durable {
                return Err(format!("epoch {begins} begins in {partition:?}, in which {over} is over"));
            }
            if self.begun.insert(*partition, *epoch).is_some() {
                return Err(format!("an epoch begins in {partition:?} once more"));
            }
            self.unsafe_starts[usize::from(shard)].push((number, *partition, *epoch));
            return Ok(());
        }
        let begun = self.begun.get(partition).copied();
        if begun != Some(*epoch) && (self.is_durable || *epoch != Epoch(0)) {
            return Err(format!("a record of {partition:?} is of epoch {epoch}, and {begun:?} has begun"));
        }
        Ok(())
    }

    /// A disk is done with some records.
    pub(super) fn told(&mut self, shard: u16, told: Told) {
        let Told::Written(through) = told else { return };
        let over = &mut self.over;
        self.unsafe_starts[usize::from(shard)].retain(|(number, partition, epoch)| {
            let is_safe = *number <= through;
            if is_safe {
                over.insert(*partition, *epoch);
            }
            !is_safe
        });
    }

    /// All shards are gone, and these records are left.
    pub(super) fn crashed<'a>(&mut self, kept: impl Iterator<Item = &'a Entry>) -> Verdict {
        self.begun.clear();
        self.unsafe_starts.iter_mut().for_each(Vec::clear);
        let mut newest: BTreeMap<Partition, Epoch> = BTreeMap::new();
        for Entry { partition, epoch, record } in kept {
            is_of(*partition, record)?;
            let newest = newest.entry(*partition).or_default();
            if epoch < newest {
                return Err(format!("{partition:?} has a record of epoch {epoch} behind one of {newest}"));
            }
            *newest = *epoch;
        }
        for (partition, epoch) in newest {
            let over = self.over.entry(partition).or_default();
            *over = epoch.max(*over);
        }
        Ok(())
    }
}

/// A record says of itself where it belongs.
fn is_of(partition: Partition, record: &Record) -> Verdict {
    let hash = match record {
        Record::Registered { spec } | Record::Reinstated { spec } => spec.name.owner_hash(),
        Record::Removed { name } => name.owner_hash(),
        Record::Accepted { id, .. }
        | Record::Kept { id, .. }
        | Record::Attempted { id, .. }
        | Record::JobOrdered { id, .. }
        | Record::JobLost { id }
        | Record::Requeued { id, .. }
        | Record::Ended { id, .. }
        | Record::Replayed { id, .. }
        | Record::Purged { id }
        | Record::Delivered { id, .. }
        | Record::Forgotten { id } => id.owner_hash(),
        Record::Started { partition, .. } => u16::from(partition.0),
    };
    match Partition::of(hash) == partition {
        true => Ok(()),
        false => Err(format!("{record:?} is written as one of {partition:?}")),
    }
}
