//! Where a result is delivered: the value of `X-Callback-Url`, checked.
//!
//! A host is a name, or an address in its one usual spelling. Resolvers read a name whose last label is a number as an
//! address in disguise (`127.1`, `0x7f.1`, `2130706433`), so such a name is none. What a name leads to is looked at when
//! it is connected to, not here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::{Uri, http::uri::Authority};

use super::address::Permit;

/// Longest address of a receiver, in bytes.
const BYTES_MAX: usize = 2048;
/// Longest name of a host, in bytes (RFC 1035).
const NAME_BYTES_MAX: usize = 253;

/// A receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackTarget {
    /// Whether it is reached over TLS.
    pub tls: bool,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Host and port as they were written, for `Host`.
    pub authority: Box<str>,
    /// Path and query.
    pub path: Box<str>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name.
    Name(Box<str>),
}

/// What is wrong with an address. Reads on from the name of what holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Too long.
    #[error("is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Not an address.
    #[error("must be an address such as https://example.org/results")]
    NotAnAddress,
    /// Neither http nor https.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// It carries credentials.
    #[error("must not contain a user name or password; results are signed instead")]
    UserInfo,
    /// Its host is neither a name nor an address.
    #[error(
        "must name a host such as example.org, 198.51.100.7 or [2001:db8::7], with a port from 1 to 65535 or none"
    )]
    Host,
    /// Its host is not one of the public internet.
    #[error(
        "leads to {0}, which is private, loopback, link-local or reserved; deliver to a public address, or start the server with delivery.allow-private=true"
    )]
    NotPermitted(Box<str>),
}

impl CallbackTarget {
    /// Reads an address. Its host, when it is given by its address, must be permitted, and `localhost` is no name for
    /// an address that is not.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str, permit: Permit) -> Result<CallbackTarget, TargetError> {
        if text.len() > BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| TargetError::NotAnAddress)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::NotAnAddress),
        };
        let authority = uri.authority().ok_or(TargetError::NotAnAddress)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        let port = port(authority).ok_or(TargetError::Host)?.unwrap_or(if tls { 443 } else { 80 });
        let host = Host::parse(authority.host()).ok_or(TargetError::Host)?;
        let address = match &host {
            Host::Address(address) => Some(*address),
            Host::Name(name) => is_localhost(name).then_some(Ipv4Addr::LOCALHOST.into()),
        };
        if address.is_some_and(|address| !permit(address)) {
            return Err(TargetError::NotPermitted(authority.host().into()));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // `http://host?query` has no path, and a request line needs one.
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        Ok(CallbackTarget { tls, host, port, authority: authority.as_str().into(), path })
    }

    /// What a certificate of the host must carry; `None` without TLS.
    pub fn certificate_name(&self) -> Option<String> {
        self.tls.then(|| match &self.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.trim_end_matches('.').to_owned(),
        })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Host::Address(address.into()));
        }
        is_name(text).then(|| Host::Name(text.into()))
    }
}

fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !ends_in_number(name)
}

/// Whether a resolver may read a name as an address: its last label is a number, decimal, octal or hexadecimal.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X")
}

