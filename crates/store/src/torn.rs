//! Whether a power failure explains what is broken at the end of a log.

use std::{
    io::{self, Read},
    ops::Range,
};

use super::{
    checksum::Key,
    files::{File, Reader},
    segment::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, Mark},
};

/// What disks write as a whole, at the least.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Bytes that are looked at together.
const CHUNK_BYTES: usize = 1 << 20;

/// The first header of a frame that lies within these bytes of a file and has at least this number: its offset and what it says.
///
/// Time is linear: a place is one keyed checksum of 40 bytes at the most, whatever is in the file, and nobody can put a header
/// into a payload that is taken for one.
pub(super) fn find_header(
    file: &dyn File,
    key: &Key,
    range: Range<u64>,
    number: u64,
) -> io::Result<Option<(u64, FrameHeader)>> {
    let frames_max = number + range.end / FRAME_HEADER_BYTES as u64;
    let mut bytes = Vec::new();
    let mut from = range.start;
    while from + FRAME_HEADER_BYTES as u64 <= range.end {
        bytes.clear();
        let length = (range.end - from).min(CHUNK_BYTES as u64);
        Reader { file, offset: from }.take(length).read_to_end(&mut bytes)?;
        for (place, window) in (from..).zip(bytes.windows(FRAME_HEADER_BYTES)) {
            let Some(head) = window.first_chunk::<FRAME_HEADER_BYTES>() else { continue };
            let found = head[8..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
            let length = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
            if !(number..=frames_max).contains(&found)
                || head[4..8] != [0; 4]
                || place + FRAME_HEADER_BYTES as u64 + length > range.end
            {
                continue;
            }
            if let Some(header) = FrameHeader::read(head, key, place) {
                return Ok(Some((place, header)));
            }
        }
        // The next chunk begins with the first header that did not fit into this one.
        if bytes.len() < FRAME_HEADER_BYTES {
            break;
        }
        from += (bytes.len() - FRAME_HEADER_BYTES + 1) as u64;
    }
    Ok(None)
}

/// Whether what stands behind this place is a commit of which bytes are missing: the file ends too early, a sector is nothing
/// but zeros, or what is there has nothing to do with the commit that comes here. A bit that changed afterwards leaves a commit
/// that can be told by the rest of it.
pub(super) fn looks_torn(file: &dyn File, key: &Key, at: &Mark, file_bytes: u64) -> io::Result<bool> {
    let left = file_bytes.saturating_sub(at.bytes);
    let mut head = Vec::new();
    Reader { file, offset: at.bytes }.take(FRAME_HEADER_BYTES as u64).read_to_end(&mut head)?;
    let Some(head) = head.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(true) };
    let header = FrameHeader::read(head, key, at.bytes);
    if header.is_some_and(|header| u64::from(header.length) > left - FRAME_HEADER_BYTES as u64)
        || has_empty_sector(file, at.bytes..file_bytes)?
    {
        return Ok(true);
    }
    if header.is_some() {
        return Ok(false);
    }
    // The tag of the commit before is known to nobody else. Should that very place have changed, the checksum of all that
    // follows is right.
    let says = |field: Range<usize>, value: u64| head[field] == value.to_le_bytes();
    if says(24..32, at.tag) {
        return Ok(false);
    }
    let mut records = Vec::new();
    Reader { file, offset: at.bytes + FRAME_HEADER_BYTES as u64 }
        .take(left.min(FRAME_BYTES_MAX))
        .read_to_end(&mut records)?;
    Ok(!says(16..24, key.body(&records)))
}

/// Whether a sector, or the part of one at the beginning or the end, has nothing but zeros in it.
pub(super) fn has_empty_sector(file: &dyn File, range: Range<u64>) -> io::Result<bool> {
    let mut from = range.start;
    let mut bytes = [0; SECTOR_BYTES as usize];
    let mut reader = io::BufReader::with_capacity(CHUNK_BYTES, Reader { file, offset: from });
    while from < range.end {
        let end = (from / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let piece = &mut bytes[..(end.min(range.end) - from) as usize];
        reader.read_exact(piece)?;
        if piece.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        from = end;
    }
    Ok(false)
}

#[cfg(test)]
#[path = "torn_tests.rs"]
mod tests;
