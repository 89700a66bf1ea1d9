//! Segments as they were written before format 2: without keys, and without links from one to the other.
//!
//! They are read, never written. Whoever chose a payload could put a frame into it that is right in every way, so nothing
//! that stands behind a broken place is ever read as one. It is looked for only to tell whether the broken frame was the
//! last, within a bound; whoever deceives that has the start refused, and gets nothing in.

use std::io::{self, BufReader, Read};

use super::{
    StoreError,
    files::{File, Reader},
    segment::{Damage, Expected, FRAME_BYTES_MAX, MAGIC, Mark, ReadEnd, Segment},
    torn::has_empty_sector,
};

/// Magic, format, first and last number, CRC-32 of these.
pub(super) const HEADER_BYTES: u64 = 32;
/// Length, CRC-32 of all that follows, number.
const FRAME_HEADER_BYTES: u64 = 16;

/// Whether this is what a segment of format 1 begins with.
pub(super) fn is_header(bytes: &[u8], segment: &Segment) -> bool {
    bytes.get(..HEADER_BYTES as usize) == Some(&header(segment.first, segment.last)[..])
}

pub(super) fn header(first: u64, last: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&1u32.to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    header[20..28].copy_from_slice(&last.to_le_bytes());
    let checksum = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// A file without a header. In format 1, the newest one may have been torn while it was created: no frame was
/// written before its header was on disk.
pub(super) fn headless(file: &dyn File, segment: &Segment) -> io::Result<ReadEnd> {
    let is_torn = is_newest(segment)
        && segment.bytes <= HEADER_BYTES
        && (segment.bytes < HEADER_BYTES || has_empty_sector(file, 0..segment.bytes)?);
    let damage = Damage { offset: 0, what: "the header of the file", is_torn };
    Ok(ReadEnd::Damaged(damage, Mark::default()))
}

/// Nothing is known of the end of the newest file of a store of format 1, and of no other's.
fn is_newest(segment: &Segment) -> bool {
    segment.expected == Expected::AtLeast(Mark::default())
}

/// See [`super::segment::read`].
pub(super) fn read(
    file: &dyn File,
    segment: &Segment,
    mut take: impl FnMut(u64, Vec<u8>) -> Result<(), StoreError>,
) -> Result<ReadEnd, StoreError> {
    let failed = |source| StoreError::Read { path: segment.path.clone(), source };
    let mut reader = BufReader::with_capacity(1 << 20, Reader { file, offset: HEADER_BYTES });
    let mut at = Mark { bytes: HEADER_BYTES, frames: 0, tag: 0 };
    loop {
        let left = segment.bytes.saturating_sub(at.bytes);
        if left == 0 {
            break;
        }
        match read_frame(&mut reader, at.frames, left).map_err(failed)? {
            Ok((records, checksum)) => {
                let length = FRAME_HEADER_BYTES + records.len() as u64;
                take(at.bytes, records)?;
                at = Mark { bytes: at.bytes + length, frames: at.frames + 1, tag: u64::from(checksum) };
            }
            Err((what, missing)) => {
                let explained = match missing {
                    Missing::Nothing => false,
                    Missing::Bytes => true,
                    Missing::Sectors => has_empty_sector(file, at.bytes..segment.bytes).map_err(failed)?,
                };
                let is_torn = is_newest(segment)
                    && explained
                    && !may_have_more(file, at.bytes, at.frames + 1).map_err(failed)?;
                return Ok(ReadEnd::Damaged(Damage { offset: at.bytes, what, is_torn }, at));
            }
        }
    }
    match segment.expected {
        Expected::Exactly(end) if end != at => {
            Ok(ReadEnd::Damaged(Damage { offset: at.bytes, what: "the end of the file", is_torn: false }, at))
        }
        _ => Ok(ReadEnd::Whole(at)),
    }
}

/// See [`super::segment::read_frame_at`].
pub(super) fn read_frame_at(
    file: &dyn File,
    segment: &Segment,
    offset: u64,
) -> io::Result<Result<Vec<u8>, &'static str>> {
    let mut number = [0; 8];
    Reader { file, offset: offset + 8 }.read_exact(&mut number)?;
    let left = segment.bytes.saturating_sub(offset);
    let frame = read_frame(&mut Reader { file, offset }, u64::from_le_bytes(number), left)?;
    Ok(frame.map(|(records, _)| records).map_err(|(what, _)| what))
}

/// What a broken frame lacks.
enum Missing {
    /// Its checksum is right: all of it was written.
    Nothing,
    /// Bytes, for certain.
    Bytes,
    /// Sectors, if one of them is empty.
    Sectors,
}

type Broken = (&'static str, Missing);

/// The records of a frame and its checksum; or what is wrong, and what is missing.
fn read_frame(file: &mut impl Read, number: u64, left: u64) -> io::Result<Result<(Vec<u8>, u32), Broken>> {
    let mut head = [0; FRAME_HEADER_BYTES as usize];
    if left < FRAME_HEADER_BYTES {
        return Ok(Err(("the header of a commit", Missing::Bytes)));
    }
    file.read_exact(&mut head)?;
    let [length, checksum] =
        [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    if u64::from(length) > (left - FRAME_HEADER_BYTES).min(FRAME_BYTES_MAX) {
        return Ok(Err(("the length of a commit", Missing::Bytes)));
    }
    let mut records = vec![0; length as usize];
    file.read_exact(&mut records)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[8..]);
    hasher.update(&records);
    if hasher.finalize() != checksum {
        // With the number of another commit it is what was there before.
        let is_another = head[8..] != number.to_le_bytes();
        let missing = if is_another { Missing::Bytes } else { Missing::Sectors };
        return Ok(Err(("the checksum of a commit", missing)));
    }
    if head[8..] != number.to_le_bytes() {
        return Ok(Err(("the order of the commits", Missing::Nothing)));
    }
    Ok(Ok((records, checksum)))
}

/// Bytes that are put into checksums to find out whether something is behind a broken frame, in lengths of the file.
const SEARCH_FACTOR: usize = 4;

/// Whether something that may be a whole frame with at least this number stands at or behind a place.
fn may_have_more(file: &dyn File, from: u64, number: u64) -> io::Result<bool> {
    let mut bytes = Vec::new();
    Reader { file, offset: from }.read_to_end(&mut bytes)?;
    let frames_max = bytes.len() as u64 / FRAME_HEADER_BYTES;
    let mut budget = bytes.len().saturating_mul(SEARCH_FACTOR);
    for at in 0..bytes.len() {
        let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<{ FRAME_HEADER_BYTES as usize }>)
        else {
            break;
        };
        let found = head[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(frame) = bytes.get(at + 8..).and_then(|rest| rest.get(..length.saturating_add(8))) else {
            continue;
        };
        // Numbers are small and close: hardly any other place looks like one.
        if found < number || found - number > frames_max {
            continue;
        }
        let Some(left) = budget.checked_sub(frame.len()) else { return Ok(true) };
        budget = left;
        if crc32fast::hash(frame).to_le_bytes() == head[4..8] {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "format1_tests.rs"]
pub(super) mod tests;
