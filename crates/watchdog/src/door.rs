//! Decides whether a request may come in at all: pages in a browser of the machine have no business here.
//!
//! On loopback a watchdog has a port that every page can send requests to, and that a page can read from when a name of
//! its own leads to 127.0.0.1 (DNS rebinding). The server's rules (`src/http/origin.rs`) are stricter here: a watchdog
//! serves no pages, so no page may call it, its own or another's. In a container it is called by whatever name the
//! container has there.

use hyper::{
    HeaderMap, StatusCode, Uri, Version,
    header::{HOST, ORIGIN},
};
use nanofaas_web::host::{self, BadHost, Named, SEC_FETCH_SITE};

/// Status, code and message of a refusal.
pub type Refusal = (StatusCode, &'static str, String);

/// Looks at the head of a request, before its body is read.
///
/// # Errors
/// 403 for a page; on loopback also 421 for a name that is not this machine's, and 400 without one.
pub fn check(is_on_loopback: bool, headers: &HeaderMap, version: Version, uri: &Uri) -> Result<(), Refusal> {
    if is_on_loopback {
        let hosts = headers.get_all(HOST).iter().count();
        let bad = |reason: BadHost| (StatusCode::BAD_REQUEST, "BAD_REQUEST", reason.to_string());
        let host = host::target(headers.get(HOST), hosts, version, uri).map_err(bad)?;
        if let Some(host) = host
            && !Named::of(host).map_err(bad)?.is_local()
        {
            let host = String::from_utf8_lossy(host);
            let message =
                format!("this watchdog does not answer to '{host}'; call it by 127.0.0.1 or localhost");
            return Err((StatusCode::MISDIRECTED_REQUEST, "MISDIRECTED_REQUEST", message));
        }
    }
    let is_foreign = headers.get_all(SEC_FETCH_SITE).iter().any(host::is_foreign_site);
    if is_foreign || headers.contains_key(ORIGIN) {
        let message = "pages may not call a watchdog; call the function through its server".to_owned();
        return Err((StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    /// The status that a request with these headers is refused with, on loopback and elsewhere.
    fn statuses(headers: &[(&str, &str)]) -> [Option<u16>; 2] {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        [true, false].map(|is_on_loopback| {
            let checked = check(is_on_loopback, &map, Version::HTTP_11, &Uri::from_static("/invoke"));
            checked.err().map(|(status, ..)| status.as_u16())
        })
    }

    #[test]
    fn names() {
        for (host, on_loopback) in [
            ("127.0.0.1:8080", None),
            ("127.9.9.9", None),
            ("[::1]:8080", None),
            ("[::ffff:127.0.0.1]", None),
            ("localhost:1", None),
            ("a.localhost", None),
            ("evil.example:8080", Some(421)),
            ("localhost.evil.example", Some(421)),
            ("10.0.0.1", Some(421)),
            ("0.0.0.0", Some(421)),
            ("127.1", Some(421)),
            ("", Some(400)),
            ("a b", Some(400)),
        ] {
            assert_eq!(statuses(&[("host", host)]), [on_loopback, None], "{host}");
        }
        assert_eq!(statuses(&[]), [Some(400), None]);
        assert_eq!(statuses(&[("host", "localhost"), ("host", "localhost")]), [Some(400), None]);
    }

    #[test]
    fn pages() {
        for (name, value, expected) in [
            ("origin", "http://127.0.0.1:8080", Some(403)),
            ("origin", "http://evil.example", Some(403)),
            ("origin", "null", Some(403)),
            ("sec-fetch-site", "cross-site", Some(403)),
            ("sec-fetch-site", "same-site", Some(403)),
            ("sec-fetch-site", "nonsense", Some(403)),
            ("sec-fetch-site", "same-origin", None),
            ("sec-fetch-site", "none", None),
            ("x-trace-id", "1", None),
        ] {
            assert_eq!(statuses(&[("host", "127.0.0.1"), (name, value)]), [expected; 2], "{name}: {value}");
        }
    }
}
