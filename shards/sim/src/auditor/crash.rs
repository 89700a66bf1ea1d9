//! A crash: what callers were promised has to be on record, and what is on record is how it goes on.
//!
//! Records are added up here once more, apart from the way in which shards do that.

use std::collections::BTreeMap;

use shard_core::{DeliveryStatus, Entry, ExecutionId, Failure, FunctionSpec, Name, Record, payload::code};

use super::{Auditor, Verdict, run::End};

/// What records say about an execution.
#[derive(Debug, Default)]
pub(super) struct OnRecord {
    /// Its function, when it was accepted before it had ended.
    function: Option<Name>,
    pub(super) attempts: u32,
    /// Attempts that do not count.
    pub(super) uncounted: u32,
    /// Replicas that ended with it.
    pub(super) replicas_ended: u32,
    /// The last attempt has no end.
    interrupted: bool,
    /// It has a job: when its time is over, on the clock that people read.
    job_until_ms: Option<u64>,
    pub(super) end: Option<End>,
    pub(super) dead: bool,
    /// Where its result goes.
    pub(super) url: Option<Box<str>>,
    /// It had ended before anything was on record: who had called was refused, and is owed no delivery.
    pub(super) is_late: bool,
    /// How the delivery of its result went.
    pub(super) delivery: Option<DeliveryStatus>,
    /// Its place among those that go on: by what put it at the tail last.
    order: usize,
    /// Since when it waits, on the clock that people read: since its acceptance, or its last replay that is on record.
    pub(super) queued_ms: u64,
    /// Its time was over.
    pub(super) forgotten: bool,
}

/// What records of all shards add up to.
#[derive(Debug, Default)]
struct Ledger {
    functions: BTreeMap<Name, FunctionSpec>,
    executions: BTreeMap<ExecutionId, OnRecord>,
    /// Records read so far.
    count: usize,
    /// Attempts made before their execution was accepted.
    early: BTreeMap<ExecutionId, Early>,
}

/// What was attempted before an execution was accepted.
#[derive(Debug, Default)]
struct Early {
    attempts: u32,
    goes_on: bool,
    job_until_ms: Option<u64>,
    replicas_ended: u32,
}

