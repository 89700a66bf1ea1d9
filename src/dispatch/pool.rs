//! The attempts of one endpoint that are on their way, on one thread. Each is made by a task that lives as long as its
//! connection and takes one attempt after the other: handing it the next one costs a wake-up and no allocation.
//!
//! How many there may be at once is bounded per endpoint. Tasks that are free belong to the [`Origin`]: whoever has an
//! endpoint at the same host and port goes on with them.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use hyper::Uri;
use shard_core::{AttemptKey, Dispatch, DispatchEvent, Input, Name};
use tokio::task::AbortHandle;

use super::{Shared, connection::Connection, exchange, origin::Origin, request::Prefix};

/// A place at which one attempt after the other is made.
pub(super) struct TaskSlot {
    /// What is to be done next, and for which endpoint.
    next: RefCell<Option<(Rc<Pool>, Dispatch)>>,
    waker: RefCell<Option<Waker>>,
    task: OnceCell<AbortHandle>,
    /// It was used since the last look at idle connections.
    pub(super) used: Cell<bool>,
    /// It was not, and has to go.
    expired: Cell<bool>,
    /// Its attempt was given up, and it goes with it.
    aborted: Cell<bool>,
}

impl TaskSlot {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Ends a seat that has nothing to do.
    pub(super) fn expire(&self) {
        self.expired.set(true);
        self.wake();
    }

    /// Makes the attempts that it is given, over one connection as long as that holds.
    async fn occupy(self: Rc<Self>, origin: Rc<Origin>) {
        let mut connection = None;
        while let Some((pool, dispatch)) = self.next(&origin, &mut connection).await {
            let attempt = dispatch.attempt;
            let report = exchange::run(&pool, &mut connection, &dispatch).await;
            if self.aborted.get() {
                // While it was running, by something that followed from it: it is already counted out.
                return;
            }
            drop(dispatch);
            pool.shared.note(attempt, None);
            let goes_on = connection.is_some() && !origin.is_closed();
            if goes_on {
                pool.free(&self);
            }
            // The seat is free by now: what follows from this may come to it.
            (pool.shared.sink)(Input::Dispatch(attempt, DispatchEvent::Finished(report)));
            if !goes_on {
                return pool.ended();
            }
        }
    }

