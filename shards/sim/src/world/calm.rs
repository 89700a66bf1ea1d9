//! The end of a run. Faults stop, and then: everything that was begun ends within a bounded time, every caller has its
//! answer, slots and bytes come home, and after their time finished executions are forgotten.

use shard_core::{Control, Input, Settings};

use super::World;
use crate::network::Message;

/// Longest that anything may take once faults have stopped, in microseconds: far longer than any timeout, back-off
/// and queue of a run together.
const DRAIN_US_MAX: u64 = 3_600_000_000;
/// Time within which replicas that could not be started after a restart are tried again and are there.
const RECONCILE_US: u64 = 10_000_000;
/// Time between two looks.
const LOOK_US: u64 = 1_000_000;

impl World {
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        if self.stopping {
            self.exit()?;
        }
        self.functions.behave();
        self.backend.behave();
        self.disks.iter_mut().for_each(|disk| disk.repair());
        self.storage.iter_mut().for_each(|storage| storage.repair());
        self.write_storage();
        for shard in 0..self.swarm.shards {
            let message = Message::Input(Input::Control(Control::Configure(Settings::default())));
            self.network.send_control(0, shard, message, &mut self.agenda);
        }
        self.drain()?;
        self.forget()
    }

    /// Lets everything come home.
    fn drain(&mut self) -> Result<(), String> {
        let patience_us = self.now_us() + DRAIN_US_MAX;
        loop {
            // What waits for a replica gets one.
            for deployment in self.backend.deployments() {
                self.backend.flap(deployment, 1, 0, &mut self.agenda);
            }
            self.pass(LOOK_US)?;
            let Some(rest) = self.rest() else { break };
            if self.now_us() > patience_us {
                return Err(format!("does not come to an end: {rest}"));
            }
        }
        self.auditor.drained(self.now_us())?;
        if let Some(id) = self.functions.jobs.left() {
            return Err(format!("a job of {id} goes on for ever"));
        }
        for (number, seat) in self.seats.iter().enumerate() {
            let totals = seat.shard.totals();
            if (totals.queued_bytes, totals.drift, totals.impossible) != (0, 0, 0) {
                return Err(format!("shard {number} does not balance when all is done: {totals:?}"));
            }
        }
        let leased = self.budgets.leased_bytes();
        let kept_max = 2 * self.swarm.limits.queued_bytes_chunk * u64::from(self.swarm.shards);
        if leased > kept_max {
            return Err(format!("{leased} bytes stay leased when nothing waits, more than {kept_max}"));
        }
        Ok(())
    }

    /// Lets finished executions and keys reach their age.
    fn forget(&mut self) -> Result<(), String> {
        let limits = &self.swarm.limits;
        // Who was turned away takes room that others give back, and gives it back with its next sweep: one shard after another.
        let sweeps = 3 + 2 * u64::from(self.swarm.shards);
        let sweeps_us = sweeps * limits.sweep_interval_us + 1_000_000;
        let bytes_max = self.swarm.room.bytes;
        self.pass(sweeps_us)?;
        let bytes: u64 = self.seats.iter().map(|seat| seat.shard.totals().retained_bytes).sum();
        if bytes > bytes_max {
            return Err(format!("shards hold {bytes} bytes of what has ended, more than {bytes_max}"));
        }
        let limits = &self.swarm.limits;
        // Limits may be shorter than the pause after which replicas are tried again, which has its timer.
        self.pass(
            limits.executions_ttl_us.max(limits.accepted_ttl_us).max(limits.keys_ttl_us).max(RECONCILE_US)
                + sweeps_us,
        )?;
        for (number, seat) in self.seats.iter().enumerate() {
            let totals = seat.shard.totals();
            let rest = (totals.keys, totals.timers, totals.retained_bytes);
            if totals.executions != totals.dead_letters || rest != (0, 0, 0) || seat.shard.has_ready() {
                return Err(format!("shard {number} keeps something for ever: {totals:?}"));
            }
            let (held, floor) = (seat.shard.room_held(), self.swarm.limits.room);
            if held != floor {
                return Err(format!("shard {number} holds {held:?} for nothing, more than {floor:?}"));
            }
        }
        let expected: usize = self.seats.iter().map(|seat| seat.shard.functions().count()).sum();
        self.auditor.functions_left(expected)
    }

    /// Lets time pass.
    fn pass(&mut self, time_us: u64) -> Result<(), String> {
        let until_us = self.now_us() + time_us;
        while let Some(event) = self.agenda.next_until(until_us) {
            self.happen(event)?;
        }
        Ok(())
    }

    /// What has not come home yet.
    fn rest(&self) -> Option<String> {
        if let Some(ticket) = self.clients.waiting().next() {
            return Some(format!("the caller with ticket {} has no answer", ticket.0));
        }
        for (number, seat) in self.seats.iter().enumerate() {
            let totals = seat.shard.totals();
            if totals.attempts > 0
                || totals.reads > 0
                || totals.executions > totals.finished + totals.dead_letters
            {
                return Some(format!("shard {number} has {totals:?}"));
            }
        }
        if self.functions.jobs.is_listing() {
            return Some("jobs are not listed yet".to_owned());
        }
        let is_busy = self.disks.iter().any(|disk| disk.is_busy());
        let is_busy = is_busy || self.storage.as_ref().is_some_and(|storage| storage.is_busy());
        is_busy.then(|| "a disk is not done".to_owned())
    }
}
