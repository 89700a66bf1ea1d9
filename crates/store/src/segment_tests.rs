//! What is torn and what is corrupt.

use std::sync::Arc;

use super::*;
use crate::{
    directory::Directory,
    files::OsFiles,
    head::{self, Head},
};

/// A directory of the test's own, removed with it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("nanofaas-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    /// It as a store.
    pub(crate) fn directory(&self) -> Directory {
        Directory::of(Arc::new(OsFiles), self.0.clone())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A segment with these records, one frame each, behind one that ends there.
pub(crate) fn write(directory: &Path, number: u64, before: Mark, frames: &[&[u8]]) -> (Segment, Mark) {
    let key = OsFiles.key().expect("random bytes");
    let header = Header { first: number, last: number, key, before, replaced: None, end: None };
    let (mut file, path) = create(&OsFiles, directory, &header).expect("a segment");
    let mut at = header.start();
    for records in frames {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(records);
        let next = seal(&mut frame, &Key::new(&key), &at);
        file.write_at(&frame, at.bytes).expect("written");
        at = next;
    }
    let expected = Expected::Exactly(at);
    (Segment { path, first: number, last: number, bytes: at.bytes, expected, unlinked: false }, at)
}

/// A segment that is the newest; up to a place it is known to be on disk.
fn newest(segment: &Segment, known: Mark) -> Segment {
    let bytes = std::fs::metadata(&segment.path).expect("a file").len();
    Segment { bytes, expected: Expected::AtLeast(known), ..segment.clone() }
}

/// The places behind the frames of a segment.
fn marks(segment: &Segment) -> Vec<Mark> {
    let mut marks = Vec::new();
    for frames in 0.. {
        let Opened::Keyed(file, header) = open(&OsFiles, segment).expect("readable") else {
            panic!("no header")
        };
        let (key, mut at) = (Key::new(&header.key), header.start());
        for _ in 0..frames {
            let mut reader = Reader { file: &*file, offset: at.bytes };
            match read_frame(&mut reader, &key, &at, segment.bytes - at.bytes).expect("readable") {
                Frame::Whole(_, next) => at = next,
                _ => return marks,
            }
        }
        marks.push(at);
    }
    marks
}

/// Frames that can be read, and how that ends.
fn outcome(segment: &Segment) -> (usize, ReadEnd) {
    let mut frames = 0;
    let end = read(&OsFiles, segment, |_, _| {
        frames += 1;
        Ok(())
    });
    (frames, end.expect("readable"))
}

#[test]
fn the_newest_segment_may_be_cut_behind_what_is_known() {
    let scratch = Scratch::new("cut");
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[b"one", b"", b"three"]);
    let marks = marks(&segment);
    assert_eq!(marks.len(), 4);
    let bytes = std::fs::read(&segment.path).expect("readable");
    for known in &marks {
        for length in 0..=bytes.len() {
            std::fs::write(&segment.path, &bytes[..length]).expect("writable");
            let (frames, end) = outcome(&newest(&segment, *known));
            let whole = marks.iter().filter(|mark| mark.bytes <= length as u64).count();
            assert_eq!(frames, whole.saturating_sub(1), "{length}");
            let is_known = length as u64 >= known.bytes;
            match end {
                // Where a frame ends, nothing is missing that anybody could know of.
                ReadEnd::Whole(end) => assert!(is_known && marks.contains(&end), "{length}"),
                ReadEnd::Damaged(damage, _) => {
                    // Its header was on disk before it had its name.
                    let is_torn = is_known && length as u64 >= HEADER_BYTES;
                    assert_eq!(damage.is_torn, is_torn, "{length} of {known:?}: {damage:?}");
                    assert!(damage.offset <= length as u64);
                }
            }
        }
    }
}

#[test]
fn a_segment_with_a_successor_may_not_be_cut_anywhere() {
    let scratch = Scratch::new("closed");
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[b"one", b"", b"three"]);
    let bytes = std::fs::read(&segment.path).expect("readable");
    for length in 0..bytes.len() {
        std::fs::write(&segment.path, &bytes[..length]).expect("writable");
        let (_, end) = outcome(&Segment { bytes: length as u64, ..segment.clone() });
        assert!(matches!(end, ReadEnd::Damaged(Damage { is_torn: false, .. }, _)), "{length}: {end:?}");
    }
}

