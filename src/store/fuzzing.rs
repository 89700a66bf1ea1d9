//! Readers of what a disk gives back, as fuzz targets: records, and the frames that they stand in.

use shard_core::{Record, Recovery};

use super::{
    codec::{self, kind},
    segment::{self, FRAME_HEADER_BYTES, Frame},
};

/// What is read as a record is the same after it was written again, byte by byte, and may come after any other.
pub(crate) fn record(bytes: &[u8]) -> Result<(), String> {
    let mut recovery = Recovery::default();
    let mut written = Vec::new();
    for record in codec::split(bytes) {
        let Some(record) = record else { break };
        let Some(decoded) = codec::decode(record) else { continue };
        let Some((kind, _)) = codec::subject(record) else {
            return Err(format!("{decoded:?} is about nothing"));
        };
        if kind == kind::ACCEPTED && codec::function_of(record).is_none() {
            return Err(format!("{decoded:?} is of no function"));
        }
        written.clear();
        codec::encode(&decoded, &mut written);
        let again = written.get(4..).unwrap_or_default();
        // A function's document may have been written by another version, in other words.
        let is_same = match decoded {
            Record::Registered { .. } | Record::Reinstated { .. } => {
                codec::decode(again).as_ref() == Some(&decoded)
            }
            _ => again == record,
        };
        if !is_same {
            return Err(format!("{decoded:?} was {record:?} and becomes {again:?}"));
        }
        recovery.apply(decoded);
    }
    let kept = recovery.functions() + recovery.executions();
    match recovery.into_stored().count() {
        count if count == kept => Ok(()),
        count => Err(format!("{kept} things were added up, and {count} come out")),
    }
}

/// Frames are as long as they say, are what they were when they are sealed again, and what is whole behind a damage is
/// found. What is sealed is read.
pub(crate) fn frames(bytes: &[u8]) -> Result<(), String> {
    let (mut at, mut number) = (0, 0);
    loop {
        let mut rest = bytes.get(at..).unwrap_or_default();
        let left = rest.len() as u64;
        match segment::read_frame(&mut rest, number, left).map_err(|error| error.to_string())? {
            Frame::End => break,
            Frame::Whole(records) => {
                let end = at + FRAME_HEADER_BYTES + records.len();
                if bytes.get(at..end) != Some(&sealed(&records, number)) {
                    return Err(format!("frame {number} at {at} is not what was sealed"));
                }
                (at, number) = (end, number + 1);
            }
            Frame::Broken(what) => {
                if let Some((found, next)) = segment::find_frame(bytes, at + 1, number + 1)
                    && (found <= at || next <= number)
                {
                    return Err(format!(
                        "{what} is broken at {at}, and frame {next} at {found} comes after it"
                    ));
                }
                break;
            }
        }
    }
    let one = sealed(bytes, number);
    match segment::read_frame(&mut &one[..], number, one.len() as u64) {
        Ok(Frame::Whole(records)) if records == bytes => {}
        _ => return Err("what was sealed cannot be read".to_owned()),
    }
    // Behind something broken, and with the number of a later frame.
    let behind = [&[0xff; 5][..], &one].concat();
    match segment::find_frame(&behind, 0, number) {
        Some((at, _)) if at <= 5 => Ok(()),
        found => Err(format!("a whole frame behind broken bytes is found at {found:?}")),
    }
}

fn sealed(records: &[u8], number: u64) -> Vec<u8> {
    let mut frame = [&[0; FRAME_HEADER_BYTES][..], records].concat();
    segment::seal(&mut frame, number);
    frame
}
