//! Segments: the files of the log, one after the other.
//!
//! A segment is a header and frames. A frame is what one commit wrote: its length and a CRC-32 (4 bytes each), its
//! number within the segment (8 bytes), and records (`codec`). It was on disk before the next one was begun, and a
//! segment before the next one was. So what is broken in the last frame of the last segment was being written when
//! the power failed, and nobody was promised anything with it: it is *torn*. What is broken anywhere else was whole
//! once: it is *corrupt*.
//!
//! `0000000003-0000000007.log` takes the place of segments 3 to 7: compaction made one of them.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use super::{StoreError, directory::FORMAT};

const MAGIC: &[u8; 8] = b"nanofaas";
/// Bytes of a segment's header: magic, format, first and last number that it stands for, CRC-32 of these.
pub(super) const HEADER_BYTES: u64 = 32;
/// Bytes in front of a frame's records.
pub(super) const FRAME_HEADER_BYTES: usize = 16;
/// No frame is longer: a commit takes what is pending, which is bounded far below.
pub(super) const FRAME_BYTES_MAX: u64 = 1 << 30;

/// Where a segment is and which part of the log it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// First and last of the numbers that it stands for.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// What a segment begins with.
pub(super) fn header(first: u64, last: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    header[20..28].copy_from_slice(&last.to_le_bytes());
    let checksum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Fills in the header of a frame whose records stand behind room for it.
pub(super) fn seal(frame: &mut [u8], number: u64) {
    let length = (frame.len() - FRAME_HEADER_BYTES) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The file name of a segment.
pub(super) fn file_name(first: u64, last: u64) -> String {
    format!("{first:010}-{last:010}.log")
}

/// Creates a segment, on disk when it returns.
pub(super) fn create(directory: &Path, first: u64, last: u64) -> io::Result<(File, PathBuf)> {
    let path = directory.join(file_name(first, last));
    let mut file = super::directory::private(File::options().create(true).truncate(true)).open(&path)?;
    file.write_all(&header(first, last))?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok((file, path))
}

/// Has the names in a directory on disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The segments of a log in their order. What compaction replaced and did not get to remove is left out.
///
/// # Errors
/// When the directory cannot be read, or a segment is missing.
pub(super) fn list(directory: &Path) -> Result<Vec<Segment>, StoreError> {
    let failed = |source| StoreError::Read { path: directory.to_owned(), source };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((first, last)) = name.to_str().and_then(numbers) else { continue };
        let bytes = entry.metadata().map_err(failed)?.len();
        all.push(Segment { path: entry.path(), first, last, bytes });
    }
    all.sort_by_key(|segment| (segment.first, std::cmp::Reverse(segment.last)));
    let mut segments: Vec<Segment> = Vec::new();
    for segment in all {
        let expected = segments.last().map_or(1, |before| before.last + 1);
        if segment.last < expected {
            continue;
        }
        if segment.first != expected {
            let path = directory.join(file_name(expected, expected));
            return Err(StoreError::Missing { path });
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Removes files that compaction left behind: those it replaced, and its own when it was not done.
pub(super) fn remove_leftovers(directory: &Path, segments: &[Segment]) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let replaced = numbers(name).is_some() && segments.iter().all(|segment| segment.path != path);
        if replaced || name.ends_with(".log.new") {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn numbers(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".log")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && name == file_name(first, last)).then_some((first, last))
}

/// What is wrong at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: u64,
    pub(super) what: &'static str,
    /// Nothing whole comes after it.
    pub(super) is_last: bool,
}

/// How reading a segment ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// With its last frame.
    Whole,
    /// At a frame that is not whole.
    Damaged(Damage),
}

/// Reads a segment frame by frame; `take` gets each one's offset and records.
///
/// # Errors
/// When the file cannot be read, has another format, or `take` fails.
pub(super) fn read(
    segment: &Segment,
    mut take: impl FnMut(u64, Vec<u8>) -> Result<(), StoreError>,
) -> Result<ReadEnd, StoreError> {
    let failed = |source| StoreError::Read { path: segment.path.clone(), source };
    let mut file = BufReader::with_capacity(1 << 20, File::open(&segment.path).map_err(failed)?);
    let mut head = Vec::new();
    file.by_ref().take(HEADER_BYTES).read_to_end(&mut head).map_err(failed)?;
    if head.len() == HEADER_BYTES as usize && head[..8] == *MAGIC && head[8..12] != FORMAT.to_le_bytes() {
        let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        return Err(StoreError::Format { path: segment.path.clone(), found: found.to_string() });
    }
    if head != header(segment.first, segment.last) {
        // No frame is written before the header is on disk.
        let is_last = segment.bytes <= HEADER_BYTES;
        return Ok(ReadEnd::Damaged(Damage { offset: 0, what: "the header of the file", is_last }));
    }
    let (mut offset, mut number) = (HEADER_BYTES, 0);
    loop {
        match read_frame(&mut file, number, segment.bytes.saturating_sub(offset)).map_err(failed)? {
            Frame::End => return Ok(ReadEnd::Whole),
            Frame::Whole(records) => {
                let length = (FRAME_HEADER_BYTES + records.len()) as u64;
                take(offset, records)?;
                offset += length;
                number += 1;
            }
            Frame::Broken(what) => {
                let bytes = std::fs::read(&segment.path).map_err(failed)?;
                let next = find_frame(&bytes, offset as usize + 1, number + 1);
                return Ok(ReadEnd::Damaged(Damage { offset, what, is_last: next.is_none() }));
            }
        }
    }
}

/// What comes next in a segment.
pub(super) enum Frame {
    /// A frame's records.
    Whole(Vec<u8>),
    /// What is wrong with it.
    Broken(&'static str),
    End,
}

/// Reads a frame. `left`: bytes up to the end of the file; no more is allocated.
pub(super) fn read_frame(file: &mut impl Read, number: u64, left: u64) -> io::Result<Frame> {
    let mut head = [0; FRAME_HEADER_BYTES];
    if left == 0 {
        return Ok(Frame::End);
    }
    if left < head.len() as u64 {
        return Ok(Frame::Broken("the header of a frame"));
    }
    file.read_exact(&mut head)?;
    let [length, checksum] =
        [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    if u64::from(length) > (left - head.len() as u64).min(FRAME_BYTES_MAX) {
        return Ok(Frame::Broken("the length of a frame"));
    }
    let mut records = vec![0; length as usize];
    file.read_exact(&mut records)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[8..]);
    hasher.update(&records);
    if hasher.finalize() != checksum {
        return Ok(Frame::Broken("the checksum of a frame"));
    }
    if head[8..] != number.to_le_bytes() {
        return Ok(Frame::Broken("the number of a frame"));
    }
    Ok(Frame::Whole(records))
}

/// The first whole frame at or after an offset whose number is at least this: its offset and number.
pub(super) fn find_frame(file: &[u8], from: usize, number: u64) -> Option<(usize, u64)> {
    let frames_max = (file.len() / FRAME_HEADER_BYTES) as u64;
    (from..file.len()).find_map(|at| {
        let found =
            file.get(at + 8..at + FRAME_HEADER_BYTES)?.first_chunk().copied().map(u64::from_le_bytes)?;
        // Numbers are small and close: hardly any other place looks like one, so hardly any checksum is computed.
        if found < number || found - number > frames_max {
            return None;
        }
        let frame = read_frame(&mut &file[at..], found, (file.len() - at) as u64);
        matches!(frame, Ok(Frame::Whole(_))).then_some((at, found))
    })
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(super) mod tests;
