//! What is read of `HEAD`, and where each segment has to end by it and by its neighbours.

use std::fs;

use super::*;
use crate::{
    files::OsFiles,
    format1::tests::{frames, log},
    segment::tests::{Scratch, write},
};

fn mark(frames: u64) -> Mark {
    Mark { bytes: 1000 + frames, frames, tag: 7 + frames }
}

/// A segment without frames that says this.
fn begun(
    scratch: &Scratch,
    numbers: (u64, u64),
    before: Mark,
    replaced: Option<Mark>,
    end: Option<Mark>,
) -> Mark {
    let header = Header { first: numbers.0, last: numbers.1, key: [7; 16], before, replaced, end };
    segment::create(&OsFiles, &scratch.0, &header).expect("writable");
    header.start()
}

/// Where each segment has to end, and whether it names another end of the one before than that has.
fn linked(scratch: &Scratch, head: Option<Head>) -> Result<Vec<(Expected, bool)>, StoreError> {
    let mut segments = list(&OsFiles, &scratch.0)?;
    link(&OsFiles, &scratch.0, &mut segments, head.as_ref())?;
    Ok(segments.iter().map(|segment| (segment.expected, segment.unlinked)).collect())
}

#[test]
fn a_head_that_is_missing_is_told_from_one_that_cannot_be_read() {
    let scratch = Scratch::new("head");
    let path = scratch.0.join(FILE);
    assert!(
        matches!(Head::read(&OsFiles, &scratch.0), Err(StoreError::Missing { path: found }) if found == path)
    );
    fs::create_dir(&path).expect("writable");
    assert!(matches!(Head::read(&OsFiles, &scratch.0), Err(StoreError::Read { .. })));
    fs::remove_dir(&path).expect("writable");
    let head = Head { newest: 3, mark: mark(9), closed: true };
    head.write(&OsFiles, &scratch.0).expect("writable");
    assert_eq!(Head::read(&OsFiles, &scratch.0).expect("whole"), head);
    let text = fs::read(&path).expect("readable");
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).expect("writable");
        assert!(matches!(Head::read(&OsFiles, &scratch.0), Err(StoreError::Corrupt { .. })), "{at}");
    }
}

#[test]
fn only_canonical_names_are_those_of_segments() {
    assert_eq!(numbers("0000000001-0000000001.log"), Some((1, 1)));
    assert_eq!(numbers("0000000001-0000000003.log"), Some((1, 3)));
    for name in [
        "0000000003-0000000001.log",
        "1-3.log",
        "0000000001-000000003.log",
        "+000000001-0000000003.log",
        "0000000001-0000000003.log.new",
        "0000000001-0000000003.log.broken",
    ] {
        assert_eq!(numbers(name), None, "{name}");
    }
}

#[test]
fn only_the_newest_file_of_format_1_may_be_torn() {
    let scratch = Scratch::new("head-old");
    for number in 1..=3 {
        let path = scratch.0.join(segment::file_name(number, number));
        fs::write(path, log(number, &frames(&[b"x"]))).expect("writable");
    }
    let newest = Expected::AtLeast(Mark::default());
    let anything = (Expected::Anything, false);
    assert_eq!(linked(&scratch, None).expect("whole"), [anything, anything, (newest, false)]);
    // One with a key in front of them or behind them: nothing is known of its own end without `HEAD`.
    let (_, end) = write(&scratch.0, 4, Mark::default(), &[b"x"]);
    let before = (Expected::Exactly(Mark::default()), false);
    assert_eq!(linked(&scratch, None).expect("whole"), [anything, anything, before, anything]);
    // With it, files of format 1 have their successors' word or none.
    let head = Head { newest: 4, mark: end, closed: false };
    let expected = [anything, anything, before, (Expected::AtLeast(end), false)];
    assert_eq!(linked(&scratch, Some(head)).expect("whole"), expected);
}

