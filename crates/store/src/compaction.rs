//! Makes one segment of the closed ones, without what is forgotten.
//!
//! Two passes over the closed segments, one frame in memory at a time. The first learns what is forgotten: executions
//! by their `Forgotten` record, registrations and epochs by what replaced them. A record of an epoch that was over when it was written
//! does not count, and is not copied. The second copies every other record as it is, in
//! its order. The result takes the place of all of them with one rename, and counts from then on, whatever follows; they are
//! removed after that, or with the next compaction, or at the next start.
//!
//! A removal is kept while records of the function's executions stand before it: it says that they ended with it.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use shard_core::{ExecutionId, Name, Partition};

use super::{
    StoreError,
    checksum::Key,
    codec::{self, RecordHead, Subject, kind},
    directory::Directory,
    fence::Fence,
    files::{File, Files},
    head,
    index::{self, Copied, Index, Location},
    segment::{self, Expected, FRAME_HEADER_BYTES, Header, Mark, Opened, ReadEnd, Segment},
};

/// Closed segments that are worth a compaction when they hold little.
const SEGMENTS_MIN: usize = 16;
/// Bytes beyond the last compaction's result that are worth another.
const GROWTH_BYTES_MIN: u64 = 128 << 20;
/// Records of one frame of the result, in bytes.
const FRAME_BYTES: usize = 1 << 20;

/// Compacts beside the writer, one compaction at a time.
pub(super) struct Compactor {
    directory: Arc<Directory>,
    closed: Vec<Segment>,
    /// Length of what the last compaction left.
    compacted_bytes: u64,
    running: Option<JoinHandle<Option<Segment>>>,
    index: Arc<Index>,
    /// Compacts when somebody says so, and else never.
    pub(super) waits_for_orders: bool,
}

impl Compactor {
    pub(super) fn new(directory: Arc<Directory>, closed: Vec<Segment>, index: Arc<Index>) -> Compactor {
        Compactor { directory, closed, compacted_bytes: 0, running: None, index, waits_for_orders: false }
    }

    /// A segment will not be written any more.
    pub(super) fn closed(&mut self, segment: Segment) {
        self.closed.push(segment);
    }

    /// Starts when enough has come since the last time, unless one runs or was not taken over.
    pub(super) fn start_if_worthwhile(&mut self) {
        if self.running.is_some() || self.waits_for_orders {
            return;
        }
        let bytes = self.bytes();
        let grown = bytes >= (2 * self.compacted_bytes).max(GROWTH_BYTES_MIN);
        if self.closed.len() < 2 || !(grown || self.closed.len() >= SEGMENTS_MIN) {
            return;
        }
        let (directory, segments) = (Arc::clone(&self.directory), self.closed.clone());
        let index = Arc::clone(&self.index);
        let run = move || match compact(&directory, &segments, &index) {
            Ok(segment) => Some(segment),
            Err(error) => {
                tracing::warn!(%error, "the store could not be compacted; it goes on growing");
                None
            }
        };
        // Without a thread it is tried again after the next segment.
        self.running = thread::Builder::new().name("compaction".to_owned()).spawn(run).ok();
    }

    /// Compacts at once, whatever it is worth, and leaves out what is said to be left out.
    pub(super) fn run(&mut self, keep: impl FnMut(&[u8], bool) -> bool) {
        if self.closed.len() >= 2 {
            match compact_but(&self.directory, &self.closed, &self.index, keep) {
                Ok(segment) => self.replaced(segment),
                Err(error) => tracing::warn!(%error, "the store could not be compacted"),
            }
        }
    }

    /// Bytes of the segments that are not written any more.
    pub(super) fn bytes(&self) -> u64 {
        self.closed.iter().map(|segment| segment.bytes).sum()
    }

    /// Takes the result of a compaction over, if one has ended.
    pub(super) fn take_over(&mut self) {
        if self.running.as_ref().is_some_and(|running| running.is_finished()) {
            self.wait();
        }
    }

    /// Waits for a compaction that runs, and takes its result over.
    pub(super) fn wait(&mut self) {
        let Some(running) = self.running.take() else { return };
        if let Ok(Some(segment)) = running.join() {
            self.replaced(segment);
        }
    }

    fn replaced(&mut self, by: Segment) {
        self.compacted_bytes = by.bytes;
        self.closed.retain(|closed| closed.first > by.last);
        self.closed.insert(0, by);
    }
}

