//! A function on a thread, and one end of a connection to it or to the server: raw bytes, and no memory asked for except
//! per connection, so that neither counts in what is measured beside it.

#![allow(dead_code, reason = "a toolbox: not every tool is in use at every place")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Longest silence of a peer.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"page\":42}";

/// A function behind an address. Allocates per connection only.
pub(crate) struct Function {
    /// Where it is called.
    pub(crate) address: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Function {
    /// Starts it; it ends with the process.
    pub(crate) fn start() -> Function {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = Stream::new(stream.expect("a connection"));
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    while stream.read_message() {
                        // Before the answer, so that nobody who has that finds an older count.
                        count.fetch_add(1, Ordering::AcqRel);
                        stream.write(ANSWER);
                    }
                });
            }
        });
        Function { address, served }
    }

    /// Calls that reached it.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Acquire)
    }
}

/// One end of a connection that carries one message with a length at a time.
pub(crate) struct Stream {
    socket: TcpStream,
    buffer: [u8; 8192],
    length: usize,
}

impl Stream {
    /// Over a connection.
    pub(crate) fn new(socket: TcpStream) -> Stream {
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        Stream { socket, buffer: [0; 8192], length: 0 }
    }

    /// Writes everything.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the peer reads");
    }

    /// The message that was read.
    pub(crate) fn message(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Reads a head and its body into the buffer. `false`: the peer is gone.
    pub(crate) fn read_message(&mut self) -> bool {
        self.length = 0;
        loop {
            match self.socket.read(&mut self.buffer[self.length..]) {
                Ok(count) if count > 0 => self.length += count,
                _ => return false,
            }
            let bytes = &self.buffer[..self.length];
            if let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n")
                && bytes.len() >= head + 4 + content_length(&bytes[..head])
            {
                return true;
            }
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length: ";
    let name = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let digits = &head[name.expect("a length") + NAME.len()..];
    digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
