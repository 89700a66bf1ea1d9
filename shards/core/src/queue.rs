//! The queue of a function: executions in arrival order.
//!
//! What leaves from the middle (a deadline, a cancellation, a caller that went away) is only counted out here;
//! its entry is skipped later because the execution no longer waits. Stale entries are swept out when they
//! outnumber what waits, so that a blocked function whose callers leave again and again does not grow.

use std::collections::VecDeque;

use crate::keys::ExecutionKey;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::ExecutionTag, slab::Slab};

    fn keys(count: usize) -> Vec<ExecutionKey> {
        let mut slab: Slab<(), ExecutionTag> = Slab::new();
        (0..count).map(|_| slab.insert(())).collect()
    }

    #[test]
    fn callers_that_come_and_leave_again_do_not_let_it_grow() {
        let keys = keys(1000);
        let mut queue = WaitQueue::default();
        queue.push(keys[0]);
        for key in &keys[1..] {
            queue.push(*key);
            queue.forget_one(|other| other == keys[0]);
            assert!(queue.entries.len() <= STALE_MIN + 2, "{} entries", queue.entries.len());
        }
        assert_eq!((queue.len(), queue.pop(|other| other == keys[0])), (1, Some(keys[0])));
        assert!(queue.is_empty());
    }

    #[test]
    fn few_stale_entries_stay_behind_many_that_wait() {
        let keys = keys(200);
        let mut queue = WaitQueue::default();
        keys.iter().for_each(|key| queue.push(*key));
        // Sweeping out each one that leaves would look at all others each time.
        for gone in 1..=100 {
            queue.forget_one(|key| key.index() >= gone);
            assert_eq!(queue.entries.len(), 200, "after {gone}");
        }
        queue.forget_one(|key| key.index() >= 101);
        assert_eq!((queue.entries.len(), queue.len()), (99, 99));
    }

    #[test]
    fn what_is_taken_out_is_counted_out() {
        let keys = keys(5);
        let mut queue = WaitQueue::default();
        keys.iter().for_each(|key| queue.push(*key));
        assert_eq!(queue.take_if(|key| key.index() % 2 == 1), [keys[1], keys[3]]);
        assert_eq!((queue.len(), queue.iter().collect::<Vec<_>>()), (3, vec![keys[0], keys[2], keys[4]]));
        assert_eq!(queue.take_if(|key| key == keys[2]), [keys[2]]);
        assert_eq!(queue.len(), 2);
    }
}
