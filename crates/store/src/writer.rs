//! One thread writes for all shards: what is pending goes into one frame, with one write and one sync (group commit).
//!
//! A shard's end ([`ShardStore`]) encodes a record into a buffer of its own and goes on; it never waits for the
//! disk. While the disk takes one commit, the next one gathers (`committer`).
//!
//! When a commit fails, all that was promised with it is taken back ([`JournalEvent::Failed`]), and new executions are
//! refused at once ([`JournalEvent::NotTaken`]). Every other record is kept and tried again, so that what became of
//! executions accepted earlier is not lost: these records are few, because nothing new is accepted. The file is cut
//! back to its last whole frame before each try, and the try writes more than it needs, so that a disk with a few
//! bytes left does not count as a good one. A start on a full disk is the same without a first success.
//!
//! A shard takes a report for what it says: everything up to a number is safe. So no fact may be left out of what is
//! written while one behind it is. When a lane is full, facts wait beside it, and nothing else is taken until they have
//! found a place.
//!
//! A disk that hangs says nothing. So another thread looks at the clock: a commit that takes more than
//! `COMMIT_TIME_MAX` counts as failed, with all that came behind it, until it is done. What was in it is on disk then,
//! and what shards wrote down about its failure follows it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use shard_core::{Entry, ExecutionId, Input, JournalEvent, ReadFailure, Record, Ticket, journal::EndResult};

use super::{
    Store, StoreError,
    codec::{self, Codec},
    committer::Committer,
    function::Functions,
    index::Index,
    is_final,
    log::Log,
    reads::{READ_TIME_MAX, Reads, Request},
};

/// Records of one shard that wait to be written; above, new executions are refused.
const PENDING_BYTES_MAX: usize = 32 << 20;
/// Above, facts wait beside the lane. Also what one commit takes of several lanes, and so the bound of what is kept of one that failed.
pub(super) const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Bytes of facts of one shard that wait beside its lane. Above, ends are refused, which is said in the log. Everything else is
/// small: a few records about each execution that was accepted before.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// A commit that takes longer counts as failed, until it is done.
pub(super) const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often that is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Without a commit for so long, the log's `HEAD` is told how far everything is on disk.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Time between two log entries about a failing disk.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Tells a shard what became of its records.
pub type Report = Arc<dyn Fn(u16, Input) + Send + Sync>;

/// What the writer has done since the start, and how it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commits that are on disk.
    pub commits: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Bytes of the log. It shrinks with a compaction.
    pub bytes: u64,
    /// Executions whose end can be read back from the log.
    pub results: u64,
    /// Ends that were looked for there.
    pub reads: u64,
    /// Those of them that could not be read, or not in time.
    pub read_errors: u64,
    /// Ends that were not looked for, because the disk hangs, or too many waited for it.
    pub reads_refused: u64,
    /// Whether the last one failed, or does not come to an end: what has to be safe is refused.
    pub is_failing: bool,
}

/// What shards, the writer and the one that watches it share.
pub(super) struct Shared {
    pub(super) lanes: Vec<Mutex<Lane>>,
    /// Bytes of a lane above which new executions are refused, and above which facts wait beside it.
    pub(super) bounds: (usize, usize),
    /// The last commit failed, or has been on its way for too long.
    pub(super) failing: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Of what is on disk, once there is a log.
    index: OnceLock<Arc<Index>>,
    pub(super) stopping: AtomicBool,
    pub(super) commit: Mutex<Commit>,
    /// There has been no commit for a while.
    pub(super) rests: AtomicBool,
    codec: Codec,
    /// The thread that writes, once there is a log to write to.
    thread: OnceLock<Thread>,
    trouble: Mutex<Trouble>,
    pub(super) reads: Reads,
    report: Report,
}

/// Records of one shard that wait to be written.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) records: Vec<u8>,
    /// Number of the last one.
    pub(super) through: u64,
    /// Number up to which no fact is in it any more: they went into a commit.
    pub(super) gathered: u64,
    /// Facts for which there is no room in it, with their numbers.
    waiting: VecDeque<(u64, Vec<u8>)>,
    waiting_bytes: usize,
    /// It was left out of the commit that is on its way, which had no room for it.
    pub(super) is_left: bool,
    /// Ends that were not taken.
    refused: u64,
}

