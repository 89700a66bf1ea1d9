//! One thread writes for all shards: what is pending goes into one frame, with one write and one sync (group commit).
//!
//! A shard's end ([`ShardStore`]) encodes a record into a buffer of its own and goes on; it never waits for the
//! disk. While the disk takes one commit, the next one gathers.
//!
//! When a commit fails, all that was promised with it is taken back ([`Input::JournalFailed`]), and new executions are
//! refused at once ([`Input::JournalRefused`]). Every other record is kept and tried again, so that what became of
//! executions accepted earlier is not lost: these records are few, because nothing new is accepted. The file is cut
//! back to its last whole frame before each try, and the try writes more than it needs, so that a disk with a few
//! bytes left does not count as a good one. A start on a full disk is the same without a first success.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use shard_core::{Input, Record};

use super::{
    Store, StoreError,
    codec::{self, kind},
    compaction::Compactor,
    directory::Directory,
    segment::{self, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, HEADER_BYTES, Segment},
};

/// A segment that has become this long is followed by another.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Records of one shard that wait to be written; above, new executions are refused.
const PENDING_BYTES_MAX: usize = 32 << 20;
/// Records kept while the disk fails.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Commits start at least this far apart: under load, more goes with each, and fewer syncs take less time from calls.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);
/// Time between two tries while the disk fails.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Room that a failing disk must have again.
const PROBE_BYTES: usize = 64 << 10;
/// Time between two log entries about a failing disk.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Tells a shard what became of its records.
pub type Report = Box<dyn Fn(u16, Input) + Send>;

/// What the writer has done since the start, and how it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commits that are on disk.
    pub commits: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Bytes of the log. It shrinks with a compaction.
    pub bytes: u64,
    /// Whether the last one failed: what has to be safe is refused.
    pub is_failing: bool,
}

/// What shards and the writer share.
struct Shared {
    lanes: Vec<Mutex<Lane>>,
    /// The last commit failed.
    failing: AtomicBool,
    commits: AtomicU64,
    written_bytes: AtomicU64,
    bytes: AtomicU64,
    stopping: AtomicBool,
    /// Nothing may be compacted yet: the log is being read.
    reading: AtomicBool,
}

/// Records of one shard that wait to be written.
#[derive(Default)]
struct Lane {
    records: Vec<u8>,
    /// Number of the last one.
    through: u64,
}

