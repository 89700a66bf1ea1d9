//! What `nanofaas store` shows of a data directory that no server uses, and how it is mended.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use shard_core::{Recovery, Seating, Stored};

use super::{
    StoreError,
    checksum::Key,
    codec::{self, Codec},
    compaction::{self, Target},
    directory::{self, Directory},
    files::{Files, Reader},
    format1,
    function::Functions,
    head::{self, Head},
    index::Index,
    recovery::{self, Progress},
    segment::{self, Damage, Expected, Frame, Header, Mark, Opened, ReadEnd, Segment, read_frame},
    torn::find_header,
};

/// A data directory that is ours while this lives.
pub struct Inspection {
    directory: Directory,
    codec: Codec,
    segments: Vec<Segment>,
    /// What is wrong with `HEAD`.
    head_fault: Option<Fault>,
}

/// What is in a store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files of the log.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Registered functions.
    pub functions: usize,
    /// Executions that have not ended.
    pub queued: usize,
    /// Executions that have ended, and are kept.
    pub finished: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Executions that have not ended, by function.
    pub queued_by_function: BTreeMap<String, usize>,
}

/// What is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is not as it was written.
    pub what: &'static str,
    /// A power failure while it was being written explains it: the next start cuts it off.
    pub is_torn: bool,
}

/// What a repair dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub fault: Fault,
    /// Bytes that are gone.
    pub dropped_bytes: u64,
    /// Where the file is as it was. `None`: what was wrong is written anew, and nothing of it was lost.
    pub backup: Option<PathBuf>,
}

impl Inspection {
    /// Takes a data directory; changes nothing in it.
    ///
    /// # Errors
    /// When there is none, it is in use, has another format, or lacks a part of the middle of its log.
    pub fn open(data_dir: &Path, functions: &'static dyn Functions) -> Result<Inspection, StoreError> {
        Inspection::of(Directory::open(data_dir, false)?, Codec::new(functions))
    }

    pub(super) fn of(directory: Directory, codec: Codec) -> Result<Inspection, StoreError> {
        let is_old = directory.format()? < directory::FORMAT;
        let (files, store) = (&*directory.files, &directory.store);
        let mut segments = head::list(files, store)?;
        let head = if is_old { Ok(None) } else { Head::read(files, store).map(Some) };
        let linked =
            head.and_then(|head| head::link(files, store, &mut segments, head.as_ref()).map(|()| head));
        let head_fault = match linked {
            Ok(_) => None,
            Err(StoreError::Missing { path }) => {
                Some(Fault { path, offset: 0, what: "the file, which is missing,", is_torn: false })
            }
            Err(StoreError::Corrupt { path, offset, what }) => {
                Some(Fault { path, offset, what, is_torn: false })
            }
            Err(error) => return Err(error),
        };
        if head_fault.is_some() {
            // Everything else can be looked at.
            head::link(files, store, &mut segments, None)?;
        }
        Ok(Inspection { directory, codec, segments, head_fault })
    }

    /// Looks at every frame. The first fault of each file.
    ///
    /// # Errors
    /// When a file cannot be read, or says what this version does not know.
    pub fn verify(&self) -> Result<Vec<Fault>, StoreError> {
        let mut faults: Vec<Fault> = self.head_fault.iter().cloned().collect();
        for segment in &self.segments {
            if let ReadEnd::Damaged(damage, _) =
                segment::read(&*self.directory.files, segment, |_, _| Ok(()))?
            {
                faults.push(fault(segment, &damage));
            }
        }
        if faults.is_empty() {
            // Frames may be whole and hold no records.
            match self.recover(&self.segments) {
                Err(StoreError::Corrupt { path, offset, what }) => {
                    faults.push(Fault { path, offset, what, is_torn: false });
                }
                other => drop(other?),
            }
        }
        Ok(faults)
    }

    fn recover(&self, segments: &[Segment]) -> Result<Vec<Recovery>, StoreError> {
        recovery::read(
            &*self.directory.files,
            self.codec,
            segments,
            (Seating::of(1), None),
            &Progress::default(),
            None,
        )
    }

