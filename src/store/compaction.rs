//! Makes one segment of the closed ones, without what is forgotten.
//!
//! Two passes over the closed segments, one frame in memory at a time. The first learns what is forgotten: executions
//! by their `Forgotten` record, registrations by what replaced them. The second copies every other record as it is, in
//! its order. The result takes the place of all of them with one rename; they are removed after that.
//!
//! A removal is kept while records of the function's executions stand before it: it says that they ended with it.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufWriter, Write},
    sync::Arc,
    thread::{self, JoinHandle},
};

use shard_core::{ExecutionId, Name};

use super::{
    StoreError,
    codec::{self, Subject, kind},
    directory::{self, Directory},
    segment::{self, FRAME_HEADER_BYTES, HEADER_BYTES, ReadEnd, Segment},
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
}

impl Compactor {
    pub(super) fn new(directory: Arc<Directory>, closed: Vec<Segment>) -> Compactor {
        Compactor { directory, closed, compacted_bytes: 0, running: None }
    }

    /// A segment will not be written any more.
    pub(super) fn closed(&mut self, segment: Segment) {
        self.closed.push(segment);
    }

    /// Starts when enough has come since the last time, unless one runs or was not taken over.
    pub(super) fn start_if_worthwhile(&mut self) {
        if self.running.is_some() {
            return;
        }
        let bytes = self.bytes();
        let grown = bytes >= (2 * self.compacted_bytes).max(GROWTH_BYTES_MIN);
        if self.closed.len() < 2 || !(grown || self.closed.len() >= SEGMENTS_MIN) {
            return;
        }
        let (directory, segments) = (Arc::clone(&self.directory), self.closed.clone());
        let run = move || match compact(&directory, &segments) {
            Ok(segment) => Some(segment),
            Err(error) => {
                tracing::warn!(%error, "the store could not be compacted; it goes on growing");
                None
            }
        };
        // Without a thread it is tried again after the next segment.
        self.running = thread::Builder::new().name("compaction".to_owned()).spawn(run).ok();
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
            self.compacted_bytes = segment.bytes;
            self.closed.retain(|closed| closed.first > segment.last);
            self.closed.insert(0, segment);
        }
    }
}

/// What need not be copied.
#[derive(Default)]
struct Obsolete {
    forgotten: HashSet<ExecutionId>,
    /// The record of a name that counts, by its place among all.
    functions: HashMap<Name, u64>,
}

/// Makes one segment of several that follow each other and are written no more.
pub(super) fn compact(directory: &Directory, segments: &[Segment]) -> Result<Segment, StoreError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(StoreError::Missing { path: directory.store.clone() });
    };
    let obsolete = survey(segments)?;
    let path = directory.store.join(segment::file_name(first.first, last.last));
    let failed = |source| StoreError::Unwritable { data_dir: directory.store.clone(), source };
    let new = path.with_extension("log.new");
    let bytes = copy(segments, obsolete, &new, first.first, last.last)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    segment::sync_directory(&directory.store).map_err(failed)?;
    for old in segments.iter().filter(|old| old.path != path) {
        std::fs::remove_file(&old.path).map_err(failed)?;
    }
    let before: u64 = segments.iter().map(|segment| segment.bytes).sum();
    tracing::info!(segments = segments.len(), before, after = bytes, "store compacted");
    Ok(Segment { path, first: first.first, last: last.last, bytes })
}

fn survey(segments: &[Segment]) -> Result<Obsolete, StoreError> {
    let mut obsolete = Obsolete::default();
    let mut place = 0;
    each_record(segments, |record| {
        place += 1;
        match codec::subject(record) {
            Some((kind::FORGOTTEN, Subject::Execution(id))) => {
                obsolete.forgotten.insert(id);
            }
            Some((_, Subject::Function(name))) => {
                obsolete.functions.insert(name, place);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(obsolete)
}

fn copy(
    segments: &[Segment],
    obsolete: Obsolete,
    new: &std::path::Path,
    first: u64,
    last: u64,
) -> Result<u64, StoreError> {
    let failed = |source| StoreError::Unwritable { data_dir: new.to_owned(), source };
    let file = directory::private(File::options().create(true).truncate(true)).open(new).map_err(failed)?;
    let mut target = Target { file: BufWriter::new(file), frame: Vec::new(), frames: 0, bytes: HEADER_BYTES };
    target.file.write_all(&segment::header(first, last)).map_err(failed)?;
    // Functions of which executions were copied.
    let mut in_use: HashSet<Name> = HashSet::new();
    let mut place = 0;
    each_record(segments, |record| {
        place += 1;
        let keep = match codec::subject(record) {
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
        if keep { target.put(record).map_err(failed) } else { Ok(()) }
    })?;
    target.finish().map_err(failed)
}

/// The file that a compaction writes.
struct Target {
    file: BufWriter<File>,
    frame: Vec<u8>,
    frames: u64,
    bytes: u64,
}

impl Target {
    fn put(&mut self, record: &[u8]) -> io::Result<()> {
        if self.frame.is_empty() {
            self.frame.resize(FRAME_HEADER_BYTES, 0);
        }
        self.frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.frame.extend_from_slice(record);
        if self.frame.len() >= FRAME_BYTES { self.end_frame() } else { Ok(()) }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if !self.frame.is_empty() {
            segment::seal(&mut self.frame, self.frames);
            self.file.write_all(&self.frame)?;
            self.bytes += self.frame.len() as u64;
            self.frames += 1;
            self.frame.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_frame()?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.bytes)
    }
}

/// Goes through all records in their order. A closed segment that is not whole is not touched.
fn each_record(
    segments: &[Segment],
    mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for segment in segments {
        let end = segment::read(segment, |offset, records| {
            for record in codec::split(&records) {
                let what = "a record";
                let corrupt = || StoreError::Corrupt { path: segment.path.clone(), offset, what };
                take(record.ok_or_else(corrupt)?)?;
            }
            Ok(())
        })?;
        if let ReadEnd::Damaged(damage) = end {
            let (path, offset, what) = (segment.path.clone(), damage.offset, damage.what);
            return Err(StoreError::Corrupt { path, offset, what });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
