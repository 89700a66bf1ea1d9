//! `HEAD` names the newest segment, and a place in it that is known to be on disk. It is replaced as a whole: when a segment
//! is begun, before anything is written to it; when the writer rests; when the server ends.
//!
//! A newest segment that is gone, or that was cut before that place, is noticed by it. What a segment that has a
//! successor must end with stands in the successor.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    StoreError, checksum,
    files::{self, Files},
    segment::{self, Expected, Header, Mark, Opened, Segment},
};

/// Its name.
pub(super) const FILE: &str = "HEAD";
/// It is never longer.
const BYTES_MAX: u64 = 1024;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Last number of the newest segment; 0: there is none.
    pub(super) newest: u64,
    /// Everything up to here is on disk.
    pub(super) mark: Mark,
    /// And nothing behind it: the server has ended.
    pub(super) closed: bool,
}

impl Head {
    /// Puts it in its place, on disk when it returns.
    pub(super) fn write(&self, files: &dyn Files, store: &Path) -> io::Result<()> {
        files::replace(files, &store.join(FILE), self.text().as_bytes())
    }

    fn text(&self) -> String {
        let Head { newest, mark: Mark { bytes, frames, tag }, closed } = self;
        let state = if *closed { "closed" } else { "open" };
        let text = format!("newest {newest}\nknown {bytes} {frames} {tag:016x}\nstate {state}\n");
        let check = checksum::Key::new(&[0; 16]).body(text.as_bytes());
        format!("{text}check {check:016x}\n")
    }

    fn parse(text: &str) -> Option<Head> {
        let mut lines = text.lines();
        let newest = lines.next()?.strip_prefix("newest ")?.parse().ok()?;
        let mut known = lines.next()?.strip_prefix("known ")?.split(' ');
        let mark = Mark {
            bytes: known.next()?.parse().ok()?,
            frames: known.next()?.parse().ok()?,
            tag: u64::from_str_radix(known.next()?, 16).ok()?,
        };
        let closed = lines.next()?.strip_prefix("state ")? == "closed";
        let head = Head { newest, mark, closed };
        (head.text() == text).then_some(head)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is not what was written.
    pub(super) fn read(files: &dyn Files, store: &Path) -> Result<Head, StoreError> {
        let path = store.join(FILE);
        let bytes = match files::read(files, &path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { path });
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        std::str::from_utf8(&bytes).ok().and_then(Head::parse).ok_or(StoreError::Corrupt {
            path,
            offset: 0,
            what: "what it says about the newest file",
        })
    }
}

/// The segments of a log in their order. What compaction replaced and did not get to remove is left out.
///
/// # Errors
/// When the directory cannot be read, or a segment is missing.
pub(super) fn list(files: &dyn Files, store: &Path) -> Result<Vec<Segment>, StoreError> {
    let names = files.list(store).map_err(|source| StoreError::Read { path: store.to_owned(), source })?;
    let mut all: Vec<Segment> = names
        .into_iter()
        .filter_map(|(name, bytes)| {
            let (first, last) = numbers(&name)?;
            let path = store.join(name);
            Some(Segment { path, first, last, bytes, expected: Expected::Anything, unlinked: false })
        })
        .collect();
    all.sort_by_key(|segment| (segment.first, std::cmp::Reverse(segment.last)));
    let mut segments: Vec<Segment> = Vec::new();
    for segment in all {
        let expected = segments.last().map_or(1, |before| before.last + 1);
        if segment.last < expected {
            continue;
        }
        if segment.first != expected {
            return Err(missing(store, expected));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn missing(store: &Path, number: u64) -> StoreError {
    StoreError::Missing { path: store.join(segment::file_name(number, number)) }
}

/// Says of every segment where it has to end, by its successor and by `HEAD`; `None`: a store of format 1. A segment that was
/// begun and never used is left out.
///
/// # Errors
/// When a header cannot be read, or the newest segment is missing.
pub(super) fn link(
    files: &dyn Files,
    store: &Path,
    segments: &mut Vec<Segment>,
    head: Option<&Head>,
) -> Result<(), StoreError> {
    let mut headers: Vec<Option<Header>> = Vec::new();
    for segment in segments.iter() {
        headers.push(match segment::open(files, segment)? {
            Opened::Keyed(_, header) => Some(header),
            Opened::Old(_) | Opened::Headless(_) => None,
        });
    }
    let newest = |segments: &[Segment]| segments.last().map_or(0, |segment| segment.last);
    let mut head = head.copied();
    if let Some(head) = &mut head {
        // Nothing is written to a segment before `HEAD` names it.
        if newest(segments) == head.newest + 1
            && let (Some(last), Some(Some(header))) = (segments.last(), headers.last())
            && last.first == last.last
            && last.bytes == header.start().bytes
        {
            // When it was begun, this much of the one before was on disk.
            if header.before.frames > head.mark.frames {
                head.mark = header.before;
            }
            segments.pop();
            headers.pop();
        }
        match newest(segments) {
            last if last < head.newest => return Err(missing(store, head.newest)),
            last if last > head.newest => {
                let what = "the newest file that it names";
                return Err(StoreError::Corrupt { path: store.join(FILE), offset: 0, what });
            }
            _ => {}
        }
    }
    for place in 0..segments.len() {
        let header = headers[place].as_ref();
        let named = match headers.get(place + 1) {
            Some(next) => next.as_ref().map(|next| Expected::Exactly(next.before)),
            None => head.as_ref().map(|head| match head.closed {
                true => Expected::Exactly(head.mark),
                false => Expected::AtLeast(head.mark),
            }),
        };
        let old = place + 1 == segments.len() && head.is_none() && header.is_none();
        let unnamed = if old { Expected::AtLeast(Mark::default()) } else { Expected::Anything };
        let named = named.unwrap_or(unnamed);
        let end = header.and_then(|header| header.end);
        segments[place].expected = end.map_or(named, Expected::Exactly);
        // Compaction replaced the file whose end is named, unless that came later.
        let ends = [header.and_then(|header| header.replaced), end];
        if end.is_some() {
            let agrees = match named {
                Expected::Anything => true,
                Expected::Exactly(mark) => ends.contains(&Some(mark)),
                Expected::AtLeast(mark) => ends.iter().flatten().any(|end| end.frames >= mark.frames),
            };
            match segments.get_mut(place + 1) {
                Some(next) => next.unlinked = !agrees,
                None => segments[place].unlinked = !agrees,
            }
        }
        if place == 0 && header.is_some_and(|header| header.before != Mark::default()) {
            segments[place].unlinked = true;
        }
    }
    Ok(())
}

/// Removes files that were left behind: those that compaction replaced, and those that did not get their names.
pub(super) fn remove_leftovers(files: &dyn Files, store: &Path, segments: &[Segment]) -> io::Result<()> {
    for (name, _) in files.list(store)? {
        let path: PathBuf = store.join(&name);
        let replaced = numbers(&name).is_some() && segments.iter().all(|segment| segment.path != path);
        if replaced || name.ends_with(".new") {
            files.remove(&path)?;
        }
    }
    Ok(())
}

/// First and last number of a segment, from its file's name.
pub(super) fn numbers(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".log")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && name == segment::file_name(first, last)).then_some((first, last))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
