//! By which name a request was sent, and whether a page of another site sent it.
//!
//! A listener on loopback is within reach of every page that a browser of this machine shows: a page can send requests
//! without asking anybody, and a name of its own that leads to 127.0.0.1 (DNS rebinding) makes it read the answers too. What
//! a listener makes of that is its own affair; here is how it finds out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::{
    Uri, Version,
    header::{HeaderName, HeaderValue},
};

/// What a browser says about the page behind a request.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a value of [`SEC_FETCH_SITE`] says that a page of another origin is behind the request.
pub fn is_foreign_site(value: &HeaderValue) -> bool {
    !matches!(value.as_bytes(), b"same-origin" | b"none")
}

/// Why a request does not say for whom it is. The text says what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHost(pub &'static str);

/// The host that a request is for: name or address, with a port when there is one. `None` where HTTP/1.0 has none. `host` is
/// the first of `hosts` headers.
///
/// # Errors
/// It names none, or more than one.
pub fn target<'a>(
    host: Option<&'a HeaderValue>,
    hosts: usize,
    version: Version,
    uri: &'a Uri,
) -> Result<Option<&'a [u8]>, BadHost> {
    match (host, uri.authority()) {
        (Some(_), _) if hosts > 1 => Err(BadHost("The request has more than one Host header; send one")),
        (Some(host), None) => Ok(Some(host.as_bytes())),
        (Some(host), Some(target)) if host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()) => {
            Ok(Some(host.as_bytes()))
        }
        (Some(_), Some(_)) => Err(BadHost("The Host header and the request's target name different servers")),
        (None, Some(target)) if version == Version::HTTP_2 => Ok(Some(target.as_str().as_bytes())),
        // Host came with HTTP/1.1. No browser speaks anything older.
        (None, None) if version == Version::HTTP_10 => Ok(None),
        (None, _) => Err(BadHost("The request has no Host header; send one")),
    }
}

/// The host of a `Host` header, without its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// An address.
    Address(IpAddr),
    /// A name, without the root's dot.
    Name(&'a str),
}

impl<'a> Named<'a> {
    /// Takes a header's value apart.
    ///
    /// # Errors
    /// It is neither a name nor an address.
    pub fn of(value: &'a [u8]) -> Result<Named<'a>, BadHost> {
        Named::parsed(value)
            .ok_or(BadHost("The Host header is not a name or an address, with a port or without"))
    }

    fn parsed(value: &'a [u8]) -> Option<Named<'a>> {
        let text = std::str::from_utf8(value).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            return (port.is_empty() || is_port(port.strip_prefix(':')?))
                .then_some(Named::Address(address.into()));
        }
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        if !is_port(port) {
            return None;
        }
        // The root of all names may be written out.
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Some(Named::Address(address.into()));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!host.is_empty() && host.bytes().all(is_name)).then_some(Named::Name(host))
    }

    /// Whether it can mean nothing but this machine: a loopback address, or `localhost` and everything below it (RFC 6761),
    /// about which no name server is asked.
    pub fn is_local(&self) -> bool {
        match self {
            Named::Address(address) => address.to_canonical().is_loopback(),
            Named::Name(name) => {
                name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
            }
        }
    }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}