#[test]
fn a_flipped_bit_is_corrupt_wherever_it_is() {
    let scratch = Scratch::new("flip");
    let (segment, end) = write(&scratch.0, 1, Mark::default(), &[b"one", b"two", b"three"]);
    let start = marks(&segment)[0];
    let bytes = std::fs::read(&segment.path).expect("readable");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            std::fs::write(&segment.path, &changed).expect("writable");
            for segment in [segment.clone(), newest(&segment, start), newest(&segment, end)] {
                let found = match read(&OsFiles, &segment, |_, _| Ok(())) {
                    // A bit of the format makes it one of the future.
                    Err(StoreError::Format { .. }) => continue,
                    other => other.expect("readable"),
                };
                let ReadEnd::Damaged(damage, _) = found else {
                    panic!("bit {bit} of byte {at} is not noticed")
                };
                // A length that became longer than the file has a header that says so no more.
                assert!(!damage.is_torn, "bit {bit} of byte {at}: {damage:?}");
                assert!(damage.offset <= at as u64);
            }
        }
    }
}

#[test]
fn a_sector_that_was_not_written_is_torn_in_the_last_frame_only() {
    let scratch = Scratch::new("sectors");
    let long = vec![7; 3000];
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[&long, &long]);
    let marks = marks(&segment);
    let bytes = std::fs::read(&segment.path).expect("readable");
    for sector in 0..bytes.len() / 512 {
        let mut changed = bytes.clone();
        let end = (sector * 512 + 512).min(bytes.len());
        changed[sector * 512..end].fill(0);
        std::fs::write(&segment.path, &changed).expect("writable");
        let (_, end) = outcome(&newest(&segment, marks[0]));
        let ReadEnd::Damaged(damage, _) = end else { panic!("sector {sector} is not missed") };
        // The one in which the last frame begins has the end of the frame before in it.
        assert_eq!(damage.is_torn, sector as u64 > marks[1].bytes / 512, "sector {sector}: {damage:?}");
        let (_, end) = outcome(&newest(&segment, marks[2]));
        assert!(matches!(end, ReadEnd::Damaged(Damage { is_torn: false, .. }, _)), "{sector}: {end:?}");
    }
}

