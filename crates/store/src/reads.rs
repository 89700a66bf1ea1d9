//! Shards that want results back from the log, and the thread that reads them.
//!
//! A shard leaves what it wants and goes on; nobody but that thread waits for the disk. Only so much waits for it: whoever comes
//! when there is no room is refused at once. A disk that hangs says nothing, so another thread looks at the clock: a read that
//! takes too long has failed, with all that waits behind it, and whoever comes is refused until the disk has answered. A server
//! that ends answers whoever waits, and waits for no read.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use shard_core::{
    ExecutionId, Input, JournalEvent, ReadFailure, Ticket,
    journal::{End, EndResult},
};

use super::{StoreError, lookup::Unread};

/// Results that wait to be read.
const WAITING_MAX: usize = 4096;
/// A read that takes longer has failed.
pub(super) const READ_TIME_MAX: Duration = Duration::from_secs(5);

/// A result that a shard wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) shard: u16,
    pub(super) ticket: Ticket,
    pub(super) id: ExecutionId,
}

impl Request {
    /// What the shard is told.
    pub(super) fn answer(self, result: Result<EndResult, ReadFailure>) -> Input {
        Input::Journal(JournalEvent::Read { ticket: self.ticket, id: self.id, result })
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    /// What is being read, and since when. It is gone when it was given up.
    current: Option<(Instant, Request)>,
    /// What was given up has not come to an end.
    hangs: bool,
    /// Nobody is to be served any more.
    closed: bool,
}

impl Queue {
    fn take_all(&mut self) -> Vec<Request> {
        let current = self.current.take().map(|(_, request)| request);
        current.into_iter().chain(self.waiting.drain(..)).collect()
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Reads {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Results that were looked for, with success or without.
    pub(super) done: AtomicU64,
    /// Those that are there and could not be read, or not in time.
    pub(super) failed: AtomicU64,
    /// Those that were not looked for, because too much waits.
    pub(super) refused: AtomicU64,
}

impl Reads {
    /// Leaves something for the thread. `false`: it cannot be had now.
    #[must_use]
    pub(super) fn take(&self, request: Request) -> bool {
        let mut queue = self.queue.lock();
        let is_taken = !queue.closed && !queue.hangs && queue.waiting.len() < WAITING_MAX;
        if is_taken {
            queue.waiting.push_back(request);
            self.wake.notify_one();
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// What the thread does.
    pub(super) fn run(
        &self,
        read: impl Fn(ExecutionId) -> Result<Option<Box<End>>, Unread>,
        answer: impl Fn(Request, Result<EndResult, ReadFailure>),
    ) {
        let mut damaged = BTreeSet::new();
        while let Some(request) = self.next() {
            let result = match read(request.id) {
                Ok(end) => end.map(|end| end.result).ok_or(ReadFailure::Missing),
                Err(unread) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    complain(&mut damaged, request.id, &unread);
                    Err(ReadFailure::Unreadable)
                }
            };
            self.done.fetch_add(1, Ordering::Relaxed);
            let is_due = {
                let mut queue = self.queue.lock();
                queue.hangs = false;
                queue.current.take().is_some()
            };
            if is_due {
                answer(request, result);
            }
        }
    }

    /// Waits for something to read. `None`: that is over.
    fn next(&self) -> Option<Request> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(request) = queue.waiting.pop_front() {
                queue.current = Some((Instant::now(), request));
                return Some(request);
            }
            self.wake.wait(&mut queue);
        }
    }

    /// Gives a read up that takes too long, and what waits behind it. Whoever wanted that has to be told.
    #[must_use]
    pub(super) fn give_up_overdue(&self, overdue: impl Fn(Instant) -> bool) -> Vec<Request> {
        let mut queue = self.queue.lock();
        if !queue.current.is_some_and(|(began, _)| overdue(began)) {
            return Vec::new();
        }
        queue.hangs = true;
        let all = queue.take_all();
        self.failed.fetch_add(all.len() as u64, Ordering::Relaxed);
        all
    }

    /// Nothing is read any more. Whoever wanted something has to be told.
    #[must_use]
    pub(super) fn close(&self) -> Vec<Request> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.wake.notify_all();
        queue.take_all()
    }
}

/// Says it once for each file.
fn complain(damaged: &mut BTreeSet<PathBuf>, id: ExecutionId, Unread { offset, error }: &Unread) {
    let (StoreError::Corrupt { path, .. } | StoreError::Newer { path, .. } | StoreError::Read { path, .. }) =
        error
    else {
        return;
    };
    if damaged.insert(path.clone()) {
        tracing::error!(%error, file = %path.display(), offset, execution = %id, "a result cannot be read back");
    }
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
