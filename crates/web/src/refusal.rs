//! Words for what hyper refuses by itself: a request that it does not understand, it answers with a status alone.
//!
//! hyper offers no hook for these answers, so they are recognised where they are written, and others are written in their
//! place.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use httparse::Status;
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How every bare refusal begins: 400, 414 or 431. Most writes end here.
const BEGINNING: &[u8] = b"HTTP/1.1 4";

/// A server's stream on which a bare refusal becomes one with a JSON body.
///
/// Answers of the server's own are never taken for one as long as those with such a status have a content type.
#[derive(Debug)]
pub struct Worded<S, W> {
    stream: S,
    /// The body for a status; `None` leaves the refusal as it is.
    words: W,
    /// The last write was not taken as a whole: what comes next is no beginning of an answer.
    is_mid_write: bool,
    /// What is still to be written in place of a bare refusal.
    refusal: Bytes,
}

impl<S, W> Worded<S, W>
where
    S: AsyncWrite + Unpin,
    W: Fn(StatusCode) -> Option<Vec<u8>> + Unpin,
{
    /// A stream with words for what is refused on it.
    pub fn new(stream: S, words: W) -> Worded<S, W> {
        Worded { stream, words, is_mid_write: false, refusal: Bytes::new() }
    }

    /// Whether `bytes` were a bare refusal, in whose place another one waits to be written now.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.is_mid_write || !bytes.starts_with(BEGINNING) {
            return false;
        }
        let refusal = bare_refusal(bytes).and_then(|status| Some(answer(status, &(self.words)(status)?)));
        self.refusal = refusal.unwrap_or_default();
        !self.refusal.is_empty()
    }

    fn has_written(&mut self, polled: &Poll<Result<usize>>, wanted: usize) {
        if let Poll::Ready(written) = polled {
            self.is_mid_write = written.as_ref().is_ok_and(|written| *written < wanted);
        }
    }
}

/// The status of the answer that `bytes` are, when it is whole, has no word, and its status is one that hyper gives to what
/// it cannot read.
fn bare_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let mut headers = [httparse::EMPTY_HEADER; 4];
    let mut response = httparse::Response::new(&mut headers);
    let is_whole = matches!(response.parse(bytes), Ok(Status::Complete(length)) if length == bytes.len());
    if !is_whole || response.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-type")) {
        return None;
    }
    let status = StatusCode::from_u16(response.code?).ok()?;
    let is_hypers = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    is_hypers.then_some(status)
}

/// A whole answer, after which the connection ends.
fn answer(status: StatusCode, body: &[u8]) -> Bytes {
    let reason = status.canonical_reason().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        status.as_u16(),
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

impl<S: AsyncRead + Unpin, W: Unpin> AsyncRead for Worded<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S, W> AsyncWrite for Worded<S, W>
where
    S: AsyncWrite + Unpin,
    W: Fn(StatusCode) -> Option<Vec<u8>> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.has_written(&polled, bytes.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        // A bare refusal has no body, so it is in one piece.
        if let [bytes] = slices
            && self.replaces(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.has_written(&polled, slices.iter().map(|slice| slice.len()).sum());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        while !this.refusal.is_empty() {
            match ready!(Pin::new(&mut this.stream).poll_write(context, &this.refusal))? {
                0 => return Poll::Ready(Err(Error::from(ErrorKind::WriteZero))),
                written => this.refusal.advance(written),
            }
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_of_the_parser_are_recognised() {
        let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        for (bytes, expected) in [
            (bare.to_owned(), Some(400)),
            (bare.replace("400 Bad Request", "414 URI Too Long"), Some(414)),
            (bare.replace("400 Bad Request", "431 Request Header Fields Too Large"), Some(431)),
            (bare.replace("400", "404"), None),
            (bare.replace("400", "200"), None),
            (format!("{bare}x"), None),
            (bare[..bare.len() - 1].to_owned(), None),
            (bare.replace("date: x", "content-type: application/json"), None),
            (String::new(), None),
        ] {
            let found = bare_refusal(bytes.as_bytes()).map(|status| status.as_u16());
            assert_eq!(found, expected, "{bytes}");
        }
    }

    #[test]
    fn what_follows_half_an_answer_is_no_refusal() {
        let words = |_| Some(b"{}".to_vec());
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n".as_bytes();
        let mut stream = Worded::new(Vec::new(), words);
        stream.has_written(&Poll::Ready(Ok(1)), 2);
        assert!(!stream.replaces(bare));
        stream.has_written(&Poll::Ready(Ok(2)), 2);
        assert!(stream.replaces(bare));
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n\
                        connection: close\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8_lossy(&stream.refusal), expected);
    }
}
