//! From the log to what shards take back.
//!
//! [`open`] takes the data directory and cuts a torn frame off. [`Opened::read`] reads all segments: one thread reads
//! and checks frames, one per shard folds the records that are that shard's now, so that the number of shards may
//! differ from the last time. [`give_back`] hands the results over, in batches, to the shards' threads.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, bounded};
use shard_core::{Input, Recovery, Stored, name::owner_of};
use shard_runtime::{Fabric, Host};
use tokio::sync::oneshot;

use super::{
    StoreError, codec,
    directory::Directory,
    segment::{self, HEADER_BYTES, ReadEnd, Segment},
    writer::{Report, Writer},
};

/// Things handed to a shard before it has its turn again.
const BATCH: usize = 256;
/// Runs of records that wait for a shard's fold.
const RUNS_MAX: usize = 16;

/// How far recovery has come.
#[derive(Debug, Default)]
pub struct Progress {
    read_bytes: AtomicU64,
    log_bytes: AtomicU64,
    restored: AtomicU64,
    all: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// Whether everything is back.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Says it for a person.
    pub fn text(&self) -> String {
        let all = self.all.load(Ordering::Relaxed);
        if all == 0 {
            let [read, log] =
                [&self.read_bytes, &self.log_bytes].map(|bytes| bytes.load(Ordering::Relaxed) >> 20);
            return format!("recovering, {read} of {log} MiB read");
        }
        format!("recovering, {} of {}", grouped(self.restored.load(Ordering::Relaxed)), grouped(all))
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(" ")
}

/// A data directory that is ours, with a log that ends with a whole frame.
pub struct Opened {
    directory: Arc<Directory>,
    segments: Vec<Segment>,
}

/// Takes a data directory.
///
/// # Errors
/// When it is in use, cannot be written, has another format, or lacks a part of its log.
pub fn open(data_dir: &Path) -> Result<Opened, StoreError> {
    let directory = Directory::open(data_dir, true)?;
    let mut segments = segment::list(&directory.store)?;
    let failed = |source| StoreError::Unwritable { data_dir: data_dir.to_owned(), source };
    segment::remove_leftovers(&directory.store, &segments).map_err(failed)?;
    mend_end(&mut segments)?;
    Ok(Opened { directory: Arc::new(directory), segments })
}

/// Cuts off what was being written when the power failed.
fn mend_end(segments: &mut Vec<Segment>) -> Result<(), StoreError> {
    let Some(last) = segments.last_mut() else { return Ok(()) };
    let failed = |source| StoreError::Unwritable { data_dir: last.path.clone(), source };
    let ReadEnd::Damaged(damage) = segment::read(last, |_, _| Ok(()))? else {
        if last.bytes == HEADER_BYTES && last.first == last.last {
            // Nothing came of it: starts that fail again and again must not leave a file each.
            std::fs::remove_file(&last.path).map_err(failed)?;
            segments.pop();
            return Ok(());
        }
        // A kill may have left what was written and never synced. Work goes on from it in another file: a power failure would
        // tear it then where no end is.
        return File::open(&last.path).and_then(|file| file.sync_all()).map_err(failed);
    };
    if !damage.is_last {
        return Err(StoreError::Corrupt {
            path: last.path.clone(),
            offset: damage.offset,
            what: damage.what,
        });
    }
    tracing::warn!(
        file = %last.path.display(),
        offset = damage.offset,
        bytes = last.bytes - damage.offset,
        "the last record was torn, it is cut off: nobody was promised anything with it"
    );
    if damage.offset == 0 {
        std::fs::remove_file(&last.path).map_err(failed)?;
        segments.pop();
        return Ok(());
    }
    let file = File::options().write(true).open(&last.path).map_err(failed)?;
    file.set_len(damage.offset).and_then(|()| file.sync_all()).map_err(failed)?;
    last.bytes = damage.offset;
    Ok(())
}

impl Opened {
    /// Starts writing behind what is there.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn start_writer(&self, shards: u16, report: Report) -> Result<Writer, StoreError> {
        Writer::start(Arc::clone(&self.directory), self.segments.clone(), shards, report)
    }

    /// Reads everything that was there before the writer started; one fold per shard.
    ///
    /// # Errors
    /// When a segment cannot be read or is corrupt.
    pub fn read(&self, shards: u16, progress: &Progress) -> Result<Vec<Recovery>, StoreError> {
        read(&self.segments, shards, progress)
    }
}

