//! From the log to what shards take back.
//!
//! [`take`] takes the data directory, [`Taken::open`] finds the end of the log. [`OpenedLog::read`] reads all segments: one thread reads
//! and checks frames, one per shard folds the records that are that shard's now, so that the number of shards may
//! differ from the last time. Nothing is changed until all of that was read; then [`OpenedLog::mend`] cuts a torn frame off. To give the
//! records to the shards is the server's business.

use std::{
    io::{self, BufRead, BufReader},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use shard_core::{Recovery, Seating};

use super::{
    StoreError,
    codec::{self, Codec, Decoded},
    directory::{self, Directory},
    files::{Files, Reader},
    function::Functions,
    head::{self, Head},
    index::Index,
    log::{Log, Place},
    segment::{self, Damage, Expected, HEADER_BYTES, Header, Mark, ReadEnd, Segment},
    unreadable::Unreadable,
    writer::Writer,
};

/// Runs of records that wait for a shard's fold.
const RUNS_MAX: usize = 16;
/// Where the last torn commit is kept.
const TORN_FILE: &str = "TORN";

/// How far recovery has come.
#[derive(Debug, Default)]
pub struct Progress {
    read_bytes: AtomicU64,
    log_bytes: AtomicU64,
    restored: AtomicU64,
    all: AtomicU64,
    /// Why it does not go on.
    obstacle: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Progress {
    /// Whether everything is back.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// So many things are there to be given back.
    pub fn has_found(&self, all: u64) {
        self.all.store(all, Ordering::Relaxed);
    }

    /// So many more have been given back.
    pub fn has_restored(&self, count: u64) {
        self.restored.fetch_add(count, Ordering::Relaxed);
    }

    /// Everything is back.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Something has to be tried again; or it goes on.
    pub fn set_obstacle(&self, obstacle: Option<String>) {
        *self.obstacle.lock() = obstacle;
    }

    /// Says it for a person.
    pub fn text(&self) -> String {
        if let Some(obstacle) = &*self.obstacle.lock() {
            return format!("recovering, trying again: {obstacle}");
        }
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

/// A data directory that is ours.
pub(super) struct Taken {
    directory: Arc<Directory>,
    codec: Codec,
}

/// What is in it, and how it is mended. Nothing is written before that: whoever finds in it what a newer version wrote leaves it as it
/// is.
pub(super) struct OpenedLog {
    directory: Arc<Directory>,
    codec: Codec,
    /// The log up to its last whole frame.
    pub(super) segments: Vec<Segment>,
    /// Where the next one begins.
    pub(super) place: Place,
    /// All files that stay; the newest as it was found.
    files: Vec<Segment>,
    /// The file in which the last commit is torn, and where.
    torn: Option<(Segment, Damage)>,
    /// Where the log ends.
    end: Mark,
    /// It is of an earlier format.
    is_old: bool,
}

/// Takes a data directory.
///
/// # Errors
/// When it is in use, cannot be written, or has another format.
pub(super) fn take(data_dir: &Path, functions: &'static dyn Functions) -> Result<Taken, StoreError> {
    let directory = Directory::open(data_dir, true)?;
    directory.format()?;
    Ok(Taken { directory: Arc::new(directory), codec: Codec::new(functions) })
}

impl Taken {
    /// Looks whether all files of the log are there, and for what was being written when the power failed.
    ///
    /// # Errors
    /// When the log cannot be read, lacks a part, or does not end with a whole frame or a torn one.
    pub(super) fn open(&self) -> Result<OpenedLog, StoreError> {
        open(Arc::clone(&self.directory), self.codec)
    }
}

/// The same for any directory.
pub(super) fn open(directory: Arc<Directory>, codec: Codec) -> Result<OpenedLog, StoreError> {
    let is_old = directory.format()? < directory::FORMAT;
    let (files, store) = (&*directory.files, &directory.store);
    let failed = |source| StoreError::Unwritable { data_dir: store.clone(), source };
    // A killed server may have given names that are not on disk yet. What follows from them must not be there first: what a
    // compaction replaced is removed when this is mended.
    files.sync_directory(store).map_err(failed)?;
    let head = if is_old { None } else { Some(Head::read(files, store)?) };
    let mut found = head::list(files, store)?;
    head::link(files, store, &mut found, head.as_ref())?;
    let (end, torn) = look_for_end(files, &mut found)?;
    let mut segments = found.clone();
    if let (Some(last), Some((_, damage))) = (segments.last_mut(), &torn)
        && damage.offset > 0
    {
        last.bytes = damage.offset;
    }
    let mut place = Place { before: end, reuses_number: false };
    // Starts that fail again and again must not leave a file each.
    if let Some(last) = segments.last()
        && (end.frames, last.bytes) == (0, HEADER_BYTES)
        && let segment::Opened::Keyed(_, Header { before, end: None, .. }) = segment::open(files, last)?
    {
        place = Place { before, reuses_number: true };
        segments.pop();
    } else if let Some(last) = segments.last_mut() {
        last.expected = Expected::Exactly(end);
    }
    Ok(OpenedLog {
        directory: Arc::clone(&directory),
        codec,
        segments,
        place,
        files: found,
        torn,
        end,
        is_old,
    })
}

/// Where the log ends, and the file in which its last commit is torn. A file that is nothing but torn is taken out.
fn look_for_end(
    files: &dyn Files,
    segments: &mut Vec<Segment>,
) -> Result<(Mark, Option<(Segment, Damage)>), StoreError> {
    let Some(last) = segments.last() else { return Ok((Mark::default(), None)) };
    let (damage, end) = match segment::read(files, last, |_, _| Ok(()))? {
        ReadEnd::Whole(end) => return Ok((end, None)),
        ReadEnd::Damaged(damage, end) => (damage, end),
    };
    if !damage.is_torn {
        return Err(damage.corrupt(last));
    }
    let torn = last.clone();
    if damage.offset > 0 {
        return Ok((end, Some((torn, damage))));
    }
    segments.pop();
    let end = match segments.last() {
        None => Mark::default(),
        Some(last) => match segment::read(files, last, |_, _| Ok(()))? {
            ReadEnd::Whole(end) => end,
            ReadEnd::Damaged(damage, _) => return Err(damage.corrupt(last)),
        },
    };
    Ok((end, Some((torn, damage))))
}

/// Cuts off what was being written when the power failed.
fn cut_off(directory: &Directory, torn: &Segment, damage: &Damage) -> Result<(), StoreError> {
    let files = &*directory.files;
    let failed = |source| StoreError::Unwritable { data_dir: torn.path.clone(), source };
    let copy = directory.store.join(TORN_FILE);
    if let Err(error) = keep(files, &torn.path, damage.offset, &copy) {
        tracing::warn!(%error, "the torn commit could not be copied");
    }
    tracing::warn!(
        file = %torn.path.display(),
        offset = damage.offset,
        bytes = torn.bytes - damage.offset,
        copy = %copy.display(),
        "the last commit is torn and is cut off: bytes of it are missing, as after a power failure while it was written, \
         when nobody had been promised anything with it. Should something else have damaged the file since, calls that \
         were accepted in that moment are lost"
    );
    if damage.offset == 0 {
        return files.remove(&torn.path).map_err(failed);
    }
    let mut file = files.open(&torn.path, true).map_err(failed)?;
    file.set_len(damage.offset).and_then(|()| file.sync()).map_err(failed)
}

/// Has the end of a segment on disk, up to a place.
///
/// A kill may have left what was written and never synced. Work goes on from it in another file: a power failure would tear it
/// then where no end is. Worse, where a sync has failed before, the system takes for written what is not, and gives it back as
/// long as it has its power: only what is written once more is certain to be synced.
fn secure(files: &dyn Files, segment: &Segment, end: u64) -> io::Result<()> {
    let mut at = match segment.expected {
        Expected::Exactly(known) | Expected::AtLeast(known) => known.bytes.min(end),
        Expected::Anything => 0,
    };
    let mut file = files.open(&segment.path, true)?;
    let mut bytes = vec![0; 1 << 20];
    while at < end {
        let length = (end - at).min(bytes.len() as u64) as usize;
        let read = file.read_at(&mut bytes[..length], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match file.write_at(&bytes[..read], at) {
            // On a full disk what is there is served as it is.
            Err(error) if is_full(&error) => break,
            written => written?,
        }
        at += read as u64;
    }
    file.sync()
}

/// Copies what is behind a place of a file.
pub(super) fn keep(files: &dyn Files, path: &Path, offset: u64, copy: &Path) -> io::Result<()> {
    let source = files.open(path, false)?;
    let mut reader = BufReader::with_capacity(1 << 20, Reader { file: &*source, offset });
    let mut target = files.create(copy)?;
    let mut at = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return target.sync();
        }
        target.write_at(bytes, at)?;
        let length = bytes.len();
        at += length as u64;
        reader.consume(length);
    }
}

impl OpenedLog {
    /// Leaves nothing but the log: cuts a torn commit off, has the rest of it on disk, and removes what is no part of it.
    ///
    /// # Errors
    /// When the directory cannot be written, or the log is not what it was when it was opened.
    pub(super) fn mend(&self) -> Result<(), StoreError> {
        let (files, store) = (&*self.directory.files, &self.directory.store);
        let failed = |source| StoreError::Unwritable { data_dir: store.clone(), source };
        if let Some((torn, damage)) = &self.torn {
            cut_off(&self.directory, torn, damage)?;
        }
        let is_gone = self.torn.as_ref().is_some_and(|(_, damage)| damage.offset == 0);
        if let Some(last) = self.files.last().filter(|_| !is_gone) {
            secure(files, last, self.end.bytes).map_err(failed)?;
            // What was read before may have been in memory only.
            let expected = Expected::Exactly(self.end);
            let last = Segment { bytes: self.end.bytes, expected, ..last.clone() };
            if let ReadEnd::Damaged(damage, _) = segment::read(files, &last, |_, _| Ok(()))? {
                return Err(damage.corrupt(&last));
            }
        }
        head::remove_leftovers(files, store, &self.files).map_err(failed)?;
        if self.is_old {
            let newest = self.files.last().map_or(0, |segment| segment.last);
            self.directory.set_format(&Head { newest, mark: self.end, closed: true })?;
            tracing::info!(store = %store.display(), "the store is continued in format {}", directory::FORMAT);
        }
        Ok(())
    }

    /// The log behind what is there. `index`: of that.
    pub(super) fn log(&self, index: Index) -> Log {
        Log::behind(Arc::clone(&self.directory), self.segments.clone(), self.place, Arc::new(index))
    }

    /// Starts writing behind what is there, which has been mended.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn start(&self, writer: &Writer, index: Index) -> Result<(), StoreError> {
        writer.start(self.log(index))
    }

    /// Reads everything that is there; one fold per shard. `index`: an empty one, which is filled.
    ///
    /// # Errors
    /// When a segment cannot be read or is corrupt.
    pub(super) fn read(
        &self,
        seating: Seating,
        results_bytes_max: Option<u64>,
        progress: &Progress,
        index: &Index,
    ) -> Result<Vec<Recovery>, StoreError> {
        let bounds = (seating, results_bytes_max);
        read(&*self.directory.files, self.codec, &self.segments, bounds, progress, Some(index))
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
    files: &dyn Files,
    codec: Codec,
    segments: &[Segment],
    (seating, results_bytes_max): (Seating, Option<u64>),
    progress: &Progress,
    index: Option<&Index>,
) -> Result<Vec<Recovery>, StoreError> {
    progress.log_bytes.store(segments.iter().map(|segment| segment.bytes).sum(), Ordering::Relaxed);
    progress.read_bytes.store(0, Ordering::Relaxed);
    thread::scope(|scope| {
        let (lanes, folds): (Vec<_>, Vec<_>) = (0..seating.shards())
            .map(|shard| {
                let recovery = Recovery::of(seating.partitions_of(shard));
                let recovery = match results_bytes_max {
                    Some(bytes_max) => recovery.with_results_max(bytes_max),
                    None => recovery,
                };
                let (sender, receiver) = bounded::<Run>(RUNS_MAX);
                (sender, scope.spawn(move || fold(codec, segments, &receiver, recovery)))
            })
            .unzip();
        let mut outcome = Ok(());
        'segments: for (place, segment) in segments.iter().enumerate() {
            let end = segment::read(files, segment, |offset, frame| {
                progress.read_bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
                if let Some(index) = index {
                    index.note(index.file(segment), offset, &frame);
                }
                let frame = Arc::new(frame);
                let owned = by_owner(&frame, seating).map_err(|why| why.in_frame(segment, offset))?;
                for (lane, records) in lanes.iter().zip(owned) {
                    if !records.is_empty() {
                        // A fold that ended has an error to tell.
                        let _ = lane.send(Run { segment: place, offset, frame: Arc::clone(&frame), records });
                    }
                }
                Ok(())
            });
            outcome = match end {
                Ok(ReadEnd::Whole(_)) => continue,
                Ok(ReadEnd::Damaged(damage, _)) => Err(damage.corrupt(segment)),
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

/// The places of each shard's records in a frame.
fn by_owner(frame: &[u8], seating: Seating) -> Result<Vec<Vec<(usize, usize)>>, Unreadable> {
    let mut all = vec![Vec::new(); usize::from(seating.shards())];
    let mut at = 0;
    for record in codec::split(frame) {
        let record = record.ok_or(Unreadable::Broken)?;
        let subject = codec::head(record)?.subject;
        let start = at + 4;
        at = start + record.len();
        match subject.partition() {
            Some(partition) => {
                if let Some(owned) = all.get_mut(usize::from(seating.shard_of(partition))) {
                    owned.push((start, at));
                }
            }
            None => all.iter_mut().for_each(|records| records.push((start, at))),
        }
    }
    if at == frame.len() { Ok(all) } else { Err(Unreadable::Broken) }
}

/// Adds up the records of one shard's partitions.
fn fold(
    codec: Codec,
    segments: &[Segment],
    runs: &Receiver<Run>,
    mut recovery: Recovery,
) -> Result<Recovery, StoreError> {
    for run in runs {
        for (start, end) in run.records {
            let bytes = run.frame.get(start..end).unwrap_or_default();
            match (codec.decode(bytes), segments.get(run.segment)) {
                (Ok(Decoded::Owned(entry)), _) => recovery.apply(entry),
                (Ok(Decoded::Old(record)), _) => recovery.apply_without_epoch(record),
                (Ok(Decoded::OldStart(epoch)), _) => recovery.begin_everywhere(epoch),
                (Err(why), Some(segment)) => return Err(why.in_frame(segment, run.offset)),
                (Err(_), None) => {}
            }
        }
    }
    Ok(recovery)
}

/// Whether there is no room, which can change.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// A log that is mended at once.
#[cfg(test)]
pub(super) fn prepare(directory: Arc<Directory>, codec: Codec) -> Result<OpenedLog, StoreError> {
    let opened = open(directory, codec)?;
    opened.mend()?;
    Ok(opened)
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
