//! The free connections to one host and port, on one thread, whichever endpoints they served before. A thousand
//! functions behind one gateway need as many connections as there are calls at once, not a thousand that are cold.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::{Rc, Weak},
    time::Duration,
};

use hyper::Uri;
use nanofaas_web::tls;
use tokio::net::TcpStream;

use super::{
    connection::{Connection, Stream},
    pool::TaskSlot,
};

/// Time that a connection is kept without use, to twice as long.
const IDLE_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Whom to connect to. An address without a host is like any other here: connecting to it fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    tls: bool,
    host: String,
    port: u16,
}

impl Peer {
    pub(super) fn of(uri: &Uri) -> Peer {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Peer { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) }
    }
}

/// See the module.
pub(super) struct Origin {
    pub(super) peer: Peer,
    /// Endpoints that are open here. None: nothing is kept any more.
    endpoints: Cell<usize>,
    /// Seats that have nothing to do, newest last: the newest is the least likely to be closed by the peer.
    idle: RefCell<Vec<Rc<TaskSlot>>>,
    /// A task looks after idle connections.
    kept: Cell<bool>,
}

impl Origin {
    /// An origin without connections.
    pub(super) fn new(peer: Peer) -> Origin {
        Origin { peer, endpoints: Cell::new(0), idle: RefCell::default(), kept: Cell::new(false) }
    }

    /// One more endpoint is here.
    pub(super) fn opened(&self) {
        self.endpoints.set(self.endpoints.get() + 1);
    }

    /// An endpoint is gone. With the last one idle connections go now, and the others when their attempts have ended.
    pub(super) fn closed(&self) {
        self.endpoints.set(self.endpoints.get() - 1);
        if self.is_closed() {
            self.idle.borrow_mut().drain(..).for_each(|seat| seat.expire());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.endpoints.get() == 0
    }

    /// The seat that has been free for the shortest time.
    pub(super) fn take(&self) -> Option<Rc<TaskSlot>> {
        self.idle.borrow_mut().pop()
    }

    /// Keeps a seat that is free.
    pub(super) fn put(self: &Rc<Self>, seat: &Rc<TaskSlot>) {
        self.idle.borrow_mut().push(Rc::clone(seat));
        if !self.kept.replace(true) {
            tokio::task::spawn_local(Origin::keep(Rc::downgrade(self)));
        }
    }

    /// A free seat goes.
    pub(super) fn forget(&self, seat: &Rc<TaskSlot>) {
        self.idle.borrow_mut().retain(|idle| !Rc::ptr_eq(idle, seat));
    }

    /// Ends connections that nobody has used for long, until none is idle: they would keep their descriptors for
    /// ever. Second chance (Corbató: "A Paging Experiment with the Multics System"): no clock is read per attempt.
    async fn keep(origin: Weak<Origin>) {
        loop {
            tokio::time::sleep(IDLE_SWEEP_INTERVAL).await;
            let Some(origin) = origin.upgrade() else { return };
            let mut idle = origin.idle.borrow_mut();
            idle.retain(|seat| {
                let used = seat.used.replace(false);
                if !used {
                    seat.expire();
                }
                used
            });
            if idle.is_empty() {
                origin.kept.set(false);
                return;
            }
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, connect_timeout: Duration) -> io::Result<Connection> {
        let Peer { tls, host, port } = &self.peer;
        if host.is_empty() {
            return Err(io::Error::other("the address has no host"));
        }
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let stream = match tls {
                true => Stream::Tls(Box::new(tls::connect(host, stream).await?)),
                false => Stream::Plain(stream),
            };
            Ok(Connection::new(stream))
        };
        match tokio::time::timeout(connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} ms", connect_timeout.as_millis()),
            )),
        }
    }
}