/// `localhost` and everything below it (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// `Some(None)`: there is none. `None`: it is no port.
fn port(authority: &Authority) -> Option<Option<u16>> {
    let rest = authority.as_str().strip_prefix(authority.host())?;
    match rest.strip_prefix(':') {
        // A number that is parsed may have a sign.
        Some(port) if !port.starts_with('+') => port.parse().ok().filter(|port| *port > 0).map(Some),
        Some(_) => None,
        None => rest.is_empty().then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::address::{is_public, permit};

    #[test]
    fn addresses_are_taken_apart() {
        let name = |name: &str| Host::Name(name.into());
        let address = |text: &str| Host::Address(text.parse().expect(text));
        for (text, tls, host, port, authority, path) in [
            ("http://example.org", false, name("example.org"), 80, "example.org", "/"),
            ("https://example.org/a/b?c=d#e", true, name("example.org"), 443, "example.org", "/a/b?c=d"),
            ("HTTP://Example.org.:81?q", false, name("Example.org."), 81, "Example.org.:81", "/?q"),
            ("https://8.8.8.8:8443/", true, address("8.8.8.8"), 8443, "8.8.8.8:8443", "/"),
            ("http://[2606:4700::1]:81/x", false, address("2606:4700::1"), 81, "[2606:4700::1]:81", "/x"),
            ("http://[::ffff:8.8.8.8]/", false, address("::ffff:8.8.8.8"), 80, "[::ffff:8.8.8.8]", "/"),
            ("http://my_host-1/", false, name("my_host-1"), 80, "my_host-1", "/"),
            ("http://1.2.3.4host/", false, name("1.2.3.4host"), 80, "1.2.3.4host", "/"),
            (
                "http://localhost.example.org/",
                false,
                name("localhost.example.org"),
                80,
                "localhost.example.org",
                "/",
            ),
        ] {
            let expected = CallbackTarget { tls, host, port, authority: authority.into(), path: path.into() };
            assert_eq!(CallbackTarget::parse(text, is_public), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_anyone() {
        let long = format!("http://example.org/{}", "a".repeat(BYTES_MAX));
        for (text, expected) in [
            (&*long, TargetError::TooLong),
            ("", TargetError::NotAnAddress),
            ("/results", TargetError::NotAnAddress),
            ("example.org", TargetError::NotAnAddress),
            ("http://", TargetError::NotAnAddress),
            ("http:///path", TargetError::NotAnAddress),
            ("http://a b/", TargetError::NotAnAddress),
            ("ftp://example.org/", TargetError::Scheme),
            ("file://example.org/etc/passwd", TargetError::Scheme),
            ("gopher://example.org/", TargetError::Scheme),
            ("http://user@example.org/", TargetError::UserInfo),
            ("http://user:word@example.org/", TargetError::UserInfo),
            ("http://8.8.8.8@127.0.0.1/", TargetError::UserInfo),
            ("http://example.org:0/", TargetError::Host),
            ("http://example.org:65536/", TargetError::Host),
            ("http://example.org:/", TargetError::Host),
            ("http://example.org:+80/", TargetError::Host),
            ("http://a..b/", TargetError::Host),
            ("http://./", TargetError::Host),
            ("http://%31%32%37.1/", TargetError::Host),
            ("http://[fe80::1%25eth0]/", TargetError::Host),
            // Addresses in disguise.
            ("http://2130706433/", TargetError::Host),
            ("http://0x7f.1/", TargetError::Host),
            ("http://0x7f000001/", TargetError::Host),
            ("http://0X7F000001./", TargetError::Host),
            ("http://127.1/", TargetError::Host),
            ("http://127.0.0.1./", TargetError::Host),
            ("http://0177.0.0.1/", TargetError::Host),
            ("http://127.0.0.1.1/", TargetError::Host),
            ("http://1.2.3.256/", TargetError::Host),
        ] {
            for permit in [permit(false), permit(true)] {
                let found = CallbackTarget::parse(text, permit).expect_err(text);
                // A parser that sees no address at all is as good.
                assert!(found == expected || found == TargetError::NotAnAddress, "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn private_hosts_need_permission() {
        for text in [
            "http://127.0.0.1/",
            "https://10.0.0.1:8443/x",
            "http://0.0.0.0/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[fd00::1]/",
            "http://localhost/",
            "http://LocalHost:8080/",
            "http://localhost./",
            "http://a.localhost/",
            "http://a.localhost.:81/",
        ] {
            let refused = CallbackTarget::parse(text, is_public);
            assert!(matches!(refused, Err(TargetError::NotPermitted(_))), "{text}: {refused:?}");
            assert!(CallbackTarget::parse(text, permit(true)).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_certificate_names_the_host() {
        for (text, expected) in [
            ("http://example.org/", None),
            ("https://example.org.:81/", Some("example.org")),
            ("https://[2606:4700::1]/", Some("2606:4700::1")),
            ("https://8.8.8.8/", Some("8.8.8.8")),
        ] {
            let target = CallbackTarget::parse(text, is_public).expect(text);
            assert_eq!(target.certificate_name().as_deref(), expected, "{text}");
        }
    }
}