#[test]
fn a_segment_that_was_begun_and_never_used_says_what_was_on_disk_before() {
    // Frames that `HEAD` knows of, and that were there when the next segment was begun.
    for (known, begun_at, expected) in [(2, 5, mark(5)), (5, 2, mark(5)), (0, 1, mark(1))] {
        let scratch = Scratch::new("head-begun");
        begun(&scratch, (1, 1), Mark::default(), None, None);
        begun(&scratch, (2, 2), mark(begun_at), None, None);
        for (closed, expected) in [(false, Expected::AtLeast(expected)), (true, Expected::Exactly(expected))]
        {
            let head = Head { newest: 1, mark: mark(known), closed };
            assert_eq!(
                linked(&scratch, Some(head)).expect("whole"),
                [(expected, false)],
                "{known} {begun_at}"
            );
        }
        // `HEAD` names it: it is the newest.
        let head = Head { newest: 2, mark: mark(known), closed: false };
        let found = linked(&scratch, Some(head)).expect("whole");
        let expected = [Expected::Exactly(mark(begun_at)), Expected::AtLeast(mark(known))];
        assert_eq!(found[0], (expected[0], false));
        // It is not the first, so what it says of the one before is not looked at here.
        assert_eq!(found[1], (expected[1], false));
        // Nor does `HEAD` fall behind by more.
        assert!(matches!(
            linked(&scratch, Some(Head { newest: 0, ..head })),
            Err(StoreError::Corrupt { .. })
        ));
        assert!(matches!(
            linked(&scratch, Some(Head { newest: 3, ..head })),
            Err(StoreError::Missing { .. })
        ));
    }
    // As many frames, and another file: what `HEAD` says counts.
    let scratch = Scratch::new("head-begun");
    begun(&scratch, (1, 1), Mark::default(), None, None);
    begun(&scratch, (2, 2), Mark { tag: 1, ..mark(2) }, None, None);
    let head = Head { newest: 1, mark: mark(2), closed: false };
    assert_eq!(linked(&scratch, Some(head)).expect("whole"), [(Expected::AtLeast(mark(2)), false)]);
}

#[test]
fn who_names_another_end_of_the_segment_before_is_unlinked() {
    let (own, replaced) = (mark(8), mark(5));
    // What stands behind a compacted segment names its end, or that of the one that was replaced.
    for (named, is_unlinked) in [(own, false), (replaced, false), (mark(6), true), (Mark::default(), true)] {
        let scratch = Scratch::new("head-unlinked");
        begun(&scratch, (1, 2), Mark::default(), Some(replaced), Some(own));
        let start = begun(&scratch, (3, 3), named, None, None);
        let head = Head { newest: 3, mark: start, closed: true };
        let expected = [(Expected::Exactly(own), false), (Expected::Exactly(start), is_unlinked)];
        assert_eq!(linked(&scratch, Some(head)).expect("whole"), expected, "{named:?}");
    }
    // `HEAD` knows of what was there before the compaction, or of more.
    for (known, closed, is_unlinked) in [
        (mark(4), false, false),
        (mark(5), false, false),
        (mark(8), false, false),
        (mark(9), false, true),
        (mark(4), true, true),
        (replaced, true, false),
        (own, true, false),
    ] {
        let scratch = Scratch::new("head-unlinked");
        begun(&scratch, (1, 2), Mark::default(), Some(replaced), Some(own));
        let head = Head { newest: 2, mark: known, closed };
        let expected = [(Expected::Exactly(own), is_unlinked)];
        assert_eq!(linked(&scratch, Some(head)).expect("whole"), expected, "{known:?} {closed}");
    }
    // Nothing stands in front of the first one.
    let scratch = Scratch::new("head-unlinked");
    let start = begun(&scratch, (1, 1), mark(1), None, None);
    let head = Head { newest: 1, mark: start, closed: true };
    assert_eq!(linked(&scratch, Some(head)).expect("whole"), [(Expected::Exactly(start), true)]);
}