    /// Counts what is there.
    ///
    /// # Errors
    /// When the log cannot be read, or is not whole.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats {
            segments: self.segments.len(),
            bytes: self.segments.iter().map(|segment| segment.bytes).sum(),
            ..Stats::default()
        };
        let recovered = self.recover(&self.whole_segments()?)?;
        for stored in recovered.into_iter().flat_map(Recovery::into_stored) {
            match stored {
                Stored::Partition { .. } => {}
                Stored::Function(_) => stats.functions += 1,
                Stored::Execution(execution) if execution.end.is_none() => {
                    stats.queued += 1;
                    *stats.queued_by_function.entry(execution.function.to_string()).or_default() += 1;
                }
                Stored::Execution(execution) => {
                    stats.finished += usize::from(!execution.dead);
                    stats.dead_letters += usize::from(execution.dead);
                }
            }
        }
        Ok(stats)
    }

    /// Makes one segment of all. Returns the bytes before and after.
    ///
    /// # Errors
    /// When the log is not whole, or cannot be written.
    pub fn compact(&self) -> Result<(u64, u64), StoreError> {
        let segments = self.whole_segments()?;
        let before = segments.iter().map(|segment| segment.bytes).sum();
        if segments.is_empty() {
            return Ok((before, before));
        }
        let after = compaction::compact(&self.directory, &segments, &Index::default())?.bytes;
        Ok((before, after))
    }

    /// Drops what is broken, and keeps a copy of each file that it changes. Frames behind a broken one stay, if they are
    /// where the file says by its own key; of a file of format 1, which has none, they go.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn repair(&self) -> Result<Vec<Repair>, StoreError> {
        let (files, store) = (&*self.directory.files, &self.directory.store);
        let mut repairs = Vec::new();
        let mut segments = self.segments.clone();
        for segment in &mut segments {
            let ReadEnd::Damaged(damage, _) = segment::read(files, segment, |_, _| Ok(()))? else { continue };
            let failed = |source| StoreError::Unwritable { data_dir: segment.path.clone(), source };
            let backup = backup_of(files, store, &segment.path).map_err(failed)?;
            recovery::keep(files, &segment.path, 0, &backup).map_err(failed)?;
            let new = segment.path.with_added_extension("new");
            let (bytes, dropped_bytes) = rewrite(files, segment, &new, None)?;
            files.rename(&new, &segment.path).map_err(failed)?;
            files.sync_directory(store).map_err(failed)?;
            repairs.push(Repair { fault: fault(segment, &damage), dropped_bytes, backup: Some(backup) });
            segment.bytes = bytes;
        }
        if let Some(fault) = &self.head_fault {
            repairs.push(Repair { fault: fault.clone(), dropped_bytes: 0, backup: None });
        }
        if !repairs.is_empty() {
            self.relink(&segments)?;
        }
        Ok(repairs)
    }

    /// Has every file say anew what the one before ends with, where that is another one now, and `HEAD` what is the newest.
    fn relink(&self, segments: &[Segment]) -> Result<(), StoreError> {
        let (files, store) = (&*self.directory.files, &self.directory.store);
        let (mut before, mut replaced) = (Mark::default(), None);
        for segment in segments {
            let failed = |source| StoreError::Unwritable { data_dir: segment.path.clone(), source };
            let mut segment = Segment { expected: Expected::Anything, unlinked: false, ..segment.clone() };
            let header = match segment::open(files, &segment)? {
                Opened::Keyed(_, header) => Some(header),
                Opened::Old(_) | Opened::Headless(_) => None,
            };
            if header
                .as_ref()
                .is_some_and(|header| header.before != before && Some(header.before) != replaced)
            {
                let new = segment.path.with_added_extension("new");
                segment.bytes = rewrite(files, &segment, &new, Some(before))?.0;
                files.rename(&new, &segment.path).map_err(failed)?;
                files.sync_directory(store).map_err(failed)?;
            }
            before = match segment::read(files, &segment, |_, _| Ok(()))? {
                ReadEnd::Whole(end) | ReadEnd::Damaged(_, end) => end,
            };
            replaced = header.and_then(|header| header.replaced);
        }
        let newest = segments.last().map_or(0, |segment| segment.last);
        self.directory.set_format(&Head { newest, mark: before, closed: true })
    }

    /// The segments, the last one up to its last whole frame: what the next start would read.
    fn whole_segments(&self) -> Result<Vec<Segment>, StoreError> {
        if let Some(Fault { path, offset, what, .. }) = self.head_fault.clone() {
            return Err(StoreError::Corrupt { path, offset, what });
        }
        let mut segments = self.segments.clone();
        if let Some(last) = segments.last_mut()
            && let ReadEnd::Damaged(damage, end) = segment::read(&*self.directory.files, last, |_, _| Ok(()))?
            && damage.is_torn
        {
            (last.bytes, last.expected) = (damage.offset, Expected::Exactly(end));
            if damage.offset == 0 {
                segments.pop();
            }
        }
        Ok(segments)
    }
}

