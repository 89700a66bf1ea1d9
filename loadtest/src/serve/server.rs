//! The server's loop.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener};

use super::connection::{Incoming, ServedConnection};

/// Events per turn.
const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<ServedConnection>>,
    free: Vec<usize>,
    is_stopped: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

/// Ends a server that runs on another thread.
#[derive(Debug)]
pub(crate) struct Stopper {
    is_stopped: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        // A server that cannot be woken has ended.
        let _ = self.waker.wake();
    }
}

impl Server {
    /// Takes a listener over.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
        let is_stopped = Arc::new(AtomicBool::new(false));
        Ok(Server { poll, listener, connections: Vec::new(), free: Vec::new(), is_stopped, waker })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(crate) fn stopper(&self) -> Stopper {
        Stopper { is_stopped: Arc::clone(&self.is_stopped), waker: Arc::clone(&self.waker) }
    }

    /// Answers every request with the same bytes, which are a whole HTTP answer.
    pub fn run_fixed(self, answer: &[u8]) -> io::Result<()> {
        self.run(|_, output| output.extend_from_slice(answer))
    }

    /// Answers requests until it is stopped; `answer` appends a whole HTTP answer.
    pub(crate) fn run(mut self, mut answer: impl FnMut(Incoming<'_>, &mut Vec<u8>)) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopped.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    STOP => {}
                    Token(index) => {
                        let Some(Some(connection)) = self.connections.get_mut(index) else { continue };
                        if connection.turn(&mut answer).is_err() {
                            self.connections[index] = None;
                            self.free.push(index);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                // Interrupted, or the peer has left already: the next may be fine. Without descriptors the rest waits
                // for the next connection that comes.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(()),
            };
            let _ = socket.set_nodelay(true);
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(index), interest)?;
            self.connections[index] = Some(ServedConnection::new(socket));
        }
    }
}
