//! Reads the result of an execution that has ended back from the log.
//!
//! A whole frame is read, and nothing is taken out of it that its checksum does not prove; the record has to be an end of that
//! very execution. What is in memory meanwhile is one frame: that of a compaction has 1 MiB and a record, that of a commit at most
//! what `writer` bounds a commit to.
//!
//! No file is kept open, or the disk would have no use of its removal. A compaction that removes one has said before where its
//! ends are now: whoever does not find the file looks again.

use std::{
    io::{
        ErrorKind::{NotFound, UnexpectedEof},
        Read,
    },
    sync::Arc,
};

use shard_core::{ExecutionId, Record, journal::End};

use super::{
    StoreError,
    codec::{self, Codec},
    files::{Files, Reader},
    index::Index,
    segment::{self, FRAME_HEADER_BYTES, Segment},
};

/// See the module.
pub(super) struct Lookup {
    files: Arc<dyn Files>,
    index: Arc<Index>,
    codec: Codec,
}

/// A result that is somewhere, and cannot be had.
#[derive(Debug)]
pub(super) struct Unread {
    /// Where the frame begins, in the file that the error names.
    pub(super) offset: u64,
    pub(super) error: StoreError,
}

impl Lookup {
    pub(super) fn new(files: Arc<dyn Files>, index: Arc<Index>, codec: Codec) -> Lookup {
        Lookup { files, index, codec }
    }

    /// The newest end of an execution. `None`: there is none in the log.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn end_of(&self, id: ExecutionId) -> Result<Option<Box<End>>, Unread> {
        let mut found = self.index.find(id);
        loop {
            let Some((location, segment)) = found else { return Ok(None) };
            let offset = location.frame();
            let error = match self.read(&segment, offset, location.record(), id) {
                Ok(end) => return Ok(Some(end)),
                Err(error) => error,
            };
            found = self.index.find(id);
            let is_elsewhere = found.as_ref().is_none_or(|(now, _)| *now != location);
            let is_gone = matches!(&error, StoreError::Read { source, .. } if source.kind() == NotFound);
            if !(is_gone && is_elsewhere) {
                return Err(Unread { offset, error });
            }
        }
    }

    fn read(
        &self,
        segment: &Segment,
        offset: u64,
        record: usize,
        id: ExecutionId,
    ) -> Result<Box<End>, StoreError> {
        let corrupt = |what| StoreError::Corrupt { path: segment.path.clone(), offset, what };
        let opened = segment::open(&*self.files, segment)?;
        let records = match segment::read_frame_at(&opened, segment, offset) {
            Ok(frame) => frame.map_err(corrupt)?,
            Err(error) if error.kind() == UnexpectedEof => {
                return Err(corrupt("the end of the file"));
            }
            Err(source) => return Err(StoreError::Read { path: segment.path.clone(), source }),
        };
        let rest = records.get(record..).unwrap_or_default();
        let found = codec::split(rest).next().flatten().ok_or_else(|| corrupt("a record"))?;
        match self.codec.decode(found).map_err(|why| why.in_frame(segment, offset))?.into_record() {
            Some(Record::Ended { id: of, end, .. } | Record::Kept { id: of, end, .. }) if of == id => Ok(end),
            _ => Err(corrupt("the end of an execution")),
        }
    }

    /// What stands where it should be. Only for simulations, which have to notice that.
    pub(super) fn unchecked_end_of(&self, id: ExecutionId) -> Option<Box<End>> {
        let (location, segment) = self.index.find(id)?;
        let file = self.files.open(&segment.path, false).ok()?;
        let offset = location.frame() + FRAME_HEADER_BYTES as u64 + location.record() as u64;
        let mut reader = Reader { file: &*file, offset };
        let mut length = [0; 4];
        reader.read_exact(&mut length).ok()?;
        let mut record = Vec::new();
        reader.take(u32::from_le_bytes(length).into()).read_to_end(&mut record).ok()?;
        match self.codec.decode(&record).ok()?.into_record()? {
            Record::Ended { end, .. } | Record::Kept { end, .. } => Some(end),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
