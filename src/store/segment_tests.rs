//! What is torn and what is corrupt.

use super::*;

/// A directory of the test's own, removed with it.
pub(in crate::store) struct Scratch(pub(in crate::store) PathBuf);

impl Scratch {
    pub(in crate::store) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("nanofaas-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A segment with these records, one frame each.
pub(in crate::store) fn write(directory: &Path, number: u64, frames: &[&[u8]]) -> Segment {
    let (mut file, path) = create(directory, number, number).expect("a segment");
    let mut bytes = HEADER_BYTES;
    for (frame_number, records) in (0..).zip(frames) {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(records);
        seal(&mut frame, frame_number);
        file.write_all(&frame).expect("written");
        bytes += frame.len() as u64;
    }
    Segment { path, first: number, last: number, bytes }
}

/// Frames that can be read, and how that ends.
fn outcome(segment: &Segment) -> (usize, ReadEnd) {
    let mut frames = 0;
    let bytes = std::fs::metadata(&segment.path).expect("a file").len();
    let end = read(&Segment { bytes, ..segment.clone() }, |_, _| {
        frames += 1;
        Ok(())
    });
    (frames, end.expect("readable"))
}

#[test]
fn a_cut_anywhere_is_torn() {
    let scratch = Scratch::new("cut");
    let segment = write(&scratch.0, 1, &[b"one", b"", b"three"]);
    assert_eq!(outcome(&segment), (3, ReadEnd::Whole));
    let bytes = std::fs::read(&segment.path).expect("readable");
    // Where a frame ends, nothing is missing that anybody could know of.
    let ends = [HEADER_BYTES as usize, HEADER_BYTES as usize + 19, HEADER_BYTES as usize + 35, bytes.len()];
    for length in 0..bytes.len() {
        std::fs::write(&segment.path, &bytes[..length]).expect("writable");
        let (frames, end) = outcome(&segment);
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(frames, whole.saturating_sub(1), "{length}");
        match end {
            ReadEnd::Whole => assert!(ends.contains(&length), "{length}"),
            ReadEnd::Damaged(damage) => assert!(damage.is_last && damage.offset <= length as u64, "{length}"),
        }
    }
}

#[test]
fn a_flipped_bit_is_corrupt_unless_nothing_comes_after_it() {
    let scratch = Scratch::new("flip");
    let segment = write(&scratch.0, 1, &[b"one", b"two", b"three"]);
    let bytes = std::fs::read(&segment.path).expect("readable");
    let last = HEADER_BYTES as usize + 2 * 19;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            std::fs::write(&segment.path, &changed).expect("writable");
            if (8..12).contains(&at) {
                let refused = read(&segment, |_, _| Ok(()));
                assert!(matches!(refused, Err(StoreError::Format { .. })), "{refused:?}");
                continue;
            }
            let (_, end) = outcome(&segment);
            let ReadEnd::Damaged(damage) = end else { panic!("bit {bit} of byte {at} is not noticed") };
            assert_eq!(damage.is_last, at >= last, "bit {bit} of byte {at}");
            assert!(damage.offset <= at as u64);
        }
    }
}

#[test]
fn a_segment_that_was_being_created_is_torn() {
    let scratch = Scratch::new("created");
    let segment = write(&scratch.0, 1, &[]);
    // The length was on disk, what belongs there was not.
    std::fs::write(&segment.path, [0; HEADER_BYTES as usize]).expect("writable");
    let (_, end) = outcome(&segment);
    assert!(matches!(end, ReadEnd::Damaged(Damage { offset: 0, is_last: true, .. })), "{end:?}");
    std::fs::write(&segment.path, [0; HEADER_BYTES as usize + 1]).expect("writable");
    let (_, end) = outcome(&segment);
    assert!(matches!(end, ReadEnd::Damaged(Damage { offset: 0, is_last: false, .. })), "{end:?}");
}

#[test]
fn a_replaced_segment_is_left_out_and_a_missing_one_noticed() {
    let scratch = Scratch::new("list");
    for number in 1..=4 {
        write(&scratch.0, number, &[b"x"]);
    }
    std::fs::copy(scratch.0.join(file_name(1, 1)), scratch.0.join(file_name(1, 3))).expect("copied");
    std::fs::write(scratch.0.join("0000000001-0000000004.log.new"), "half").expect("written");
    let segments = list(&scratch.0).expect("nothing is missing");
    let ranges = |segments: &[Segment]| -> Vec<(u64, u64)> {
        segments.iter().map(|segment| (segment.first, segment.last)).collect()
    };
    assert_eq!(ranges(&segments), [(1, 3), (4, 4)]);
    remove_leftovers(&scratch.0, &segments).expect("removed");
    assert_eq!(std::fs::read_dir(&scratch.0).expect("a directory").count(), 2);
    write(&scratch.0, 6, &[b"x"]);
    assert!(matches!(list(&scratch.0), Err(StoreError::Missing { path }) if path.ends_with(file_name(5, 5))));
}