    /// The next attempt. `None`: the connection was closed by the peer, or nobody has used it for long.
    async fn next(
        self: &Rc<Self>,
        origin: &Origin,
        connection: &mut Option<Connection>,
    ) -> Option<(Rc<Pool>, Dispatch)> {
        poll_fn(|context| {
            if let Some(next) = self.next.borrow_mut().take() {
                return Poll::Ready(Some(next));
            }
            let stale = connection.as_mut().is_none_or(|connection| connection.is_stale(context.waker()));
            if stale || self.expired.get() {
                origin.forget(self);
                return Poll::Ready(None);
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Where an attempt is.
pub(super) enum AttemptStage {
    /// A task makes it.
    Seated(Rc<TaskSlot>, Rc<Pool>),
    /// It waits until it may have a connection.
    Waiting(Rc<Pool>),
}

impl AttemptStage {
    /// Gives an attempt up, and its connection.
    pub(super) fn abort(self, attempt: AttemptKey) {
        match self {
            AttemptStage::Seated(seat, pool) => {
                seat.aborted.set(true);
                if let Some(task) = seat.task.get() {
                    task.abort();
                }
                pool.ended();
            }
            AttemptStage::Waiting(pool) => {
                pool.with_waiting(|waiting| waiting.retain(|dispatch| dispatch.attempt != attempt));
            }
        }
    }
}

/// See the module.
pub(super) struct Pool {
    /// The address as configured, for messages.
    pub(super) address: Arc<str>,
    /// What every request begins with.
    pub(super) prefix: Prefix,
    pub(super) origin: Rc<Origin>,
    pub(super) shared: Rc<Shared>,
    /// Seats in use, bounded by `connections_max`.
    busy: Cell<usize>,
    /// Attempts that came when there were that many.
    #[expect(
        clippy::box_collection,
        reason = "there hardly ever is one, and then it takes a quarter of the room"
    )]
    waiting: Cell<Option<Box<VecDeque<Dispatch>>>>,
}

// Checked when it is compiled: with the two counts of `Rc`, two cache lines. More are felt where there are ten thousand
// functions.
const _: () = assert!(size_of::<Pool>() == 112);

impl Pool {
    /// A pool without attempts; `uri` is what `address` says.
    pub(super) fn new(
        function: &Name,
        address: &Arc<str>,
        uri: &Uri,
        origin: Rc<Origin>,
        shared: &Rc<Shared>,
    ) -> Pool {
        origin.opened();
        Pool {
            address: Arc::clone(address),
            prefix: Prefix::of(uri, function.as_str()),
            origin,
            shared: Rc::clone(shared),
            busy: Cell::new(0),
            waiting: Cell::default(),
        }
    }

    /// Makes an attempt, over a connection that is free, or a new one, or when it may have one.
    pub(super) fn start(self: &Rc<Self>, dispatch: Dispatch) {
        if self.busy.get() < self.shared.options.connections_max {
            self.busy.set(self.busy.get() + 1);
            self.seat(dispatch);
            return;
        }
        let attempt = dispatch.attempt;
        self.shared.note(attempt, Some(AttemptStage::Waiting(Rc::clone(self))));
        self.with_waiting(|waiting| waiting.push_back(dispatch));
        (self.shared.sink)(Input::Dispatch(attempt, DispatchEvent::Connecting));
    }

    /// No further attempts come.
    pub(super) fn close(&self) {
        self.origin.closed();
    }

    fn with_waiting(&self, change: impl FnOnce(&mut VecDeque<Dispatch>)) {
        let mut waiting = self.waiting.take().unwrap_or_default();
        change(&mut waiting);
        self.waiting.set(Some(waiting));
    }

    fn next_waiting(&self) -> Option<Dispatch> {
        let mut waiting = self.waiting.take()?;
        let next = waiting.pop_front();
        // An empty one is not kept: thousands of them would be.
        self.waiting.set(Some(waiting).filter(|waiting| !waiting.is_empty()));
        next
    }

    fn seat(self: &Rc<Self>, dispatch: Dispatch) {
        let attempt = dispatch.attempt;
        if let Some(seat) = self.origin.take() {
            seat.used.set(true);
            self.give(&seat, dispatch);
            seat.wake();
            return;
        }
        let seat = Rc::new(TaskSlot {
            next: RefCell::new(Some((Rc::clone(self), dispatch))),
            waker: RefCell::default(),
            task: OnceCell::new(),
            used: Cell::new(true),
            expired: Cell::new(false),
            aborted: Cell::new(false),
        });
        self.shared.note(attempt, Some(AttemptStage::Seated(Rc::clone(&seat), Rc::clone(self))));
        let task = tokio::task::spawn_local(Rc::clone(&seat).occupy(Rc::clone(&self.origin)));
        // Just made, so it is empty.
        let _ = seat.task.set(task.abort_handle());
    }

    fn give(self: &Rc<Self>, seat: &Rc<TaskSlot>, dispatch: Dispatch) {
        self.shared.note(dispatch.attempt, Some(AttemptStage::Seated(Rc::clone(seat), Rc::clone(self))));
        *seat.next.borrow_mut() = Some((Rc::clone(self), dispatch));
    }

    /// Gives a seat that has become free to the attempt that waited longest, if any.
    fn free(self: &Rc<Self>, seat: &Rc<TaskSlot>) {
        let next = self.next_waiting();
        let Some(dispatch) = next else {
            self.busy.set(self.busy.get() - 1);
            self.origin.put(seat);
            return;
        };
        let attempt = dispatch.attempt;
        self.give(seat, dispatch);
        (self.shared.sink)(Input::Dispatch(attempt, DispatchEvent::Sent));
    }

    /// A seat is gone with its attempt: one that waits gets another.
    fn ended(self: &Rc<Self>) {
        let next = self.next_waiting();
        match next {
            Some(dispatch) => self.seat(dispatch),
            None => self.busy.set(self.busy.get() - 1),
        }
    }
}
