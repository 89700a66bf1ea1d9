//! What is read back, what is not, and what happens when a file goes meanwhile.

use std::{fs, path::PathBuf};

use shard_core::{Output, Payload, journal::EndResult};

use super::*;
use crate::{
    codec::tests::{codec, owned},
    compaction,
    directory::Directory,
    disk::{Disk, accepted, ended, id, name},
    files::OsFiles,
    format1,
    index::Location,
    segment::{Expected, Mark, tests::Scratch, tests::write},
};

fn end(text: &str) -> Box<End> {
    let result = EndResult::Output(Output { body: text.to_owned().into(), ..Output::null() });
    Box::new(End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None })
}

fn frame(records: &[Record]) -> Vec<u8> {
    let mut frame = Vec::new();
    records.iter().for_each(|record| assert!(codec().encode(&owned(record.clone()), &mut frame)));
    frame
}

/// An index of these segments, and what reads by it.
fn lookup(files: Arc<dyn Files>, segments: &[Segment]) -> (Arc<Index>, Lookup) {
    let index = Arc::new(Index::default());
    for segment in segments {
        let noted = segment::read(&OsFiles, segment, |offset, frame| {
            index.note(index.file(segment), offset, &frame);
            Ok(())
        });
        noted.expect("readable");
    }
    (Arc::clone(&index), Lookup::new(files, index, codec()))
}