/// Records of one shard from one frame: where they come from, the frame, and which parts of it.
struct Run {
    segment: usize,
    offset: u64,
    frame: Arc<Vec<u8>>,
    records: Vec<(usize, usize)>,
}

pub(super) fn read(
    segments: &[Segment],
    shards: u16,
    progress: &Progress,
) -> Result<Vec<Recovery>, StoreError> {
    progress.log_bytes.store(segments.iter().map(|segment| segment.bytes).sum(), Ordering::Relaxed);
    thread::scope(|scope| {
        let (lanes, folds): (Vec<_>, Vec<_>) = (0..shards.max(1))
            .map(|_| {
                let (sender, receiver) = bounded::<Run>(RUNS_MAX);
                (sender, scope.spawn(move || fold(segments, &receiver)))
            })
            .unzip();
        let mut outcome = Ok(());
        'segments: for (place, segment) in segments.iter().enumerate() {
            let end = segment::read(segment, |offset, frame| {
                progress.read_bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
                let corrupt = || corrupt(segment, offset);
                let frame = Arc::new(frame);
                for (lane, records) in lanes.iter().zip(by_owner(&frame, shards).ok_or_else(corrupt)?) {
                    if !records.is_empty() {
                        // A fold that ended has an error to tell.
                        let _ = lane.send(Run { segment: place, offset, frame: Arc::clone(&frame), records });
                    }
                }
                Ok(())
            });
            outcome = match end {
                Ok(ReadEnd::Whole) => continue,
                Ok(ReadEnd::Damaged(damage)) => Err(StoreError::Corrupt {
                    path: segment.path.clone(),
                    offset: damage.offset,
                    what: damage.what,
                }),
                Err(error) => Err(error),
            };
            break 'segments;
        }
        drop(lanes);
        let mut recovered = Vec::new();
        for fold in folds {
            match fold.join() {
                Ok(result) => recovered.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome?;
        recovered.into_iter().collect()
    })
}

fn corrupt(segment: &Segment, offset: u64) -> StoreError {
    StoreError::Corrupt { path: segment.path.clone(), offset, what: "a record" }
}

/// The places of each shard's records in a frame. `None`: something in it is no record.
fn by_owner(frame: &[u8], shards: u16) -> Option<Vec<Vec<(usize, usize)>>> {
    let mut all = vec![Vec::new(); usize::from(shards.max(1))];
    let mut at = 0;
    for record in codec::split(frame) {
        let record = record?;
        let (_, subject) = codec::subject(record)?;
        let start = at + 4;
        at = start + record.len();
        all.get_mut(usize::from(owner_of(subject.owner_hash(), shards)))?.push((start, at));
    }
    (at == frame.len()).then_some(all)
}

fn fold(segments: &[Segment], runs: &Receiver<Run>) -> Result<Recovery, StoreError> {
    let mut recovery = Recovery::default();
    for run in runs {
        for (start, end) in run.records {
            let record = run.frame.get(start..end).and_then(codec::decode);
            match (record, segments.get(run.segment)) {
                (Some(record), _) => recovery.apply(record),
                (None, Some(segment)) => return Err(corrupt(segment, run.offset)),
                (None, None) => {}
            }
        }
    }
    Ok(recovery)
}

/// Gives shards back what was kept, all at the same time, and ends when they have it.
pub async fn give_back<H: Host>(fabric: &Arc<Fabric<H>>, recovered: Vec<Recovery>, progress: &Arc<Progress>) {
    let all: usize = recovered.iter().map(|recovery| recovery.functions() + recovery.executions()).sum();
    progress.all.store(all as u64, Ordering::Relaxed);
    let mut tasks = Vec::new();
    for (shard, recovery) in (0..).zip(recovered) {
        let (fabric, progress) = (Arc::clone(fabric), Arc::clone(progress));
        tasks.push(tokio::task::spawn_local(async move {
            let thread = fabric.plan().thread_of(shard);
            let mut stored = recovery.into_stored();
            loop {
                let batch: Vec<Stored> = stored.by_ref().take(BATCH).collect();
                let count = batch.len();
                let (done, is_done) = oneshot::channel();
                fabric.run_on(thread, move |node| {
                    batch.into_iter().for_each(|stored| node.submit(Input::Restore(stored)));
                    if count == 0 {
                        node.submit(Input::Restored);
                    }
                    let _ = done.send(());
                });
                // Without an answer the thread is gone, and the server with it.
                if is_done.await.is_err() || count == 0 {
                    break;
                }
                progress.restored.fetch_add(count as u64, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
    progress.over.store(true, Ordering::Relaxed);
}
