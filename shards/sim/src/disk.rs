//! A shard's disk, and the store that writes to it: records are written in groups, and safe only when their group is.
//!
//! As in the server, a group that cannot be written is not taken for lost as a whole: new executions are, everything
//! else is a fact and is tried again. While the disk fails, new executions are refused at once. After a crash, a group
//! that was on its way is there as a whole or not at all, and so is the last one that failed: a disk that fails does not
//! say how far it came.

use std::collections::VecDeque;

use shard_core::{Entry, ExecutionId, Input, JournalEvent, ReadFailure, Record, journal::EndResult};

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
    /// What is there after a crash.
    log: Vec<Entry>,
    /// Records that were not written yet, oldest first.
    pending: VecDeque<(u64, Entry)>,
    /// Facts of groups that failed.
    backlog: Vec<Entry>,
    /// The last number of the group that is being written; 0 for one without new records.
    writing: Option<u64>,
    /// The last group failed: this may have come of it.
    failed: Option<Vec<Entry>>,
    full_until_us: u64,
    /// Number of the newest record that was taken.
    newest: u64,
}

/// What a shard is told of its records, and whether they are safe.
#[derive(Debug, Clone, Copy)]
pub enum Told {
    /// A group was written, up to this number.
    Written(u64),
    /// Nothing can be promised with records up to this number.
    Failed(u64),
    /// This record was not taken.
    NotTaken(u64),
}

impl Told {
    /// In the words of the shard.
    pub(crate) fn input(self) -> Input {
        match self {
            Told::Written(through) => Input::Journal(JournalEvent::Safe { through }),
            Told::Failed(through) => Input::Journal(JournalEvent::Failed { through }),
            Told::NotTaken(number) => Input::Journal(JournalEvent::NotTaken { number }),
        }
    }
}

impl Disk {
    pub(crate) fn new(seed: u64, shard: u16, faults: DiskFaults) -> Disk {
        Disk {
            shard,
            faults,
            random: Random::of(seed, Stream::Disk, shard),
            log: Vec::new(),
            pending: VecDeque::new(),
            backlog: Vec::new(),
            writing: None,
            failed: None,
            full_until_us: 0,
            newest: 0,
        }
    }

    /// From now on it does as it is told.
    pub(crate) fn repair(&mut self) {
        (self.faults.fails, self.faults.fills, self.full_until_us) = (0, 0, 0);
    }

    /// Whether records are on their way.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    /// What would be there after a crash.
    pub(crate) fn log(&self) -> &[Entry] {
        &self.log
    }

    /// How an execution ended, as the newest record of that says which is safe.
    pub(crate) fn read(&mut self, id: ExecutionId) -> Result<EndResult, ReadFailure> {
        if self.random.chance(self.faults.fails) {
            return Err(ReadFailure::Unreadable);
        }
        end_on_record(&self.log, id).ok_or(ReadFailure::Missing)
    }

    /// How long the next read takes.
    pub(crate) fn read_us(&mut self) -> u64 {
        self.random.around(self.faults.delay_us)
    }

    /// Takes the next record. Returns what is known at once.
    pub(crate) fn append(&mut self, number: u64, entry: Entry, agenda: &mut Agenda<Event>) -> Option<Told> {
        if self.faults.ephemeral {
            return Some(Told::Written(number));
        }
        let fails = self.failed.is_some();
        if fails && is_new(&entry) {
            return Some(Told::NotTaken(number));
        }
        let promises = matches!(
            entry.record,
            Record::Registered { .. }
                | Record::Removed { .. }
                | Record::Replayed { .. }
                | Record::Purged { .. }
        );
        self.newest = number;
        self.pending.push_back((number, entry));
        self.write(agenda);
        (fails && promises).then_some(Told::Failed(number))
    }

    /// The group that was being written is, or cannot be.
    pub(crate) fn commit(&mut self, agenda: &mut Agenda<Event>) -> Option<Told> {
        let through = self.writing.take()?;
        if self.random.chance(self.faults.fills) {
            self.full_until_us = agenda.now_us() + self.random.around(self.faults.full_us);
        }
        let fails = self.random.chance(self.faults.fails) || agenda.now_us() < self.full_until_us;
        let group = self.take_group(through);
        if fails {
            self.backlog = group.iter().filter(|entry| !is_new(entry)).cloned().collect();
            self.failed = Some(group);
            self.write(agenda);
            return (through > 0).then_some(Told::Failed(through));
        }
        self.log.extend(group);
        let failed = self.failed.take().is_some();
        // What failed before is safe with it, also when nothing has come since.
        let written = match self.pending.front() {
            Some((next, _)) => next - 1,
            None => self.newest,
        };
        self.write(agenda);
        (through > 0 || failed).then_some(Told::Written(written.max(through)))
    }

    /// The server ends and waits for it.
    pub(crate) fn flush(&mut self) {
        if self.failed.is_none() {
            let all = self.take_group(u64::MAX);
            self.log.extend(all);
            self.writing = None;
        }
    }

    /// The machine loses its power. What was not safe is gone, or was written just in time.
    /// `loses`: the newest record with it, although it was safe.
    pub(crate) fn crash(&mut self, loses: bool) {
        if loses {
            self.log.pop();
        }
        let last = match self.writing.take() {
            Some(through) => Some(self.take_group(through)),
            None => self.failed.take(),
        };
        if self.random.chance(500) {
            self.log.extend(last.into_iter().flatten());
        }
        self.pending.clear();
        self.backlog.clear();
        self.failed = None;
        self.newest = 0;
    }

    fn take_group(&mut self, through: u64) -> Vec<Entry> {
        let mut group = std::mem::take(&mut self.backlog);
        while let Some((_, entry)) = self.pending.pop_front_if(|(number, _)| *number <= through) {
            group.push(entry);
        }
        group
    }

    /// Starts on the next group, unless one is being written. A disk that failed is tried again.
    fn write(&mut self, agenda: &mut Agenda<Event>) {
        let newest = self.pending.back().map(|(number, _)| *number);
        let newest = newest.or(self.failed.is_some().then_some(0));
        if self.writing.is_none()
            && let Some(newest) = newest
        {
            self.writing = Some(newest);
            agenda.after(1 + self.random.around(self.faults.delay_us), Event::Commit { shard: self.shard });
        }
    }
}

/// How an execution ended, as the newest of these records says that are about that.
fn end_on_record(log: &[Entry], id: ExecutionId) -> Option<EndResult> {
    log.iter().rev().find_map(|entry| match &entry.record {
        Record::Ended { id: of, end, .. } | Record::Kept { id: of, end, .. } if *of == id => {
            Some(end.result.clone())
        }
        _ => None,
    })
}

/// Whether a record is lost with its group: whoever waits for it is told so.
fn is_new(entry: &Entry) -> bool {
    matches!(entry.record, Record::Accepted { .. })
}
