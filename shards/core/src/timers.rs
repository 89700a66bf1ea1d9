//! The deadlines of a shard: a binary heap that knows where each timer is, so that a timer that is no longer
//! needed is taken out at once. (Leaving it in until it is due would keep 30 s of finished calls in the heap:
//! three million entries at 100 000 calls per second.)

use crate::{
    call::Ticket,
    keys::{AttemptKey, EndpointId, ExecutionKey, FunctionKey},
    slab::{Key, Slab},
};

/// What is due. The order of the variants is the order in which timers of the same microsecond fire: a caller's
/// deadline comes before the attempt's, so that the caller gets 408 when both end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A caller's deadline.
    Waiter(ExecutionKey, Ticket),
    /// A synchronous call has waited as long as the sync queue lets it.
    QueueWait(ExecutionKey),
    /// An attempt may not take longer.
    Attempt(AttemptKey),
    /// A retry has waited long enough.
    Backoff(ExecutionKey),
    /// An accepted execution may no longer wait.
    Expiry(ExecutionKey),
    /// A reader has waited long enough.
    Watch(ExecutionKey, Ticket),
    /// Replicas are to be decided about.
    Scaling,
    /// Finished executions and keys are to be looked through.
    Sweep,
    /// Replicas that could not be started again are to be tried once more.
    Reconcile(FunctionKey),
    /// An address that is down is to be tried once more.
    Endpoint(FunctionKey, EndpointId),
}

impl Due {
    fn rank(&self) -> u8 {
        match self {
            Due::Waiter(..) => 0,
            Due::QueueWait(_) => 1,
            Due::Attempt(_) => 2,
            Due::Backoff(_) => 3,
            Due::Expiry(_) => 4,
            Due::Watch(..) => 5,
            Due::Scaling => 6,
            Due::Sweep => 7,
            Due::Reconcile(_) => 8,
            Due::Endpoint(..) => 9,
        }
    }
}

#[derive(Debug)]
struct Timer {
    due: Due,
    /// Position in the heap.
    position: u32,
}

/// Tag of [`TimerKey`].
#[derive(Debug)]
pub(crate) enum TimerTag {}
/// Names a timer.
pub(crate) type TimerKey = Key<TimerTag>;

#[derive(Debug, Clone, Copy)]
struct Item {
    at_us: u64,
    rank: u8,
    /// Order of insertion, to keep equal deadlines in order.
    number: u64,
    timer: TimerKey,
}

