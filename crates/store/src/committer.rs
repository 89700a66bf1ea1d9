//! What the writer's thread does: gathers what is pending, writes it, tells shards.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use shard_core::{Input, JournalEvent};

use super::{
    log::Log,
    segment::FRAME_HEADER_BYTES,
    writer::{Commit, Shared, facts},
};

/// Commits start at least this far apart: under load, more goes with each, and fewer syncs take less time from calls.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);
/// Time between two tries while the disk fails.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long the next commit waits, when the last one began so long ago. Nobody waits for a disk that fails while a server ends.
fn pause(failing: bool, stopping: bool, since: Duration) -> Duration {
    if failing && !stopping { RETRY_INTERVAL } else { COMMIT_INTERVAL.saturating_sub(since) }
}

/// The thread's own state.
pub(super) struct Committer {
    shared: Arc<Shared>,
    pub(super) log: Log,
    /// The frame being written.
    pub(super) frame: Vec<u8>,
    /// Records of failed commits that are tried again.
    backlog: Vec<u8>,
    /// The lane that the next commit takes first: one commit need not have room for all.
    turn: usize,
    /// Whether what was there at the start is worth a compaction has been looked at.
    looked: bool,
    /// Room for those of the next commit.
    throughs: Vec<Option<u64>>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, log: Log) -> Committer {
        Committer {
            shared,
            log,
            frame: Vec::new(),
            backlog: Vec::new(),
            turn: 0,
            looked: false,
            throughs: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let mut began = Instant::now() - COMMIT_INTERVAL;
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            // One order is for one time without records: when some have come, there will be another.
            let rests = self.shared.rests.swap(false, Ordering::Acquire);
            let failing = self.is_failing();
            if !failing && !self.is_pending() {
                if stopping {
                    self.close();
                    break;
                }
                if rests {
                    self.rest();
                }
                thread::park();
                continue;
            }
            thread::sleep(pause(failing, stopping, began.elapsed()));
            began = Instant::now();
            self.gather(began);
            self.write(failing);
            if stopping && self.is_failing() {
                break;
            }
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.shared.lanes.iter().any(|lane| !lane.lock().records.is_empty())
    }

    /// Takes what is pending, for a commit that begins now.
    pub(super) fn gather(&mut self, now: Instant) {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        // What failed before is written with this: shards hear of it, also when nothing has come since.
        let behind = !self.backlog.is_empty();
        self.frame.append(&mut self.backlog);
        let (lanes, bytes_max) = (self.shared.lanes.len(), self.shared.bounds.1);
        let mut throughs = std::mem::take(&mut self.throughs);
        throughs.clear();
        throughs.resize(lanes, None);
        // What is in no lane any more is in the commit, for whoever looks for it.
        let mut commit = self.shared.commit.lock();
        self.turn = (self.turn + 1) % lanes.max(1);
        for nth in 0..lanes {
            let place = (self.turn + nth) % lanes;
            let (Some(lane), Some(through)) = (self.shared.lanes.get(place), throughs.get_mut(place)) else {
                continue;
            };
            let mut lane = lane.lock();
            // One lane always fits, or a commit would never come.
            let is_first = self.frame.len() == FRAME_HEADER_BYTES;
            let takes =
                !lane.records.is_empty() && (is_first || self.frame.len() + lane.records.len() <= bytes_max);
            lane.is_left = !takes && !lane.records.is_empty();
            if takes {
                lane.gather(bytes_max, &mut self.frame);
            }
            *through = (takes || (behind && lane.gathered > 0)).then_some(lane.gathered);
        }
        *commit = Commit { began: Some(now), throughs, given_up: false };
    }

    /// Writes what was gathered. `probing`: the disk failed before.
    pub(super) fn write(&mut self, probing: bool) {
        match self.log.append(&mut self.frame, probing) {
            Ok(()) => {
                // Before a shard hears that it may forget a result, and not before that can be read back.
                self.log.note(self.log.offset().saturating_sub(self.frame.len() as u64), &self.frame);
                self.succeeded();
            }
            Err(error) => self.failed(&error),
        }
        // One large commit must not hold its memory for ever.
        self.frame.shrink_to(1 << 20);
    }

    fn succeeded(&mut self) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.written_bytes.fetch_add(self.frame.len() as u64, Ordering::Relaxed);
        let throughs = self.end_commit();
        self.shared.works();
        self.shared.tell(&throughs, |through| Input::Journal(JournalEvent::Safe { through }));
        self.throughs = throughs;
        let is_full = self.log.is_full();
        if is_full {
            // The disk may hang there as well.
            self.begin_without_records();
            self.log.next_segment();
            self.end_commit();
        }
        self.log.compactor.take_over();
        // The first time for what earlier servers left.
        if is_full || !self.looked {
            self.looked = true;
            self.log.compactor.start_if_worthwhile();
        }
        self.shared.bytes.store(self.log.bytes(), Ordering::Relaxed);
    }

    fn failed(&mut self, error: &io::Error) {
        self.shared.fails(error, self.log.path());
        self.backlog = facts(&self.frame[FRAME_HEADER_BYTES..]);
        let mut throughs = self.end_commit();
        for (lane, through) in self.shared.lanes.iter().zip(&mut throughs) {
            let mut lane = lane.lock();
            // Nobody knows when there will be room for it.
            if lane.is_left
                && let Some(given_up) = lane.give_up(self.shared.bounds.1)
            {
                *through = Some(given_up);
            }
        }
        self.shared.tell(&throughs, |through| Input::Journal(JournalEvent::Failed { through }));
        self.throughs = throughs;
    }

    /// Something that is watched like a commit.
    fn begin_without_records(&self) {
        *self.shared.commit.lock() = Commit { began: Some(Instant::now()), ..Commit::default() };
    }

    /// Nothing is on its way to the disk any more. Returns what was: the last number of each shard.
    fn end_commit(&self) -> Vec<Option<u64>> {
        std::mem::take(&mut *self.shared.commit.lock()).throughs
    }

    /// Nothing happens for a while.
    pub(super) fn rest(&mut self) {
        if !self.log.is_ahead() {
            return;
        }
        self.begin_without_records();
        // Should it fail, it is not tried again before the next commit.
        if let Err(error) = self.log.rest() {
            tracing::warn!(%error, "the end of the log could not be written down");
        }
        self.end_commit();
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self) {
        self.log.compactor.wait();
        if let Err(error) = self.log.close() {
            tracing::warn!(%error, "the end of the log could not be written down");
        }
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
