//! Where a header is found, and what an empty sector is, to the byte.

use std::sync::atomic::Ordering;

use super::*;
use crate::{fuzzing::Memory, segment::seal};

const HEAD: u64 = FRAME_HEADER_BYTES as u64;

fn key() -> Key {
    Key::new(&[7; 16])
}

/// A file without any frame but this one.
fn with_frame(file_bytes: u64, at: u64, number: u64, length: usize) -> Memory {
    let mut bytes = vec![b'x'; file_bytes as usize];
    let mut frame = vec![b'y'; FRAME_HEADER_BYTES + length];
    seal(&mut frame, &key(), &Mark { bytes: at, frames: number, tag: 5 });
    bytes[at as usize..][..frame.len()].copy_from_slice(&frame);
    Memory::of(bytes)
}

#[test]
fn a_header_is_found_where_it_is_and_nowhere_else() {
    const CHUNK: u64 = CHUNK_BYTES as u64;
    // Length of the file, place and number of the frame, length of its records; where it is looked for, from which number on.
    let found = |file: u64, at, number, length, range: Range<u64>, from| {
        let file = with_frame(file, at, number, length);
        let found = find_header(&file, &key(), range.clone(), from).expect("readable");
        // Nothing else is read, and nothing much twice: the time is linear.
        let read = file.read.load(Ordering::Relaxed);
        assert!(read <= (range.end - range.start) + 2 * HEAD, "{read} bytes of {range:?}");
        found.map(|(place, header)| {
            assert_eq!((header.number, header.length, header.before), (number, length as u32, 5));
            place
        })
    };
    // Wherever it is, and between two pieces that are read together.
    for at in [0, 1, 500, 1000 - HEAD - 10] {
        assert_eq!(found(1000, at, 3, 10, 0..1000, 3), Some(at));
    }
    for at in [CHUNK - HEAD - 1, CHUNK - HEAD, CHUNK - HEAD + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 20]
    {
        assert_eq!(found(2 * CHUNK + 500, at, 3, 10, 0..2 * CHUNK + 500, 3), Some(at), "{at}");
        assert_eq!(found(2 * CHUNK + 500, at, 3, 10, 129..2 * CHUNK + 500, 3), Some(at), "{at}");
    }
    // Not in front of these bytes, nor if it ends behind them.
    assert_eq!(found(1000, 99, 3, 10, 100..1000, 3), None);
    assert_eq!(found(1000, 100, 3, 10, 100..1000, 3), Some(100));
    assert_eq!(found(1000, 500, 3, 10, 100..550, 3), Some(500));
    assert_eq!(found(1000, 500, 3, 10, 100..549, 3), None);
    assert_eq!(found(5000, 3000, 3, 10, 100..549, 3), None);
    // From its number on, to what so many bytes can hold.
    assert_eq!(found(1000, 500, 3, 10, 100..1000, 2), Some(500));
    assert_eq!(found(1000, 500, 3, 10, 100..1000, 4), None);
    assert_eq!(found(1000, 500, 1000 / HEAD + 3, 10, 100..1000, 3), Some(500));
    assert_eq!(found(1000, 500, 1000 / HEAD + 4, 10, 100..1000, 3), None);
    // A file that is shorter than it was.
    for file in [500, 500 + HEAD, 500 + HEAD + 1, 539 + HEAD] {
        let short = Memory::of(vec![b'x'; file as usize]);
        assert!(find_header(&short, &key(), 500..2000, 0).expect("readable").is_none(), "{file}");
    }
}

#[test]
fn a_sector_is_empty_when_all_its_bytes_are_zeros() {
    let empty = |bytes: &[u8], range| has_empty_sector(&Memory::of(bytes), range).expect("readable");
    let full = vec![1; 2048];
    for range in [0..0, 7..7, 512..512, 0..512, 0..2048, 3..1024, 511..513, 1..2047] {
        assert!(!empty(&full, range.clone()), "{range:?}");
    }
    // All zeros but one byte, wherever that is.
    for at in 512..1024 {
        let mut bytes = full.clone();
        bytes[512..1024].fill(0);
        assert!(empty(&bytes, 0..2048) && empty(&bytes, 512..1024) && empty(&bytes, 700..701));
        bytes[at] = 1;
        assert!(!empty(&bytes, 0..2048), "{at}");
        // The parts in front of it and behind it are nothing but zeros.
        assert_eq!(empty(&bytes, 0..at as u64), at > 512, "{at}");
        assert_eq!(empty(&bytes, at as u64 + 1..2048), at < 1023, "{at}");
    }
    // As many zeros in two sectors are no sector.
    let mut bytes = full.clone();
    bytes[768..1280].fill(0);
    assert!(!empty(&bytes, 0..2048));
    // The last part of one.
    let mut bytes = full;
    bytes[1536..].fill(0);
    assert!(empty(&bytes, 0..1537) && !empty(&bytes, 0..1536));
}
