//! What is torn and what is corrupt in a log of format 1: every kind of damage, and the verdict.

use std::path::Path;

use super::*;
use crate::{files::Files, fuzzing::Memory, segment};

/// A file system that has this file and takes nothing.
#[derive(Debug)]
struct Only(Memory);

const REFUSED: io::ErrorKind = io::ErrorKind::Unsupported;

impl Files for Only {
    fn create(&self, _: &Path) -> io::Result<Box<dyn File>> {
        Err(REFUSED.into())
    }
    fn open(&self, _: &Path, _: bool) -> io::Result<Box<dyn File>> {
        Ok(Box::new(self.0.clone()))
    }
    fn list(&self, _: &Path) -> io::Result<Vec<(String, u64)>> {
        Err(REFUSED.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(REFUSED.into())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(REFUSED.into())
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Err(REFUSED.into())
    }
    fn key(&self) -> io::Result<[u8; 16]> {
        Err(REFUSED.into())
    }
}

/// A frame as format 1 has it.
pub(crate) fn frame(number: u64, records: &[u8]) -> Vec<u8> {
    let mut checked = number.to_le_bytes().to_vec();
    checked.extend_from_slice(records);
    let mut frame = (records.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    frame.extend_from_slice(&checked);
    frame
}

/// A file of format 1 with this number and these frames.
pub(crate) fn log(number: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"nanofaas\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(frames.concat());
    bytes
}

/// Frames that follow each other.
pub(crate) fn frames(records: &[&[u8]]) -> Vec<Vec<u8>> {
    (0..).zip(records).map(|(number, records)| frame(number, records)).collect()
}

const NEWEST: Expected = Expected::AtLeast(Mark { bytes: 0, frames: 0, tag: 0 });

/// Frames with their places.
type Frames = Vec<(u64, Vec<u8>)>;

/// The frames that are read, and how that ends.
fn outcome(bytes: &[u8], expected: Expected) -> Result<(Frames, ReadEnd), StoreError> {
    let path = segment::file_name(1, 1).into();
    let segment = Segment { path, first: 1, last: 1, bytes: bytes.len() as u64, expected, unlinked: false };
    let mut frames = Vec::new();
    let end = segment::read(&Only(Memory::of(bytes)), &segment, |at, records| {
        frames.push((at, records));
        Ok(())
    })?;
    Ok((frames, end))
}

/// How many frames are read, and what is wrong behind them: where, what, and whether it is torn.
fn verdict(bytes: &[u8], expected: Expected) -> (usize, Option<(u64, &'static str, bool)>) {
    match outcome(bytes, expected).expect("readable") {
        (frames, ReadEnd::Whole(_)) => (frames.len(), None),
        (frames, ReadEnd::Damaged(Damage { offset, what, is_torn }, _)) => {
            (frames.len(), Some((offset, what, is_torn)))
        }
    }
}

const LENGTH: &str = "the length of a commit";
const CHECKSUM: &str = "the checksum of a commit";
const ORDER: &str = "the order of the commits";
const HEADER: &str = "the header of the file";

#[test]
fn what_is_whole_is_read_to_its_end() {
    let records: [&[u8]; 4] = [b"one", b"", &[7; 300], b"four"];
    let frames = frames(&records);
    let bytes = log(1, &frames);
    let mut at = HEADER_BYTES;
    let mut places = Vec::new();
    for (frame, records) in frames.iter().zip(records) {
        places.push((at, records.to_vec()));
        at += frame.len() as u64;
    }
    let checksum = frames[3][4..8].try_into().expect("four bytes");
    let end = Mark { bytes: at, frames: 4, tag: u64::from(u32::from_le_bytes(checksum)) };
    for expected in [Expected::Anything, NEWEST, Expected::Exactly(end)] {
        let read = outcome(&bytes, expected).expect("readable");
        assert_eq!(read, (places.clone(), ReadEnd::Whole(end)), "{expected:?}");
    }
    // It is another file than the one whose end is named.
    for other in [
        Mark { bytes: at - 1, ..end },
        Mark { frames: 3, ..end },
        Mark { tag: end.tag ^ 1, ..end },
        Mark::default(),
    ] {
        let found = verdict(&bytes, Expected::Exactly(other));
        assert_eq!(found, (4, Some((at, "the end of the file", false))));
    }
    // Of another number it is nobody's.
    assert_eq!(verdict(&log(2, &frames), Expected::Exactly(end)), (0, Some((0, HEADER, false))));
}

#[test]
fn a_file_is_torn_where_it_is_cut_if_it_is_the_newest() {
    let frames = frames(&[b"one", b"", &[7; 300], b"four"]);
    let bytes = log(1, &frames);
    let mut ends = vec![HEADER_BYTES];
    frames.iter().for_each(|frame| ends.push(ends[ends.len() - 1] + frame.len() as u64));
    let end = Mark { bytes: bytes.len() as u64, frames: 4, tag: 1 };
    for length in 0..bytes.len() as u64 {
        let whole = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let expected = |is_torn| {
            let left = length.saturating_sub(ends[whole]);
            let wrong = match (length < HEADER_BYTES, left) {
                (true, _) => Some((0, HEADER, is_torn)),
                (false, 0) => None,
                (false, 1..16) => Some((ends[whole], "the header of a commit", is_torn)),
                _ => Some((ends[whole], LENGTH, is_torn)),
            };
            (whole, wrong)
        };
        let bytes = &bytes[..length as usize];
        assert_eq!(verdict(bytes, NEWEST), expected(true), "{length}");
        assert_eq!(verdict(bytes, Expected::Anything), expected(false), "{length}");
        let (read, found) = verdict(bytes, Expected::Exactly(end));
        let at_the_end = Some((length, "the end of the file", false));
        assert_eq!((read, found), (whole, expected(false).1.or(at_the_end)), "{length}");
    }
}

#[test]
fn a_file_without_a_header_is_torn_only_while_it_was_created() {
    for (length, byte, is_torn) in [
        (0, 1, true),
        (31, 1, true),
        (31, 0, true),
        (32, 1, false),
        (32, 0, true),
        (33, 0, false),
        (33, 1, false),
    ] {
        let bytes = vec![byte; length];
        assert_eq!(verdict(&bytes, NEWEST), (0, Some((0, HEADER, is_torn))), "{length} of {byte}");
        for expected in [Expected::Anything, Expected::Exactly(Mark::default())] {
            assert_eq!(verdict(&bytes, expected), (0, Some((0, HEADER, false))), "{length}");
        }
    }
}

#[test]
fn a_flipped_bit_is_torn_only_if_it_may_be_a_commit_that_was_not_written() {
    let frames = frames(&[b"one", &[7; 300], b"three"]);
    let bytes = log(1, &frames);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let says = format!("bit {bit} of byte {at}");
            if (8..12).contains(&at) && (at, bit) != (8, 0) {
                // A format of the future.
                let found = outcome(&changed, NEWEST);
                assert!(matches!(found, Err(StoreError::Format { .. })), "{says}: {found:?}");
                continue;
            }
            let expected = if at < HEADER_BYTES as usize {
                (0, (0, HEADER, false))
            } else {
                let (mut hit, mut start) = (0, HEADER_BYTES as usize);
                while at >= start + frames[hit].len() {
                    start += frames[hit].len();
                    hit += 1;
                }
                let length = u32::from_le_bytes(changed[start..start + 4].try_into().expect("four bytes"));
                let is_too_long = length as usize > bytes.len() - start - 16;
                let is_another = (8..16).contains(&(at - start));
                let what = if is_too_long { LENGTH } else { CHECKSUM };
                // Bytes of it are missing, or of another commit, and nothing is behind it.
                (hit, (start as u64, what, (is_too_long || is_another) && hit == 2))
            };
            assert_eq!(verdict(&changed, NEWEST), (expected.0, Some(expected.1)), "{says}");
            let (_, (offset, what, _)) = expected;
            let found = verdict(&changed, Expected::Anything);
            assert_eq!(found, (expected.0, Some((offset, what, false))), "{says}");
        }
    }
}

#[test]
fn a_sector_that_was_not_written_is_torn_if_no_whole_commit_is_behind_it() {
    let long = [7; 3000];
    let frames = frames(&[&long, &long, &long]);
    let bytes = log(1, &frames);
    let start = |number: usize| HEADER_BYTES as usize + number * frames[0].len();
    for from in (0..bytes.len()).step_by(512) {
        let end = (from + 512).min(bytes.len());
        let mut changed = bytes.clone();
        changed[from..end].fill(0);
        let expected = match from {
            0 => (0, Some((0, HEADER, false))),
            _ => {
                let hit = (0..3).rfind(|number| start(*number) <= from).expect("the first one");
                let has_more = (hit + 1..3).any(|number| start(number) >= end);
                (hit, Some((start(hit) as u64, CHECKSUM, !has_more)))
            }
        };
        assert_eq!(verdict(&changed, NEWEST), expected, "{from}");
    }
    // A file that became longer before its bytes were there.
    let mut longer = bytes.clone();
    longer.resize(bytes.len() + 700, 0);
    let expected = (3, Some((bytes.len() as u64, CHECKSUM, true)));
    assert_eq!(verdict(&longer, NEWEST), expected);
}

#[test]
fn a_commit_behind_a_broken_one_makes_it_corrupt() {
    let holes = vec![0; 2048];
    let mut broken = frame(2, &holes);
    broken[4] ^= 1;
    let whole = frames(&[b"zero", b"one"]);
    let at = HEADER_BYTES + (whole[0].len() + whole[1].len()) as u64;
    // The second place is where the broken one is: two are whole in front of it.
    let with = |behind: Vec<u8>| {
        let bytes = log(1, &[whole.clone(), vec![broken.clone(), behind]].concat());
        let (read, found) = verdict(&bytes, NEWEST);
        let (offset, what, is_torn) = found.expect("it is broken");
        assert_eq!((read, offset, what), (2, at, CHECKSUM));
        is_torn
    };
    assert!(with(Vec::new()));
    // What was there before, and what comes next.
    for (number, is_torn) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        assert_eq!(with(frame(number, b"next")), is_torn, "{number}");
        // Wherever it begins.
        assert_eq!(with([vec![9; 77], frame(number, b"next"), vec![9; 5]].concat()), is_torn, "{number}");
    }
    // Not more commits than there is room for, from the broken one on.
    let room = (broken.len() + frame(3, b"next").len()) as u64 / FRAME_HEADER_BYTES;
    for (number, is_torn) in [(3 + room, false), (3 + room + 1, true)] {
        assert_eq!(with(frame(number, b"next")), is_torn, "{number}");
    }
    // One that is not whole is none.
    let mut cut = frame(3, b"next");
    cut.pop();
    assert!(with(cut));
    let mut changed = frame(3, b"next");
    changed[17] ^= 1;
    assert!(with(changed));
    // The first one of the file.
    let mut first = frame(0, &holes);
    first[4] ^= 1;
    for (number, is_torn) in [(0, true), (1, false)] {
        let bytes = log(1, &[first.clone(), frame(number, b"next")]);
        assert_eq!(verdict(&bytes, NEWEST), (0, Some((HEADER_BYTES, CHECKSUM, is_torn))));
    }
}

#[test]
fn commits_that_do_not_follow_each_other_are_corrupt() {
    for numbers in [&[1][..], &[0, 0], &[0, 2], &[0, 1, 0]] {
        let mut frames: Vec<Vec<u8>> = numbers.iter().map(|number| frame(*number, b"records")).collect();
        let (before, at) = (frames.len() - 1, HEADER_BYTES + (frames.len() as u64 - 1) * 23);
        // Whatever stands in the last one: it is whole, so nothing of it is missing.
        for records in [&b"records"[..], &[0; 2000]] {
            frames[before] = frame(numbers[before], records);
            for expected in [NEWEST, Expected::Anything] {
                let found = verdict(&log(1, &frames), expected);
                assert_eq!(found, (before, Some((at, ORDER, false))), "{numbers:?}");
            }
        }
    }
}
