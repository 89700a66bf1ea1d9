//! What the index says after records, copies and replacements.

use std::path::PathBuf;

use shard_core::Record;

use super::*;
use crate::{
    codec::tests::{codec, owned},
    disk::{accepted, ended, id},
    segment::Expected,
};

fn segment(first: u64, last: u64) -> Segment {
    let path = PathBuf::from(format!("{first}-{last}"));
    Segment { path, first, last, bytes: 0, expected: Expected::Anything, unlinked: false }
}

fn frame(records: &[Record]) -> Vec<u8> {
    let mut frame = Vec::new();
    records.iter().for_each(|record| assert!(codec().encode(&owned(record.clone()), &mut frame)));
    frame
}

/// The file, the frame and the record.
fn place(index: &Index, number: u8) -> Option<(u64, u64, usize)> {
    index.find(id(number)).map(|(location, file)| (file.last, location.frame(), location.record()))
}

fn forgotten(number: u8) -> Record {
    Record::Forgotten { id: id(number) }
}

#[test]
fn the_newest_end_counts_until_it_is_forgotten_or_replayed() {
    let index = Index::default();
    let first = index.file(&segment(1, 1));
    let before = frame(&[accepted(1)]).len();
    index.note(first, 128, &frame(&[accepted(1), ended(1), ended(2)]));
    assert_eq!(place(&index, 1), Some((1, 128, before)));
    let second = before + frame(&[ended(1)]).len();
    assert_eq!(place(&index, 2), Some((1, 128, second)));
    assert_eq!((place(&index, 3), index.len()), (None, 2));
    let other = index.file(&segment(2, 2));
    // As far behind as a place can be told.
    index.note(other, (1 << 48) - 1, &frame(&[ended(2)]));
    assert_eq!(place(&index, 2), Some((2, (1 << 48) - 1, 0)));
    index.note(other, 500, &frame(&[forgotten(1), Record::Purged { id: id(2) }, forgotten(3)]));
    assert_eq!((place(&index, 1), index.len()), (None, 1));
    // It is a dead letter no more, and has its end.
    assert!(place(&index, 2).is_some());
    index.note(other, 600, &frame(&[Record::Replayed { id: id(2), at_ms: 1 }, ended(1), forgotten(1)]));
    assert_eq!((place(&index, 1), place(&index, 2), index.len()), (None, None, 0));
    index.note(other, 700, &frame(&[forgotten(4), ended(4)]));
    assert!(place(&index, 4).is_some());
    // In a file that has no number it cannot be found, and nothing older is.
    index.note(None, 800, &frame(&[ended(4)]));
    assert_eq!((place(&index, 4), index.len()), (None, 0));
}

#[test]
fn what_became_of_an_end_while_it_was_copied_counts() {
    let index = Index::default();
    let [first, third] = [1, 3].map(|number| index.file(&segment(number, number)));
    index.note(first, 128, &frame(&[ended(1), ended(2), ended(3), ended(4), ended(5)]));
    let all = [1, 2, 3, 4].map(|number| (id(number), index.find(id(number)).expect("it is there").0));
    let copied: Vec<Copied> = (1..)
        .zip(all)
        .map(|(number, (id, from))| Copied {
            id,
            from,
            to: Location::new(from.file, 1000 * u64::from(number), number),
        })
        .collect();
    // Meanwhile one is forgotten, one has another end, and one is not copied.
    index.note(third, 128, &frame(&[forgotten(2), ended(3)]));
    let (from, _) = index.find(id(5)).expect("it is there");
    index.dropped(id(5), from);
    index.replaced(&segment(1, 2), &copied);
    let places = [1, 2, 3, 4, 5].map(|number| place(&index, number));
    let third_at = frame(&[forgotten(2)]).len();
    assert_eq!(places, [Some((2, 1000, 1)), None, Some((3, 128, third_at)), Some((2, 4000, 4)), None]);
    assert_eq!(index.len(), 3);
    // One that has another end by now is not dropped with an older one.
    index.dropped(id(3), from);
    assert!(place(&index, 3).is_some());
    // The number of the file that is gone is another one's now.
    assert_eq!(index.file(&segment(4, 4)), first);
    assert_eq!(place(&index, 1), Some((2, 1000, 1)));
    // The file in which everything is in the end takes the place of one that was made in the same way.
    index.replaced(&segment(1, 3), &[]);
    assert_eq!(place(&index, 1), None, "nobody has said where it is");
}

#[test]
fn a_million_entries_take_as_many_bytes_as_it_says() {
    assert_eq!(size_of::<(ExecutionId, Location)>(), 28);
    let index = Index::default();
    let file = index.file(&segment(1, 1)).expect("a number");
    let random = |number: u64| {
        let mut state = number;
        let mut bits = || {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).to_le_bytes()
        };
        ExecutionId::new([bits(), bits()].concat().try_into().expect("sixteen bytes"), 7)
    };
    let bytes = |index: &Index| {
        // A table of so many entries has 8/7 of the places, or 8 for 7.
        let places = |table: &Table| table.capacity().div_ceil(7) * 8;
        index.0.lock().tables.iter().map(|table| places(table) * 29).sum::<usize>()
    };
    let count = 200_000;
    for number in 0..count {
        index.0.lock().insert(random(number), Location::new(file, number, 0));
        if number == count / 2 {
            let each = bytes(&index) / index.len();
            assert!((33..=75).contains(&each), "{each} bytes");
        }
    }
    assert_eq!(index.len() as u64, count);
    let each = bytes(&index) / index.len();
    assert!((33..=75).contains(&each), "{each} bytes");
    assert!((0..count).all(|number| index.find(random(number)).is_some_and(|(at, _)| at.frame() == number)));
    // Most of them go, and their memory with them.
    (100..count).for_each(|number| index.0.lock().remove(random(number)));
    assert_eq!(index.len(), 100);
    assert!(bytes(&index) < 1 << 20, "{} bytes", bytes(&index));
    assert!((0..100).all(|number| index.find(random(number)).is_some()));
}
