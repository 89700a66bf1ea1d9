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
    /// The function is to call back: nothing is told when its time is over.
    deferred: bool,
    /// A callback decided it; the exchange goes on.
    lingers: bool,
    /// It has a job of its own.
    is_job: bool,
}

impl Slot {
    /// It has a job that no callback has decided.
    fn is_open_job(&self) -> bool {
        self.is_job && !self.lingers
    }
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
    /// Slots of attempts that are on record before anybody hears of them: registration and number.
    reserved: BTreeMap<ExecutionId, (u64, u32)>,
    /// A callback of this step that has yet to decide an attempt, of this number if it says so.
    callback: Option<(ExecutionId, Option<u32>)>,
    /// Registrations that took slots in this step, and how many they have.
    takers: Vec<(u64, u32)>,
    /// Executions that nobody waits for any more since this step.
    left: Vec<ExecutionId>,
}

impl Slots {
    pub(super) fn new(swarm: &Swarm) -> Slots {
        Slots {
            late_us_max: swarm.turn_late_us,
            attempts: BTreeMap::new(),
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
            reserved: BTreeMap::new(),
            callback: None,
            takers: Vec::new(),
            left: Vec::new(),
        }
    }

    /// An attempt that will have a job takes a slot before that is ordered.
    pub(super) fn reserve(
        &mut self,
        (id, number): (ExecutionId, u32),
        (epoch, policy): (u64, &Policy),
        now_us: u64,
    ) {
        self.end_before(id, now_us);
        self.release(id);
        self.reserved.insert(id, (epoch, number));
        self.held.entry(epoch).or_default().slots += 1;
        self.takers.push((epoch, policy.concurrency));
    }

    /// Nothing comes of an attempt that nobody has heard of.
    pub(super) fn release(&mut self, id: ExecutionId) {
        if let Some((epoch, _)) = self.reserved.remove(&id)
            && let Some(held) = self.held.get_mut(&epoch)
        {
            held.slots -= 1;
        }
    }

    /// Whether this attempt has taken a slot, and nobody has heard of it.
    pub(super) fn is_reserved(&self, (id, number): (ExecutionId, u32)) -> bool {
        self.reserved.get(&id).is_some_and(|(_, of)| *of == number)
    }

    /// An attempt of before a crash goes on.
    pub(super) fn goes_on(
        &mut self,
        attempt: ExchangeKey,
        (id, number): (ExecutionId, u32),
        (epoch, policy): (u64, &Policy),
        until_us: u64,
    ) {
        let slot = Slot { epoch, id, number, until_us, deferred: false, lingers: false, is_job: true };
        self.attempts.insert(attempt, slot);
        self.newest.insert(id, attempt);
        let held = self.held.entry(epoch).or_default();
        held.slots += 1;
        held.exchanges += 1;
        self.takers.push((epoch, policy.concurrency));
    }

    /// An attempt takes a slot. What made it free may be told later in the same step.
    pub(super) fn taken(
        &mut self,
        attempt: ExchangeKey,
        (id, number): (ExecutionId, u32),
        (epoch, policy): (u64, &Policy),
        (now_us, is_job): (u64, bool),
    ) -> Verdict {
        let until_us = now_us + u64::from(policy.timeout_ms) * 1000;
        let slot = Slot { epoch, id, number, until_us, deferred: false, lingers: false, is_job };
        if self.newest.contains_key(&id) {
            self.end_before(id, now_us);
        }
        self.release(id);
        if self.attempts.insert(attempt, slot).is_some() {
            return Err(format!("attempt {attempt:?} was dispatched twice"));
        }
        self.newest.insert(id, attempt);
        let held = self.held.entry(epoch).or_default();
        held.slots += 1;
        held.exchanges += 1;
        self.takers.push((epoch, policy.concurrency));
        Ok(())
    }

    /// An execution goes on to another attempt: if the one before holds a slot yet, either its time was over without
    /// a word, or the callback of this step has decided it.
    fn end_before(&mut self, id: ExecutionId, now_us: u64) {
        let Some(&before) = self.newest.get(&id) else { return };
        let Some(slot) = self.attempts.get(&before) else { return };
        if slot.deferred && slot.until_us <= now_us {
            self.end(before);
        } else if !slot.lingers && self.callback.is_some_and(|(of, _)| of == id) {
            self.called_back();
        }
    }

    /// Checks, after a step, that no registration holds more than it has.
    pub(super) fn are_enough(&mut self, now_us: u64) -> Verdict {
        self.callback = None;
        while let Some(id) = self.left.pop() {
            if self
                .newest
                .get(&id)
                .and_then(|attempt| self.attempts.get(attempt))
                .is_some_and(Slot::is_open_job)
            {
                return Err(format!("the job of {id} goes on, and nobody waits for it"));
            }
        }
        let held_by = |slots: &Slots, epoch| slots.held.get(&epoch).copied().unwrap_or_default();
        while let Some((epoch, allowed)) = self.takers.pop() {
            if held_by(self, epoch).slots > allowed {
                self.end_overdue_callbacks(now_us);
            }
            let held = held_by(self, epoch);
            if held.slots > allowed {
                let slots = held.slots;
                return Err(format!("{slots} attempts of a function with {allowed} slots are in flight"));
            }
            if held.exchanges > 2 * allowed {
                return Err(format!("a function with {allowed} slots has {} exchanges", held.exchanges));
            }
        }
        Ok(())
    }

