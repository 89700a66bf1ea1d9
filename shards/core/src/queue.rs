//! The queue of a function: executions in arrival order.
//!
//! What leaves from the middle (a deadline, a cancellation, a caller that went away) is only counted out here;
//! its entry is skipped later because the execution no longer waits. Stale entries are swept out when they
//! outnumber what waits, so that a blocked function whose callers leave again and again does not grow.

use std::collections::VecDeque;

use crate::shard::ExecutionKey;

/// Stale entries that may stay, whatever the length.
const STALE_MIN: usize = 32;

/// See the module.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct WaitQueue {
    entries: VecDeque<ExecutionKey>,
    /// Entries that still wait. Looked at with every call, also when nothing waits: what a function needs next lies
    /// behind it.
    waiting: usize,
}

impl WaitQueue {
    /// Executions that wait here.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn push(&mut self, execution: ExecutionKey) {
        self.entries.push_back(execution);
        self.waiting += 1;
    }

    /// Puts one back that was taken out: behind those at the front for which `before` holds.
    pub(crate) fn put_back(&mut self, execution: ExecutionKey, before: impl Fn(ExecutionKey) -> bool) {
        let place = self.entries.iter().position(|entry| !before(*entry)).unwrap_or(self.entries.len());
        self.entries.insert(place, execution);
        self.waiting += 1;
    }

    /// Takes out the first execution for which `waits` holds.
    pub(crate) fn pop(&mut self, waits: impl Fn(ExecutionKey) -> bool) -> Option<ExecutionKey> {
        while let Some(execution) = self.entries.pop_front() {
            if waits(execution) {
                self.waiting -= 1;
                return Some(execution);
            }
        }
        None
    }

    /// The first execution for which `waits` holds. Stale entries before it are dropped.
    pub(crate) fn front(&mut self, waits: impl Fn(ExecutionKey) -> bool) -> Option<ExecutionKey> {
        if self.waiting == 0 {
            return None;
        }
        while let Some(&execution) = self.entries.front() {
            if waits(execution) {
                return Some(execution);
            }
            self.entries.pop_front();
        }
        None
    }

    /// Counts out one execution that no longer waits. Call it after `waits` stopped holding for it.
    pub(crate) fn forget_one(&mut self, waits: impl Fn(ExecutionKey) -> bool) {
        self.waiting -= 1;
        let stale = self.entries.len() - self.waiting;
        if stale > STALE_MIN && stale > self.waiting {
            self.entries.retain(|execution| waits(*execution));
        }
    }

    /// Takes out entries of an execution that does not wait here, before it waits again: they would count as its
    /// place.
    pub(crate) fn forget_stale(&mut self, execution: ExecutionKey) {
        self.entries.retain(|entry| *entry != execution);
    }

    /// Takes out what this holds for, in order. It must hold for nothing that no longer waits.
    pub(crate) fn take_if(&mut self, mut wanted: impl FnMut(ExecutionKey) -> bool) -> Vec<ExecutionKey> {
        let mut taken = Vec::new();
        self.entries.retain(|key| {
            let take = wanted(*key);
            taken.extend(take.then_some(*key));
            !take
        });
        self.waiting -= taken.len();
        taken
    }

    /// Takes over what waits in another queue, behind what waits here.
    pub(crate) fn append(&mut self, other: &mut WaitQueue) {
        self.entries.append(&mut other.entries);
        self.waiting += std::mem::take(&mut other.waiting);
    }

    /// All entries, stale ones included, first to last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ExecutionKey> {
        self.entries.iter().copied()
    }
}
