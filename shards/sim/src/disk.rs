//! A shard's disk: records are written in groups, and safe only when their group is. Until then they are lost with a
//! crash. A commit can fail, and the disk can be full for a while.

use std::collections::VecDeque;

use shard_core::{Input, Record};

use crate::{
    agenda::Agenda,
    random::{Random, Stream},
    swarm::DiskFaults,
    world::Event,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    shard: u16,
    faults: DiskFaults,
    random: Random,
    /// Records that are not safe yet, oldest first.
    pending: VecDeque<(u64, Record)>,
    /// The last number of the group that is being written.
    writing: Option<u64>,
    full_until_us: u64,
}

/// What came of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    /// Number of its last record.
    pub(crate) through: u64,
    /// Whether it is safe now.
    pub(crate) written: bool,
}

impl Commit {
    /// What the shard is told.
    pub(crate) fn told(self) -> Input {
        let through = self.through;
        if self.written { Input::Journaled { through } } else { Input::JournalFailed { through } }
    }
}

impl Disk {
    pub(crate) fn new(seed: u64, shard: u16, faults: DiskFaults) -> Disk {
        let random = Random::of(seed, Stream::Disk, shard);
        Disk { shard, faults, random, pending: VecDeque::new(), writing: None, full_until_us: 0 }
    }

    /// From now on it does as it is told.
    pub(crate) fn repair(&mut self) {
        (self.faults.fails, self.faults.fills, self.full_until_us) = (0, 0, 0);
    }

    /// Whether records are on their way.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    /// Takes the next record. Returns what is known at once.
    pub(crate) fn append(
        &mut self,
        number: u64,
        record: Record,
        agenda: &mut Agenda<Event>,
    ) -> Option<Commit> {
        if self.faults.ephemeral {
            return Some(Commit { through: number, written: true });
        }
        self.pending.push_back((number, record));
        self.write(agenda);
        None
    }

    /// The group that was being written is, or cannot be.
    pub(crate) fn commit(&mut self, agenda: &mut Agenda<Event>) -> Option<Commit> {
        let through = self.writing.take()?;
        if self.random.chance(self.faults.fills) {
            self.full_until_us = agenda.now_us() + self.random.around(self.faults.full_us);
        }
        let fails = self.random.chance(self.faults.fails) || agenda.now_us() < self.full_until_us;
        while self.pending.pop_front_if(|(number, _)| *number <= through).is_some() {}
        self.write(agenda);
        Some(Commit { through, written: !fails })
    }

    /// Starts on the next group, unless one is being written.
    fn write(&mut self, agenda: &mut Agenda<Event>) {
        if self.writing.is_none()
            && let Some((newest, _)) = self.pending.back()
        {
            self.writing = Some(*newest);
            agenda.after(self.random.around(self.faults.delay_us), Event::Commit { shard: self.shard });
        }
    }
}
