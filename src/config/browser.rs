//! Names that a server answers to, and origins whose pages may use it.

use std::net::IpAddr;

use hyper::Uri;

use super::value::{Unit, Value, ValueError};

/// A host without a port, as `Host` may name it: lower case, no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(String);

/// An origin as browsers write it: scheme, host, and a port when it is not the scheme's own. Lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(String);

impl AllowedHost {
    /// Reads a host.
    ///
    /// # Errors
    /// When it is neither a name nor an address, or says more, such as a port.
    pub fn parse(text: &str) -> Result<AllowedHost, ValueError> {
        let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        match address {
            Ok(address) => Ok(AllowedHost(address.to_string())),
            Err(_) if !host.is_empty() && host.bytes().all(is_name) => Ok(AllowedHost(host)),
            Err(_) => Err(ValueError::expected(
                text,
                "a host without scheme and port, such as nanofaas.example.org or 10.0.0.7",
            )),
        }
    }

    /// The host.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, when it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl AllowedOrigin {
    /// Reads an origin. `*` is none: pages could then use the server that the user did not open.
    ///
    /// # Errors
    /// When it is not `http://host[:port]` or `https://host[:port]`.
    pub fn parse(text: &str) -> Result<AllowedOrigin, ValueError> {
        let bad =
            || ValueError::expected(text, "the origin of a page, such as https://console.example.org:8443");
        let lower = text.to_ascii_lowercase();
        let uri: Uri = lower.parse().map_err(|_| bad())?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(bad)?;
        let own_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(bad()),
        };
        let port = &authority.as_str()[authority.host().len()..];
        let is_plain = uri.path_and_query().is_none_or(|path| path.as_str() == "/") && !text.ends_with('/');
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        if authority.host().is_empty()
            || !authority.host().bytes().all(is_host)
            || authority.as_str().contains('@')
            || !is_plain
        {
            return Err(bad());
        }
        let port = match port.strip_prefix(':') {
            None => String::new(),
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port == own_port => String::new(),
                Ok(port) if port > 0 => format!(":{port}"),
                _ => return Err(bad()),
            },
        };
        Ok(AllowedOrigin(format!("{scheme}://{}{port}", authority.host())))
    }

    /// The origin, as bytes of a header.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Value for AllowedHost {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        AllowedHost::parse(text)
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.0.clone())
    }
}

impl Value for AllowedOrigin {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        AllowedOrigin::parse(text)
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("Nanofaas", Some("nanofaas")),
            ("nanofaas.default.svc.cluster.local.", Some("nanofaas.default.svc.cluster.local")),
            ("a_b-1.example", Some("a_b-1.example")),
            ("10.0.0.7", Some("10.0.0.7")),
            ("[2001:DB8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("", None),
            (".", None),
            ("*", None),
            ("*.example.org", None),
            ("example.org:8080", None),
            ("http://example.org", None),
            ("a b", None),
            ("müller.example", None),
        ] {
            let host = AllowedHost::parse(text).ok();
            assert_eq!(host.as_ref().map(AllowedHost::as_str), expected, "{text}");
        }
    }

    #[test]
    fn origins() {
        for (text, expected) in [
            ("https://Console.example.org", Some("https://console.example.org")),
            ("https://console.example.org:443", Some("https://console.example.org")),
            ("https://console.example.org:8443", Some("https://console.example.org:8443")),
            ("http://127.0.0.1:80", Some("http://127.0.0.1")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("*", None),
            ("null", None),
            ("", None),
            ("console.example.org", None),
            ("ftp://example.org", None),
            ("https://example.org/", None),
            ("https://example.org/a", None),
            ("https://example.org?a", None),
            ("https://user@example.org", None),
            ("https://example.org:", None),
            ("https://example.org:0", None),
            ("https://*.example.org", None),
        ] {
            let origin = AllowedOrigin::parse(text).ok();
            assert_eq!(origin.as_ref().map(AllowedOrigin::as_bytes), expected.map(str::as_bytes), "{text}");
        }
    }
}
