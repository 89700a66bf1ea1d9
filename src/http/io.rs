//! A connection's stream, watched: what the connection is doing and since when.
//!
//! One sweep every half second over all connections of a thread replaces a timer per request; the state is two cells
//! that reading and writing set in passing.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::route::NO_ROUTE;

/// Memory for recent bytes that a connection keeps from request to request.
const RECENT_KEPT_BYTES_MAX: usize = 4096;

/// Bytes of a body that count as progress, together.
const BODY_PROGRESS_BYTES: usize = 4096;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request head is on its way.
    Head,
    /// A request body is on its way.
    Body,
    /// The request is being answered.
    Busy,
    /// Nothing, or its last answer is being written.
    Idle,
}

/// State of one connection, shared between its stream, its requests and the sweep.
#[derive(Debug)]
pub(super) struct ConnectionState {
    phase: Cell<Phase>,
    /// Tick of the sweep at the last progress.
    since: Cell<u32>,
    /// Ticks so far, counted by the sweep.
    clock: Rc<Cell<u32>>,
    /// What was read for this request and the one before, for [`super::framing`]. Of a body that came in several
    /// reads only the last one, which may hold the next head. Bounded by what hyper reads ahead.
    recent: RefCell<Vec<u8>>,
    /// How much of it was read for the request before.
    older_bytes: Cell<usize>,
    /// Bytes of a body since the last progress.
    unnoticed_bytes: Cell<usize>,
    /// Told to end after the next answer.
    draining: Cell<bool>,
    /// Told to end now, unless there is a request in progress.
    closing: Cell<bool>,
    /// Number of the route that the request in progress is for.
    route: Cell<usize>,
    /// Wakes the connection's task.
    waker: RefCell<Option<Waker>>,
}

impl ConnectionState {
    pub(super) fn new(clock: Rc<Cell<u32>>) -> ConnectionState {
        ConnectionState {
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock.get()),
            clock,
            recent: RefCell::default(),
            older_bytes: Cell::new(0),
            unnoticed_bytes: Cell::new(0),
            draining: Cell::new(false),
            closing: Cell::new(false),
            route: Cell::new(NO_ROUTE),
            waker: RefCell::default(),
        }
    }

    /// What the connection is doing, and for how many ticks without progress.
    pub(super) fn phase(&self) -> (Phase, u32) {
        (self.phase.get(), self.clock.get().wrapping_sub(self.since.get()))
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.unnoticed_bytes.set(0);
        self.phase.set(phase);
        self.progress();
    }

    /// The route of the request in progress, by its number.
    pub(super) fn route(&self) -> usize {
        self.route.get()
    }

    pub(super) fn set_route(&self, number: usize) {
        self.route.set(number);
    }

    pub(super) fn recent(&self) -> std::cell::Ref<'_, Vec<u8>> {
        self.recent.borrow()
    }

    /// Tells the client with the next answer that it is the last one.
    pub(super) fn drain(&self) {
        self.draining.set(true);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ends the connection once there is no request in progress.
    pub(super) fn close(&self) {
        self.closing.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Remembers the task of the connection, which stays the same for its life.
    pub(super) fn remember_task(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(context.waker().clone());
        }
    }

    fn progress(&self) {
        self.since.set(self.clock.get());
    }

    fn has_read(&self, bytes: &[u8]) {
        let mut recent = self.recent.borrow_mut();
        match self.phase.get() {
            Phase::Idle => {
                self.phase.set(Phase::Head);
                self.progress();
                // The head may have begun in what was read for the request before.
                recent.drain(..self.older_bytes.get());
                // One large request must not hold its memory for the rest of a long connection.
                recent.shrink_to(RECENT_KEPT_BYTES_MAX);
                self.older_bytes.set(recent.len());
            }
            // The clock of a head is not set back by its parts: a head must be whole in time.
            Phase::Head => {}
            Phase::Body => {
                // A few bytes now and then are no progress: they would hold what came before for ever.
                let unnoticed = self.unnoticed_bytes.get() + bytes.len();
                if unnoticed >= BODY_PROGRESS_BYTES {
                    self.progress();
                }
                self.unnoticed_bytes.set(if unnoticed >= BODY_PROGRESS_BYTES { 0 } else { unnoticed });
                recent.clear();
                self.older_bytes.set(0);
            }
            // Requests that were sent without waiting for the answer.
            Phase::Busy => {}
        }
        recent.extend_from_slice(bytes);
    }
}

/// A stream that the sweep can look at. One thread, and never borrowed across a call.
pub(super) type SharedStream = Rc<RefCell<TcpStream>>;

/// Whether the peer has closed its end, as far as the event queue has told. Costs no system call.
pub(super) fn is_closed_by_peer(stream: &SharedStream) -> bool {
    let stream = stream.borrow();
    let ready = std::pin::pin!(stream.ready(Interest::READABLE));
    let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
    matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) stream: SharedStream,
    pub(super) state: Rc<ConnectionState>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.state.has_read(read);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, bytes);
        if polled.is_ready() {
            self.state.progress();
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(context, slices);
        if polled.is_ready() {
            self.state.progress();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context)
    }
}