impl Lane {
    /// Takes a record, or has it wait beside. `encode` appends it, or nothing.
    fn take(&mut self, number: u64, is_full: bool, encode: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        if !is_full {
            let is_taken = encode(&mut self.records);
            if is_taken {
                self.through = number;
            }
            return is_taken;
        }
        let mut encoded = Vec::new();
        let is_taken = encode(&mut encoded);
        if is_taken {
            self.waiting_bytes += encoded.len();
            self.waiting.push_back((number, encoded));
        }
        is_taken
    }

    /// Takes what is in it for a commit; what waits beside it has room then.
    pub(super) fn gather(&mut self, bytes_max: usize, frame: &mut Vec<u8>) {
        frame.extend_from_slice(&self.records);
        self.records.clear();
        self.gathered = self.through;
        self.refill(bytes_max);
    }

    /// Counts what is in it as failed. Facts wait on. Returns the number of the last one.
    pub(super) fn give_up(&mut self, bytes_max: usize) -> Option<u64> {
        if self.records.is_empty() {
            return None;
        }
        let through = self.through;
        self.records = facts(&self.records);
        if self.records.is_empty() {
            self.gathered = through;
        }
        self.refill(bytes_max);
        Some(through)
    }

    fn refill(&mut self, bytes_max: usize) {
        while self.records.len() < bytes_max
            && let Some((number, record)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= record.len();
            self.records.extend_from_slice(&record);
            self.through = number;
        }
    }
}

/// The commit that is on its way.
#[derive(Default)]
pub(super) struct Commit {
    pub(super) began: Option<Instant>,
    /// The last number of each shard in it.
    pub(super) throughs: Vec<Option<u64>>,
    /// It counts as failed.
    pub(super) given_up: bool,
}

/// Finds times without commits.
#[derive(Default)]
struct Quiet {
    commits: u64,
    /// Since when there have been so many. `None`: that was said already.
    since: Option<Instant>,
}

impl Quiet {
    /// Whether there has been no commit for [`REST_AFTER`]. Says so once.
    fn begins(&mut self, commits: u64, now: Instant) -> bool {
        if commits != self.commits {
            *self = Quiet { commits, since: Some(now) };
        }
        self.since.take_if(|since| now.duration_since(*since) >= REST_AFTER).is_some()
    }
}

/// What is wrong with the disk.
#[derive(Default)]
struct Trouble {
    text: Option<String>,
    told: Option<Instant>,
}

impl Shared {
    pub(super) fn new(shards: u16, report: Report, codec: Codec) -> Shared {
        Shared {
            lanes: (0..shards).map(|_| Mutex::default()).collect(),
            bounds: (PENDING_BYTES_MAX, BACKLOG_BYTES_MAX),
            failing: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            index: OnceLock::new(),
            stopping: AtomicBool::new(false),
            commit: Mutex::default(),
            rests: AtomicBool::new(false),
            codec,
            thread: OnceLock::new(),
            trouble: Mutex::default(),
            reads: Reads::default(),
            report,
        }
    }

    /// Tells shards what became of their records.
    pub(super) fn tell(&self, throughs: &[Option<u64>], input: impl Fn(u64) -> Input) {
        for (shard, through) in (0..).zip(throughs) {
            if let Some(through) = *through {
                (self.report)(shard, input(through));
            }
        }
    }

