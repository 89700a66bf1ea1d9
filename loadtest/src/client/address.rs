//! Where requests go: the parts of an `http://` URL, and one request to it that may block.
//!
//! There is no TLS: a load test measures the server behind it.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use super::reader::{ReadError, Reader, Step};

/// Most of a page that is fetched.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A URL, taken apart and resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where to connect.
    pub socket: SocketAddr,
    /// Value of the `Host` header.
    pub host: String,
    /// Path and query, from the first `/`.
    pub path: String,
}

/// Why a URL is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// `https`, or no scheme at all.
    #[error("{0:?} does not begin with http:// (other protocols are not spoken)")]
    Scheme(String),
    /// Nothing between scheme and path.
    #[error("{0:?} has no host")]
    Host(String),
    /// The name is unknown, or the port is none.
    #[error("cannot resolve {0:?}: {1}")]
    Unresolved(String, String),
}

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not HTTP, or not all of it came.
    #[error("{0}")]
    Answer(String),
    /// Another status than 200.
    #[error("the answer has status {0}")]
    Status(u16),
}

impl Address {
    /// Takes `url` apart and resolves its host.
    pub fn parse(url: &str) -> Result<Address, AddressError> {
        let rest = url.strip_prefix("http://").ok_or_else(|| AddressError::Scheme(url.to_owned()))?;
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(AddressError::Host(url.to_owned()));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let unresolved = |reason: String| AddressError::Unresolved(with_port.clone(), reason);
        let mut sockets = with_port.to_socket_addrs().map_err(|error| unresolved(error.to_string()))?;
        let socket = sockets.next().ok_or_else(|| unresolved("no address".to_owned()))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Address { socket, host: host.to_owned(), path })
    }

    /// Gets the body at this address, at most 16 MiB of it; blocks for about `timeout` at most.
    pub fn fetch(&self, timeout: Duration) -> Result<Vec<u8>, FetchError> {
        let end = Instant::now() + timeout;
        let mut socket = TcpStream::connect_timeout(&self.socket, timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.host);
        socket.write_all(request.as_bytes())?;
        let mut reader = Reader::keeping(PAGE_BYTES_MAX);
        loop {
            match reader.read(&mut socket) {
                Ok(Step::Complete) => break,
                // The socket blocks: the next read waits for what has to come.
                Ok(Step::Again | Step::Wait) if Instant::now() < end => {}
                Ok(Step::Again | Step::Wait) => {
                    return Err(FetchError::Answer("no answer in time".to_owned()));
                }
                Ok(Step::Closed(_)) => return Err(FetchError::Answer("the answer ends early".to_owned())),
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(ReadError::Malformed(error)) => return Err(FetchError::Answer(error.to_string())),
            }
        }
        let answer = reader.answer().ok_or_else(|| FetchError::Answer("no answer".to_owned()))?;
        if answer.head.status != 200 {
            return Err(FetchError::Status(answer.head.status));
        }
        Ok(answer.body.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (url, socket, host, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "/"),
            ("http://127.0.0.1/a/b?c=d", "127.0.0.1:80", "127.0.0.1", "/a/b?c=d"),
            ("http://[::1]:9/x", "[::1]:9", "[::1]:9", "/x"),
            ("http://[::1]", "[::1]:80", "[::1]", "/"),
            ("http://127.0.0.1?q", "127.0.0.1:80", "127.0.0.1", "/?q"),
        ] {
            let address = Address::parse(url).expect(url);
            assert_eq!((address.socket.to_string().as_str(), address.host.as_str()), (socket, host), "{url}");
            assert_eq!(address.path, path, "{url}");
        }
    }

    #[test]
    fn mistakes() {
        for url in ["https://127.0.0.1", "127.0.0.1:80", "http://", "http://:80/", "http://127.0.0.1:x"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
