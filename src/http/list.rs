//! Bodies of answers: whole ones, and the list of all functions, which is put together while it is being sent.
//!
//! A list holds the documents that the shards have anyway, and makes its text a piece at a time. Its length is known in
//! advance, so it is announced like that of any other answer.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// How much of a list is made at once, unless one document is longer.
const PIECE_BYTES: usize = 32 << 10;

/// The body of an answer. No larger than [`Bytes`]: hyper moves an answer a dozen times.
pub(super) enum AnswerBody {
    /// In one piece; empty once that is sent.
    Whole(Bytes),
    /// A JSON array, made while it is sent.
    List(Box<List>),
}

// Checked when this is compiled: nothing can fail at run time.
const _: () = assert!(size_of::<AnswerBody>() == size_of::<Bytes>());

/// Counts lists that are being sent, and ends counting one when it is dropped.
pub(super) struct ListPlace(Rc<Cell<usize>>);

impl ListPlace {
    /// A place among `lists_max`; `None` when all are taken.
    pub(super) fn take(count: &Rc<Cell<usize>>, lists_max: usize) -> Option<ListPlace> {
        if count.get() >= lists_max {
            return None;
        }
        count.set(count.get() + 1);
        Some(ListPlace(Rc::clone(count)))
    }
}

impl Drop for ListPlace {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A JSON array of documents.
pub(super) struct List {
    documents: std::vec::IntoIter<Bytes>,
    bytes_left: u64,
    is_started: bool,
    _place: ListPlace,
}

impl List {
    pub(super) fn new(documents: Vec<Bytes>, place: ListPlace) -> List {
        let commas = documents.len().saturating_sub(1) as u64;
        let bytes_left = documents.iter().map(|document| document.len() as u64).sum::<u64>() + commas + 2;
        List { documents: documents.into_iter(), bytes_left, is_started: false, _place: place }
    }

    fn piece(&mut self) -> Option<Bytes> {
        if self.bytes_left == 0 {
            return None;
        }
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            let before = if self.is_started { b',' } else { b'[' };
            match self.documents.next() {
                Some(document) => {
                    piece.push(before);
                    piece.extend_from_slice(&document);
                }
                None if self.is_started => {
                    piece.push(b']');
                    break;
                }
                None => {
                    piece.extend_from_slice(b"[]");
                    break;
                }
            }
            self.is_started = true;
        }
        self.bytes_left -= piece.len() as u64;
        Some(piece.into())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            AnswerBody::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            AnswerBody::List(list) => list.piece(),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_empty(),
            AnswerBody::List(list) => list.bytes_left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::List(list) => SizeHint::with_exact(list.bytes_left),
        }
    }
}

impl<B: Into<Bytes>> From<B> for AnswerBody {
    fn from(bytes: B) -> AnswerBody {
        AnswerBody::Whole(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_what_they_announce() {
        let count = Rc::default();
        for lengths in [&[][..], &[3], &[3, 3], &[PIECE_BYTES; 3], &[10; 20_000], &[1, PIECE_BYTES * 2, 1]] {
            let documents: Vec<Bytes> = lengths.iter().map(|length| "1".repeat(*length).into()).collect();
            let expected = format!(
                "[{}]",
                documents.iter().map(|d| String::from_utf8_lossy(d)).collect::<Vec<_>>().join(",")
            );
            let mut list = List::new(documents, ListPlace::take(&count, 1).expect("a place"));
            assert!(ListPlace::take(&count, 1).is_none());
            assert_eq!(list.bytes_left, expected.len() as u64);
            let mut text = Vec::new();
            while let Some(piece) = list.piece() {
                assert!(piece.len() <= PIECE_BYTES * 3, "{}", piece.len());
                text.extend_from_slice(&piece);
            }
            assert_eq!(text, expected.as_bytes(), "{lengths:?}");
        }
        assert_eq!(count.get(), 0);
    }
}
