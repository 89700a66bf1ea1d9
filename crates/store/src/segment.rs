//! Segments: the files of the log, one after the other.
//!
//! A segment is a header and frames. The header carries a random key, which is in every checksum of the file, and names
//! the end of the segment before: where it is, and the tag of its last frame. A frame is what one commit wrote: its own header
//! (length, number, checksum of its records, tag of the frame before, tag of all this and of its place in the file) and
//! records (`codec`). It was on disk before the next one was begun, and a segment before the next one was; `HEAD` (`head`)
//! names the newest segment, and what was known to be on disk of it.
//!
//! So what is broken is *corrupt*, unless a power failure explains it: in the newest segment, behind what `HEAD` knows of,
//! with no frame behind it, and with bytes missing (`torn`). That is *torn*. No payload is ever searched for frames: a header
//! says by itself that it is one, and how long its frame is.
//!
//! `0000000003-0000000007.log` takes the place of segments 3 to 7: compaction made one of them, with the end that
//! segment 8 names for that of 7. Files of format 1 are read by `format1`.

use std::{
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    StoreError,
    checksum::Key,
    directory::FORMAT,
    files::{File, Files, Reader},
    format1,
    torn::{find_header, looks_torn},
};

pub(super) const MAGIC: &[u8; 8] = b"nanofaas";
/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: u64 = 128;
/// The part of it that is fixed before the first frame: tags of frames go back to it.
const IDENTITY_BYTES: usize = 92;
/// Bytes in front of a frame's records.
pub(super) const FRAME_HEADER_BYTES: usize = 40;
/// No frame is longer: a commit takes what is pending, which is bounded far below.
pub(super) const FRAME_BYTES_MAX: u64 = 1 << 30;

/// A place between two frames of a segment. Two segments do not have the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes before it.
    pub(super) bytes: u64,
    /// Frames before it.
    pub(super) frames: u64,
    /// Tag of the last one of them; without one, of the segment.
    pub(super) tag: u64,
}

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// First and last of the numbers that it stands for.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) key: [u8; 16],
    /// The end of the segment before. Nothing, for the first one.
    pub(super) before: Mark,
    /// The end that the next segment names instead of this one's own: compaction replaced that file.
    pub(super) replaced: Option<Mark>,
    /// The end, of a segment that was whole before it got its name.
    pub(super) end: Option<Mark>,
}

impl Header {
    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = self.unsigned();
        let tag = Key::new(&self.key).tag(&bytes[..120]);
        bytes[120..].copy_from_slice(&tag.to_le_bytes());
        bytes
    }

    fn unsigned(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.first.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.last.to_le_bytes());
        bytes[28..44].copy_from_slice(&self.key);
        for (at, mark) in
            [(44, self.before), (68, self.replaced.unwrap_or_default()), (92, self.end.unwrap_or_default())]
        {
            for (number, value) in [mark.bytes, mark.frames, mark.tag].into_iter().enumerate() {
                let at = at + number * 8;
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Header> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let mark = |at| Some(Mark { bytes: number(at)?, frames: number(at + 8)?, tag: number(at + 16)? });
        let some = |mark: Mark| (mark != Mark::default()).then_some(mark);
        let header = Header {
            first: number(12)?,
            last: number(20)?,
            key: *bytes.get(28..)?.first_chunk()?,
            before: mark(44)?,
            replaced: some(mark(68)?),
            end: some(mark(92)?),
        };
        (header.bytes() == bytes).then_some(header)
    }

    /// The place in front of its first frame.
    pub(super) fn start(&self) -> Mark {
        let tag = Key::new(&self.key).tag(&self.unsigned()[..IDENTITY_BYTES]);
        Mark { bytes: HEADER_BYTES, frames: 0, tag }
    }
}

/// Fills in the header of a frame whose records stand behind room for it. Returns the place behind it.
pub(super) fn seal(frame: &mut [u8], key: &Key, at: &Mark) -> Mark {
    let length = (frame.len() - FRAME_HEADER_BYTES) as u32;
    let body = key.body(&frame[FRAME_HEADER_BYTES..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].fill(0);
    frame[8..16].copy_from_slice(&at.frames.to_le_bytes());
    frame[16..24].copy_from_slice(&body.to_le_bytes());
    frame[24..32].copy_from_slice(&at.tag.to_le_bytes());
    let tag = frame_tag(key, at.bytes, &frame[..32]);
    frame[32..40].copy_from_slice(&tag.to_le_bytes());
    Mark { bytes: at.bytes + frame.len() as u64, frames: at.frames + 1, tag }
}

fn frame_tag(key: &Key, offset: u64, numbers: &[u8]) -> u64 {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..].copy_from_slice(numbers);
    key.tag(&bytes)
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) number: u64,
    body: u64,
    /// Tag of the frame before.
    pub(super) before: u64,
    tag: u64,
}

