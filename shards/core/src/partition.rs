//! Partitions: the unit in which functions and executions are owned, and in which records are written.
//!
//! There are 256 of them, always. The hash of a function's name, which every id of its executions carries, says which
//! one a thing belongs to. A shard seats many; which ones, a [`Seating`] says, and it is the only place that does.
//! The number of shards follows the machine and may change with every start. That of the partitions never does, so
//! what is written about a partition means the same to every server.
//!
//! Each time a server takes a partition over, an [`Epoch`] begins in it, and every record carries the one in which it was
//! written. A record of an earlier epoch than one that has begun before it, in the order of the journal, is from an owner
//! that did not know yet that it was none any more. It does not count.

use std::fmt;

/// How many there are.
pub const PARTITIONS: u16 = 256;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u8);

impl Partition {
    /// The one that everything with this hash belongs to. Stable for all time: what is on disk depends on it.
    pub fn of(owner_hash: u16) -> Partition {
        Partition((owner_hash % PARTITIONS) as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Partition> {
        (0..=u8::MAX).map(Partition)
    }

    /// Its place in a table of all.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How often a partition has been taken over, with the time that it is about. 0: never, as far as anybody wrote down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one that begins when the partition is taken over.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }

    /// The one before.
    #[must_use]
    pub fn before(self) -> Epoch {
        Epoch(self.0.saturating_sub(1))
    }

    /// How many have begun since another one.
    pub fn since(self, before: Epoch) -> u32 {
        u32::try_from(self.0.saturating_sub(before.0)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The epoch of each partition.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Box<[Epoch; PARTITIONS as usize]>);

impl Epochs {
    pub(crate) fn of(&self, partition: Partition) -> Epoch {
        self.0[partition.index()]
    }

    pub(crate) fn set(&mut self, partition: Partition, epoch: Epoch) {
        self.0[partition.index()] = epoch;
    }
}

impl Default for Epochs {
    fn default() -> Epochs {
        Epochs(Box::new([Epoch::default(); PARTITIONS as usize]))
    }
}

impl fmt::Debug for Epochs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = Partition::all().map(|partition| (partition, self.of(partition)));
        formatter.debug_map().entries(begun.filter(|(_, epoch)| *epoch > Epoch(0))).finish()
    }
}

/// Which shard of a server seats which partitions. Everything that goes to the owner of something asks this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seating {
    shards: u16,
}

impl Seating {
    /// All partitions, over so many shards (at least 1). Those beyond the 256th have none.
    pub fn of(shards: u16) -> Seating {
        Seating { shards: shards.max(1) }
    }

    /// How many shards there are.
    pub fn shards(self) -> u16 {
        self.shards
    }

    /// The shard that seats a partition.
    pub fn shard_of(self, partition: Partition) -> u16 {
        u16::from(partition.0) % self.shards
    }

    /// The shard that owns everything with this hash.
    pub fn owner_of(self, owner_hash: u16) -> u16 {
        self.shard_of(Partition::of(owner_hash))
    }

    /// What a shard seats, in order.
    pub fn partitions_of(self, shard: u16) -> impl Iterator<Item = Partition> {
        Partition::all().filter(move |partition| self.shard_of(*partition) == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn partitions_stay_the_same_for_all_time() {
        let long = "a".repeat(63);
        for (name, partition) in [("f", 0xd5), ("hello", 0x3a), ("resize-image", 0x2e), (&long, 0x70)] {
            let hash = Name::new(name).expect("valid").owner_hash();
            assert_eq!(Partition::of(hash), Partition(partition), "{name}");
        }
        assert_eq!(Partition::all().count(), usize::from(PARTITIONS));
    }

    #[test]
    fn every_partition_has_one_seat_and_its_hashes_go_there() {
        for shards in [0, 1, 2, 3, 8, 255, 256, 1024] {
            let seating = Seating::of(shards);
            let mut seats = vec![None; usize::from(PARTITIONS)];
            for shard in 0..seating.shards() {
                for partition in seating.partitions_of(shard) {
                    assert_eq!(seats[partition.index()].replace(shard), None, "{partition:?} has two seats");
                }
            }
            for hash in 0..=u16::MAX {
                let seat = seats[Partition::of(hash).index()];
                assert_eq!(seat, Some(seating.owner_of(hash)), "{hash} of {shards}");
            }
        }
    }

    #[test]
    fn owners_are_spread() {
        for shards in [3, 8] {
            let mut counts = vec![0_u32; usize::from(shards)];
            for number in 0..1000 * shards {
                let name = Name::new(&format!("function-{number}")).expect("valid");
                counts[usize::from(Seating::of(shards).owner_of(name.owner_hash()))] += 1;
            }
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
