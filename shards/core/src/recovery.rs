//! From records, in the order in which they were written, to what they add up to: the functions that are registered
//! and the executions that are kept, each as one thing.
//!
//! A pure fold, which forgives: records of executions that were never accepted, or were forgotten, change nothing.
//! A store that was told to give a record up may keep what followed of it.
//!
//! An attempt without an end was interrupted. It does not count against the attempts that its execution may have,
//! but its number is not used again. Neither is one that may have been used without a record: a server makes an attempt
//! when it is safe that the one before failed, and the first one when its acceptance is; that record is the last that
//! it waits for, unless the attempt has a job. So there may be one more attempt than recorded, and one for every epoch that has begun in the partition since
//! ([`Record::Started`]) and in which nothing was written about the execution.
//!
//! An attempt that has a job is on record before the job is created, and the job may outlive the server. Whoever takes over
//! goes on with it; without a record of its end, no other attempt was made since, in whatever epoch.
//!
//! A record of an epoch that was over when it was written, by the order of the records, is left out: its writer had lost the
//! partition, and somebody else has decided since.
//!
//! Not here: how records are kept, and what a shard does with what they add up to (`shard/restoration`).

mod results;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::ExecutionId,
    journal::{EndResult, Entry, Record},
    name::Name,
    partition::{Epoch, Epochs, Partition},
    payload::{Failure, Payload, code},
    spec::FunctionSpec,
};

use self::results::Results;
pub use self::{
    results::{StoredEnd, StoredResult},
    stored::StoredExecution,
};

/// One thing that was kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// A partition, of which all that follows may be. They come first.
    Partition {
        /// Which one.
        partition: Partition,
        /// The newest epoch that is known to have begun in it.
        epoch: Epoch,
    },
    /// A function, as it was asked for.
    Function(Box<FunctionSpec>),
    /// An accepted execution.
    Execution(Box<StoredExecution>),
}

/// See the module.
#[derive(Debug)]
pub struct Recovery {
    /// What it is made for, and the newest epoch of each.
    partitions: Vec<Partition>,
    epochs: Epochs,
    /// Records of epochs that were over.
    fenced: u64,
    functions: BTreeMap<Name, Box<FunctionSpec>>,
    /// When a name was removed, last and before that.
    removals: BTreeMap<Name, [u64; 2]>,
    executions: BTreeMap<ExecutionId, Box<StoredExecution>>,
    /// Attempts of executions that are not accepted, as far as the records go: that may come behind them.
    early: BTreeMap<ExecutionId, Early>,
    count: u64,
    results: Results,
}

/// An attempt that was made before its execution was accepted.
#[derive(Debug, Default)]
struct Early {
    attempt: u32,
    /// It has not come to an end.
    is_interrupted: bool,
    /// When the time of its job is over.
    job_until_ms: Option<u64>,
    /// How it failed, or the one before it.
    failure: Option<Box<Failure>>,
    /// Attempts during which a replica ended.
    crashes: u32,
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery::of(Partition::all())
    }
}

impl Recovery {
    /// Of these partitions, of which all records are.
    pub fn of(partitions: impl Iterator<Item = Partition>) -> Recovery {
        Recovery {
            partitions: partitions.collect(),
            epochs: Epochs::default(),
            fenced: 0,
            functions: BTreeMap::new(),
            removals: BTreeMap::new(),
            executions: BTreeMap::new(),
            early: BTreeMap::new(),
            count: 0,
            results: Results::default(),
        }
    }

    /// Takes the next record. One of an epoch that is over is left out.
    pub fn apply(&mut self, entry: Entry) {
        let Entry { partition, epoch, record } = entry;
        if epoch < self.epochs.of(partition) {
            self.fenced += 1;
            return;
        }
        // Also when nothing said that it begins.
        self.epochs.set(partition, epoch);
        self.add(record, epoch);
    }

    /// Takes the next record, of a version that did not write epochs down: it is of the one that had begun.
    pub fn apply_without_epoch(&mut self, record: Record) {
        let epoch = self.epochs.of(record.partition());
        self.add(record, epoch);
    }

    /// A server of such a version has started: an epoch has begun in all partitions.
    pub fn begin_everywhere(&mut self, epoch: Epoch) {
        for partition in Partition::all() {
            self.epochs.set(partition, self.epochs.of(partition).max(epoch));
        }
    }

    /// Records that were left out because their epoch was over.
    pub fn fenced(&self) -> u64 {
        self.fenced
    }

    fn add(&mut self, record: Record, epoch: Epoch) {
        let of = match &record {
            Record::Ended { id, .. }
            | Record::Kept { id, .. }
            | Record::Replayed { id, .. }
            | Record::Purged { id }
            | Record::Forgotten { id }
                if self.results.bytes_max.is_some() =>
            {
                Some(*id)
            }
            _ => None,
        };
        let before = of.map_or(0, |id| self.held_by(id));
        self.fold(record, epoch);
        if let Some(id) = of {
            self.results.bytes -= before;
            self.hold(id);
        }
    }