/// What need not be copied.
#[derive(Default)]
struct Obsolete {
    forgotten: HashSet<ExecutionId>,
    /// The record of a name that counts, by its place among all.
    functions: HashMap<Name, u64>,
    /// The newest one that says which epoch has begun in a partition.
    begun: HashMap<Partition, u64>,
}

/// Makes one segment of several that follow each other and are written no more, and says in the index where ends are then.
pub(super) fn compact(
    directory: &Directory,
    segments: &[Segment],
    index: &Index,
) -> Result<Segment, StoreError> {
    compact_but(directory, segments, index, |_, _| true)
}

/// The same. `keep` is asked of every record, told whether it is obsolete; it cannot save one.
fn compact_but(
    directory: &Directory,
    segments: &[Segment],
    index: &Index,
    keep: impl FnMut(&[u8], bool) -> bool,
) -> Result<Segment, StoreError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(StoreError::Missing { path: directory.store.clone() });
    };
    let (files, store) = (&*directory.files, &directory.store);
    let (obsolete, end) = survey(files, segments)?;
    let path = store.join(segment::file_name(first.first, last.last));
    let failed = |source| StoreError::Unwritable { data_dir: store.clone(), source };
    let new = path.with_added_extension("new");
    let header = Header {
        first: first.first,
        last: last.last,
        key: files.key().map_err(failed)?,
        before: match segment::open(files, first)? {
            Opened::Keyed(_, header) => header.before,
            Opened::Old(_) | Opened::Headless(_) => Mark::default(),
        },
        // The next segment names the end of the file that this one replaces; that may have been a replacement itself.
        replaced: Some(match segment::open(files, last)? {
            Opened::Keyed(_, Header { replaced: Some(replaced), .. }) => replaced,
            _ => end,
        }),
        end: None,
    };
    let (end, copied) = copy(files, segments, index, obsolete, keep, &new, header)?;
    files.rename(&new, &path).map_err(failed)?;
    let segment = Segment {
        path,
        first: first.first,
        last: last.last,
        bytes: end.bytes,
        expected: Expected::Exactly(end),
        unlinked: false,
    };
    // Before the others are removed: whoever looked there finds it here.
    index.replaced(&segment, &copied);
    // From here on it is the log, whether what it replaces can be removed or not.
    if let Err(error) = files.sync_directory(store).and_then(|()| remove_replaced(files, store, &segment)) {
        tracing::warn!(%error, "files that compaction replaced could not be removed yet");
    }
    let before: u64 = segments.iter().map(|segment| segment.bytes).sum();
    tracing::info!(segments = segments.len(), before, after = end.bytes, "store compacted");
    Ok(segment)
}

/// Removes every other file that holds a part of what is in this one.
fn remove_replaced(files: &dyn Files, store: &Path, by: &Segment) -> io::Result<()> {
    for (name, _) in files.list(store)? {
        let path = store.join(&name);
        let replaced = head::numbers(&name).is_some_and(|(first, last)| first >= by.first && last <= by.last);
        if replaced && path != by.path {
            files.remove(&path)?;
        }
    }
    Ok(())
}

