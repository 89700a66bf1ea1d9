//! The connections of one endpoint, on one thread.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use hyper::Uri;
use tokio::{net::TcpStream, sync::Semaphore};

use super::{
    DispatchOptions,
    connection::{Connection, Stream},
    tls,
};

/// Time that a connection is kept without use, to twice as long.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Pool {
    /// The address as configured, for messages.
    pub(super) address: Arc<str>,
    /// Request line and `Host` of every request.
    pub(super) prefix: Vec<u8>,
    /// Host and port to connect to; `None` when the address makes no sense.
    authority: Option<(String, u16)>,
    tls: bool,
    /// Exchanges that may run at once, which bounds the connections.
    pub(super) permits: Semaphore,
    /// Idle connections, newest last: the newest is the least likely to have been closed by the peer.
    idle: RefCell<Vec<Connection>>,
    /// Wakes the task that looks after idle connections, while there are any.
    keeper: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    connect_timeout: Duration,
}

impl Pool {
    pub(super) fn new(address: &Arc<str>, options: &DispatchOptions) -> Pool {
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
            permits: Semaphore::new(options.connections_max),
            idle: RefCell::default(),
            keeper: RefCell::default(),
            closed: Cell::new(false),
            connect_timeout: options.connect_timeout,
        }
    }

    /// An idle connection that the peer has not closed, as far as is known.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if !connection.is_stale(Waker::noop()) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next call.
    pub(super) fn give_back(self: &Rc<Self>, mut connection: Connection) {
        if self.closed.get() {
            return;
        }
        let mut keeper = self.keeper.borrow_mut();
        let waker = keeper.get_or_insert_with(|| {
            tokio::task::spawn_local(Pool::keep(Rc::downgrade(self)));
            // It looks at all of them first, with a waker of its own.
            Waker::noop().clone()
        });
        if !connection.is_stale(waker) {
            self.idle.borrow_mut().push(connection);
        }
    }

    /// Closes idle connections when the peer has closed them or nobody has used them for long, until none is left:
    /// they would keep their descriptors for ever.
    async fn keep(pool: Weak<Pool>) {
        let mut tick = std::pin::pin!(tokio::time::sleep(IDLE_MAX));
        poll_fn(|context| {
            let Some(pool) = pool.upgrade() else { return Poll::Ready(()) };
            if tick.as_mut().poll(context).is_ready() {
                tick.as_mut().reset(tokio::time::Instant::now() + IDLE_MAX);
                let _ = tick.as_mut().poll(context);
            }
            let mut idle = pool.idle.borrow_mut();
            idle.retain_mut(|connection| {
                connection.idle_since().elapsed() < IDLE_MAX && !connection.is_stale(context.waker())
            });
            let done = idle.is_empty();
            *pool.keeper.borrow_mut() = (!done).then(|| context.waker().clone());
            if done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Drops idle connections now, and the others when their calls have ended.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
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
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} ms", self.connect_timeout.as_millis()),
            )),
        }
    }
}
