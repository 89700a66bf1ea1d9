//! The connections of one endpoint, on one thread.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Uri, client::conn::http1, header::HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Semaphore, task::AbortHandle};

use super::{DispatchOptions, tls};

/// Time for a connection to take the rest of a request whose answer is already there.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection. Dropping it closes it, whatever is still on its way.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without this a function that answers and never reads the rest of the request would keep the
        // connection for as long as it likes.
        self.task.abort();
    }
}

/// See the module.
pub(super) struct Pool {
    /// The address as configured, for messages.
    pub(super) address: Arc<str>,
    /// `Host` of every request.
    pub(super) host: HeaderValue,
    /// Path and query of every request.
    pub(super) path: Uri,
    /// Host and port to connect to; `None` when the address makes no sense.
    authority: Option<(String, u16)>,
    tls: bool,
    /// Exchanges that may run at once, which bounds the connections.
    pub(super) permits: Semaphore,
    /// Idle connections, newest last: the newest is the least likely to have been closed by the peer.
    idle: RefCell<Vec<Connection>>,
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
            host: HeaderValue::from_str(authority).unwrap_or_else(|_| HeaderValue::from_static("")),
            path: path.parse().unwrap_or_default(),
            authority: (!host.is_empty()).then(|| (host.trim_matches(['[', ']']).to_owned(), port)),
            tls,
            permits: Semaphore::new(options.connections_max),
            idle: RefCell::default(),
            closed: Cell::new(false),
            connect_timeout: options.connect_timeout,
        }
    }

    /// An idle connection that the peer has not closed, as far as is known.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next call.
    pub(super) fn give_back(self: &Rc<Self>, mut connection: Connection) {
        if self.closed.get() || connection.sender.is_closed() {
            return;
        }
        if connection.sender.is_ready() {
            self.idle.borrow_mut().push(connection);
            return;
        }
        // Its task has yet to notice that the answer was read to the end.
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let ready = tokio::time::timeout(RETURN_TIMEOUT, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) && !pool.closed.get() {
                pool.idle.borrow_mut().push(connection);
            }
        });
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
            if self.tls {
                Self::handshake(tls::connect(host, stream).await?).await
            } else {
                Self::handshake(stream).await
            }
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} ms", self.connect_timeout.as_millis()),
            )),
        }
    }

    async fn handshake<S>(stream: S) -> io::Result<Connection>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the connection; an error reaches whoever waits for the answer as well.
        let task = tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Connection { sender, task: task.abort_handle() })
    }
}
