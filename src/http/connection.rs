//! Connections of one thread: served, swept for deadlines, drained.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Request, Version,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nanofaas_web::refusal::Worded;
use nanofaas_wire::error::ApiError;
use tokio::{net::TcpStream, task::AbortHandle};

use super::{
    framing,
    handlers::{Api, ListenerKind},
    io::{ConnectionState, Phase, SharedStream, Watched, is_closed_by_peer},
    origin::{OriginPolicy, Pass, Seen},
    respond::{self, HttpResponse},
    route::NO_ROUTE,
};
use crate::telemetry::answers::AnswerCounts;

/// Time between two sweeps, and the unit of their clock.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Most bytes that a connection reads ahead, if its head may not be longer: what [`framing`] has to look through.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// Deadlines and bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// Time without a request, or without progress of an answer.
    pub idle_timeout: Duration,
    /// Time without progress of a body.
    pub body_timeout: Duration,
    /// Longest request head, in bytes.
    pub header_bytes_max: usize,
}

/// Numbers that all threads share.
#[derive(Debug, Default)]
pub struct ConnectionCount {
    /// Open connections.
    pub open: AtomicUsize,
    /// Connections that were ended with a request in progress whose body had arrived.
    pub cut_off: AtomicUsize,
}

/// A connection's place in the counts, from when it is accepted; given back when this is dropped, wherever that is.
#[derive(Debug)]
pub struct ConnectionGuard {
    count: Arc<ConnectionCount>,
    load: Arc<AtomicUsize>,
}

