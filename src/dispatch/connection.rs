//! One connection to a function: a request goes out, an answer comes in, nothing else.
//!
//! Written by hand because it is most of what an invocation costs: one write, one read and no task of its own, where
//! a general client needs a task that is woken for every exchange and a map of headers on both ways. What it leaves
//! out nobody needs here: pipelining, upgrades, requests that stream.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use nanofaas_web::tls::TlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    request::Request,
    response::{self, Framing, Head, HeadError},
};

/// Room for answers that a connection keeps between two exchanges.
const BUFFER_BYTES: usize = 8 << 10;
/// Longest line between two chunks, and longest trailer section.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;
/// Memory taken for a body before any of it has come.
const BODY_BYTES_AHEAD_MAX: usize = 256 << 10;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Bytes,
    /// Another exchange may follow on the connection.
    pub(super) reusable: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// Not a byte was written: the function cannot have seen the call.
    #[error("{0}")]
    Unsent(io::Error),
    /// The connection ended before the answer did.
    #[error("it closed the connection before it had answered")]
    Closed,
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
    /// What came is no answer.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// The body's chunks make no sense.
    #[error("its answer's chunks cannot be read")]
    Chunks,
    /// The body is longer than allowed.
    #[error("its answer is too long")]
    TooLarge,
}

/// What bytes travel over.
pub(super) enum Stream {
    Plain(TcpStream),
    /// Boxed: it is many times larger.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// TLS keeps what was written until it is told to send it.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}

/// See the module. Dropping it closes it, whatever is still on its way.
pub(super) struct Connection {
    stream: Stream,
    /// Zeroed once; what was read and not used yet is in `unread`.
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Connection {
        Connection { stream, buffer: vec![0; BUFFER_BYTES], unread: 0..0 }
    }

    /// Whether the peer has closed it, or said something that nobody asked for; `waker` is woken when it does. Costs no
    /// system call unless the event queue has news of it.
    pub(super) fn is_stale(&mut self, waker: &Waker) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(waker);
        self.stream.poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Sends a request and reads its answer, with a body of at most `body_bytes_max`.
    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        body_bytes_max: usize,
    ) -> Result<Answer, ExchangeError> {
        let mut outgoing = Outgoing { parts: [&request.head, &request.input, &request.tail], sent: false };
        let answer = poll_fn(|context| self.poll_head(context, &mut outgoing)).await;
        let (head, length) = match answer {
            Err(ExchangeError::Closed) if !outgoing.sent => {
                return Err(ExchangeError::Unsent(io::ErrorKind::ConnectionAborted.into()));
            }
            other => other?,
        };
        self.consume(length);
        let body = self.read_body(&head, &mut outgoing, body_bytes_max).await?;
        // A function that answers without reading may never read the rest; what came behind the answer belongs to
        // no call.
        let reusable = head.keep_alive && outgoing.is_done() && self.unread.is_empty();
        if self.buffer.len() > BUFFER_BYTES {
            self.buffer = vec![0; BUFFER_BYTES];
        }
        Ok(Answer { head, body, reusable })
    }