impl FrameHeader {
    /// `None`: it is none, or does not belong there.
    pub(super) fn read(bytes: &[u8; FRAME_HEADER_BYTES], key: &Key, offset: u64) -> Option<FrameHeader> {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        let header = FrameHeader {
            length: u32::from_le_bytes(*bytes.first_chunk()?),
            number: number(8),
            body: number(16),
            before: number(24),
            tag: number(32),
        };
        (frame_tag(key, offset, &bytes[..32]) == header.tag).then_some(header)
    }

    /// The place behind its frame.
    fn next(&self, offset: u64) -> Mark {
        let bytes = offset + FRAME_HEADER_BYTES as u64 + u64::from(self.length);
        Mark { bytes, frames: self.number + 1, tag: self.tag }
    }
}

/// What comes next in a segment.
pub(super) enum Frame {
    /// A frame's records, and the place behind it.
    Whole(Vec<u8>, Mark),
    /// What is wrong with it; where the next one begins, if that is certain.
    Broken(&'static str, Option<Mark>),
    End,
}

/// Reads a frame. `left`: bytes up to the end of the file; no more is allocated.
pub(super) fn read_frame(file: &mut impl Read, key: &Key, at: &Mark, left: u64) -> io::Result<Frame> {
    let mut head = [0; FRAME_HEADER_BYTES];
    if left == 0 {
        return Ok(Frame::End);
    }
    if left < head.len() as u64 {
        return Ok(Frame::Broken("the header of a commit", None));
    }
    file.read_exact(&mut head)?;
    let Some(header) = FrameHeader::read(&head, key, at.bytes) else {
        return Ok(Frame::Broken("the header of a commit", None));
    };
    if header.number != at.frames || header.before != at.tag {
        return Ok(Frame::Broken("the order of the commits", None));
    }
    if u64::from(header.length) > left - head.len() as u64 {
        return Ok(Frame::Broken("the length of a commit", None));
    }
    let mut records = vec![0; header.length as usize];
    file.read_exact(&mut records)?;
    let next = header.next(at.bytes);
    if key.body(&records) != header.body {
        return Ok(Frame::Broken("the checksum of a commit", Some(next)));
    }
    Ok(Frame::Whole(records, next))
}

/// Reads the records of the frame at a place of an opened segment, whatever stands before it. Inside: what is wrong with it.
pub(super) fn read_frame_at(
    opened: &Opened,
    segment: &Segment,
    offset: u64,
) -> io::Result<Result<Vec<u8>, &'static str>> {
    let (file, header) = match opened {
        Opened::Keyed(file, header) => (file, header),
        Opened::Old(file) => return format1::read_frame_at(&**file, segment, offset),
        Opened::Headless(_) => return Ok(Err("the header of the file")),
    };
    let (key, mut reader) = (Key::new(&header.key), Reader { file: &**file, offset });
    let mut head = [0; FRAME_HEADER_BYTES];
    reader.read_exact(&mut head)?;
    let Some(header) = FrameHeader::read(&head, &key, offset) else {
        return Ok(Err("the header of a commit"));
    };
    // It was written, so it has a bound.
    let mut records = vec![0; header.length as usize];
    reader.read_exact(&mut records)?;
    Ok(if key.body(&records) == header.body { Ok(records) } else { Err("the checksum of a commit") })
}

/// What is known of where a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing.
    Anything,
    /// It ends here.
    Exactly(Mark),
    /// It is the newest one; up to here it was on disk, and what comes behind may be torn.
    AtLeast(Mark),
}

/// Where a segment is and which part of the log it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// First and last of the numbers that it stands for.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    pub(super) expected: Expected,
    /// It names another end of the segment before than that has.
    pub(super) unlinked: bool,
}

/// The file name of a segment.
pub(super) fn file_name(first: u64, last: u64) -> String {
    format!("{first:010}-{last:010}.log")
}

/// Creates a segment, on disk when it returns. It gets its name when its header is.
pub(super) fn create(
    files: &dyn Files,
    directory: &Path,
    header: &Header,
) -> io::Result<(Box<dyn File>, PathBuf)> {
    let path = directory.join(file_name(header.first, header.last));
    let new = path.with_added_extension("new");
    let mut file = files.create(&new)?;
    file.write_at(&header.bytes(), 0)?;
    file.sync()?;
    files.rename(&new, &path)?;
    files.sync_directory(directory)?;
    Ok((file, path))
}

