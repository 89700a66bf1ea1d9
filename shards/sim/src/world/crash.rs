//! The end of a server, and the start of another. In a crash, shards, connections and messages are gone, and so is every record that was not safe. A server is started
//! again with what disks have kept; functions and clients never stopped.

use std::collections::BTreeMap;

use shard_core::{Control, Entry, Epoch, Input, Partition, Record, Seating, recovery::Recovery};

use super::{Event, World, budgets, rooms::Rooms, seats};
use crate::{
    network::Network,
    random::{Random, Stream},
    sabotage::Sabotage,
    storage::Kept,
};

impl World {
    /// The server is told to end: new work is refused, what runs may finish.
    pub(super) fn shut_down(&mut self, time_us: u64) -> Result<(), String> {
        if self.swarm.disk.ephemeral || self.stopping {
            return Ok(());
        }
        self.stopping = true;
        self.agenda.after(time_us, Event::GiveUp);
        self.tell_all(|| Input::Control(Control::Drain { finally: false }))
    }

    /// Its time is nearly over: whoever still waits is sent away.
    pub(super) fn give_up(&mut self) -> Result<(), String> {
        self.agenda.after(self.swarm.functions.service_us, Event::Exit);
        self.tell_all(|| Input::Control(Control::EndWatches))?;
        self.tell_all(|| Input::Control(Control::Drain { finally: true }))
    }

    /// It ends, with everything written that can be.
    pub(super) fn exit(&mut self) -> Result<(), String> {
        self.disks.iter_mut().for_each(|disk| disk.flush());
        self.storage.iter_mut().for_each(|storage| storage.flush());
        self.crash()
    }

    fn tell_all(&mut self, input: impl Fn() -> Input) -> Result<(), String> {
        (0..self.swarm.shards).try_for_each(|shard| self.feed(shard, input()))
    }

    /// The server ends without a word, and another one starts.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        // Without a disk nothing is kept, and nothing was promised for longer.
        if self.swarm.disk.ephemeral {
            return Ok(());
        }
        self.stopping = false;
        let loses = self.is_broken(Sabotage::RecordLost);
        self.disks.iter_mut().for_each(|disk| disk.crash(loses));
        let kept = self.storage.as_mut().map(|storage| storage.crash()).transpose()?;
        self.committing = false;
        match &kept {
            Some(kept) => self.auditor.crashed(&kept.dropped, kept.entries.iter())?,
            None => self.auditor.crashed(&[], self.disks.iter().flat_map(|disk| disk.log()))?,
        }
        self.agenda.keep(|event| {
            let of_jobs = matches!(event, Event::JobEnds { .. } | Event::JobCollected { .. });
            of_jobs || matches!(event, Event::Request | Event::Callback(_))
        });
        self.clients.cut_off();
        self.functions.cut_off(self.agenda.now_us());
        self.backend.cut_off();
        let (seed, swarm) = (self.options.seed, &self.swarm);
        self.network = Network::new(seed, swarm.shards, swarm.network.clone());
        if self.options.sabotage != Some(Sabotage::RoomLeasedToTheDead) {
            self.budgets = budgets(swarm);
        }
        self.rooms = Rooms::new(swarm);
        self.auditor.configured(swarm.calls_per_second);
        self.seats = seats(&self.options, swarm);
        (0..self.swarm.shards).try_for_each(|shard| self.recover(shard, kept.as_ref()))?;
        self.functions.jobs.begin_listing(&mut self.agenda);
        self.write_storage();
        Ok(())
    }

    /// Gives a shard back what its disk has kept.
    pub(super) fn recover(&mut self, shard: u16, kept: Option<&Kept>) -> Result<(), String> {
        let seating = Seating::of(self.swarm.shards);
        let mut recovery = Recovery::of(seating.partitions_of(shard));
        if self.swarm.limits.results_on_disk {
            recovery = recovery.with_results_max(self.swarm.room.bytes / u64::from(self.swarm.shards));
        }
        let forgets = self.is_broken(Sabotage::AttemptsForgotten);
        let read = |entry: &&Entry| !(forgets && matches!(entry.record, Record::Attempted { .. }));
        let is_its = |entry: &&Entry| seating.shard_of(entry.partition) == shard;
        let log: Vec<Entry> = match kept {
            Some(kept) => kept.entries.iter().filter(is_its).cloned().collect(),
            None => self.disks[usize::from(shard)].log().to_vec(),
        };
        log.iter().filter(read).for_each(|entry| recovery.apply(entry.clone()));
        for late in self.write_late(shard, &log) {
            match self.is_broken(Sabotage::LateRecordCounts) {
                true => recovery.apply_without_epoch(late.record),
                false => recovery.apply(late),
            }
        }
        let mut all: Vec<_> = recovery.into_stored().map(|stored| self.misread(stored)).collect();
        if self.is_broken(Sabotage::OrderForgotten) {
            let is_execution =
                |stored: &shard_core::Stored| matches!(stored, shard_core::Stored::Execution(_));
            let executions = all.iter().position(is_execution).unwrap_or(all.len());
            all[executions..].reverse();
        }
        for stored in all {
            self.feed(shard, Input::Control(Control::Restore(stored)))?;
        }
        self.feed(shard, Input::Control(Control::Restored))
    }

    /// What an earlier owner of the partitions writes behind all that, because it does not know yet that it is none any more. Our
    /// servers share no journal, so none does that; recovery has to leave it out all the same.
    fn write_late(&self, shard: u16, log: &[Entry]) -> Vec<Entry> {
        let mut random = Random::of(self.options.seed, Stream::Late, (shard, self.now_us()));
        let mut newest: BTreeMap<Partition, Epoch> = BTreeMap::new();
        for Entry { partition, epoch, .. } in log {
            newest.insert(*partition, *epoch);
        }
        let mut late = Vec::new();
        for Entry { partition, record, .. } in log {
            let epoch = newest.get(partition).copied().unwrap_or_default();
            let record = match record {
                Record::Registered { spec } => Record::Removed { name: spec.name },
                Record::Accepted { id, .. } => Record::Forgotten { id: *id },
                Record::Started { partition, .. } => {
                    Record::Started { partition: *partition, epoch: epoch.before() }
                }
                _ => continue,
            };
            if epoch > Epoch(0) && random.chance(100) {
                late.push(Entry::of(epoch.before(), record));
            }
        }
        late
    }

    /// What a broken recovery makes of something.
    fn misread(&self, stored: shard_core::Stored) -> shard_core::Stored {
        use shard_core::{Delivery, DeliveryStatus, Stored};

        let Stored::Execution(mut execution) = stored else { return stored };
        let extra = execution.extra.as_deref_mut();
        match self.options.sabotage {
            Some(Sabotage::KeysForgotten) => {
                extra.into_iter().for_each(|extra| extra.idempotency = None);
            }
            Some(Sabotage::AgesForgotten) => extra.into_iter().for_each(|extra| extra.max_age_ms = None),
            Some(Sabotage::AddressesForgotten) => execution.callback_url = None,
            Some(Sabotage::DeliveriesMadeUp) => {
                let delivered = Delivery { status: DeliveryStatus::Delivered, attempts: 1, last_error: None };
                execution.delivery = execution.delivery.or(Some(delivered));
            }
            _ => {}
        }
        Stored::Execution(execution)
    }
}