    /// The disk takes nothing.
    pub(super) fn fails(&self, error: &dyn std::fmt::Display, path: &std::path::Path) {
        // First, so that what a shard is told comes after it refuses by itself.
        self.failing.store(true, Ordering::Release);
        let mut trouble = self.trouble.lock();
        trouble.text = Some(format!("the store refuses what must be safe: {}: {error}", path.display()));
        if trouble.told.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            trouble.told = Some(Instant::now());
            let file = path.display().to_string();
            tracing::error!(%error, file, "the store cannot be written: enqueues and registrations are rejected");
        }
    }

    /// It takes records.
    pub(super) fn works(&self) {
        if self.failing.swap(false, Ordering::AcqRel) {
            *self.trouble.lock() = Trouble::default();
            tracing::info!("the store takes records again");
        }
    }

    /// Tells a shard what has become of what it wanted to read.
    fn answer(&self, request: Request, result: Result<EndResult, ReadFailure>) {
        (self.report)(request.shard, request.answer(result));
    }

    /// Nobody reads this for them.
    fn cannot_read(&self, requests: Vec<Request>) {
        requests.into_iter().for_each(|request| self.answer(request, Err(ReadFailure::Unreadable)));
    }

    /// Wakes the thread that writes, if there is one yet.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Gives a commit up that has been on its way for too long, and with it all that waits behind it.
    pub(super) fn give_up_overdue(&self, overdue: impl Fn(Instant) -> bool, path: &std::path::Path) {
        let mut throughs = {
            let mut commit = self.commit.lock();
            if commit.given_up || !commit.began.is_some_and(overdue) {
                return;
            }
            commit.given_up = true;
            self.fails(&format!("a commit takes more than {} s", COMMIT_TIME_MAX.as_secs()), path);
            commit.throughs.clone()
        };
        throughs.resize(self.lanes.len(), None);
        for (lane, through) in self.lanes.iter().zip(&mut throughs) {
            if let Some(given_up) = lane.lock().give_up(self.bounds.1) {
                *through = Some(given_up);
            }
        }
        self.tell(&throughs, |through| Input::Journal(JournalEvent::Failed { through }));
    }
}

/// Of these records those that are not new executions.
pub(super) fn facts(records: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for record in codec::split(records).flatten().filter(|record| !codec::is_acceptance(record)) {
        kept.extend_from_slice(&(record.len() as u32).to_le_bytes());
        kept.extend_from_slice(record);
    }
    kept
}

/// Said the less often, the more there are.
fn complain_of_loss(records: u64) {
    if records.is_power_of_two() {
        tracing::error!(
            records,
            "too much has happened while the store could not be written: executions may run again after a crash"
        );
    }
}

