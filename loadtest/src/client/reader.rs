//! Collects the bytes of one answer until it is complete.
//!
//! A body that fits next to its head stays in the buffer it was read into. Of a longer or chunked one the beginning
//! is kept and the rest counted: what a test has to know of an answer stands at its beginning.

use std::io::{self, Read};

use super::{
    chunks::Chunks,
    head::{self, Head, Length, Malformed},
};

/// Size of a connection's buffer while nothing longer comes.
const BUFFER_BYTES: usize = 8 * 1024;
/// Longest head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most of a body that is kept.
const BODY_BYTES_KEPT: usize = 64 * 1024;

/// A complete answer, as long as the reader is not reset.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a Head,
    /// The body, or its beginning.
    pub(crate) body: &'a [u8],
}

/// What reading once came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadStep {
    /// The answer is complete.
    Complete,
    /// More may be there already.
    Again,
    /// More has to come.
    Wait,
    /// The peer closed before the answer was complete; true when not a byte of it had come.
    Closed(bool),
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The answer so far.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    filled: usize,
    head: Option<Head>,
    body: BodyFraming,
    /// Bytes of this answer that have come.
    pub(crate) bytes: u64,
    /// Most of a body that is kept.
    kept_max: usize,
}

#[derive(Debug)]
enum BodyFraming {
    /// In the buffer behind the head, this long.
    Behind(usize),
    /// Taken out of the buffer as it comes.
    Long { kept: Vec<u8>, rest: Rest },
}

#[derive(Debug)]
enum Rest {
    Bytes(u64),
    Chunks(Chunks),
    ToEnd,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader::keeping(BODY_BYTES_KEPT)
    }

    /// Keeps so many bytes of a body at least.
    pub(crate) fn keeping(kept_max: usize) -> Reader {
        let buffer = vec![0; BUFFER_BYTES];
        Reader { buffer, filled: 0, head: None, body: BodyFraming::Behind(0), bytes: 0, kept_max }
    }

    /// Forgets the answer.
    pub(crate) fn reset(&mut self) {
        self.filled = 0;
        self.head = None;
        self.body = BodyFraming::Behind(0);
        self.bytes = 0;
    }

    /// The answer, once it is complete.
    pub(crate) fn answer(&self) -> Option<Answer<'_>> {
        let head = self.head.as_ref()?;
        let body = match &self.body {
            BodyFraming::Behind(length) => self.buffer.get(head.size..head.size + length)?,
            BodyFraming::Long { kept, .. } => kept,
        };
        Some(Answer { head, body })
    }

    /// Reads once from the socket, which does not block.
    pub(crate) fn read(&mut self, socket: &mut impl Read) -> Result<ReadStep, ReadError> {
        self.make_room()?;
        let room = self.buffer.len() - self.filled;
        let count = match socket.read(&mut self.buffer[self.filled..]) {
            Ok(0) if self.ends_with_connection() => return Ok(ReadStep::Complete),
            Ok(0) => return Ok(ReadStep::Closed(self.bytes == 0)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadStep::Wait),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(ReadStep::Again),
            Err(error) => return Err(error.into()),
        };
        self.bytes += count as u64;
        self.filled += count;
        if self.advance()? {
            return Ok(ReadStep::Complete);
        }
        // A read that did not fill the buffer emptied the socket: the next bytes are announced.
        Ok(if count < room { ReadStep::Wait } else { ReadStep::Again })
    }

    fn make_room(&mut self) -> Result<(), Malformed> {
        if self.filled < self.buffer.len() {
            return Ok(());
        }
        if self.head.is_none() && self.buffer.len() >= HEAD_BYTES_MAX {
            return Err(Malformed("its head is longer than 64 KiB"));
        }
        self.buffer.resize(self.buffer.len() * 2, 0);
        Ok(())
    }

    fn ends_with_connection(&self) -> bool {
        matches!(self.body, BodyFraming::Long { rest: Rest::ToEnd, .. })
    }

    /// Looks at what has come; true when the answer is complete.
    fn advance(&mut self) -> Result<bool, Malformed> {
        while self.head.is_none() {
            let Some(head) = head::parse(&self.buffer[..self.filled])? else { return Ok(false) };
            if (100..200).contains(&head.status) {
                // An interim answer: the one that counts follows.
                self.buffer.copy_within(head.size..self.filled, 0);
                self.filled -= head.size;
                continue;
            }
            self.body = BodyFraming::of(&head);
            self.head = Some(head);
        }
        let size = self.head.as_ref().map_or(0, |head| head.size);
        match &mut self.body {
            BodyFraming::Behind(length) => {
                let end = size + *length;
                if end > self.buffer.len() {
                    self.buffer.resize(end, 0);
                }
                if self.filled > end {
                    return Err(Malformed("bytes follow its end"));
                }
                Ok(self.filled == end)
            }
            BodyFraming::Long { kept, rest } => {
                let bytes = &self.buffer[size..self.filled];
                let is_complete = rest.take(bytes, kept, self.kept_max)?;
                self.filled = size;
                Ok(is_complete)
            }
        }
    }
}

impl BodyFraming {
    fn of(head: &Head) -> BodyFraming {
        let rest = match head.length {
            Length::Known(length) => match usize::try_from(length) {
                Ok(length) if length <= BODY_BYTES_KEPT => return BodyFraming::Behind(length),
                _ => Rest::Bytes(length),
            },
            Length::Chunked => Rest::Chunks(Chunks::default()),
            Length::ToEnd => Rest::ToEnd,
        };
        BodyFraming::Long { kept: Vec::new(), rest }
    }
}

impl Rest {
    fn take(&mut self, bytes: &[u8], kept: &mut Vec<u8>, kept_max: usize) -> Result<bool, Malformed> {
        let mut keep = |part: &[u8]| {
            let room = kept_max.saturating_sub(kept.len());
            kept.extend_from_slice(&part[..part.len().min(room)]);
        };
        match self {
            Rest::Bytes(left) => {
                keep(bytes);
                *left = left.checked_sub(bytes.len() as u64).ok_or(Malformed("bytes follow its end"))?;
                Ok(*left == 0)
            }
            Rest::Chunks(chunks) => chunks.decode(bytes, keep),
            Rest::ToEnd => {
                keep(bytes);
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `size` bytes at a time, then the end of the stream.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn body(text: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let (mut reader, mut pieces) = (Reader::new(), Pieces(text, size));
        loop {
            match reader.read(&mut pieces).map_err(|error| error.to_string())? {
                ReadStep::Complete => return Ok(reader.answer().expect("an answer").body.to_vec()),
                ReadStep::Closed(early) => return Err(format!("closed {early}")),
                ReadStep::Again | ReadStep::Wait => {}
            }
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_comes() {
        let long = "y".repeat(BODY_BYTES_KEPT + 5);
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(), "hi"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
                    .to_owned(),
                "hi",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhi".to_owned(), "hi"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(), "hi"),
            ("HTTP/1.1 204 No\r\n\r\n".to_owned(), ""),
            (
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
                &long[..BODY_BYTES_KEPT],
            ),
        ] {
            for size in [1, 3, 1000, 100_000] {
                assert_eq!(
                    body(text.as_bytes(), size).as_deref(),
                    Ok(expected.as_bytes()),
                    "pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        assert_eq!(body(b"", 9), Err("closed true".to_owned()));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", 9), Err("closed false".to_owned()));
    }
}