/// What is wrong at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: u64,
    pub(super) what: &'static str,
    /// A power failure explains it.
    pub(super) is_torn: bool,
}

impl Damage {
    /// As an error.
    pub(super) fn corrupt(&self, segment: &Segment) -> StoreError {
        StoreError::Corrupt { path: segment.path.clone(), offset: self.offset, what: self.what }
    }
}

/// How reading a segment ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// With its last frame, here.
    Whole(Mark),
    /// At a frame that is not whole. The place before it.
    Damaged(Damage, Mark),
}

/// An opened segment.
pub(super) enum Opened {
    Old(Box<dyn File>),
    Keyed(Box<dyn File>, Header),
    /// Its header is not what was written.
    Headless(Box<dyn File>),
}

/// Opens a segment and reads its header.
///
/// # Errors
/// When it cannot be read, or has a format that this version does not know.
pub(super) fn open(files: &dyn Files, segment: &Segment) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::Read { path: segment.path.clone(), source };
    let file = files.open(&segment.path, false).map_err(failed)?;
    let mut head = Vec::new();
    Reader { file: &*file, offset: 0 }.take(HEADER_BYTES).read_to_end(&mut head).map_err(failed)?;
    let format = head.get(8..12).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_le_bytes);
    let is_ours = head.starts_with(MAGIC);
    if format1::is_header(&head, segment) {
        return Ok(Opened::Old(file));
    }
    if let Some(header) = Header::read(&head)
        && (header.first, header.last) == (segment.first, segment.last)
    {
        return Ok(Opened::Keyed(file, header));
    }
    match format {
        Some(found) if is_ours && found > FORMAT && head.len() as u64 == HEADER_BYTES => {
            Err(StoreError::Format { path: segment.path.clone(), found: found.to_string() })
        }
        _ => Ok(Opened::Headless(file)),
    }
}

/// Reads a segment frame by frame; `take` gets each one's offset and records.
///
/// # Errors
/// When the file cannot be read, has another format, or `take` fails.
pub(super) fn read(
    files: &dyn Files,
    segment: &Segment,
    mut take: impl FnMut(u64, Vec<u8>) -> Result<(), StoreError>,
) -> Result<ReadEnd, StoreError> {
    let failed = |source| StoreError::Read { path: segment.path.clone(), source };
    let corrupt =
        |what, at: Mark| Ok(ReadEnd::Damaged(Damage { offset: at.bytes, what, is_torn: false }, at));
    let (file, header) = match open(files, segment)? {
        Opened::Keyed(file, header) => (file, header),
        Opened::Old(file) => return format1::read(&*file, segment, take),
        Opened::Headless(file) => return format1::headless(&*file, segment).map_err(failed),
    };
    if segment.unlinked {
        return corrupt("what it says about the end of the file before", Mark::default());
    }
    let key = Key::new(&header.key);
    let (mut at, mut broken) = (header.start(), None);
    let mut reader = BufReader::with_capacity(1 << 20, Reader { file: &*file, offset: HEADER_BYTES });
    loop {
        if let Expected::AtLeast(mark) = segment.expected
            && at.frames == mark.frames
            && mark.frames > 0
            && at != mark
        {
            return corrupt("what was on disk already", at);
        }
        match read_frame(&mut reader, &key, &at, segment.bytes.saturating_sub(at.bytes)).map_err(failed)? {
            Frame::End => break,
            Frame::Whole(records, next) => {
                take(at.bytes, records)?;
                at = next;
            }
            Frame::Broken(what, next) => {
                broken = Some((what, next));
                break;
            }
        }
    }
    let (known, is_newest) = match segment.expected {
        Expected::Anything => (0, false),
        Expected::Exactly(end) => (end.frames, false),
        Expected::AtLeast(mark) => (mark.frames, true),
    };
    if let Some((what, next)) = broken {
        let is_torn = is_newest && at.frames >= known && {
            let behind = match next {
                Some(next) => next.bytes < segment.bytes,
                // Or here: who writes this file puts no commit into it that does not follow the one before.
                None => find_header(&*file, &key, at.bytes..segment.bytes, 0).map_err(failed)?.is_some(),
            };
            !behind && looks_torn(&*file, &key, &at, segment.bytes).map_err(failed)?
        };
        return Ok(ReadEnd::Damaged(Damage { offset: at.bytes, what, is_torn }, at));
    }
    match segment.expected {
        Expected::Exactly(end) if end != at => corrupt("the end of the file", at),
        Expected::AtLeast(mark) if at.frames < mark.frames => corrupt("the end of the file", at),
        _ => Ok(ReadEnd::Whole(at)),
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
pub(super) mod tests;
