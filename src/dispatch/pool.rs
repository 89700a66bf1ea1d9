//! The connections of one endpoint, on one thread. Each is a task that lives as long as its connection and takes one
//! attempt after the other: handing it the next one costs a wake-up and no allocation.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use hyper::Uri;
use shard_core::{AttemptKey, Dispatch, Input};
use tokio::{net::TcpStream, task::AbortHandle};

use super::{
    DispatchOptions, Sink,
    connection::{Connection, Stream},
    exchange, tls,
};

/// Time that a connection is kept without use, to twice as long.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A place at which one attempt after the other is made.
pub(super) struct Seat {
    pool: Weak<Pool>,
    /// What is to be done next.
    next: RefCell<Option<Dispatch>>,
    waker: RefCell<Option<Waker>>,
    task: OnceCell<AbortHandle>,
    /// It was used since the last look at idle connections.
    used: Cell<bool>,
    /// It was not, and has to go.
    expired: Cell<bool>,
    /// Its attempt was given up, and it goes with it.
    aborted: Cell<bool>,
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// Where an attempt is.
pub(super) enum Place {
    /// A task makes it.
    Seated(Rc<Seat>),
    /// It waits until a connection is free.
    Waiting(Rc<Pool>),
}

impl Place {
    /// Gives an attempt up, and its connection.
    pub(super) fn abort(self, attempt: AttemptKey) {
        match self {
            Place::Seated(seat) => {
                seat.aborted.set(true);
                if let Some(task) = seat.task.get() {
                    task.abort();
                }
                if let Some(pool) = seat.pool.upgrade() {
                    pool.ended();
                }
            }
            Place::Waiting(pool) => {
                pool.waiting.borrow_mut().retain(|dispatch| dispatch.attempt != attempt);
            }
        }
    }
}

/// See the module.
pub(super) struct Pool {
    /// The address as configured, for messages.
    pub(super) address: Arc<str>,
    /// Request line and `Host` of every request.
    pub(super) prefix: Vec<u8>,
    /// Host and port to connect to; `None` when the address makes no sense.
    authority: Option<(String, u16)>,
    tls: bool,
    options: Rc<DispatchOptions>,
    sink: Sink,
    /// Tells the dispatcher where attempts are.
    seated: Rc<dyn Fn(AttemptKey, Option<Place>)>,
    /// Tasks, bounded by `connections_max`.
    open: Cell<usize>,
    /// Those that have nothing to do, newest last: the newest is the least likely to be closed by the peer.
    idle: RefCell<Vec<Rc<Seat>>>,
    /// Attempts that no connection is free for.
    waiting: RefCell<VecDeque<Dispatch>>,
    /// A task looks after idle connections.
    kept: Cell<bool>,
    closed: Cell<bool>,
}

impl Pool {
    /// A pool without connections. `seated` is told where each attempt is, and when it is nowhere any more.
    pub(super) fn new(
        address: &Arc<str>,
        options: &Rc<DispatchOptions>,
        sink: &Sink,
        seated: Rc<dyn Fn(AttemptKey, Option<Place>)>,
    ) -> Pool {
        let uri: Uri = address.parse().unwrap_or_default();
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        // User info in an address is not sent: HTTP has no place for it outside `Authorization`.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Pool {
            address: Arc::clone(address),
            prefix: format!("POST {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes(),
            authority: (!host.is_empty()).then(|| (host.trim_matches(['[', ']']).to_owned(), port)),
            tls,
            options: Rc::clone(options),
            sink: Rc::clone(sink),
            seated,
            open: Cell::new(0),
            idle: RefCell::default(),
            waiting: RefCell::default(),
            kept: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    /// Makes an attempt, over a connection that is free, or a new one, or when there is one.
    pub(super) fn start(self: &Rc<Self>, dispatch: Dispatch) {
        let attempt = dispatch.attempt;
        let seat = self.idle.borrow_mut().pop();
        if let Some(seat) = seat {
            (self.seated)(attempt, Some(Place::Seated(Rc::clone(&seat))));
            seat.used.set(true);
            *seat.next.borrow_mut() = Some(dispatch);
            seat.wake();
        } else if self.open.get() < self.options.connections_max {
            self.seat(dispatch);
        } else {
            (self.seated)(attempt, Some(Place::Waiting(Rc::clone(self))));
            self.waiting.borrow_mut().push_back(dispatch);
            (self.sink)(Input::Connecting { attempt, connecting: true });
        }
    }

    /// Drops idle connections now, and the others when their attempts have ended.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for seat in self.idle.borrow_mut().drain(..) {
            seat.expired.set(true);
            seat.wake();
        }
    }