/// What is wrong: the file, the place in it, and the words for it.
fn refused(lookup: &Lookup, number: u8) -> (PathBuf, u64, &'static str) {
    match lookup.end_of(id(number)) {
        Err(Unread { offset, error: StoreError::Corrupt { path, offset: same, what } }) if offset == same => {
            (path, offset, what)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_end_is_read_back_whatever_wrote_it() {
    let scratch = Scratch::new("lookup");
    let kept = Record::Kept {
        id: id(3),
        function: name(),
        created_ms: 1,
        attempt: 1,
        payload: Payload::json("1"),
        extra: None,
        last_failure: None,
        end: end("kept"),
        dead: true,
    };
    let of = |number, text| Record::Ended { id: id(number), end: end(text), dead: false };
    let frames = [frame(&[accepted(1), of(1, "first"), of(2, "other")]), frame(&[of(1, "second"), kept])];
    let (keyed, _) = write(&scratch.0, 2, Mark::default(), &[&frames[0], &frames[1]]);
    let bytes = format1::tests::log(1, &format1::tests::frames(&[b"", &frame(&[accepted(4), of(4, "old")])]));
    let old = Segment {
        path: scratch.0.join(segment::file_name(1, 1)),
        first: 1,
        last: 1,
        bytes: bytes.len() as u64,
        expected: Expected::Anything,
        unlinked: false,
    };
    fs::write(&old.path, &bytes).expect("writable");
    let (_, lookup) = lookup(Arc::new(OsFiles), &[old.clone(), keyed]);
    for (number, text) in [(1, "second"), (2, "other"), (3, "kept"), (4, "old")] {
        assert_eq!(lookup.end_of(id(number)).expect("readable"), Some(end(text)), "{number}");
    }
    assert_eq!(lookup.end_of(id(5)).expect("readable"), None);
    // Format 1 as well does not give back what was not written.
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        fs::write(&old.path, other).expect("writable");
        match lookup.end_of(id(4)) {
            Ok(read) => assert_eq!(read, Some(end("old")), "{at}"),
            Err(_) => assert!(!(32..48).contains(&at), "{at}"),
        }
    }
    fs::write(&old.path, &bytes[..bytes.len() - 1]).expect("writable");
    assert_eq!(refused(&lookup, 4).2, "the end of the file");
}

#[test]
fn what_is_not_as_it_was_written_is_named_and_not_given_back() {
    let scratch = Scratch::new("lookup-damage");
    let frames = [frame(&[accepted(1), ended(1)]), frame(&[ended(2)])];
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[&frames[0], &frames[1]]);
    let (index, lookup) = lookup(Arc::new(OsFiles), std::slice::from_ref(&segment));
    let bytes = fs::read(&segment.path).expect("readable");
    let second = 128 + 40 + frames[0].len() as u64;
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        fs::write(&segment.path, other).expect("writable");
        let (path, offset, what) = match lookup.end_of(id(2)) {
            // Nothing that its frame depends on.
            Ok(read) => {
                assert!(read.is_some() && (128..second).contains(&(at as u64)), "{at}");
                continue;
            }
            // The format, which is another one then.
            Err(Unread { error: StoreError::Format { .. }, .. }) => continue,
            Err(_) => refused(&lookup, 2),
        };
        assert_eq!((path, offset), (segment.path.clone(), second), "{at}");
        let expected = match at as u64 {
            at if at < 128 => "the header of the file",
            at if at < second + 40 => "the header of a commit",
            _ => "the checksum of a commit",
        };
        assert_eq!(what, expected, "{at}");
    }
    for length in [second, second + 39, second + 40, bytes.len() as u64 - 1] {
        fs::write(&segment.path, &bytes[..length as usize]).expect("writable");
        assert_eq!(refused(&lookup, 2), (segment.path.clone(), second, "the end of the file"), "{length}");
    }
    fs::write(&segment.path, &bytes).expect("writable");
    // An index that is wrong gives nothing of another execution, and nothing that is no end.
    let file = index.file(&segment).expect("a number");
    let start = Location::new(file, 128, 0);
    for wrong in [start, Location::new(file, 128, 3), Location::new(file, 128, u32::MAX)] {
        let (from, _) = index.find(id(2)).expect("it is there");
        index.replaced(&segment, &[crate::index::Copied { id: id(2), from, to: wrong }]);
        let what = refused(&lookup, 2).2;
        assert!(["a record", "the end of an execution"].contains(&what), "{what}");
    }
    let (of_one, _) = index.find(id(1)).expect("it is there");
    let (from, _) = index.find(id(2)).expect("it is there");
    index.replaced(&segment, &[crate::index::Copied { id: id(2), from, to: of_one }]);
    assert_eq!(refused(&lookup, 2).2, "the end of an execution");
    assert!(lookup.end_of(id(1)).expect("readable").is_some());
    fs::remove_file(&segment.path).expect("it is there");
    match lookup.end_of(id(1)) {
        Err(Unread { offset: 128, error: StoreError::Read { path, .. } }) => assert_eq!(path, segment.path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_compaction_that_takes_the_file_away_does_not_fail_the_read() {
    let scratch = Scratch::new("lookup-compaction");
    let (first, mark) = write(&scratch.0, 1, Mark::default(), &[&frame(&[accepted(1), ended(1), ended(2)])]);
    let (second, _) = write(&scratch.0, 2, mark, &[&frame(&[accepted(3)])]);
    let disk = Disk::default();
    let segments = [first, second];
    let (index, lookup) = lookup(Arc::new(disk.clone()), &segments);
    let directory = Directory::of(Arc::new(OsFiles), scratch.0.clone());
    let (moving, forgets) = (Arc::clone(&index), Arc::clone(&index));
    let compacted = segments.clone();
    disk.on_open(move || {
        compaction::compact(&directory, &compacted, &moving).expect("whole");
    });
    let Record::Ended { end, .. } = ended(1) else { panic!("another") };
    assert_eq!(lookup.end_of(id(1)).expect("it is in the other file"), Some(end));
    assert!(!segments[0].path.exists());
    // What is forgotten meanwhile is not there any more, and that is no failure.
    let (path, record) =
        (scratch.0.join(segment::file_name(1, 2)), frame(&[Record::Forgotten { id: id(2) }]));
    disk.on_open(move || {
        forgets.note(None, 0, &record);
        fs::remove_file(&path).expect("it is there");
    });
    assert_eq!(lookup.end_of(id(2)).expect("it is forgotten"), None);
}