    /// Sends what is left and reads until the head is there.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        outgoing: &mut Outgoing<'_>,
    ) -> Poll<Result<(Head, usize), ExchangeError>> {
        // Should writing fail, the function may have answered before it closed.
        let write_error = outgoing.poll_write(&mut self.stream, context).err();
        loop {
            match ready!(self.poll_fill(context)) {
                Ok(0) => return Poll::Ready(Err(outgoing.failure(write_error, ExchangeError::Closed))),
                Ok(_) => {
                    if let Some(found) = response::parse(self.unread())? {
                        return Poll::Ready(Ok(found));
                    }
                }
                Err(error) => {
                    return Poll::Ready(Err(outgoing.failure(write_error, ExchangeError::Broken(error))));
                }
            }
        }
    }

    /// Reads once behind what is in the buffer, which grows when it is full. 0: the peer has closed.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut buffer = ReadBuf::new(&mut self.buffer[self.unread.end..]);
        ready!(self.stream.poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        self.unread.end += count;
        Poll::Ready(Ok(count))
    }

    /// Moves what is left to the front only here: an answer in tiny chunks would be moved once for each of them.
    fn make_room(&mut self) {
        if self.unread.start > 0 && (self.unread.is_empty() || self.unread.end == self.buffer.len()) {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
    }

    /// What was read and not used yet.
    fn unread(&self) -> &[u8] {
        &self.buffer[self.unread.clone()]
    }

    /// Reads once more while the rest of the request goes out.
    async fn fill(&mut self, outgoing: &mut Outgoing<'_>) -> Result<usize, ExchangeError> {
        poll_fn(|context| {
            // An answer that has begun decides: an error of writing shows in reading, or does not matter.
            let _ = outgoing.poll_write(&mut self.stream, context);
            self.poll_fill(context)
        })
        .await
        .map_err(ExchangeError::Broken)
    }

    fn consume(&mut self, count: usize) {
        self.unread.start += count;
    }

    async fn read_body(
        &mut self,
        head: &Head,
        outgoing: &mut Outgoing<'_>,
        bytes_max: usize,
    ) -> Result<Bytes, ExchangeError> {
        match head.framing {
            Framing::Length(0) => Ok(Bytes::new()),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > bytes_max {
                    return Err(ExchangeError::TooLarge);
                }
                self.read_length(length, outgoing).await
            }
            Framing::Chunked => self.read_chunks(outgoing, bytes_max).await,
            Framing::Close => {
                let mut body = BytesMut::new();
                loop {
                    if self.unread.len() > bytes_max - body.len() {
                        return Err(ExchangeError::TooLarge);
                    }
                    self.move_to(&mut body, usize::MAX);
                    if self.fill(outgoing).await? == 0 {
                        return Ok(body.freeze());
                    }
                }
            }
        }
    }

    async fn read_length(
        &mut self,
        length: usize,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<Bytes, ExchangeError> {
        if length <= self.unread.len() {
            let body = Bytes::copy_from_slice(&self.unread()[..length]);
            self.consume(length);
            return Ok(body);
        }
        let mut body = BytesMut::with_capacity(length.min(BODY_BYTES_AHEAD_MAX));
        loop {
            let part = length - body.len();
            self.move_to(&mut body, part);
            if body.len() == length {
                return Ok(body.freeze());
            }
            if self.fill(outgoing).await? == 0 {
                return Err(ExchangeError::Closed);
            }
        }
    }

    async fn read_chunks(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        bytes_max: usize,
    ) -> Result<Bytes, ExchangeError> {
        let mut body = BytesMut::new();
        loop {
            let size = self.chunk_size(outgoing).await?;
            if size == 0 {
                self.skip_trailers(outgoing).await?;
                return Ok(body.freeze());
            }
            let mut left = usize::try_from(size).unwrap_or(usize::MAX);
            if left > bytes_max - body.len() {
                return Err(ExchangeError::TooLarge);
            }
            loop {
                left -= self.move_to(&mut body, left);
                if left == 0 {
                    break;
                }
                self.fill_more(outgoing).await?;
            }
            while self.unread.len() < 2 {
                self.fill_more(outgoing).await?;
            }
            if &self.unread()[..2] != b"\r\n" {
                return Err(ExchangeError::Chunks);
            }
            self.consume(2);
        }
    }

    async fn chunk_size(&mut self, outgoing: &mut Outgoing<'_>) -> Result<u64, ExchangeError> {
        loop {
            match httparse::parse_chunk_size(self.unread()) {
                Ok(httparse::Status::Complete((length, size))) => {
                    self.consume(length);
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.unread.len() <= CHUNK_LINE_BYTES_MAX => {
                    self.fill_more(outgoing).await?;
                }
                _ => return Err(ExchangeError::Chunks),
            }
        }
    }

    /// Headers behind the last chunk are of no interest.
    async fn skip_trailers(&mut self, outgoing: &mut Outgoing<'_>) -> Result<(), ExchangeError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            match httparse::parse_headers(self.unread(), &mut headers) {
                Ok(httparse::Status::Complete((length, _))) => {
                    self.consume(length);
                    return Ok(());
                }
                Ok(httparse::Status::Partial) if self.unread.len() <= CHUNK_LINE_BYTES_MAX => {
                    self.fill_more(outgoing).await?;
                }
                _ => return Err(ExchangeError::Chunks),
            }
        }
    }

    async fn fill_more(&mut self, outgoing: &mut Outgoing<'_>) -> Result<(), ExchangeError> {
        match self.fill(outgoing).await? {
            0 => Err(ExchangeError::Closed),
            _ => Ok(()),
        }
    }

    /// Moves at most so many bytes that were read to a body. Returns how many.
    fn move_to(&mut self, body: &mut BytesMut, bytes_max: usize) -> usize {
        let count = self.unread.len().min(bytes_max);
        body.extend_from_slice(&self.unread()[..count]);
        self.consume(count);
        count
    }
}

/// What of a request has yet to be written.
struct Outgoing<'a> {
    parts: [&'a [u8]; 3],
    /// Something of it was.
    sent: bool,
}

impl Outgoing<'_> {
    fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.is_empty())
    }

    /// Writes as much as goes now.
    fn poll_write(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> io::Result<()> {
        for part in &mut self.parts {
            while !part.is_empty() {
                match stream.poll_write(context, part) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(count)) => {
                        self.sent = true;
                        *part = &part[count..];
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => return Ok(()),
                }
            }
        }
        match stream.poll_flush(context) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// What an end of the connection means for the exchange.
    fn failure(&self, write_error: Option<io::Error>, read: ExchangeError) -> ExchangeError {
        match write_error {
            Some(error) if !self.sent => ExchangeError::Unsent(error),
            Some(error) => ExchangeError::Broken(error),
            None => read,
        }
    }
}