impl ConnectionGuard {
    /// Counts a connection: one of all, and one of those of its thread. Counting when the thread gets it would be
    /// too late: of many that come together all would go to the same thread.
    pub fn take(count: &Arc<ConnectionCount>, load: &Arc<AtomicUsize>) -> ConnectionGuard {
        count.open.fetch_add(1, Ordering::Relaxed);
        load.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard { count: Arc::clone(count), load: Arc::clone(load) }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.count.open.fetch_sub(1, Ordering::Relaxed);
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection, as the sweep sees it.
struct Open {
    state: Rc<ConnectionState>,
    /// The connection's own, and closed with it.
    stream: Weak<RefCell<TcpStream>>,
    task: AbortHandle,
}

/// Who may talk to which listener.
#[derive(Debug, Clone)]
pub struct OriginPolicies {
    /// The API listener.
    pub api: OriginPolicy,
    /// The listener for callbacks only.
    pub internal: OriginPolicy,
}

/// The connections of one thread.
pub struct Connections {
    api: Rc<Api>,
    policies: OriginPolicies,
    limits: ConnectionLimits,
    count: Arc<ConnectionCount>,
    answers: Arc<AnswerCounts>,
    clock: Rc<Cell<u32>>,
    open: RefCell<Vec<Open>>,
    draining: Cell<bool>,
}

thread_local! {
    /// Those of this thread, when it listens.
    static CONNECTIONS: RefCell<Option<Rc<Connections>>> = const { RefCell::new(None) };
}

impl Connections {
    /// Makes these the connections of the calling thread.
    pub fn install(self: Rc<Self>) {
        CONNECTIONS.set(Some(self));
    }

    /// Does something with the connections of the calling thread. `None` when it has none.
    pub fn on_this_thread<T>(work: impl FnOnce(&Rc<Connections>) -> T) -> Option<T> {
        CONNECTIONS.with_borrow(|connections| connections.as_ref().map(work))
    }

    /// The connections of the calling thread, swept from now on.
    pub fn new(
        api: Rc<Api>,
        policies: OriginPolicies,
        limits: ConnectionLimits,
        count: Arc<ConnectionCount>,
        answers: Arc<AnswerCounts>,
    ) -> Rc<Connections> {
        let connections = Rc::new(Connections {
            api,
            policies,
            limits,
            count,
            answers,
            clock: Rc::default(),
            open: RefCell::default(),
            draining: Cell::new(false),
        });
        let sweeper = Rc::clone(&connections);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                sweeper.sweep();
            }
        });
        connections
    }

    /// Serves a connection until it ends.
    pub fn serve(self: &Rc<Self>, stream: TcpStream, kind: ListenerKind, guard: ConnectionGuard) {
        // Answers go out in one piece; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let state = Rc::new(ConnectionState::new(Rc::clone(&self.clock)));
        let stream: SharedStream = Rc::new(RefCell::new(stream));
        let weak_stream = Rc::downgrade(&stream);
        let connections = Rc::clone(self);
        let task = tokio::task::spawn_local({
            let state = Rc::clone(&state);
            async move {
                let _place = guard;
                let service_state = Rc::clone(&state);
                let service_connections = Rc::clone(&connections);
                let service = service_fn(move |request| {
                    let (connections, state) = (Rc::clone(&service_connections), Rc::clone(&service_state));
                    async move { Ok::<_, Infallible>(connections.answer(&state, kind, request).await) }
                });
                let watched = Watched { stream, state: Rc::clone(&state) };
                let refused = Rc::clone(&state);
                let words = move |status| Some(framing::refusal_of_the_parser(status, &refused.recent()));
                let io = TokioIo::new(Worded::new(watched, words));
                let connection = http1::Builder::new()
                    // The sweep watches the deadlines.
                    .header_read_timeout(None)
                    .max_header_size(connections.limits.header_bytes_max)
                    .max_buf_size(READ_AHEAD_BYTES_MAX.max(connections.limits.header_bytes_max))
                    // A client that is gone must free its place in a queue at once.
                    .half_close(false)
                    // Head and body in one buffer: an answer is small, and one write costs less than a list of two.
                    .writev(false)
                    .serve_connection(io, service);
                let ended = Closing { connection, state, started: false }.await;
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
            }
        });
        let mut open = self.open.borrow_mut();
        if self.draining.get() {
            state.drain();
        }
        open.push(Open { state, stream: weak_stream, task: task.abort_handle() });
    }

    /// Lets every connection end after its next answer. Those without a request stay: a request may be on its way,
    /// and closing now would reset it.
    pub fn drain(&self) {
        self.draining.set(true);
        for connection in self.open.borrow().iter() {
            connection.state.drain();
        }
    }

    /// Ends the connections that have no request, the others after their answer.
    pub fn close_idle(&self) {
        for connection in self.open.borrow().iter() {
            connection.state.close();
        }
    }

    /// Ends every connection now, and counts those whose request is lost by it.
    pub fn cut_off(&self) {
        for connection in self.open.borrow_mut().drain(..) {
            if !connection.task.is_finished() && connection.state.phase().0 == Phase::Busy {
                self.count.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            connection.task.abort();
        }
    }

    /// Ends connections that have been doing the same for too long.
    fn sweep(&self) {
        self.clock.set(self.clock.get().wrapping_add(1));
        let ticks = |time: Duration| {
            u32::try_from(time.as_millis().div_ceil(SWEEP_INTERVAL.as_millis())).unwrap_or(u32::MAX)
        };
        let (header_ticks, idle_ticks) = (ticks(self.limits.header_timeout), ticks(self.limits.idle_timeout));
        let body_ticks = ticks(self.limits.body_timeout);
        self.open.borrow_mut().retain(|connection| {
            if connection.task.is_finished() {
                return false;
            }
            let overdue = match connection.state.phase() {
                (Phase::Head, age) => age > header_ticks,
                (Phase::Idle, age) => age > idle_ticks,
                (Phase::Body, age) => age > body_ticks,
                // hyper sees by itself that a client is gone, but not behind further requests that it sent.
                (Phase::Busy, age) => {
                    age > 0 && connection.stream.upgrade().is_some_and(|stream| is_closed_by_peer(&stream))
                }
            };
            if overdue {
                connection.task.abort();
            }
            !overdue
        });
    }

    /// Answers one request of a connection, and counts the answer. The request is taken apart once: every future that it
    /// went on to would move it.
    async fn answer(
        &self,
        state: &Rc<ConnectionState>,
        kind: ListenerKind,
        request: Request<Incoming>,
    ) -> HttpResponse {
        state.set_route(NO_ROUTE);
        state.set_phase(Phase::Busy);
        let (head, incoming) = request.into_parts();
        let seen = Seen::of(&head.headers);
        let mut response = match self.admit(state, kind, &head, &seen) {
            Ok(pass) => {
                let mut response = self.api.handle(kind, state, &pass, &head, &seen.call, incoming).await;
                pass.mark(response.headers_mut());
                response
            }
            Err(refusal) => *refusal,
        };
        state.set_phase(Phase::Idle);
        if state.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.answers.answered(state.route(), response.status());
        if let Some(refused) = response.extensions().get() {
            self.answers.refused(*refused);
        }
        response
    }

    /// Looks at a head before anything is read or run; or the answer to a request that may not come in.
    fn admit(
        &self,
        state: &ConnectionState,
        kind: ListenerKind,
        head: &Parts,
        seen: &Seen<'_>,
    ) -> Result<Pass, Box<HttpResponse>> {
        if seen.is_chunked()
            && let Some(refusal) = refused_length(seen, state, head)
        {
            let mut response = respond::error(&ApiError::BadRequest(refusal.into()));
            // Where the next request begins is not certain.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Err(Box::new(response));
        }
        let policy = match kind {
            ListenerKind::Api => &self.policies.api,
            ListenerKind::Internal => &self.policies.internal,
        };
        policy.check(seen, head.version, &head.uri).map_err(|refusal| Box::new(respond::error(&refusal)))
    }
}

/// Why nobody can be sure how long the body of a request in chunks is.
fn refused_length(seen: &Seen<'_>, state: &ConnectionState, head: &Parts) -> Option<&'static str> {
    if seen.has_strange_coding() {
        return Some(
            "The request's Transfer-Encoding is not understood; send chunked, once, or a Content-Length",
        );
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    (head.version == Version::HTTP_11 && framing::has_two_lengths(&state.recent(), &head.method, path))
        .then_some("The request carries both Content-Length and Transfer-Encoding; send one of them")
}

/// A connection that can be told to end after the request that it is in.
struct Closing<C> {
    connection: C,
    state: Rc<ConnectionState>,
    started: bool,
}

/// What [`Closing`] needs of hyper's connection.
trait GracefulShutdown {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, B, S> GracefulShutdown for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::Connection::graceful_shutdown(self);
    }
}

impl<C: Future + GracefulShutdown + Unpin> Future for Closing<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        self.state.remember_task(context);
        if self.state.is_closing() && !self.started {
            self.started = true;
            Pin::new(&mut self.connection).graceful_shutdown();
        }
        Pin::new(&mut self.connection).poll(context)
    }
}
