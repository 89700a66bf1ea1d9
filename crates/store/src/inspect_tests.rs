//! What is said of a store, what a repair drops, and that nothing else is changed by it.

use std::{collections::BTreeMap, fs};

use shard_core::{
    ExecutionId, FunctionSpec, Name, Output, Payload, Policy, Record, Target as Kind,
    journal::{End, EndResult},
};

use super::*;
use crate::{
    codec::tests::{codec, owned},
    format1::tests::{frame, log},
    segment::tests::{Scratch, write},
};

fn name(name: &str) -> Name {
    Name::new(name).expect("a name")
}

fn id(function: &str, number: u8) -> ExecutionId {
    ExecutionId::new([number; 16], name(function).owner_hash())
}

fn registered(function: &str) -> Record {
    let document = format!(
        "{{\"name\":\"{function}\",\"timeoutMs\":1,\"concurrency\":1,\"queueSize\":1,\"maxRetries\":1,\"retryBackoffMs\":0,\
         \"executionMode\":\"LOCAL\",\"requestedExecutionMode\":\"LOCAL\",\"effectiveExecutionMode\":\"LOCAL\"}}"
    );
    let spec = FunctionSpec {
        name: name(function),
        policy: Policy::default(),
        target: Kind::Local,
        scaling: None,
        document: document.into(),
    };
    Record::Registered { spec: Box::new(spec) }
}

fn accepted(function: &str, number: u8) -> Record {
    Record::Accepted {
        id: id(function, number),
        function: name(function),
        created_ms: 1,
        payload: Payload::json("1"),
        extra: None,
        callback_url: None,
    }
}

fn ended(function: &str, number: u8, dead: bool) -> Record {
    let result = EndResult::Output(Output::null());
    let end = End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None };
    Record::Ended { id: id(function, number), end: Box::new(end), dead }
}

fn bytes(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| assert!(codec().encode(&owned(record.clone()), &mut bytes)));
    bytes
}

/// Three files of commits.
fn commits() -> [Vec<Vec<u8>>; 3] {
    [
        vec![
            bytes(&[registered("f")]),
            bytes(&[registered("g"), accepted("f", 1)]),
            bytes(&[accepted("f", 2)]),
        ],
        vec![
            bytes(&[accepted("g", 3)]),
            bytes(&[accepted("g", 4), ended("f", 1, false)]),
            bytes(&[accepted("f", 5)]),
        ],
        vec![
            bytes(&[accepted("f", 6), accepted("f", 7)]),
            bytes(&[ended("f", 6, true)]),
            bytes(&[ended("f", 7, false), accepted("g", 8)]),
        ],
    ]
}

/// What is in all of them but some.
fn stats(segments: usize, bytes: u64, f: usize, g: usize, finished: usize, dead_letters: usize) -> Stats {
    let by_function = [("f".to_owned(), f), ("g".to_owned(), g)];
    let queued_by_function = BTreeMap::from(by_function);
    Stats { segments, bytes, functions: 2, queued: f + g, finished, dead_letters, queued_by_function }
}

/// A store of the three, and what `HEAD` knows of the newest: nothing behind its first commit, unless it was closed.
fn store(scratch: &Scratch, closed: bool) -> Vec<Segment> {
    let (mut before, mut known, mut segments) = (Mark::default(), Mark::default(), Vec::new());
    for (number, frames) in (1..).zip(commits()) {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (segment, end) = write(&scratch.0, number, before, &frames);
        let mut reader = &fs::read(&segment.path).expect("readable")[..];
        let Opened::Keyed(_, header) =
            segment::open(&*scratch.directory().files, &segment).expect("readable")
        else {
            panic!("it has a header")
        };
        reader = &reader[128..];
        let first = read_frame(&mut reader, &Key::new(&header.key), &header.start(), segment.bytes - 128);
        let Frame::Whole(_, first) = first.expect("readable") else { panic!("it is whole") };
        (before, known) = (end, if closed { end } else { first });
        segments.push(segment);
    }
    let head = Head { newest: 3, mark: known, closed };
    scratch.directory().set_format(&head).expect("writable");
    segments
}

