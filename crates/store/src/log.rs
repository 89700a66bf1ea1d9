//! The end of the log: the segment that is being written.

use std::{io, path::Path, sync::Arc};

use super::{
    checksum::Key,
    codec::Codec,
    compaction::Compactor,
    directory::Directory,
    files::File,
    head::Head,
    index::{FileNumber, Index},
    lookup::Lookup,
    segment::{self, Expected, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, HEADER_BYTES, Header, Mark, Segment},
};

/// A segment that has become this long is followed by another.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Room that a failing disk must have again.
const PROBE_BYTES: usize = 64 << 10;

/// Where a log goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The end of the segment before.
    pub(super) before: Mark,
    /// The number of the next one was taken by a start that wrote nothing.
    pub(super) reuses_number: bool,
}

/// See the module.
pub(super) struct Log {
    directory: Arc<Directory>,
    /// `None`: it could not be created yet.
    file: Option<Box<dyn File>>,
    key: Key,
    current: Segment,
    place: Place,
    /// Behind the last whole frame.
    at: Mark,
    /// What `HEAD` knows of; `None`: it does not name this segment yet.
    known: Option<Mark>,
    segment_bytes: u64,
    pub(super) index: Arc<Index>,
    /// That of the segment that is being written, once something in it was noted.
    number: Option<FileNumber>,
    pub(super) compactor: Compactor,
}

impl Log {
    /// Goes on behind these segments. Nothing is created yet.
    /// `index`: of what is in them.
    pub(super) fn behind(
        directory: Arc<Directory>,
        closed: Vec<Segment>,
        place: Place,
        index: Arc<Index>,
    ) -> Log {
        let number = closed.last().map_or(1, |segment| segment.last + 1);
        let path = directory.store.join(segment::file_name(number, number));
        Log {
            file: None,
            key: Key::new(&[0; 16]),
            current: Segment {
                path,
                first: number,
                last: number,
                bytes: HEADER_BYTES,
                expected: Expected::Anything,
                unlinked: false,
            },
            place,
            at: Mark::default(),
            known: None,
            segment_bytes: SEGMENT_BYTES,
            compactor: Compactor::new(Arc::clone(&directory), closed, Arc::clone(&index)),
            index,
            number: None,
            directory,
        }
    }

    /// The file that is being written.
    pub(super) fn path(&self) -> &Path {
        &self.current.path
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.at.bytes.max(HEADER_BYTES) + self.compactor.bytes()
    }

    /// Segments end earlier.
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Has a segment to write to, and `HEAD` name it.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let number = self.current.first;
            if self.place.reuses_number {
                // The one that is there may be named with a place in it, which the next one does not have.
                let mark = Mark { bytes: HEADER_BYTES, frames: 0, tag: 0 };
                self.write_head(Head { newest: number, mark, closed: false })?;
            }
            let header = self.header(number, self.place.before)?;
            let (file, _) = segment::create(&*self.directory.files, &self.directory.store, &header)?;
            self.file = Some(file);
            self.key = Key::new(&header.key);
            self.at = header.start();
        }
        if self.known.is_none() {
            self.write_head(Head { newest: self.current.last, mark: self.at, closed: false })?;
            self.known = Some(self.at);
        }
        Ok(())
    }

    fn header(&self, number: u64, before: Mark) -> io::Result<Header> {
        let key = self.directory.files.key()?;
        Ok(Header { first: number, last: number, key, before, replaced: None, end: None })
    }

    fn write_head(&self, head: Head) -> io::Result<()> {
        head.write(&*self.directory.files, &self.directory.store)
    }

    /// Writes a frame; on disk when it returns. When it fails, nothing of it counts.
    pub(super) fn append(&mut self, frame: &mut [u8], probing: bool) -> io::Result<()> {
        self.begin()?;
        let Some(file) = &mut self.file else { return Err(io::Error::other("there is no segment")) };
        let whole = self.at.bytes;
        if probing {
            cut_back(&mut **file, whole)?;
            file.write_at(&[0; PROBE_BYTES], whole)?;
            file.write_at(frame, whole + PROBE_BYTES as u64)?;
            file.sync()?;
            cut_back(&mut **file, whole)?;
        }
        if frame.len() as u64 > FRAME_BYTES_MAX {
            return Err(io::Error::other("more is pending than one commit takes"));
        }
        let next = segment::seal(frame, &self.key, &self.at);
        if let Err(error) = file.write_at(frame, whole).and_then(|()| file.sync()) {
            // Tried again before the next frame.
            let _ = cut_back(&mut **file, whole);
            return Err(error);
        }
        self.at = next;
        Ok(())
    }

    /// What reads results back from it.
    pub(super) fn lookup(&self, codec: Codec) -> Lookup {
        Lookup::new(Arc::clone(&self.directory.files), Arc::clone(&self.index), codec)
    }

    /// Where the next frame will stand.
    pub(super) fn offset(&self) -> u64 {
        self.at.bytes
    }

    /// Notes where ends stand in a frame of the segment that is being written.
    pub(super) fn note(&mut self, offset: u64, frame: &[u8]) {
        let records = frame.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        self.number = self.number.or_else(|| self.index.file(&self.current));
        self.index.note(self.number, offset, records);
    }

    /// Whether it is time for another segment.
    pub(super) fn is_full(&self) -> bool {
        self.at.bytes >= self.segment_bytes
    }

    /// Goes on in another segment. When there cannot be one, this one grows: what came of the other one is left out at
    /// the next start, because `HEAD` does not name it.
    pub(super) fn next_segment(&mut self) {
        let number = self.current.last + 1;
        let created = self.header(number, self.at).and_then(|header| {
            let (file, path) = segment::create(&*self.directory.files, &self.directory.store, &header)?;
            Ok((header, file, path))
        });
        match created {
            Ok((header, file, path)) => {
                let next = Segment { path, first: number, last: number, ..self.current.clone() };
                let closed = std::mem::replace(&mut self.current, next);
                let (bytes, expected) = (self.at.bytes, Expected::Exactly(self.at));
                self.compactor.closed(Segment { bytes, expected, ..closed });
                self.file = Some(file);
                self.number = None;
                self.key = Key::new(&header.key);
                self.at = header.start();
                // Before the first frame is written, and with its failure should that fail.
                self.known = None;
            }
            Err(error) => tracing::warn!(%error, "no new segment could be begun, the last one grows"),
        }
    }

    /// Whether `HEAD` is behind.
    pub(super) fn is_ahead(&self) -> bool {
        self.known.is_some_and(|known| known != self.at)
    }

    /// Nothing happens for a while: `HEAD` is told how far everything is on disk.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        if self.is_ahead() {
            self.write_head(Head { newest: self.current.last, mark: self.at, closed: false })?;
            self.known = Some(self.at);
        }
        Ok(())
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.known.is_some() {
            self.write_head(Head { newest: self.current.last, mark: self.at, closed: true })?;
        }
        Ok(())
    }
}

/// Drops what was written behind the last whole frame.
fn cut_back(file: &mut dyn File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.sync()
}
