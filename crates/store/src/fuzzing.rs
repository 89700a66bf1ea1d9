//! Readers of what a disk gives back, as fuzz targets: records, and the frames that they stand in.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use shard_core::{Entry, Record, Recovery, Stored};

use super::{
    checksum::Key,
    codec::{self, Codec, Decoded, kind},
    files::File,
    function::Functions,
    segment::{self, FRAME_HEADER_BYTES, Frame, Mark},
    torn::find_header,
};

/// What is read as a record is the same after it was written again, byte by byte, and may come after any other.
///
/// # Errors
/// What does not hold.
pub fn record(functions: &'static dyn Functions, bytes: &[u8]) -> Result<(), String> {
    let codec = Codec::new(functions);
    let mut recovery = Recovery::default();
    let mut written = Vec::new();
    for record in codec::split(bytes) {
        let Some(record) = record else { break };
        let Ok(decoded) = codec.decode(record) else { continue };
        let Ok(head) = codec::head(record) else {
            return Err(format!("{decoded:?} is about nothing"));
        };
        if head.kind == kind::ACCEPTED && codec::function_of(record).is_none() {
            return Err(format!("{decoded:?} is of no function"));
        }
        written.clear();
        let is_written = match &decoded {
            Decoded::Owned(entry) => codec.encode(entry, &mut written),
            Decoded::Old(record) => codec.encode_old(record, &mut written),
            // No version writes it any more.
            Decoded::OldStart(epoch) => {
                recovery.begin_everywhere(*epoch);
                continue;
            }
        };
        if !is_written {
            return Err(format!("{decoded:?} cannot be written again"));
        }
        let again = written.get(4..).unwrap_or_default();
        // A function may have been written by another version, in other words.
        let is_same = match decoded {
            Decoded::Owned(Entry {
                record: Record::Registered { .. } | Record::Reinstated { .. }, ..
            })
            | Decoded::Old(Record::Registered { .. } | Record::Reinstated { .. }) => {
                codec.decode(again).as_ref() == Ok(&decoded)
            }
            _ => again == record,
        };
        if !is_same {
            return Err(format!("{decoded:?} was {record:?} and becomes {again:?}"));
        }
        match decoded {
            Decoded::Owned(entry) => recovery.apply(entry),
            Decoded::Old(record) => recovery.apply_without_epoch(record),
            Decoded::OldStart(_) => {}
        }
    }
    let kept = recovery.functions() + recovery.executions();
    // Partitions come out besides, always.
    match recovery.into_stored().filter(|stored| !matches!(stored, Stored::Partition { .. })).count() {
        count if count == kept => Ok(()),
        count => Err(format!("{kept} things were added up, and {count} come out")),
    }
}

/// Whatever the bytes are, they pass for no frame under a key that they were not made with. As the records of a frame they
/// come back; the frame is none at another place or under another key, and its header is found behind what is broken.
///
/// # Errors
/// What does not hold.
pub fn frames(bytes: &[u8]) -> Result<(), String> {
    let [key, other] = [Key::new(b"a key of a test!"), Key::new(b"and another key.")];
    let start = Mark { bytes: 128, frames: 0, tag: 7 };
    let read = |bytes: &[u8], key: &Key, at: &Mark| {
        segment::read_frame(&mut &bytes[..], key, at, bytes.len() as u64).map_err(|error| error.to_string())
    };
    if let Frame::Whole(..) | Frame::Broken(_, Some(_)) = read(bytes, &key, &start)? {
        return Err("the bytes pass for a frame".to_owned());
    }
    if let Some((place, _)) = find(bytes, &key)? {
        return Err(format!("bytes at {place} pass for a header"));
    }
    let mut frame = [&[0; FRAME_HEADER_BYTES][..], bytes].concat();
    let next = segment::seal(&mut frame, &key, &start);
    match read(&frame, &key, &start)? {
        Frame::Whole(records, place) if records == bytes && place == next => {}
        _ => return Err("what was sealed cannot be read".to_owned()),
    }
    for (key, at) in [(&key, &next), (&other, &start)] {
        if let Frame::Whole(..) | Frame::Broken(_, Some(_)) = read(&frame, key, at)? {
            return Err("a frame is one at another place as well".to_owned());
        }
    }
    let behind = [&vec![0xff; start.bytes as usize][..], &frame].concat();
    match find(&behind, &key)? {
        Some((place, 0)) if place == start.bytes => Ok(()),
        found => Err(format!("the header behind broken bytes is found at {found:?}")),
    }
}

/// The first header in these bytes: its place, and the number of its frame.
fn find(bytes: &[u8], key: &Key) -> Result<Option<(u64, u64)>, String> {
    let found =
        find_header(&Memory::of(bytes), key, 0..bytes.len() as u64, 0).map_err(|error| error.to_string())?;
    Ok(found.map(|(place, header)| (place, header.number)))
}

/// Bytes as a file that takes no others, and counts those that are read of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    bytes: Arc<[u8]>,
    pub(super) read: Arc<AtomicU64>,
}

impl Memory {
    pub(super) fn of(bytes: impl Into<Arc<[u8]>>) -> Memory {
        Memory { bytes: bytes.into(), read: Arc::default() }
    }
}

impl File for Memory {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