#[test]
fn frames_in_a_payload_are_none() {
    let scratch = Scratch::new("forged");
    // What a caller can know: a frame that is right in every way, under a key of its own.
    let (foreign, _) = write(&scratch.0, 2, Mark::default(), &[b"zero", b"one", b"two"]);
    let foreign = std::fs::read(&foreign.path).expect("readable");
    let payload = foreign.repeat(200);
    let (segment, end) = write(&scratch.0, 1, Mark::default(), &[b"first", &payload]);
    let start = marks(&segment)[0];
    let bytes = std::fs::read(&segment.path).expect("readable");
    // Torn anywhere in it, in steps that meet every place of a frame in the payload.
    for length in (start.bytes as usize + 60..bytes.len()).step_by(97) {
        std::fs::write(&segment.path, &bytes[..length]).expect("writable");
        let (frames, end) = outcome(&newest(&segment, start));
        assert_eq!(frames, 1);
        assert!(matches!(end, ReadEnd::Damaged(Damage { is_torn: true, .. }, _)), "{length}: {end:?}");
    }
    std::fs::write(&segment.path, &bytes).expect("writable");
    let Opened::Keyed(file, header) = open(&OsFiles, &segment).expect("readable") else {
        panic!("no header")
    };
    let behind = marks(&segment)[1].bytes + 1..end.bytes;
    let found = find_header(&*file, &Key::new(&header.key), behind, 0).expect("readable");
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn a_replaced_segment_is_left_out_and_a_missing_one_noticed() {
    let scratch = Scratch::new("list");
    let mut before = Mark::default();
    for number in 1..=4 {
        before = write(&scratch.0, number, before, &[b"x"]).1;
    }
    std::fs::copy(scratch.0.join(file_name(1, 1)), scratch.0.join(file_name(1, 3))).expect("copied");
    std::fs::write(scratch.0.join("0000000001-0000000004.log.new"), "half").expect("written");
    let segments = head::list(&OsFiles, &scratch.0).expect("nothing is missing");
    let ranges = |segments: &[Segment]| -> Vec<(u64, u64)> {
        segments.iter().map(|segment| (segment.first, segment.last)).collect()
    };
    assert_eq!(ranges(&segments), [(1, 3), (4, 4)]);
    head::remove_leftovers(&OsFiles, &scratch.0, &segments).expect("removed");
    assert_eq!(std::fs::read_dir(&scratch.0).expect("a directory").count(), 2);
    write(&scratch.0, 6, before, &[b"x"]);
    let listed = head::list(&OsFiles, &scratch.0);
    assert!(matches!(listed, Err(StoreError::Missing { path }) if path.ends_with(file_name(5, 5))));
}

#[test]
fn every_change_of_the_set_of_files_is_noticed() {
    let scratch = Scratch::new("chain");
    let (mut before, mut all) = (Mark::default(), Vec::new());
    for number in 1..=3 {
        let (segment, end) = write(&scratch.0, number, before, &[b"x", b"y"]);
        all.push(segment);
        before = end;
    }
    let head = Head { newest: 3, mark: before, closed: true };
    let look = |head: Head| -> Result<bool, StoreError> {
        let mut segments = head::list(&OsFiles, &scratch.0)?;
        head::link(&OsFiles, &scratch.0, &mut segments, Some(&head))?;
        let whole =
            |segment: &Segment| Ok(matches!(read(&OsFiles, segment, |_, _| Ok(()))?, ReadEnd::Whole(_)));
        segments.iter().map(whole).try_fold(true, |all, one: Result<bool, StoreError>| Ok(all && one?))
    };
    let open_head = Head { mark: marks(&all[2])[0], closed: false, ..head };
    assert!(look(head).expect("readable") && look(open_head).expect("readable"));
    for segment in &all {
        let bytes = std::fs::read(&segment.path).expect("readable");
        // Each file cut where a frame begins, to 32 bytes, and to nothing.
        for length in marks(segment)[..2].iter().map(|mark| mark.bytes).chain([32, 0]) {
            std::fs::write(&segment.path, &bytes[..length as usize]).expect("writable");
            assert!(!look(head).expect("readable"), "{segment:?} cut to {length}");
        }
        std::fs::remove_file(&segment.path).expect("removed");
        for head in [head, open_head] {
            assert!(matches!(look(head), Err(StoreError::Missing { path }) if path == segment.path));
        }
        // Another file with the same number and the same records.
        let other = write(&scratch.0, segment.first, Mark::default(), &[b"x", b"y"]).0;
        assert!(!look(head).expect("readable"), "{other:?}");
        std::fs::write(&segment.path, &bytes).expect("writable");
    }
    // One that `HEAD` does not know of: begun and never used, or with something in it.
    write(&scratch.0, 4, before, &[]);
    assert!(look(head).expect("readable"));
    write(&scratch.0, 4, before, &[b"z"]);
    assert!(matches!(look(head), Err(StoreError::Corrupt { path, .. }) if path.ends_with("HEAD")));
}

#[test]
fn a_file_of_a_newer_format_is_told_from_one_without_a_header() {
    let scratch = Scratch::new("format");
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[b"one"]);
    let bytes = std::fs::read(&segment.path).expect("readable");
    let newer = |format: u32, length: usize| {
        let mut changed = bytes[..length].to_vec();
        changed[8..12].copy_from_slice(&format.to_le_bytes());
        std::fs::write(&segment.path, &changed).expect("writable");
        match open(&OsFiles, &segment) {
            Err(StoreError::Format { found, .. }) => Some(found),
            Ok(Opened::Headless(_)) => None,
            _ => panic!("format {format} in {length} bytes"),
        }
    };
    for length in [bytes.len(), HEADER_BYTES as usize] {
        assert_eq!(newer(FORMAT + 1, length), Some((FORMAT + 1).to_string()));
        assert_eq!(newer(FORMAT + 9, length), Some((FORMAT + 9).to_string()));
        assert_eq!(newer(FORMAT - 1, length), None);
    }
    // Not enough of it to be sure.
    assert_eq!(newer(FORMAT + 1, HEADER_BYTES as usize - 1), None);
    // The one of this version, and changed elsewhere.
    let mut changed = bytes.clone();
    changed[50] ^= 1;
    std::fs::write(&segment.path, &changed).expect("writable");
    assert!(matches!(open(&OsFiles, &segment), Ok(Opened::Headless(_))));
}