    /// Slots that a registration has taken, at most.
    pub(super) fn held_by(&self, epoch: u64) -> u32 {
        self.held.get(&epoch).map_or(0, |held| held.slots)
    }

    /// The dispatcher reports. Returns the execution whose attempt that decides, if it does.
    pub(super) fn reported(
        &mut self,
        attempt: ExchangeKey,
        now: Now,
        deferred: bool,
    ) -> Result<Option<(ExecutionId, Option<u32>)>, String> {
        let Some(slot) = self.attempts.get_mut(&attempt) else { return Ok(None) };
        if now.mono_us > slot.until_us + self.late_us_max && !slot.deferred {
            return Err(format!("attempt {} of {} outlives its time", slot.number, slot.id));
        }
        if deferred && !slot.lingers {
            let over = !std::mem::replace(&mut slot.deferred, true);
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

    /// Nobody waits for an execution any more: by the end of this step it has no job.
    pub(super) fn is_left(&mut self, id: ExecutionId) {
        self.left.push(id);
    }

    /// Checks that no job of a registration that is gone goes on.
    pub(super) fn have_no_job(&self, epoch: u64) -> Verdict {
        match self.attempts.values().find(|slot| slot.epoch == epoch && slot.is_open_job()) {
            None => Ok(()),
            Some(slot) => Err(format!("the job of {} goes on without its function", slot.id)),
        }
    }

    /// Whether anything can come of an attempt yet.
    pub(super) fn holds(&self, attempt: ExchangeKey) -> bool {
        self.attempts.contains_key(&attempt)
    }

    /// A function calls back, and means the attempt that is in flight if it does not say which. Deadlines that come
    /// first may still change that.
    pub(super) fn calls_back(&mut self, id: ExecutionId, number: Option<u32>) {
        self.callback = Some((id, number));
    }

    /// The callback of this step has decided: if its attempt is in flight, the slot is free now.
    pub(super) fn called_back(&mut self) {
        let Some((id, number)) = self.callback.take() else { return };
        if number.is_none_or(|number| self.is_reserved((id, number))) {
            self.release(id);
        }
        let Some(&attempt) = self.newest.get(&id) else { return };
        let Some(slot) = self.attempts.get_mut(&attempt) else { return };
        if number.is_some_and(|number| number != slot.number) || slot.lingers {
            return;
        }
        if slot.deferred {
            self.end(attempt);
            return;
        }
        slot.lingers = true;
        if let Some(held) = self.held.get_mut(&slot.epoch) {
            held.slots -= 1;
        }
    }

    /// An attempt is given up. When its time is not over, and a callback of this step can mean it, that has decided it:
    /// the same callback says nothing of the attempt that follows at once.
    pub(super) fn aborted(&mut self, attempt: ExchangeKey, now_us: u64) -> Verdict {
        let of_callback = |slot: &Slot| {
            let means = |(id, number): (ExecutionId, Option<u32>)| {
                id == slot.id && number.is_none_or(|number| number == slot.number)
            };
            slot.until_us > now_us && self.callback.is_some_and(means)
        };
        if self.attempts.get(&attempt).is_some_and(of_callback) {
            self.callback = None;
        }
        let overdue = |slot: &&Slot| slot.is_job && slot.until_us + self.late_us_max < now_us;
        let verdict = match self.attempts.get(&attempt).filter(overdue) {
            Some(slot) => Err(format!("attempt {} of {} outlives its time", slot.number, slot.id)),
            None => Ok(()),
        };
        self.end(attempt);
        verdict
    }

    /// Nothing comes of an attempt any more.
    pub(super) fn end(&mut self, attempt: ExchangeKey) {
        let Some(slot) = self.attempts.remove(&attempt) else { return };
        if let Some(held) = self.held.get_mut(&slot.epoch) {
            held.slots -= u32::from(!slot.lingers);
            held.exchanges -= u32::from(!slot.deferred);
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
        self.reserved.clear();
        self.callback = None;
        self.takers.clear();
        self.left.clear();
    }

    /// Checks that every slot was given back.
    pub(super) fn all_free(&self, now_us: u64) -> Verdict {
        match self.attempts.values().find(|slot| !slot.deferred || slot.until_us > now_us) {
            None => Ok(()),
            Some(slot) => Err(format!("attempt {} of {} never ended", slot.number, slot.id)),
        }
    }

    /// Whoever was to call back and did not has lost its slot without a word.
    fn end_overdue_callbacks(&mut self, now_us: u64) {
        let overdue = |slot: &Slot| slot.deferred && slot.until_us <= now_us;
        let ended: Vec<ExchangeKey> =
            self.attempts.iter().filter(|(_, slot)| overdue(slot)).map(|(attempt, _)| *attempt).collect();
        for attempt in ended {
            self.end(attempt);
        }
    }
}