/// The same in format 1.
fn old_store(scratch: &Scratch) -> Vec<PathBuf> {
    fs::write(scratch.0.join("FORMAT"), "nanofaas-store 1\n").expect("writable");
    let write = |(number, commits): (u64, Vec<Vec<u8>>)| {
        let frames: Vec<Vec<u8>> =
            (0..).zip(&commits).map(|(number, records)| frame(number, records)).collect();
        let path = scratch.0.join(segment::file_name(number, number));
        fs::write(&path, log(number, &frames)).expect("writable");
        path
    };
    (1..).zip(commits()).map(write).collect()
}

fn inspected(scratch: &Scratch) -> Inspection {
    Inspection::of(scratch.directory(), codec()).expect("readable")
}

/// What is in the directory.
fn contents(scratch: &Scratch) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(&scratch.0).expect("a directory").map(|file| file.expect("readable").path());
    files.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
}

fn bytes_of(scratch: &Scratch) -> u64 {
    let files = contents(scratch);
    files
        .iter()
        .filter(|(path, _)| path.to_string_lossy().ends_with(".log"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum()
}

/// Where a commit of a file begins.
fn place(commits: &[Vec<u8>], number: usize, old: bool) -> u64 {
    let (start, head) = if old { (32, 16) } else { (128, 40) };
    start + commits[..number].iter().map(|records| records.len() as u64 + head).sum::<u64>()
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).expect("writable");
}

/// Repairs it: nothing but these files and `HEAD` changes, each is kept as it was, and the store is whole afterwards.
fn repaired(scratch: &Scratch, changed: &[&Path]) -> Vec<Repair> {
    let before = contents(scratch);
    let inspection = inspected(scratch);
    let mut faults = inspection.verify().expect("readable");
    let repairs = inspection.repair().expect("writable");
    drop(inspection);
    let found = |fault: &Fault| repairs.iter().any(|repair| repair.fault == *fault);
    assert!(faults.iter().all(found) && faults.len() == repairs.len(), "{faults:?} {repairs:?}");
    for repair in &repairs {
        let Some(backup) = &repair.backup else { continue };
        assert_eq!(fs::read(backup).expect("readable"), before[&repair.fault.path]);
    }
    for (path, bytes) in &before {
        let is_changed =
            changed.contains(&&**path) || [head::FILE, "FORMAT"].iter().any(|name| path.ends_with(name));
        assert!(is_changed || fs::read(path).expect("readable") == *bytes, "{path:?} was changed");
    }
    let after = inspected(scratch);
    faults = after.verify().expect("readable");
    assert_eq!(faults, []);
    assert_eq!(after.repair().expect("writable"), []);
    repairs
}

fn torn(path: &Path, offset: u64, what: &'static str) -> Fault {
    Fault { path: path.to_owned(), offset, what, is_torn: true }
}

fn corrupt(path: &Path, offset: u64, what: &'static str) -> Fault {
    Fault { is_torn: false, ..torn(path, offset, what) }
}

const CHECKSUM: &str = "the checksum of a commit";

#[test]
fn what_is_in_a_store_is_counted_and_nothing_is_changed() {
    for (old, closed) in [(true, false), (false, false), (false, true)] {
        let scratch = Scratch::new("inspect-stats");
        if old {
            old_store(&scratch);
        } else {
            store(&scratch, closed);
        }
        let before = contents(&scratch);
        let inspection = inspected(&scratch);
        assert_eq!(inspection.verify().expect("readable"), []);
        assert_eq!(inspection.stats().expect("whole"), stats(3, bytes_of(&scratch), 2, 3, 2, 1));
        // Nothing is wrong, so nothing is mended.
        assert_eq!(inspection.repair().expect("whole"), []);
        assert_eq!(contents(&scratch), before);
    }
}

#[test]
fn compaction_says_how_much_it_was_and_is() {
    let scratch = Scratch::new("inspect-compact");
    store(&scratch, true);
    let before = bytes_of(&scratch);
    let sizes = inspected(&scratch).compact().expect("whole");
    let path = scratch.0.join(segment::file_name(1, 3));
    assert_eq!(sizes, (before, fs::metadata(&path).expect("it is there").len()));
    assert!(sizes.1 < before);
    let segments = head::list(&*scratch.directory().files, &scratch.0).expect("whole");
    assert_eq!(segments.iter().map(|segment| &segment.path).collect::<Vec<_>>(), [&path]);
    assert_eq!(inspected(&scratch).verify().expect("readable"), []);
    assert_eq!(inspected(&scratch).stats().expect("whole"), stats(1, sizes.1, 2, 3, 2, 1));
    let scratch = Scratch::new("inspect-compact-nothing");
    assert_eq!(inspected(&scratch).compact().expect("whole"), (0, 0));
}

#[test]
fn a_torn_end_is_shown_and_does_not_count() {
    let commits = commits();
    let scratch = Scratch::new("inspect-torn");
    let path = store(&scratch, false).remove(2).path;
    let file = fs::read(&path).expect("readable");
    fs::write(&path, &file[..file.len() - 1]).expect("writable");
    let at = place(&commits[2], 2, false);
    let inspection = inspected(&scratch);
    assert_eq!(inspection.verify().expect("readable"), [torn(&path, at, "the length of a commit")]);
    assert_eq!(inspection.stats().expect("torn"), stats(3, bytes_of(&scratch), 3, 2, 1, 1));
    // In format 1, down to the header: the file is not one yet.
    let scratch = Scratch::new("inspect-torn-old");
    let path = old_store(&scratch).remove(2);
    for (length, at, what, expected) in [
        (
            place(&commits[2], 3, true) - 1,
            place(&commits[2], 2, true),
            "the length of a commit",
            [3, 2, 1, 1],
        ),
        (31, 0, "the header of the file", [2, 2, 1, 0]),
    ] {
        let file = fs::read(&path).expect("readable");
        fs::write(&path, &file[..length as usize]).expect("writable");
        let inspection = inspected(&scratch);
        assert_eq!(inspection.verify().expect("readable"), [torn(&path, at, what)]);
        let [f, g, finished, dead] = expected;
        assert_eq!(inspection.stats().expect("torn"), stats(3, bytes_of(&scratch), f, g, finished, dead));
    }
}

#[test]
fn what_is_corrupt_is_shown_and_is_not_counted() {
    let commits = commits();
    for old in [true, false] {
        for number in 0..3 {
            let scratch = Scratch::new("inspect-corrupt");
            let paths = if old {
                old_store(&scratch)
            } else {
                store(&scratch, false).into_iter().map(|segment| segment.path).collect()
            };
            let at = place(&commits[number], 1, old);
            flip(&paths[number], at + 45);
            let inspection = inspected(&scratch);
            assert_eq!(inspection.verify().expect("readable"), [corrupt(&paths[number], at, CHECKSUM)]);
            let refused = |error| match error {
                StoreError::Corrupt { path, offset, what } => {
                    (path, offset, what) == (paths[number].clone(), at, CHECKSUM)
                }
                _ => false,
            };
            assert!(inspection.stats().is_err_and(refused) && inspection.compact().is_err_and(refused));
        }
    }
}

#[test]
fn a_repair_drops_what_is_broken_and_nothing_behind_it() {
    let commits = commits();
    for closed in [false, true] {
        // A commit of a file, and what is left without it.
        for (number, hit, left) in [
            (0, 2, [1, 3, 2, 1]),
            (1, 0, [2, 2, 2, 1]),
            (1, 1, [3, 2, 1, 1]),
            (2, 1, [3, 3, 2, 0]),
            (2, 2, [3, 2, 1, 1]),
        ] {
            let scratch = Scratch::new("inspect-repair");
            let path = store(&scratch, closed).remove(number).path;
            let at = place(&commits[number], hit, false);
            flip(&path, at + 45);
            let dropped_bytes = commits[number][hit].len() as u64 + 40;
            let backup = path.with_extension("log.broken");
            let expected =
                |backup| Repair { fault: corrupt(&path, at, CHECKSUM), dropped_bytes, backup: Some(backup) };
            assert_eq!(repaired(&scratch, &[&path]), [expected(backup)], "{number} {hit}");
            let [f, g, finished, dead] = left;
            let found = inspected(&scratch).stats().expect("whole");
            assert_eq!(found, stats(3, bytes_of(&scratch), f, g, finished, dead), "{number} {hit}");
        }
    }
}

#[test]
fn a_repair_goes_on_at_the_next_header_and_keeps_each_file_it_changed() {
    let commits = commits();
    let scratch = Scratch::new("inspect-again");
    let path = store(&scratch, true).remove(1).path;
    // The header of a commit is gone: where the next one begins, its own says.
    let at = place(&commits[1], 1, false);
    flip(&path, at + 10);
    let backup = |number: &str| Some(path.with_extension(format!("log.broken{number}")));
    let dropped_bytes = commits[1][1].len() as u64 + 40;
    let fault = corrupt(&path, at, "the header of a commit");
    assert_eq!(repaired(&scratch, &[&path]), [Repair { fault, dropped_bytes, backup: backup("") }]);
    // Then the last of two commits: all that is behind its header.
    let first = fs::read(path.with_extension("log.broken")).expect("kept");
    flip(&path, fs::metadata(&path).expect("it is there").len() - 1);
    let again = repaired(&scratch, &[&path]);
    assert_eq!(again[0].backup, backup("-2"));
    assert_eq!(fs::read(path.with_extension("log.broken")).expect("kept"), first);
    // And its header: everything.
    flip(&path, 50);
    let length = fs::metadata(&path).expect("it is there").len();
    let fault = corrupt(&path, 0, "the header of the file");
    assert_eq!(repaired(&scratch, &[&path]), [Repair { fault, dropped_bytes: length, backup: backup("-3") }]);
}

#[test]
fn a_repair_keeps_a_commit_that_follows_another_one() {
    let scratch = Scratch::new("inspect-misplaced");
    let (segment, end) = write(&scratch.0, 1, Mark::default(), &[&bytes(&[registered("f")])]);
    let mut file = fs::read(&segment.path).expect("readable");
    let key = Key::new(file[28..44].first_chunk().expect("a key"));
    let mut frame = vec![0; 40];
    frame.extend(bytes(&[accepted("f", 1)]));
    segment::seal(&mut frame, &key, &Mark { frames: 2, tag: 9, ..end });
    file.extend(frame);
    fs::write(&segment.path, file).expect("writable");
    let head = Head { newest: 1, mark: end, closed: false };
    scratch.directory().set_format(&head).expect("writable");
    let fault = corrupt(&segment.path, end.bytes, "the order of the commits");
    let backup = Some(segment.path.with_extension("log.broken"));
    assert_eq!(repaired(&scratch, &[&segment.path]), [Repair { fault, dropped_bytes: 0, backup }]);
    let found = inspected(&scratch).stats().expect("whole");
    assert_eq!((found.functions, found.queued), (1, 1));
}

#[test]
fn a_repair_of_format_1_drops_all_behind_the_first_fault() {
    let commits = commits();
    for (number, hit, left) in [(0, 2, [1, 3, 2, 1]), (1, 1, [2, 2, 1, 1]), (2, 1, [4, 2, 1, 0])] {
        let scratch = Scratch::new("inspect-old");
        let path = old_store(&scratch).remove(number);
        let at = place(&commits[number], hit, true);
        let dropped_bytes = fs::metadata(&path).expect("it is there").len() - at;
        flip(&path, at + 20);
        let backup = Some(path.with_extension("log.broken"));
        let fault = corrupt(&path, at, CHECKSUM);
        assert_eq!(repaired(&scratch, &[&path]), [Repair { fault, dropped_bytes, backup }]);
        assert_eq!(scratch.directory().format().expect("readable"), directory::FORMAT);
        let [f, g, finished, dead] = left;
        let found = inspected(&scratch).stats().expect("whole");
        assert_eq!(found, stats(3, bytes_of(&scratch), f, g, finished, dead), "{number} {hit}");
    }
}

#[test]
fn a_repair_of_a_compacted_file_leaves_the_next_one_linked() {
    let scratch = Scratch::new("inspect-compacted");
    let segments = store(&scratch, true);
    let path =
        compaction::compact(&scratch.directory(), &segments[..2], &Index::default()).expect("whole").path;
    assert_eq!(inspected(&scratch).verify().expect("readable"), []);
    flip(&path, 128 + 45);
    let repairs = repaired(&scratch, &[&path]);
    assert_eq!(repairs.iter().map(|repair| &repair.fault.path).collect::<Vec<_>>(), [&path]);
}

#[test]
fn a_file_that_names_another_end_is_linked_anew() {
    let scratch = Scratch::new("inspect-unlinked");
    let mut segments = store(&scratch, true);
    compaction::compact(&scratch.directory(), &segments[..2], &Index::default()).expect("whole");
    let third = segments.remove(2);
    // The third one is put in the place of one that stood behind something else.
    let frames = commits().into_iter().nth(2).expect("three");
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let (_, end) = write(&scratch.0, 3, Mark { bytes: 700, frames: 3, tag: 9 }, &frames);
    let head = Head { newest: 3, mark: end, closed: true };
    scratch.directory().set_format(&head).expect("writable");
    let fault = corrupt(&third.path, 0, "what it says about the end of the file before");
    assert_eq!(inspected(&scratch).verify().expect("readable"), std::slice::from_ref(&fault));
    let backup = Some(third.path.with_extension("log.broken"));
    let repairs = repaired(&scratch, &[&third.path]);
    assert_eq!(repairs, [Repair { fault, dropped_bytes: 0, backup }]);
    let found = inspected(&scratch).stats().expect("whole");
    assert_eq!(found, stats(2, bytes_of(&scratch), 2, 3, 2, 1));
}

#[test]
fn a_head_that_is_gone_or_broken_is_written_anew() {
    let scratch = Scratch::new("inspect-head");
    store(&scratch, false);
    let path = scratch.0.join(head::FILE);
    fs::remove_file(&path).expect("it was there");
    for what in ["the file, which is missing,", "what it says about the newest file"] {
        let fault = corrupt(&path, 0, what);
        assert!(
            matches!(inspected(&scratch).stats(), Err(StoreError::Corrupt { path: found, .. }) if found == path)
        );
        assert_eq!(repaired(&scratch, &[]), [Repair { fault, dropped_bytes: 0, backup: None }]);
        assert_eq!(inspected(&scratch).stats().expect("whole"), stats(3, bytes_of(&scratch), 2, 3, 2, 1));
        flip(&path, 9);
    }
}

#[test]
fn what_head_knew_of_a_file_that_is_mended_is_forgotten() {
    let scratch = Scratch::new("inspect-known");
    // Each is a commit of its own in the new file as well.
    let mut long = bytes(&[ended("f", 1, false)]).repeat((1 << 20) / 40);
    long.splice(0..0, bytes(&[accepted("f", 1)]));
    let short = bytes(&[accepted("f", 2)]);
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[&long, &short, &long]);
    let Opened::Keyed(file, header) = segment::open(&*scratch.directory().files, &segment).expect("readable")
    else {
        panic!("it has a header")
    };
    let (key, start) = (Key::new(&header.key), header.start());
    let mut reader = Reader { file: &*file, offset: start.bytes };
    let first = read_frame(&mut reader, &key, &start, segment.bytes - start.bytes).expect("readable");
    let Frame::Whole(_, mark) = first else { panic!("it is whole") };
    scratch.directory().set_format(&Head { newest: 1, mark, closed: false }).expect("writable");
    flip(&segment.path, mark.bytes + 45);
    let dropped_bytes = short.len() as u64 + 40;
    let backup = Some(segment.path.with_extension("log.broken"));
    let fault = corrupt(&segment.path, mark.bytes, CHECKSUM);
    assert_eq!(repaired(&scratch, &[&segment.path]), [Repair { fault, dropped_bytes, backup }]);
}
