//! Where requests go: the parts of an `http://` URL, and one request to it that may block.
//!
//! There is no TLS: a load test measures the server behind it.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use super::exchange::{Client, FetchError};

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
        let answer =
            Client::connect(self.socket, timeout)?.with_host(&self.host).send("GET", &self.path, None)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(FetchError::Status(answer.status)) }
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