    fn fold(&mut self, record: Record, epoch: Epoch) {
        self.count += 1;
        let count = self.count;
        match record {
            Record::Registered { spec } => {
                self.functions.insert(spec.name, spec);
            }
            Record::Removed { name } => {
                self.functions.remove(&name);
                let [last, _] = self.removals.get(&name).copied().unwrap_or_default();
                self.removals.insert(name, [count, last]);
            }
            Record::Reinstated { spec } => {
                let [_, before] = self.removals.get(&spec.name).copied().unwrap_or_default();
                self.removals.insert(spec.name, [before, 0]);
                self.functions.insert(spec.name, spec);
            }
            Record::Accepted { id, function, created_ms, payload, extra, callback_url } => {
                // Written once more, because it was not certain whether it had been written, or because it has an address now:
                // one from before was of somebody who was refused.
                if let Some(known) = self.executions.get_mut(&id) {
                    known.callback_url = callback_url.or(known.callback_url.take());
                    return;
                }
                let early = self.early.remove(&id);
                self.executions.entry(id).or_insert_with(|| {
                    let execution =
                        StoredExecution::new(id, function, created_ms, payload, extra, count, epoch);
                    let Early { attempt, is_interrupted, job_until_ms, failure: last_failure, crashes } =
                        early.unwrap_or_default();
                    Box::new(StoredExecution {
                        callback_url,
                        attempt,
                        crashes,
                        is_interrupted,
                        job_until_ms,
                        last_failure,
                        ..execution
                    })
                });
            }
            Record::Kept { id, function, created_ms, attempt, payload, extra, last_failure, end, dead } => {
                // Of one that is there already its end is there as well, or is what is said here.
                let kept = self.executions.entry(id).or_insert_with(|| {
                    let execution =
                        StoredExecution::new(id, function, created_ms, payload, extra, count, epoch);
                    Box::new(StoredExecution { attempt, last_failure, ..execution })
                });
                if kept.end.is_none() {
                    // It may have ended by a caller's deadline.
                    let last_failure = kept.last_failure.clone();
                    // As with a purge that is taken back with another end.
                    let payload = kept.payload.clone();
                    kept.apply(Record::Ended { id, end, dead }, count);
                    (kept.last_failure, kept.payload) = (last_failure, payload);
                }
            }
            Record::Forgotten { id } => {
                self.executions.remove(&id);
                self.early.remove(&id);
            }
            Record::Started { .. } => {}
            Record::Attempted { id, .. }
            | Record::JobOrdered { id, .. }
            | Record::JobLost { id }
            | Record::Requeued { id, .. }
            | Record::Ended { id, .. }
            | Record::Replayed { id, .. }
            | Record::Purged { id }
            | Record::Delivered { id, .. } => {
                if let Some(execution) = self.executions.get_mut(&id) {
                    execution.taken_back(epoch);
                    execution.apply(record, count);
                    return;
                }
                match record {
                    Record::Attempted { attempt, .. } => {
                        let early = self.early.entry(id).or_default();
                        (early.attempt, early.is_interrupted, early.job_until_ms) = (attempt, true, None);
                    }
                    Record::JobOrdered { attempt, until_ms, .. } => {
                        let early = self.early.entry(id).or_default();
                        (early.attempt, early.is_interrupted) = (attempt, true);
                        early.job_until_ms = Some(until_ms);
                    }
                    Record::Requeued { failure, .. } => {
                        let early = self.early.entry(id).or_default();
                        early.crashes = early.crashes.max(crashes_of(&failure));
                        (early.failure, early.is_interrupted) = (Some(Box::new(failure)), false);
                        early.job_until_ms = None;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Functions that are registered.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Executions that are kept.
    pub fn executions(&self) -> usize {
        self.executions.len()
    }

    /// Everything that is kept, in the order in which a shard is to be given it: partitions, functions by name, executions
    /// as they were put into their queues, or ended.
    pub fn into_stored(self) -> impl Iterator<Item = Stored> {
        let (removals, epochs) = (self.removals, self.epochs);
        let mut executions: Vec<_> = self.executions.into_values().collect();
        executions.sort_unstable_by_key(|execution| execution.order);
        let without_key = outdated_keys(&executions);
        let functions = self.functions.into_values().map(Stored::Function);
        let begun = epochs.clone();
        let partitions = self.partitions.into_iter();
        let partitions =
            partitions.map(move |partition| Stored::Partition { partition, epoch: begun.of(partition) });
        partitions.chain(functions).chain(executions.into_iter().map(move |mut execution| {
            let [removed, _] = removals.get(&execution.function).copied().unwrap_or_default();
            execution.is_removed = removed > execution.accepted;
            execution.has_its_key = !without_key.contains(&execution.id);
            execution.count_unrecorded(epochs.of(execution.id.partition()));
            Stored::Execution(execution)
        }))
    }
}

/// How many replicas have ended with an execution that is tried again after this: after a second one it is not.
fn crashes_of(failure: &Failure) -> u32 {
    u32::from(failure.code == code::FUNCTION_CRASHED)
}

/// Executions whose key stands for another one by now: it is of whichever was accepted or replayed last. What became of
/// them since has put them into another order.
fn outdated_keys(executions: &[Box<StoredExecution>]) -> BTreeSet<ExecutionId> {
    let mut holders: BTreeMap<(Name, &str), &StoredExecution> = BTreeMap::new();
    let mut outdated = BTreeSet::new();
    for execution in executions {
        let idempotency = execution.extra.as_ref().and_then(|extra| extra.idempotency.as_ref());
        let Some(idempotency) = idempotency else { continue };
        let holder = holders.entry((execution.function, &idempotency.key)).or_insert(execution);
        if holder.accepted < execution.accepted {
            outdated.insert(holder.id);
            *holder = execution;
        } else if holder.id != execution.id {
            outdated.insert(execution.id);
        }
    }
    outdated
}

impl StoredExecution {
    fn apply(&mut self, record: Record, count: u64) {
        match record {
            Record::Attempted { attempt, .. } | Record::JobOrdered { attempt, .. } if self.end.is_none() => {
                // Numbers between them were left out, because they may have been used. With the same number again, the one
                // before was not run.
                let left_out = attempt.saturating_sub(self.attempt.saturating_add(1));
                let interrupted = self.is_interrupted && attempt > self.attempt;
                let uncounted = left_out.saturating_add(u32::from(interrupted));
                self.attempts_before = self.attempts_before.saturating_add(uncounted);
                self.attempt = self.attempt.max(attempt);
                self.is_interrupted = true;
                self.job_until_ms = match record {
                    Record::JobOrdered { until_ms, .. } => Some(until_ms),
                    _ => None,
                };
            }
            // As if it had never had one: it was cut off.
            Record::JobLost { .. } => self.job_until_ms = None,
            Record::Requeued { failure, .. } if self.end.is_none() => {
                (self.is_interrupted, self.job_until_ms) = (false, None);
                self.crashes = self.crashes.max(crashes_of(&failure));
                self.last_failure = Some(Box::new(failure));
                self.order = count;
            }
            Record::Ended { end, dead, .. } => {
                if let EndResult::TimedOut { limit_ms, .. } = end.result {
                    // Only what was to be reported by callback ends like this once it is accepted.
                    self.last_failure = Some(Box::new(Failure::no_callback(limit_ms)));
                }
                (self.is_interrupted, self.job_until_ms) = (false, None);
                self.end = Some(Box::new(StoredEnd::new(*end)));
                self.delivery = None;
                self.order = count;
                self.dead = dead;
                self.drop_payload();
            }
            Record::Replayed { at_ms, .. } => {
                let Some(end) = self.end.take() else { return };
                self.last_failure = match end.result {
                    // Dead letters are never there only.
                    StoredResult::Here(EndResult::Output(_)) | StoredResult::OnDisk { .. } => None,
                    StoredResult::Here(EndResult::Failed(failure)) => Some(failure),
                    StoredResult::Here(EndResult::TimedOut { stage, limit_ms }) => {
                        Some(Box::new(Failure::new(code::TIMEOUT, stage.timeout_message(limit_ms))))
                    }
                };
                self.dead = false;
                self.attempts_before = self.attempt;
                self.crashes = 0;
                self.queued_ms = at_ms;
                self.order = count;
                // A function may have been registered again since: it is that one that it waits for now.
                self.accepted = count;
            }
            Record::Purged { .. } => {
                // With its payload: a purge that could not be written down is taken back with another end.
                self.dead = false;
                self.order = count;
            }
            Record::Delivered { delivery, .. } => self.delivery = Some(delivery),
            _ => {}
        }
    }

    /// Counts attempts that may have been made without a record.
    fn count_unrecorded(&mut self, epoch: Epoch) {
        if self.end.is_some() {
            self.drop_payload();
            return;
        }
        self.unrecorded = self.unrecorded_by(epoch);
    }

    /// Attempts that may have been made without a record by the end of this epoch.
    fn unrecorded_by(&self, epoch: Epoch) -> u32 {
        if self.job_until_ms.is_some() {
            return 0;
        }
        epoch.since(self.epoch).saturating_add(u32::from(!self.is_interrupted))
    }

    /// An owner writes about it. If that is another one than before, it was given back to it, with the numbers left out that
    /// may have been used: they stay left out, whatever becomes of it there.
    fn taken_back(&mut self, epoch: Epoch) {
        if self.end.is_none() && epoch > self.epoch && self.job_until_ms.is_none() {
            let unrecorded = self.unrecorded_by(epoch.before());
            let uncounted = unrecorded.saturating_add(u32::from(self.is_interrupted));
            self.attempt = self.attempt.saturating_add(unrecorded);
            self.attempts_before = self.attempts_before.saturating_add(uncounted).min(self.attempt);
            self.is_interrupted = false;
        }
        self.epoch = epoch;
    }

    /// What has ended is not sent again, unless it is a dead letter.
    fn drop_payload(&mut self) {
        if !self.dead {
            self.payload = Payload::json(bytes::Bytes::new());
        }
    }
}
