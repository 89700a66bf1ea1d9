//! A crash: shards, connections and messages are gone, and so is every record that was not safe. A server is started
//! again with what disks have kept; functions and clients never stopped.

use shard_core::{Input, Record, recovery::Recovery};

use super::{Event, World, budgets, seats};
use crate::{network::Network, sabotage::Sabotage};

impl World {
    pub(super) fn crash(&mut self) -> Result<(), String> {
        // Without a disk nothing is kept, and nothing was promised for longer.
        if self.swarm.disk.ephemeral {
            return Ok(());
        }
        let loses = self.is_broken(Sabotage::RecordLost);
        self.disks.iter_mut().for_each(|disk| disk.crash(loses));
        self.auditor.crashed(self.disks.iter().flat_map(|disk| disk.log()))?;
        self.agenda.keep(|event| matches!(event, Event::Request | Event::Callback(_)));
        self.clients.cut_off();
        self.functions.cut_off();
        self.backend.cut_off();
        let (seed, swarm) = (self.options.seed, &self.swarm);
        self.network = Network::new(seed, swarm.shards, swarm.network.clone());
        self.budgets = budgets(swarm);
        self.auditor.configured(swarm.calls_per_second);
        self.seats = seats(&self.options, swarm);
        (0..self.swarm.shards).try_for_each(|shard| self.recover(shard))
    }

    /// Gives a shard back what its disk has kept.
    fn recover(&mut self, shard: u16) -> Result<(), String> {
        let mut recovery = Recovery::default();
        let forgets = self.is_broken(Sabotage::AttemptsForgotten);
        let read = |record: &&Record| !(forgets && matches!(record, Record::Attempted { .. }));
        let log = self.disks[usize::from(shard)].log();
        log.iter().filter(read).for_each(|record| recovery.apply(record.clone()));
        for stored in recovery.into_stored() {
            self.feed(shard, Input::Restore(stored))?;
        }
        self.feed(shard, Input::Restored)
    }
}