impl Item {
    fn before(&self, other: &Item) -> bool {
        (self.at_us, self.rank, self.number) < (other.at_us, other.rank, other.number)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Vec<Item>,
    timers: Slab<Timer, TimerTag>,
    inserted: u64,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { heap: Vec::new(), timers: Slab::new(), inserted: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// When the first timer is due.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.heap.first().map(|item| item.at_us)
    }

    pub(crate) fn insert(&mut self, at_us: u64, due: Due) -> TimerKey {
        let position = self.heap.len();
        let timer = self.timers.insert(Timer { due, position: position as u32 });
        self.heap.push(Item { at_us, rank: due.rank(), number: self.inserted, timer });
        self.inserted += 1;
        self.rise(position);
        timer
    }

    /// Takes a timer out. A key that is stale is ignored.
    pub(crate) fn remove(&mut self, key: TimerKey) {
        if let Some(timer) = self.timers.remove(key) {
            self.take(timer.position as usize);
        }
    }

    /// Takes out the first timer if it is due.
    pub(crate) fn pop_due(&mut self, now_us: u64) -> Option<Due> {
        let item = *self.heap.first().filter(|item| item.at_us <= now_us)?;
        let timer = self.timers.remove(item.timer)?;
        self.take(0);
        Some(timer.due)
    }

    /// When a timer is due.
    pub(crate) fn due_us(&self, key: TimerKey) -> Option<u64> {
        let position = self.timers.get(key)?.position as usize;
        self.heap.get(position).map(|item| item.at_us)
    }

    /// What a timer is for.
    pub(crate) fn get(&self, key: TimerKey) -> Option<Due> {
        self.timers.get(key).map(|timer| timer.due)
    }

    /// Whether every timer is where it says and no child is due before its parent.
    pub(crate) fn is_sound(&self) -> bool {
        self.heap.len() == self.timers.len()
            && self.heap.iter().enumerate().all(|(position, item)| {
                let placed =
                    self.timers.get(item.timer).is_some_and(|timer| timer.position as usize == position);
                placed && (position == 0 || !item.before(&self.heap[(position - 1) / 2]))
            })
    }

    fn take(&mut self, position: usize) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.place(position);
            self.rise(position);
            self.sink(position);
        }
    }

    fn place(&mut self, position: usize) {
        let key = self.heap[position].timer;
        if let Some(timer) = self.timers.get_mut(key) {
            timer.position = position as u32;
        }
    }

    fn rise(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if !self.heap[position].before(&self.heap[parent]) {
                break;
            }
            self.swap(position, parent);
            position = parent;
        }
    }

    fn sink(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.heap[right].before(&self.heap[left]) {
                right
            } else {
                left
            };
            if !self.heap[child].before(&self.heap[position]) {
                break;
            }
            self.swap(position, child);
            position = child;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.place(one);
        self.place(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_due(timers: &mut Timers) -> Vec<Due> {
        std::iter::from_fn(|| timers.pop_due(u64::MAX)).collect()
    }

    #[test]
    fn equal_times_fire_by_kind_and_then_as_they_came() {
        let (execution, function) = (ExecutionKey::NONE, FunctionKey::NONE);
        let kinds = [
            Due::Waiter(execution, Ticket(1)),
            Due::Waiter(execution, Ticket(2)),
            Due::QueueWait(execution),
            Due::Attempt(AttemptKey::NONE),
            Due::Backoff(execution),
            Due::Expiry(execution),
            Due::Watch(execution, Ticket(3)),
            Due::Scaling,
            Due::Sweep,
            Due::Reconcile(function),
            Due::Endpoint(function, EndpointId::NONE),
        ];
        let mut timers = Timers::new();
        for due in kinds.iter().skip(2).rev().chain(&kinds[..2]) {
            timers.insert(7, *due);
        }
        assert_eq!(all_due(&mut timers), kinds);
        let readers: Vec<Due> = (0..40).map(|reader| Due::Watch(execution, Ticket(reader))).collect();
        for due in &readers {
            timers.insert(7, *due);
        }
        assert_eq!(all_due(&mut timers), readers);
    }

    #[test]
    fn whatever_is_taken_out_the_others_fire_in_order() {
        let mut timers = Timers::new();
        let times: Vec<u64> = (0..200).map(|number| number * 7919 % 211).collect();
        let mut keys: Vec<_> = times
            .iter()
            .map(|at_us| (*at_us, timers.insert(*at_us, Due::Watch(ExecutionKey::NONE, Ticket(*at_us)))))
            .collect();
        for place in 0..100 {
            let (_, key) = keys.remove(place * 31 % keys.len());
            timers.remove(key);
            timers.remove(key);
            assert_eq!((timers.due_us(key), timers.get(key)), (None, None));
            assert!(timers.is_sound());
        }
        for (at_us, key) in &keys {
            assert_eq!(timers.due_us(*key), Some(*at_us));
        }
        keys.sort_unstable();
        assert_eq!((timers.len(), timers.next_us()), (100, Some(keys[0].0)));
        assert_eq!(timers.pop_due(keys[0].0 - 1), None);
        let expected: Vec<_> =
            keys.iter().map(|(at_us, _)| Due::Watch(ExecutionKey::NONE, Ticket(*at_us))).collect();
        assert_eq!(all_due(&mut timers), expected);
    }
}