#[test]
fn a_frame_follows_the_one_before_by_its_number_and_by_its_tag() {
    let key = Key::new(&[7; 16]);
    let at = Mark { bytes: 500, frames: 3, tag: 9 };
    for (sealed, is_whole) in [
        (at, true),
        (Mark { frames: 4, ..at }, false),
        (Mark { tag: 8, ..at }, false),
        (Mark { frames: 2, tag: 8, ..at }, false),
    ] {
        let mut frame = vec![1; FRAME_HEADER_BYTES + 5];
        let next = seal(&mut frame, &key, &sealed);
        match read_frame(&mut &frame[..], &key, &at, 45).expect("readable") {
            Frame::Whole(records, found) => assert!(is_whole && records == [1; 5] && found == next),
            Frame::Broken(what, None) => assert!(!is_whole && what == "the order of the commits"),
            _ => panic!("{sealed:?}"),
        }
    }
}

#[test]
fn a_frame_that_was_known_to_be_there_is_looked_for_by_its_tag() {
    let scratch = Scratch::new("known");
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[b"one", b"two"]);
    let marks = marks(&segment);
    let whole =
        |known| matches!(outcome(&newest(&segment, known)), (2, ReadEnd::Whole(end)) if end == marks[2]);
    assert!(marks.iter().all(|mark| whole(*mark)));
    // Before its first frame nothing is known of a segment.
    assert!(whole(Mark::default()) && whole(Mark { tag: 1, ..marks[0] }));
    for (number, mark) in [(1, marks[1]), (2, marks[2])] {
        for known in [Mark { tag: mark.tag ^ 1, ..mark }, Mark { bytes: mark.bytes + 1, ..mark }] {
            let damage = Damage { offset: mark.bytes, what: "what was on disk already", is_torn: false };
            assert_eq!(outcome(&newest(&segment, known)), (number, ReadEnd::Damaged(damage, mark)));
        }
    }
    let known = Mark { frames: 3, ..marks[2] };
    let damage = Damage { offset: marks[2].bytes, what: "the end of the file", is_torn: false };
    assert_eq!(outcome(&newest(&segment, known)), (2, ReadEnd::Damaged(damage, marks[2])));
}

#[test]
fn a_frame_that_follows_another_one_is_corrupt_although_a_sector_of_it_is_empty() {
    let scratch = Scratch::new("misplaced");
    let (segment, end) = write(&scratch.0, 1, Mark::default(), &[b"zero", b"one"]);
    let bytes = std::fs::read(&segment.path).expect("readable");
    let key = Key::new(bytes[28..44].first_chunk().expect("a key"));
    let with = |sealed: Mark, is_whole: bool| {
        let mut frame = vec![0; FRAME_HEADER_BYTES + 2000];
        seal(&mut frame, &key, &sealed);
        frame[FRAME_HEADER_BYTES] ^= u8::from(!is_whole);
        std::fs::write(&segment.path, [&bytes[..], &frame].concat()).expect("writable");
        outcome(&newest(&segment, end))
    };
    let damaged = |what, is_torn| (2, ReadEnd::Damaged(Damage { offset: end.bytes, what, is_torn }, end));
    for sealed in [Mark { frames: 1, ..end }, Mark { frames: 3, ..end }, Mark { tag: end.tag ^ 1, ..end }] {
        for is_whole in [true, false] {
            let found = with(sealed, is_whole);
            assert_eq!(found, damaged("the order of the commits", false), "{sealed:?} {is_whole}");
        }
    }
    assert_eq!(with(end, false), damaged("the checksum of a commit", true), "its sectors may be missing");
    assert!(matches!(with(end, true), (3, ReadEnd::Whole(_))));
}