/// The running writer. [`Writer::stop`] it, or what is pending is lost.
pub struct Writer {
    shared: Arc<Shared>,
    waker: Thread,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts writing behind the segments of a log, into one that is new.
    pub(super) fn start(
        directory: Arc<Directory>,
        segments: Vec<Segment>,
        shards: u16,
        report: Report,
    ) -> Result<Writer, StoreError> {
        let first = segments.last().map_or(1, |segment| segment.last + 1);
        let path = directory.store.join(segment::file_name(first, first));
        let (file, full) = match segment::create(&directory.store, first, first) {
            Ok((file, _)) => (Some(file), None),
            // What is there can be served, and there may be room again at any time.
            Err(error) if is_full(&error) => (None, Some(error)),
            Err(source) => return Err(StoreError::Unwritable { data_dir: directory.store.clone(), source }),
        };
        let shared = Arc::new(Shared {
            lanes: (0..shards).map(|_| Mutex::default()).collect(),
            failing: AtomicBool::new(full.is_some()),
            commits: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            bytes: AtomicU64::new(HEADER_BYTES + segments.iter().map(|segment| segment.bytes).sum::<u64>()),
            stopping: AtomicBool::new(false),
            reading: AtomicBool::new(true),
        });
        let log = Log {
            file,
            current: Segment { path, first, last: first, bytes: HEADER_BYTES },
            frames: 0,
            compactor: Compactor::new(Arc::clone(&directory), segments),
            directory,
        };
        let mut committer = Committer {
            shared: Arc::clone(&shared),
            log,
            report,
            frame: Vec::new(),
            backlog: Vec::new(),
            complained: None,
            looked: false,
        };
        if let Some(error) = &full {
            committer.complain(error);
        }
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run())
            .map_err(StoreError::Thread)?;
        Ok(Writer { shared, waker: thread.thread().clone(), thread: Mutex::new(Some(thread)) })
    }

    /// The end of one shard.
    pub fn shard(&self, shard: u16) -> ShardStore {
        ShardStore { shard, shared: Arc::clone(&self.shared), thread: self.waker.clone() }
    }

    /// What it has done so far.
    pub fn figures(&self) -> Figures {
        Figures {
            commits: self.shared.commits.load(Ordering::Relaxed),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            is_failing: self.shared.failing.load(Ordering::Relaxed),
        }
    }

    /// The log has been read: from now on it may be compacted.
    pub fn log_was_read(&self) {
        self.shared.reading.store(false, Ordering::Release);
    }

    /// Writes what is pending and ends. Call it when no shard takes anything any more.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.waker.unpark();
        if let Some(thread) = self.thread.lock().take() {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// A shard's way to the writer.
pub struct ShardStore {
    shard: u16,
    shared: Arc<Shared>,
    thread: Thread,
}

impl Store for ShardStore {
    fn append(&mut self, number: u64, record: Record) -> Option<Input> {
        let failing = self.shared.failing.load(Ordering::Acquire);
        let mut lane = self.shared.lanes.get(usize::from(self.shard))?.lock();
        let is_new = matches!(record, Record::Accepted { .. });
        if is_new && (failing || lane.records.len() > PENDING_BYTES_MAX) {
            return Some(Input::JournalRefused { number });
        }
        let was_empty = lane.records.is_empty();
        codec::encode(&record, &mut lane.records);
        lane.through = number;
        drop(lane);
        if was_empty {
            self.thread.unpark();
        }
        let promises = matches!(
            record,
            Record::Registered { .. }
                | Record::Removed { .. }
                | Record::Replayed { .. }
                | Record::Kept { .. }
        );
        (failing && promises).then_some(Input::JournalFailed { through: number })
    }
}

/// The thread's own state.
struct Committer {
    shared: Arc<Shared>,
    log: Log,
    report: Report,
    /// The frame being written.
    frame: Vec<u8>,
    /// Records of failed commits that are tried again.
    backlog: Vec<u8>,
    /// When the log was last told that the disk fails.
    complained: Option<Instant>,
    /// Whether what was there at the start is worth a compaction has been looked at.
    looked: bool,
}

impl Committer {
    fn run(mut self) {
        let mut began = Instant::now() - COMMIT_INTERVAL;
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let failing = self.shared.failing.load(Ordering::Relaxed);
            if !failing && !self.is_pending() {
                if stopping {
                    break;
                }
                thread::park();
                continue;
            }
            if failing && !stopping {
                thread::sleep(RETRY_INTERVAL);
            } else {
                thread::sleep(COMMIT_INTERVAL.saturating_sub(began.elapsed()));
            }
            began = Instant::now();
            self.commit(failing);
            if stopping && self.shared.failing.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    fn is_pending(&self) -> bool {
        self.shared.lanes.iter().any(|lane| !lane.lock().records.is_empty())
    }

    /// Writes what is pending. `probing`: the disk failed before.
    fn commit(&mut self, probing: bool) {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        self.frame.extend_from_slice(&self.backlog);
        let mut throughs = Vec::with_capacity(self.shared.lanes.len());
        for lane in &self.shared.lanes {
            let mut lane = lane.lock();
            throughs.push((!lane.records.is_empty()).then_some(lane.through));
            self.frame.extend_from_slice(&lane.records);
            lane.records.clear();
        }
        match self.log.append(&mut self.frame, probing) {
            Ok(()) => self.succeeded(&throughs, probing),
            Err(error) => self.failed(&throughs, &error),
        }
        // One large commit must not hold its memory for ever.
        self.frame.shrink_to(1 << 20);
    }

    fn succeeded(&mut self, throughs: &[Option<u64>], probing: bool) {
        self.backlog = Vec::new();
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.written_bytes.fetch_add(self.frame.len() as u64, Ordering::Relaxed);
        if probing {
            self.complained = None;
            self.shared.failing.store(false, Ordering::Release);
            tracing::info!("the store takes records again");
        }
        for (shard, through) in (0..).zip(throughs) {
            if let Some(through) = *through {
                (self.report)(shard, Input::Journaled { through });
            }
        }
        let is_full = self.log.current.bytes >= SEGMENT_BYTES;
        if is_full {
            self.log.next_segment();
        }
        self.log.compactor.take_over();
        let may_compact = !self.shared.reading.load(Ordering::Acquire);
        // The first time for what earlier servers left.
        if may_compact && (is_full || !self.looked) {
            self.looked = true;
            self.log.compactor.start_if_worthwhile();
        }
        self.shared.bytes.store(self.log.current.bytes + self.log.compactor.bytes(), Ordering::Relaxed);
    }

    fn failed(&mut self, throughs: &[Option<u64>], error: &io::Error) {
        // First, so that what a shard is told comes after it refuses by itself.
        self.shared.failing.store(true, Ordering::Release);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            self.complain(error);
        }
        self.keep_facts();
        for (shard, through) in (0..).zip(throughs) {
            if let Some(through) = *through {
                (self.report)(shard, Input::JournalFailed { through });
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        self.complained = Some(Instant::now());
        let file = self.log.current.path.display().to_string();
        tracing::error!(%error, file, "the store cannot be written: enqueues and registrations are refused");
    }

    /// Keeps of a failed frame what is not new executions.
    fn keep_facts(&mut self) {
        let mut kept = Vec::new();
        let mut lost = 0u64;
        for record in codec::split(&self.frame[FRAME_HEADER_BYTES..]).flatten() {
            if record.first() == Some(&kind::ACCEPTED) {
                continue;
            }
            if kept.len() + record.len() > BACKLOG_BYTES_MAX {
                lost += 1;
                continue;
            }
            kept.extend_from_slice(&(record.len() as u32).to_le_bytes());
            kept.extend_from_slice(record);
        }
        if lost > 0 {
            tracing::error!(
                records = lost,
                "too much has happened while the store could not be written: executions may run again after a crash"
            );
        }
        self.backlog = kept;
    }
}

/// The segment being written.
struct Log {
    directory: Arc<Directory>,
    /// `None`: the disk has been full since the start.
    file: Option<File>,
    /// Its length is that of its whole frames.
    current: Segment,
    frames: u64,
    compactor: Compactor,
}

impl Log {
    /// Writes a frame; on disk when it returns. When it fails, nothing of it counts.
    fn append(&mut self, frame: &mut [u8], probing: bool) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => segment::create(&self.directory.store, self.current.first, self.current.last)?.0,
        };
        let written = self.write(&mut file, frame, probing);
        self.file = Some(file);
        written
    }

    fn write(&mut self, file: &mut File, frame: &mut [u8], probing: bool) -> io::Result<()> {
        let whole = self.current.bytes;
        if probing {
            cut_back(file, whole)?;
            file.write_all(&[0; PROBE_BYTES])?;
            file.write_all(frame)?;
            file.sync_data()?;
            cut_back(file, whole)?;
        }
        if frame.len() as u64 > FRAME_BYTES_MAX {
            return Err(io::Error::other("more is pending than one commit takes"));
        }
        segment::seal(frame, self.frames);
        let written = file.write_all(frame).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Tried again before the next frame.
            let _ = cut_back(file, whole);
            return Err(error);
        }
        self.current.bytes += frame.len() as u64;
        self.frames += 1;
        Ok(())
    }

    /// Goes on in another segment. When there cannot be one, this one grows.
    fn next_segment(&mut self) {
        let number = self.current.last + 1;
        match segment::create(&self.directory.store, number, number) {
            Ok((file, path)) => {
                let next = Segment { path, first: number, last: number, bytes: HEADER_BYTES };
                let closed = std::mem::replace(&mut self.current, next);
                self.file = Some(file);
                self.frames = 0;
                self.compactor.closed(closed);
            }
            Err(error) => {
                let _ = std::fs::remove_file(self.directory.store.join(segment::file_name(number, number)));
                tracing::warn!(%error, "no new segment could be begun, the last one grows");
            }
        }
    }
}

/// Drops what was written behind the last whole frame.
fn cut_back(file: &mut File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.seek(SeekFrom::Start(bytes))?;
    file.sync_all()
}

/// Whether there is no room, which can change, in contrast to a directory that must not be written.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