impl Auditor {
    /// All shards are gone, and what is left of them are these records. `dropped`: and these, before them, of which nothing has to
    /// be left.
    pub(crate) fn crashed<'a>(
        &mut self,
        dropped: &[Record],
        kept: impl Iterator<Item = &'a Entry> + Clone,
    ) -> Verdict {
        let mut ledger = Ledger::default();
        dropped.iter().chain(kept.clone().map(|entry| &entry.record)).for_each(|record| ledger.read(record));
        self.partitions.crashed(kept)?;
        self.stats.crashes += 1;
        self.callers.cut_off();
        self.slots.forget();
        self.crashes.forget();
        self.caution.forget();
        self.scales.forget();
        self.endpoints.forget();
        self.fairness.forget();
        self.promptness.forget();
        self.refusals.forget();
        self.restoring.clear();
        self.queues.forget();
        self.rates.forget();
        self.reads.forget();
        let given_back = ledger.executions.iter().filter(|(_, on_record)| !on_record.forgotten);
        self.records.crashed(given_back.map(|(id, _)| *id));
        self.specs.crashed(&ledger.functions);
        self.registrations.crashed(&ledger.functions, &ledger.unfinished())?;
        self.executions.crashed(&ledger.executions)?;
        for (id, function) in ledger.in_order() {
            if let Some(registration) = self.registrations.current(&function) {
                self.queues.give_back(id, registration.epoch);
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Executions that go on after the crash, in the order in which they wait.
    fn in_order(&self) -> Vec<(ExecutionId, Name)> {
        let goes_on = |on_record: &OnRecord| on_record.end.is_none() && !on_record.forgotten;
        let mut waiting: Vec<_> =
            self.executions.iter().filter(|(_, on_record)| goes_on(on_record)).collect();
        waiting.sort_by_key(|(_, on_record)| on_record.order);
        waiting.into_iter().filter_map(|(id, on_record)| Some((*id, on_record.function?))).collect()
    }

    /// Executions that go on after the crash, by function.
    fn unfinished(&self) -> BTreeMap<Name, u32> {
        let mut counts = BTreeMap::new();
        let goes_on = |on_record: &&OnRecord| on_record.end.is_none() && !on_record.forgotten;
        for function in self.executions.values().filter(goes_on).filter_map(|on_record| on_record.function) {
            *counts.entry(function).or_default() += 1;
        }
        counts
    }

    fn read(&mut self, record: &Record) {
        self.count += 1;
        match record {
            Record::Registered { spec } | Record::Reinstated { spec } => {
                self.functions.insert(spec.name, (**spec).clone());
            }
            Record::Removed { name } => {
                self.functions.remove(name);
            }
            Record::Started { .. } => {}
            Record::Accepted { id, function, created_ms, callback_url, .. } => {
                let on_record = self.executions.entry(*id).or_default();
                if std::mem::take(&mut on_record.forgotten) {
                    *on_record = OnRecord::default();
                }
                if let Some(early) = self.early.remove(id)
                    && on_record.function.is_none()
                    && on_record.end.is_none()
                {
                    (on_record.attempts, on_record.interrupted) = (early.attempts, early.goes_on);
                    on_record.job_until_ms = early.job_until_ms;
                    on_record.replicas_ended = early.replicas_ended;
                }
                if on_record.function.is_none() {
                    (on_record.order, on_record.queued_ms) = (self.count, *created_ms);
                }
                on_record.function = Some(*function);
                if callback_url.is_some() {
                    on_record.url.clone_from(callback_url);
                }
            }
            Record::Kept { id, function, attempt, end, dead, .. } => {
                let on_record = self.executions.entry(*id).or_default();
                if on_record.end.is_none() || on_record.forgotten {
                    let end = Some(End::of(&end.result));
                    let attempts = (*attempt).max(on_record.attempts);
                    let was_accepted = on_record.function.is_some() && !on_record.forgotten;
                    *on_record = OnRecord {
                        // It has a place in the queue of its function when it is tried again.
                        function: Some(*function),
                        is_late: !was_accepted || on_record.is_late,
                        url: on_record.url.take().filter(|_| was_accepted),
                        attempts,
                        end,
                        dead: *dead,
                        ..OnRecord::default()
                    };
                }
            }
            Record::Attempted { id, .. }
            | Record::JobOrdered { id, .. }
            | Record::JobLost { id }
            | Record::Requeued { id, .. }
            | Record::Ended { id, .. }
            | Record::Replayed { id, .. }
            | Record::Purged { id }
            | Record::Delivered { id, .. }
            | Record::Forgotten { id } => {
                let known = self.executions.get_mut(id).filter(|on_record| !on_record.forgotten);
                match (known, record) {
                    (Some(on_record), _) => on_record.read(record, self.count),
                    (None, Record::Attempted { attempt, .. }) => {
                        let early = self.early.entry(*id).or_default();
                        (early.attempts, early.goes_on, early.job_until_ms) = (*attempt, true, None);
                    }
                    (None, Record::JobOrdered { attempt, until_ms, .. }) => {
                        let early = self.early.entry(*id).or_default();
                        (early.attempts, early.goes_on) = (*attempt, true);
                        early.job_until_ms = Some(*until_ms);
                    }
                    (None, Record::Requeued { failure, .. }) => {
                        let early = self.early.entry(*id).or_default();
                        (early.goes_on, early.job_until_ms) = (false, None);
                        early.replicas_ended = early.replicas_ended.max(replicas_ended(failure));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// How many replicas have ended with what is tried again after this failure. The record may be written more than once.
fn replicas_ended(failure: &Failure) -> u32 {
    u32::from(failure.code == code::FUNCTION_CRASHED)
}

impl OnRecord {
    fn read(&mut self, record: &Record, order: usize) {
        match record {
            Record::Attempted { attempt, .. } | Record::JobOrdered { attempt, .. } if self.end.is_none() => {
                // Numbers may be left out. With the same number again, the one before was not run.
                let left_out = attempt.saturating_sub(self.attempts + 1);
                self.uncounted += left_out + u32::from(self.interrupted && *attempt > self.attempts);
                self.attempts = self.attempts.max(*attempt);
                self.interrupted = true;
                self.job_until_ms = match record {
                    Record::JobOrdered { until_ms, .. } => Some(*until_ms),
                    _ => None,
                };
            }
            Record::JobLost { .. } => self.job_until_ms = None,
            Record::Requeued { failure, .. } => {
                (self.interrupted, self.job_until_ms) = (false, None);
                self.order = order;
                self.replicas_ended = self.replicas_ended.max(replicas_ended(failure));
            }
            Record::Delivered { delivery, .. } => self.delivery = Some(delivery.status),
            Record::Ended { end, dead, .. } => {
                self.delivery = None;
                self.end = Some(End::of(&end.result));
                self.dead = *dead;
                (self.interrupted, self.job_until_ms) = (false, None);
            }
            Record::Replayed { at_ms, .. } if self.end.is_some() => {
                self.end = None;
                self.dead = false;
                (self.order, self.queued_ms) = (order, *at_ms);
                self.uncounted = self.attempts;
                self.replicas_ended = 0;
            }
            Record::Purged { .. } => self.dead = false,
            Record::Forgotten { .. } => self.forgotten = true,
            _ => {}
        }
    }

    /// The attempt that goes on after the crash, if its job may be there, and when its time is over.
    pub(super) fn job(&self) -> Option<(u32, u64)> {
        Some((self.attempts, self.job_until_ms.filter(|_| self.end.is_none())?))
    }

    /// Attempts that do not count, with the one that the crash cut off.
    pub(super) fn uncounted(&self) -> u32 {
        (self.uncounted + u32::from(self.interrupted)).min(self.attempts)
    }
}
