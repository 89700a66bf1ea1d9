//! Slots: never more attempts of a registration in flight than it allows, and none that outlives its time.

use std::collections::BTreeMap;

use shard_core::{ExecutionId, Now, Policy};

use super::Verdict;
use crate::{functions::ExchangeKey, swarm::Swarm};

#[derive(Debug)]
struct Slot {
    epoch: u64,
    id: ExecutionId,
    number: u32,
    /// When its attempt has to be over.
    until_us: u64,
    /// The function promised to call back: nothing is told when its time is over.
    promised: bool,
    /// A callback decided it; the exchange goes on.
    lingers: bool,
}

/// Attempts of one registration.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    slots: u32,
    exchanges: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slots {
    late_us_max: u64,
    attempts: BTreeMap<ExchangeKey, Slot>,
    held: BTreeMap<u64, Held>,
    /// The newest attempt of each execution that is in flight.
    newest: BTreeMap<ExecutionId, ExchangeKey>,
}

impl Slots {
    pub(super) fn new(swarm: &Swarm) -> Slots {
        Slots {
            late_us_max: swarm.turn_late_us,
            attempts: BTreeMap::new(),
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// An attempt takes a slot.
    pub(super) fn taken(
        &mut self,
        attempt: ExchangeKey,
        (id, number): (ExecutionId, u32),
        (epoch, policy): (u64, &Policy),
        now_us: u64,
    ) -> Verdict {
        let allowed = policy.concurrency;
        let until_us = now_us + u64::from(policy.timeout_ms) * 1000;
        let slot = Slot { epoch, id, number, until_us, promised: false, lingers: false };
        if self.attempts.insert(attempt, slot).is_some() {
            return Err(format!("attempt {attempt:?} was dispatched twice"));
        }
        self.newest.insert(id, attempt);
        let held = self.held.entry(epoch).or_default();
        held.slots += 1;
        held.exchanges += 1;
        if held.slots > allowed {
            self.end_overdue_promises(now_us);
        }
        let held = self.held.get(&epoch).copied().unwrap_or_default();
        if held.slots > allowed {
            return Err(format!("{} attempts of a function with {allowed} slots are in flight", held.slots));
        }
        if held.exchanges > 2 * allowed {
            return Err(format!("a function with {allowed} slots has {} exchanges", held.exchanges));
        }
        Ok(())
    }

    /// The dispatcher reports. Returns the execution whose attempt that decides, if it does.
    pub(super) fn reported(
        &mut self,
        attempt: ExchangeKey,
        now: Now,
        promised: bool,
    ) -> Result<Option<(ExecutionId, Option<u32>)>, String> {
        let Some(slot) = self.attempts.get_mut(&attempt) else { return Ok(None) };
        if now.mono_us > slot.until_us + self.late_us_max && !slot.promised {
            return Err(format!("attempt {} of {} outlives its time", slot.number, slot.id));
        }
        if promised && !slot.lingers {
            let over = !std::mem::replace(&mut slot.promised, true);
            if let Some(held) = self.held.get_mut(&slot.epoch) {
                held.exchanges -= u32::from(over);
            }
            return Ok(None);
        }
        let decides = !slot.lingers;
        let of = (slot.id, Some(slot.number));
        self.end(attempt);
        Ok(decides.then_some(of))
    }

    /// A function calls back about an attempt: if that is in flight, its slot is free now.
    pub(super) fn called_back(&mut self, id: ExecutionId, number: Option<u32>) {
        let Some(&attempt) = self.newest.get(&id) else { return };
        let Some(slot) = self.attempts.get_mut(&attempt) else { return };
        if number.is_some_and(|number| number != slot.number) || slot.lingers {
            return;
        }
        if slot.promised {
            self.end(attempt);
            return;
        }
        slot.lingers = true;
        if let Some(held) = self.held.get_mut(&slot.epoch) {
            held.slots -= 1;
        }
    }

    /// Nothing comes of an attempt any more.
    pub(super) fn end(&mut self, attempt: ExchangeKey) {
        let Some(slot) = self.attempts.remove(&attempt) else { return };
        if let Some(held) = self.held.get_mut(&slot.epoch) {
            held.slots -= u32::from(!slot.lingers);
            held.exchanges -= u32::from(!slot.promised);
        }
        if self.newest.get(&slot.id) == Some(&attempt) {
            self.newest.remove(&slot.id);
        }
    }

    /// The shards that held them are gone.
    pub(super) fn forget(&mut self) {
        self.attempts.clear();
        self.held.clear();
        self.newest.clear();
    }

    /// Checks that every slot was given back.
    pub(super) fn all_free(&self, now_us: u64) -> Verdict {
        match self.attempts.values().find(|slot| !slot.promised || slot.until_us > now_us) {
            None => Ok(()),
            Some(slot) => Err(format!("attempt {} of {} never ended", slot.number, slot.id)),
        }
    }

    /// Whoever promised a callback and sent none has lost its slot without a word.
    fn end_overdue_promises(&mut self, now_us: u64) {
        let overdue = |slot: &Slot| slot.promised && slot.until_us <= now_us;
        let ended: Vec<ExchangeKey> =
            self.attempts.iter().filter(|(_, slot)| overdue(slot)).map(|(attempt, _)| *attempt).collect();
        for attempt in ended {
            self.end(attempt);
        }
    }
}