    fn seat(self: &Rc<Self>, dispatch: Dispatch) {
        let attempt = dispatch.attempt;
        self.open.set(self.open.get() + 1);
        let seat = Rc::new(Seat {
            pool: Rc::downgrade(self),
            next: RefCell::new(Some(dispatch)),
            waker: RefCell::default(),
            task: OnceCell::new(),
            used: Cell::new(true),
            expired: Cell::new(false),
            aborted: Cell::new(false),
        });
        (self.seated)(attempt, Some(Place::Seated(Rc::clone(&seat))));
        let task = tokio::task::spawn_local(Rc::clone(self).occupy(Rc::clone(&seat)));
        // Just made, so it is empty.
        let _ = seat.task.set(task.abort_handle());
    }

    /// Makes the attempts of one seat, over one connection as long as that holds.
    async fn occupy(self: Rc<Self>, seat: Rc<Seat>) {
        let mut connection = None;
        while let Some(dispatch) = self.next(&seat, &mut connection).await {
            let attempt = dispatch.attempt;
            let report = exchange::run(&self, &mut connection, &dispatch, &self.options, &self.sink).await;
            if seat.aborted.get() {
                // While it was running, by something that followed from it: it is already counted out.
                return;
            }
            drop(dispatch);
            (self.seated)(attempt, None);
            if connection.is_some() && !self.closed.get() {
                self.free(&seat);
            } else {
                connection = None;
            }
            // The seat is free by now: what follows from this may come to it.
            (self.sink)(Input::DispatchFinished { attempt, report });
            if connection.is_none() {
                break;
            }
        }
        self.ended();
    }

    /// Gives a seat that has become free to the attempt that waited longest, if any.
    fn free(self: &Rc<Self>, seat: &Rc<Seat>) {
        let Some(dispatch) = self.waiting.borrow_mut().pop_front() else {
            self.idle.borrow_mut().push(Rc::clone(seat));
            if !self.kept.replace(true) {
                tokio::task::spawn_local(Pool::keep(Rc::downgrade(self)));
            }
            return;
        };
        let attempt = dispatch.attempt;
        (self.seated)(attempt, Some(Place::Seated(Rc::clone(seat))));
        *seat.next.borrow_mut() = Some(dispatch);
        (self.sink)(Input::Connecting { attempt, connecting: false });
    }

    /// A task is gone: an attempt that waits gets one of its own.
    fn ended(self: &Rc<Self>) {
        self.open.set(self.open.get() - 1);
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(dispatch) = next {
            self.seat(dispatch);
        }
    }

    /// The next attempt of a seat. `None`: its connection was closed by the peer, or nobody has used it for long.
    async fn next(&self, seat: &Rc<Seat>, connection: &mut Option<Connection>) -> Option<Dispatch> {
        poll_fn(|context| {
            if let Some(dispatch) = seat.next.borrow_mut().take() {
                return Poll::Ready(Some(dispatch));
            }
            let stale = connection.as_mut().is_none_or(|connection| connection.is_stale(context.waker()));
            if stale || seat.expired.get() {
                self.idle.borrow_mut().retain(|idle| !Rc::ptr_eq(idle, seat));
                return Poll::Ready(None);
            }
            let mut waker = seat.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Ends connections that nobody has used for long, until none is idle: they would keep their descriptors for
    /// ever. Second chance (Corbató: "A Paging Experiment with the Multics System"): no clock is read per attempt.
    async fn keep(pool: Weak<Pool>) {
        loop {
            tokio::time::sleep(IDLE_MAX).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut idle = pool.idle.borrow_mut();
            idle.retain(|seat| {
                let used = seat.used.replace(false);
                if !used {
                    seat.expired.set(true);
                    seat.wake();
                }
                used
            });
            if idle.is_empty() {
                pool.kept.set(false);
                return;
            }
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        let (host, port) =
            self.authority.as_ref().ok_or_else(|| io::Error::other("the address has no host"))?;
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let stream = match self.tls {
                true => Stream::Tls(Box::new(tls::connect(host, stream).await?)),
                false => Stream::Plain(stream),
            };
            Ok(Connection::new(stream))
        };
        let connect_timeout = self.options.connect_timeout;
        match tokio::time::timeout(connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} ms", connect_timeout.as_millis()),
            )),
        }
    }
}
