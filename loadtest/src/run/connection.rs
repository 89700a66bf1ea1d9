//! One connection of a load: its socket, what it is doing, and the answer that comes.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use mio::{Interest, Registry, Token, net::TcpStream};

use super::call::{Call, Exchange};
use crate::client::reader::{ReadError, ReadStep, Reader};

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum State {
    /// It has no socket and will be opened again.
    Closed,
    Connecting,
    Idle,
    Busy(Exchange),
    /// A closed loop waits, for the time to call again or for a callback.
    Parked,
}

/// A connection, also between two sockets.
#[derive(Debug)]
pub(super) struct Connection {
    /// Index of its load on this thread.
    pub(super) stream: usize,
    pub(super) state: State,
    pub(super) reader: Reader,
    /// It stands in the list of idle connections, maybe wrongly.
    pub(super) is_listed: bool,
    /// How often it was lost or could not be opened since the last answer.
    pub(super) failures: u32,
    /// The call that it is opened for.
    pub(super) next: Option<Call>,
    socket: Option<TcpStream>,
}

impl Connection {
    pub(super) fn new(stream: usize) -> Connection {
        Connection {
            stream,
            state: State::Closed,
            reader: Reader::new(),
            is_listed: false,
            failures: 0,
            next: None,
            socket: None,
        }
    }

    /// Begins to connect.
    pub(super) fn open(&mut self, address: SocketAddr, registry: &Registry, token: Token) -> io::Result<()> {
        self.close();
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.socket = Some(socket);
        self.state = State::Connecting;
        Ok(())
    }

    /// Whether the connection stands by now, or why it never will.
    pub(super) fn is_open(&mut self) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Ok(false) };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => {
                // Small requests have to go out at once; a system without the option still works.
                let _ = socket.set_nodelay(true);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Drops the socket, which leaves the poll with it.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.state = State::Closed;
        self.reader.reset();
    }

    /// Writes what is left of the request, as far as the socket takes it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let (State::Busy(exchange), Some(socket)) = (&mut self.state, &mut self.socket) else {
            return Ok(());
        };
        let bytes = exchange.out.bytes();
        while exchange.written < bytes.len() {
            match socket.write(&bytes[exchange.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => exchange.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once.
    pub(super) fn read(&mut self) -> Result<ReadStep, ReadError> {
        match &mut self.socket {
            Some(socket) => self.reader.read(socket),
            None => Ok(ReadStep::Wait),
        }
    }
}