/// What is written for all shards, and who does it. [`Writer::stop`] it, or what is pending is lost.
pub(super) struct Writer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    /// Takes records; they are written when there is a log.
    pub(super) fn new(shards: u16, report: Report, functions: &'static dyn Functions) -> Writer {
        let shared = Shared::new(shards, report, Codec::new(functions));
        Writer { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Starts writing at the end of a log. A disk that takes nothing at the moment does not keep it from starting: what
    /// is there can be served, and it is tried again.
    pub(super) fn start(&self, mut log: Log) -> Result<(), StoreError> {
        let shared = &self.shared;
        let path = log.path().to_owned();
        match log.begin() {
            Ok(()) => {}
            Err(source) if is_final(&source) => {
                let data_dir = path.parent().unwrap_or(&path).to_owned();
                return Err(StoreError::Unwritable { data_dir, source });
            }
            Err(error) => shared.fails(&error, &path),
        }
        shared.bytes.store(log.bytes(), Ordering::Relaxed);
        // There is one log in a process.
        let _ = shared.index.set(Arc::clone(&log.index));
        let lookup = log.lookup(shared.codec);
        let reader = Arc::clone(shared);
        let read = move || {
            reader.reads.run(|id| lookup.end_of(id), |request, result| reader.answer(request, result));
        };
        // Nobody waits for its end: it may hang.
        thread::Builder::new().name("store-read".to_owned()).spawn(read).map_err(StoreError::Thread)?;
        let committer = Committer::new(Arc::clone(shared), log);
        let run = move || committer.run();
        let writes =
            thread::Builder::new().name("store".to_owned()).spawn(run).map_err(StoreError::Thread)?;
        // There is one log in a process.
        let _ = shared.thread.set(writes.thread().clone());
        // Of what came before.
        writes.thread().unpark();
        let watched = Arc::clone(shared);
        let watch = move || {
            let mut quiet = Quiet::default();
            while !watched.stopping.load(Ordering::Acquire) {
                thread::park_timeout(WATCH_INTERVAL);
                watched.give_up_overdue(|began| began.elapsed() > COMMIT_TIME_MAX, &path);
                watched.cannot_read(watched.reads.give_up_overdue(|began| began.elapsed() > READ_TIME_MAX));
                // Not by the clock of the thread that writes: it would look at it with each commit.
                if quiet.begins(watched.commits.load(Ordering::Relaxed), Instant::now()) {
                    watched.rests.store(true, Ordering::Release);
                    watched.wake();
                }
            }
        };
        let watches =
            thread::Builder::new().name("store-watch".to_owned()).spawn(watch).map_err(StoreError::Thread)?;
        self.threads.lock().extend([writes, watches]);
        Ok(())
    }

    /// The end of one shard.
    pub(super) fn shard(&self, shard: u16) -> ShardStore {
        ShardStore { shard, shared: Arc::clone(&self.shared) }
    }

    /// What it has done so far.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            commits: self.shared.commits.load(Ordering::Relaxed),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            results: self.shared.index.get().map_or(0, |index| index.len() as u64),
            reads: self.shared.reads.done.load(Ordering::Relaxed),
            read_errors: self.shared.reads.failed.load(Ordering::Relaxed),
            reads_refused: self.shared.reads.refused.load(Ordering::Relaxed),
            is_failing: self.shared.failing.load(Ordering::Relaxed),
        }
    }

    /// What is wrong with the disk, for a person.
    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().text.clone()
    }

    /// Writes what is pending and ends. Call it when no shard takes anything any more.
    pub(super) fn stop(&self) {
        self.shared.cannot_read(self.shared.reads.close());
        self.shared.stopping.store(true, Ordering::Release);
        for thread in self.threads.lock().drain(..) {
            thread.thread().unpark();
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// A shard's way to the writer.
pub(super) struct ShardStore {
    pub(super) shard: u16,
    pub(super) shared: Arc<Shared>,
}

impl Store for ShardStore {
    fn append(&mut self, number: u64, entry: Entry) -> Option<Input> {
        let record = &entry.record;
        let mut lane = self.shared.lanes.get(usize::from(self.shard))?.lock();
        // Under the lock: whoever finds that the disk fails looks into the lanes after that.
        let failing = self.shared.failing.load(Ordering::Acquire);
        let (pending_max, backlog_max) = self.shared.bounds;
        let is_full = !lane.waiting.is_empty() || lane.records.len() > backlog_max;
        let refused = match record {
            Record::Accepted { .. } => failing || is_full || lane.records.len() > pending_max,
            // Whoever asks for these is told.
            Record::Registered { .. } | Record::Replayed { .. } | Record::Purged { .. } => is_full,
            Record::Ended { .. } | Record::Kept { .. } if lane.waiting_bytes > WAITING_BYTES_MAX => {
                lane.refused += 1;
                complain_of_loss(lane.refused);
                true
            }
            _ => false,
        };
        if refused {
            return Some(Input::Journal(JournalEvent::NotTaken { number }));
        }
        let before = lane.records.len();
        let promises = matches!(
            record,
            Record::Registered { .. }
                | Record::Removed { .. }
                | Record::Replayed { .. }
                | Record::Kept { .. }
                | Record::Purged { .. }
        );
        let is_taken = lane.take(number, is_full, |bytes| self.shared.codec.encode(&entry, bytes));
        drop(lane);
        if !is_taken {
            if let Record::Registered { spec } | Record::Reinstated { spec } = record {
                // The server made its document itself.
                let function = spec.name.as_str();
                tracing::error!(function, "cannot be written down: its document does not say what it is");
            }
            return Some(Input::Journal(JournalEvent::NotTaken { number }));
        }
        if before == 0 {
            self.shared.wake();
        }
        (failing && promises).then_some(Input::Journal(JournalEvent::Failed { through: number }))
    }

    fn read_result(&mut self, id: ExecutionId, ticket: Ticket) -> Option<Input> {
        let request = Request { shard: self.shard, ticket, id };
        let is_taken = self.shared.reads.take(request);
        (!is_taken).then(|| request.answer(Err(ReadFailure::Unreadable)))
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod lane_tests;
#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
