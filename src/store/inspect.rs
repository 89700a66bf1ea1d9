//! What `nanofaas store` shows of a data directory that no server uses, and how it is mended.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use shard_core::Stored;

use super::{
    StoreError, compaction,
    directory::{self, Directory},
    recovery::{self, Progress},
    segment::{self, Damage, FRAME_HEADER_BYTES, HEADER_BYTES, ReadEnd, Segment},
};

/// A data directory that is ours while this lives.
pub struct Inspection {
    directory: Directory,
    segments: Vec<Segment>,
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
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is not as it was written.
    pub what: &'static str,
    /// It was being written when the server ended: the next start cuts it off, and nothing is lost.
    pub is_torn: bool,
}

/// What a repair dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub fault: Fault,
    /// Bytes that are gone.
    pub dropped_bytes: u64,
    /// Where the file is as it was.
    pub backup: PathBuf,
}

impl Inspection {
    /// Takes a data directory; changes nothing in it.
    ///
    /// # Errors
    /// When there is none, it is in use, has another format, or lacks a part of its log.
    pub fn open(data_dir: &Path) -> Result<Inspection, StoreError> {
        let directory = Directory::open(data_dir, false)?;
        let segments = segment::list(&directory.store)?;
        Ok(Inspection { directory, segments })
    }

    /// Looks at every frame. The first fault of each file.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn verify(&self) -> Result<Vec<Fault>, StoreError> {
        let mut faults = Vec::new();
        for (place, segment) in self.segments.iter().enumerate() {
            if let ReadEnd::Damaged(damage) = segment::read(segment, |_, _| Ok(()))? {
                faults.push(self.fault(place, segment, &damage));
            }
        }
        if faults.is_empty() {
            // Frames may be whole and hold what this version does not read.
            match recovery::read(&self.segments, 1, &Progress::default()) {
                Err(StoreError::Corrupt { path, offset, what }) => {
                    faults.push(Fault { path, offset, what, is_torn: false });
                }
                other => drop(other?),
            }
        }
        Ok(faults)
    }

    fn fault(&self, place: usize, segment: &Segment, damage: &Damage) -> Fault {
        let is_torn = damage.is_last && place + 1 == self.segments.len();
        Fault { path: segment.path.clone(), offset: damage.offset, what: damage.what, is_torn }
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
        let recovered = recovery::read(&self.whole_segments()?, 1, &Progress::default())?;
        for stored in recovered.into_iter().flat_map(shard_core::Recovery::into_stored) {
            match stored {
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
        let after = compaction::compact(&self.directory, &segments)?.bytes;
        Ok((before, after))
    }

    /// Drops what is broken, and keeps a copy of each file that it changes. Frames behind a broken one stay.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn repair(&self) -> Result<Vec<Repair>, StoreError> {
        let mut repairs = Vec::new();
        for (place, segment) in self.segments.iter().enumerate() {
            let ReadEnd::Damaged(damage) = segment::read(segment, |_, _| Ok(()))? else { continue };
            let failed = |source| StoreError::Unwritable { data_dir: segment.path.clone(), source };
            let backup = backup_of(&segment.path);
            std::fs::copy(&segment.path, &backup).map_err(failed)?;
            let new = segment.path.with_extension("log.new");
            let kept = salvage(segment, &new).map_err(failed)?;
            std::fs::rename(&new, &segment.path).map_err(failed)?;
            segment::sync_directory(&self.directory.store).map_err(failed)?;
            repairs.push(Repair {
                fault: self.fault(place, segment, &damage),
                dropped_bytes: segment.bytes.saturating_sub(kept),
                backup,
            });
        }
        Ok(repairs)
    }

    /// The segments, the last one up to its last whole frame: what the next start would read.
    fn whole_segments(&self) -> Result<Vec<Segment>, StoreError> {
        let mut segments = self.segments.clone();
        if let Some(last) = segments.last_mut()
            && let ReadEnd::Damaged(damage) = segment::read(last, |_, _| Ok(()))?
            && damage.is_last
        {
            last.bytes = damage.offset;
            if damage.offset < HEADER_BYTES {
                segments.pop();
            }
        }
        Ok(segments)
    }
}

/// `….log.broken`, or with a number when that is taken.
fn backup_of(path: &Path) -> PathBuf {
    let names = std::iter::once(String::from("log.broken")).chain((2..).map(|n| format!("log.broken-{n}")));
    let mut paths = names.map(|extension| path.with_extension(extension));
    paths.find(|path| !path.exists()).unwrap_or_else(|| path.with_extension("log.broken"))
}

/// Writes the whole frames of a segment to a new file, numbered anew. Returns its length.
fn salvage(segment: &Segment, new: &Path) -> std::io::Result<u64> {
    let source = std::fs::read(&segment.path)?;
    let mut target = directory::private(File::options().create(true).truncate(true)).open(new)?;
    target.write_all(&segment::header(segment.first, segment.last))?;
    let (mut offset, mut at_least, mut frames, mut bytes) = (HEADER_BYTES as usize, 0, 0, HEADER_BYTES);
    while let Some((at, number)) = segment::find_frame(&source, offset, at_least) {
        let length = source[at..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let end = at + FRAME_HEADER_BYTES + length;
        let mut frame = source.get(at..end).unwrap_or_default().to_vec();
        segment::seal(&mut frame, frames);
        target.write_all(&frame)?;
        bytes += frame.len() as u64;
        (offset, at_least, frames) = (end, number + 1, frames + 1);
    }
    target.sync_all()?;
    Ok(bytes)
}