/// What need not be copied, and where the last segment ends.
fn survey(files: &dyn Files, segments: &[Segment]) -> Result<(Obsolete, Mark), StoreError> {
    let mut obsolete = Obsolete::default();
    let (mut place, mut fence) = (0, Fence::default());
    let end = each_record(files, segments, |record, _| {
        place += 1;
        let Ok(head) = codec::head(record) else { return Ok(()) };
        match (head.kind, head.subject) {
            _ if fence.holds_off(&head) => {}
            (kind::FORGOTTEN, Subject::Execution(id)) => {
                obsolete.forgotten.insert(id);
            }
            (_, Subject::Function(name)) => {
                obsolete.functions.insert(name, place);
            }
            (_, Subject::Partition(partition)) => {
                obsolete.begun.insert(partition, place);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((obsolete, end))
}

/// Writes what is left; on disk when it returns. Returns where that ends, and where ends of executions stand in it.
fn copy(
    files: &dyn Files,
    segments: &[Segment],
    index: &Index,
    obsolete: Obsolete,
    mut wanted: impl FnMut(&[u8], bool) -> bool,
    new: &Path,
    header: Header,
) -> Result<(Mark, Vec<Copied>), StoreError> {
    let failed = |source| StoreError::Unwritable { data_dir: new.to_owned(), source };
    let file = files.create(new).map_err(failed)?;
    let mut target = Target::new(file, header);
    // Functions of which executions were copied.
    let mut in_use: HashSet<Name> = HashSet::new();
    let (mut place, mut copied, mut fence) = (0, Vec::new(), Fence::default());
    let numbers: Vec<_> = segments.iter().map(|segment| index.file(segment)).collect();
    each_record(files, segments, |record, (segment, frame, start)| {
        place += 1;
        let head = codec::head(record).ok();
        let keep = match head.map(|head| (head.kind, head.subject)) {
            _ if head.is_some_and(|head| fence.holds_off(&head)) => false,
            Some((_, Subject::Partition(partition))) => obsolete.begun.get(&partition) == Some(&place),
            Some((_, Subject::Execution(id))) if obsolete.forgotten.contains(&id) => false,
            Some((kind::ACCEPTED | kind::KEPT, _)) => {
                in_use.extend(codec::function_of(record));
                true
            }
            Some((kind, Subject::Function(name))) => {
                let counts = obsolete.functions.get(&name) == Some(&place);
                match kind {
                    // Whatever comes after decides about registration, but not about what ended with a removal.
                    kind::REMOVED => in_use.contains(&name),
                    kind::REINSTATED => counts || in_use.contains(&name),
                    _ => counts,
                }
            }
            _ => true,
        };
        let keep = wanted(record, !keep) && keep;
        if let Some(RecordHead { kind, subject: Subject::Execution(id), .. }) = head
            && index::says_end(kind) == Some(true)
            && let Some(Some(file)) = numbers.get(segment).copied()
        {
            let from = Location::new(file, frame, start);
            if keep {
                let (frame, start) = target.next();
                copied.push(Copied { id, from, to: Location::new(file, frame, start) });
            } else {
                index.dropped(id, from);
            }
        }
        if keep { target.put(record).map_err(failed) } else { Ok(()) }
    })?;
    Ok((target.finish().map_err(failed)?, copied))
}

/// The file that a compaction writes.
pub(super) struct Target {
    file: Box<dyn File>,
    header: Header,
    key: Key,
    frame: Vec<u8>,
    at: Mark,
}

impl Target {
    /// Into an empty file.
    pub(super) fn new(file: Box<dyn File>, header: Header) -> Target {
        let (key, at) = (Key::new(&header.key), header.start());
        Target { file, header, key, frame: Vec::new(), at }
    }

    pub(super) fn put(&mut self, record: &[u8]) -> io::Result<()> {
        if self.frame.is_empty() {
            self.frame.resize(FRAME_HEADER_BYTES, 0);
        }
        self.frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.frame.extend_from_slice(record);
        if self.frame.len() >= FRAME_BYTES { self.end_frame() } else { Ok(()) }
    }

    /// Where the next record will stand: its frame, and its place among the records of that.
    fn next(&self) -> (u64, u32) {
        // A frame ends long before.
        (self.at.bytes, self.frame.len().saturating_sub(FRAME_HEADER_BYTES) as u32)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if !self.frame.is_empty() {
            let next = segment::seal(&mut self.frame, &self.key, &self.at);
            self.file.write_at(&self.frame, self.at.bytes)?;
            self.at = next;
            self.frame.clear();
        }
        Ok(())
    }

    /// Writes the header last, which says where the segment ends.
    pub(super) fn finish(mut self) -> io::Result<Mark> {
        self.end_frame()?;
        self.header.end = Some(self.at);
        self.file.write_at(&self.header.bytes(), 0)?;
        self.file.sync()?;
        Ok(self.at)
    }
}

/// Goes through all records in their order, with their places: segment, frame, place among its records. A closed segment that
/// is not whole is not touched. Returns where the last one ends.
fn each_record(
    files: &dyn Files,
    segments: &[Segment],
    mut take: impl FnMut(&[u8], (usize, u64, u32)) -> Result<(), StoreError>,
) -> Result<Mark, StoreError> {
    let mut last = Mark::default();
    for (number, segment) in segments.iter().enumerate() {
        let end = segment::read(files, segment, |offset, records| {
            let mut at = 0;
            for record in codec::split(&records) {
                let what = "a record";
                let corrupt = || StoreError::Corrupt { path: segment.path.clone(), offset, what };
                let record = record.ok_or_else(corrupt)?;
                take(record, (number, offset, at))?;
                at += 4 + record.len() as u32;
            }
            Ok(())
        })?;
        match end {
            ReadEnd::Whole(end) => last = end,
            ReadEnd::Damaged(damage, _) => return Err(damage.corrupt(segment)),
        }
    }
    Ok(last)
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
