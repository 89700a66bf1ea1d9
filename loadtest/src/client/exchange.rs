//! A connection that blocks: one request, one answer, one after the other. For what is not measured: registering functions,
//! asking for states, reading metrics.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::reader::{ReadError, ReadStep, Reader};

/// Most of a body that is kept.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not HTTP, or not all of it came.
    #[error("{0}")]
    Answer(String),
    /// Another status than expected.
    #[error("the answer has status {0}")]
    Status(u16),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub keep_alive: bool,
}

/// The connection.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    reader: Reader,
    host: String,
    timeout: Duration,
}

impl Client {
    /// Connects. `timeout` is for that, and for each answer.
    ///
    /// # Errors
    /// When nobody accepts.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        socket.set_nodelay(true)?;
        let reader = Reader::keeping(BODY_BYTES_MAX);
        Ok(Client { socket, reader, host: address.to_string(), timeout })
    }

    /// Sends this value of `Host` instead of the address.
    #[must_use]
    pub fn with_host(self, host: &str) -> Client {
        Client { host: host.to_owned(), ..self }
    }

    /// Sends a request, with JSON if there is a body, and waits for its answer.
    ///
    /// # Errors
    /// When there is none in time; the connection is of no use then.
    pub fn send(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answered, FetchError> {
        self.send_with(method, path, &[], body)
    }

    /// The same with further headers.
    ///
    /// # Errors
    /// The same.
    pub fn send_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Answered, FetchError> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            request +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            request += "\r\n";
        }
        let end = Instant::now() + self.timeout;
        self.socket.write_all(request.as_bytes())?;
        self.reader.reset();
        loop {
            match self.reader.read(&mut self.socket) {
                Ok(ReadStep::Complete) => break,
                // The socket blocks: the next read waits for what has to come.
                Ok(ReadStep::Again | ReadStep::Wait) if Instant::now() < end => {}
                Ok(ReadStep::Again | ReadStep::Wait) => {
                    return Err(FetchError::Answer("no answer in time".to_owned()));
                }
                Ok(ReadStep::Closed(_)) => {
                    return Err(FetchError::Answer("the answer ends early".to_owned()));
                }
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(ReadError::Malformed(error)) => return Err(FetchError::Answer(error.to_string())),
            }
        }
        let answer = self.reader.answer().ok_or_else(|| FetchError::Answer("no answer".to_owned()))?;
        Ok(Answered {
            status: answer.head.status,
            body: answer.body.to_vec(),
            keep_alive: answer.head.keep_alive,
        })
    }
}
