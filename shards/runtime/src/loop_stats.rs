//! What each thread tells about its loop: counters that it alone writes and anyone reads.
//!
//! One writer means that a count is a load and a store, without a locked instruction; readers may be a turn behind.
//! Time is taken once per turn of the loop, never per message.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::START_US;

/// Upper bounds for the time of a turn, in microseconds.
const TURN_BOUNDS_US: [u64; 12] =
    [10, 25, 50, 100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000];
/// Upper bounds for the messages of a turn; no turn takes more than the last.
const BATCH_BOUNDS: [u64; 10] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256];

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// Counters of one thread. Threads do not share cache lines: what one writes all the time must not slow another.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct LoopStats {
    /// When its loop last turned, in microseconds on the workers' clock.
    turned_us: AtomicU64,
    /// Since when ready work has been left alone, or [`NEVER`].
    unserved_since_us: AtomicU64,
    turns: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    turn_us: Tally<{ TURN_BOUNDS_US.len() + 1 }>,
    batch: Tally<{ BATCH_BOUNDS.len() + 1 }>,
}

/// A reading of one thread's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadView {
    /// The shard that it owns.
    pub shard: Option<u16>,
    /// Microseconds since its loop last turned.
    pub idle_us: u64,
    /// Microseconds for which ready work has been left alone although slots are free; 0 when there is none.
    pub unserved_us: u64,
    /// Turns of its loop.
    pub turns: u64,
    /// Messages sent to other threads.
    pub sent: u64,
    /// Messages taken from its mailbox.
    pub received: u64,
    /// New work that waits in its mailbox.
    pub mailbox_depth: usize,
    /// Time that turns took, in microseconds.
    pub turn_us: TallyView,
    /// Messages handled in one turn.
    pub batch: TallyView,
}

/// How often values were within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyView {
    /// Upper bounds, inclusive.
    pub bounds: &'static [u64],
    /// Values in each bucket, not cumulated; the last one has no bound.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: u64,
}

impl ThreadView {
    /// Whether it makes no progress: its loop has not turned, or has left ready work alone, for this long.
    pub fn is_stuck(&self, after: Duration) -> bool {
        u128::from(self.idle_us.max(self.unserved_us)) >= after.as_micros()
    }
}

#[derive(Debug)]
struct Tally<const BUCKETS: usize> {
    bounds: &'static [u64],
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for LoopStats {
    fn default() -> Self {
        LoopStats {
            // A thread that has not turned yet is as late as the clock is old: a probe right after the start is not to
            // take it for stuck.
            turned_us: AtomicU64::new(START_US),
            unserved_since_us: AtomicU64::new(NEVER),
            turns: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            turn_us: Tally::new(&TURN_BOUNDS_US),
            batch: Tally::new(&BATCH_BOUNDS),
        }
    }
}

impl LoopStats {
    /// A turn begins, and takes this many messages out of the mailbox.
    pub(crate) fn turn_began(&self, now_us: u64, received: usize) {
        self.turned_us.store(now_us, Ordering::Relaxed);
        add(&self.turns, 1);
        add(&self.received, received as u64);
    }

    /// A turn ends that took this long and handled this many messages.
    pub(crate) fn turn_ended(&self, took_us: u64, handled: usize) {
        self.turn_us.count(took_us);
        self.batch.count(handled as u64);
    }

    /// Since when ready work has been left alone, if there is any.
    pub(crate) fn unserved(&self, since_us: Option<u64>) {
        self.unserved_since_us.store(since_us.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Messages went to another thread.
    pub(crate) fn sent(&self, count: usize) {
        add(&self.sent, count as u64);
    }

    /// A reading. `mailbox_depth` is of the thread's mailbox.
    pub(crate) fn view(&self, shard: Option<u16>, now_us: u64, mailbox_depth: usize) -> ThreadView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ThreadView {
            shard,
            idle_us: now_us.saturating_sub(read(&self.turned_us)),
            unserved_us: now_us.saturating_sub(read(&self.unserved_since_us)),
            turns: read(&self.turns),
            sent: read(&self.sent),
            received: read(&self.received),
            mailbox_depth,
            turn_us: self.turn_us.view(),
            batch: self.batch.view(),
        }
    }
}

impl<const BUCKETS: usize> Tally<BUCKETS> {
    /// `bounds` ascend, and are one fewer than the buckets.
    fn new(bounds: &'static [u64]) -> Tally<BUCKETS> {
        Tally { bounds, counts: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    fn count(&self, value: u64) {
        if let Some(count) = self.counts.get(self.bounds.partition_point(|bound| *bound < value)) {
            add(count, 1);
        }
        add(&self.sum, value);
    }

    fn view(&self) -> TallyView {
        TallyView {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// Only the thread itself writes: nothing is lost between the load and the store.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_not_turned_yet_is_late_since_the_start() {
        let view = LoopStats::default().view(None, START_US + 5, 0);
        assert_eq!((view.idle_us, view.unserved_us), (5, 0));
        assert!(!view.is_stuck(Duration::from_secs(1)));
    }

    #[test]
    fn turns_and_batches_are_counted_by_their_bounds() {
        let loop_stats = LoopStats::default();
        for (took_us, handled) in [(0, 0), (10, 1), (11, 3), (1_000_001, 256)] {
            loop_stats.turn_began(START_US + 1_000, handled);
            loop_stats.turn_ended(took_us, handled);
        }
        loop_stats.sent(7);
        let view = loop_stats.view(Some(3), START_US + 1_500, 2);
        assert_eq!((view.shard, view.idle_us, view.turns, view.mailbox_depth), (Some(3), 500, 4, 2));
        assert_eq!((view.sent, view.received, view.turn_us.sum, view.batch.sum), (7, 260, 1_000_022, 260));
        assert_eq!(view.turn_us.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(view.batch.counts, [1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
    }
}