fn fault(segment: &Segment, damage: &Damage) -> Fault {
    let Damage { offset, what, is_torn } = *damage;
    Fault { path: segment.path.clone(), offset, what, is_torn }
}

/// `….log.broken`, or with a number when that is taken.
fn backup_of(files: &dyn Files, store: &Path, path: &Path) -> io::Result<PathBuf> {
    let taken: Vec<PathBuf> = files.list(store)?.into_iter().map(|(name, _)| store.join(name)).collect();
    let names = std::iter::once(String::from("log.broken")).chain((2..).map(|n| format!("log.broken-{n}")));
    let mut paths = names.map(|extension| path.with_extension(extension));
    Ok(paths.find(|path| !taken.contains(path)).unwrap_or_else(|| path.with_extension("log.broken")))
}

/// Writes what can be read of a segment to a new file of this version. Returns its length, and the bytes that were left out.
/// `before`: the end of the segment before, if it is another one now.
fn rewrite(
    files: &dyn Files,
    segment: &Segment,
    new: &Path,
    before: Option<Mark>,
) -> Result<(u64, u64), StoreError> {
    let failed = |source| StoreError::Unwritable { data_dir: new.to_owned(), source };
    let opened = segment::open(files, segment)?;
    let (own, named) = match (&opened, segment.expected) {
        (Opened::Keyed(_, header), _) if header.end.is_some() => (Some(header), header.replaced),
        (Opened::Keyed(_, header), Expected::Exactly(end)) => (Some(header), Some(end)),
        (Opened::Keyed(_, header), _) => (Some(header), None),
        (_, Expected::Exactly(end)) => (None, Some(end)),
        _ => (None, None),
    };
    let header = Header {
        first: segment.first,
        last: segment.last,
        key: files.key().map_err(failed)?,
        before: before.or(own.map(|header| header.before)).unwrap_or_default(),
        replaced: named,
        end: None,
    };
    let mut target = Target::new(files.create(new).map_err(failed)?, header);
    let mut put = |records: &[u8]| {
        codec::split(records).flatten().try_for_each(|record| target.put(record)).map_err(failed)
    };
    let mut dropped = 0;
    match opened {
        Opened::Keyed(file, header) => {
            let key = Key::new(&header.key);
            let mut at = header.start();
            loop {
                let left = segment.bytes.saturating_sub(at.bytes);
                let mut reader = Reader { file: &*file, offset: at.bytes };
                let next = match read_frame(&mut reader, &key, &at, left).map_err(failed)? {
                    Frame::End => break,
                    Frame::Whole(records, next) => {
                        put(&records)?;
                        at = next;
                        continue;
                    }
                    Frame::Broken(_, Some(next)) => Some(next),
                    Frame::Broken(_, None) => {
                        // From here on: the one that stands here may be whole and follow another one.
                        let rest = at.bytes..segment.bytes;
                        let found = find_header(&*file, &key, rest, at.frames).map_err(failed)?;
                        found.map(|(bytes, found)| Mark { bytes, frames: found.number, tag: found.before })
                    }
                };
                dropped += next.map_or(left, |next| next.bytes - at.bytes);
                let Some(next) = next else { break };
                at = next;
            }
        }
        Opened::Old(file) => {
            let segment = Segment { expected: Expected::Anything, ..segment.clone() };
            let end = format1::read(&*file, &segment, |_, records| put(&records))?;
            if let ReadEnd::Damaged(damage, _) = end {
                dropped = segment.bytes - damage.offset;
            }
        }
        // Without its key nothing in it can be told from what somebody else made up.
        Opened::Headless(_) => dropped = segment.bytes,
    }
    Ok((target.finish().map_err(failed)?.bytes, dropped))
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
