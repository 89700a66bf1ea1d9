//! The addresses that functions are reached at: absolute http or https URLs.
//!
//! An address is made callable (default path, lower-case scheme, no fragment) when a function is registered, so that
//! clients read back where calls go; documents of older versions hold what the user wrote, so it is done again when
//! calls are about to go there. Whether anybody listens is not a question for here.

use http::Uri;

/// Why `text` cannot be called; `None` when it can.
pub(super) fn violation(text: &str) -> Option<&'static str> {
    const SHAPE: &str =
        "must be an absolute http or https URL with a host, such as http://127.0.0.1:9000/invoke";
    let Ok(uri) = text.parse::<Uri>() else { return Some(SHAPE) };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Some(SHAPE) };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        || authority.host().is_empty()
    {
        return Some(SHAPE);
    }
    // They would be shown to everybody who lists functions, and sent to nobody.
    if authority.as_str().contains('@') {
        return Some("must not carry a user name or password");
    }
    let port = &authority.as_str()[authority.host().len()..];
    match port.strip_prefix(':') {
        Some(port) if !port.parse().is_ok_and(|port: u16| port > 0) => {
            Some("must have a port from 1 to 65535")
        }
        _ => None,
    }
}

/// The address that calls are posted to: without a path, or with `/`, that is `/invoke`. An address with a
/// [`violation`] comes back unchanged.
pub(super) fn callable(text: &str) -> String {
    let Ok(uri) = text.parse::<Uri>() else { return text.to_owned() };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return text.to_owned() };
    let path = match uri.path() {
        "" | "/" => "/invoke",
        path => path,
    };
    let scheme = scheme.to_ascii_lowercase();
    match uri.query() {
        Some(query) => format!("{scheme}://{authority}{path}?{query}"),
        None => format!("{scheme}://{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_callable() {
        for (given, called) in [
            ("http://h", "http://h/invoke"),
            ("http://h/", "http://h/invoke"),
            ("http://h:9000", "http://h:9000/invoke"),
            ("HTTPS://h/", "https://h/invoke"),
            ("http://h?a=1", "http://h/invoke?a=1"),
            ("http://h/fn/", "http://h/fn/"),
            ("http://h/fn?a=1#part", "http://h/fn?a=1"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("http://[::1]", "http://[::1]/invoke"),
            ("http://h:65535/x", "http://h:65535/x"),
        ] {
            assert_eq!(violation(given), None, "{given}");
            assert_eq!(callable(given), called, "{given}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for given in [
            "",
            " ",
            "/",
            "h",
            "h:80",
            "//h/x",
            "http:",
            "http://",
            "http:///x",
            "http://:80/x",
            "ftp://h/x",
            "unix:/s",
            "http://h h/",
            " http://h/",
            "http://h:0/",
            "http://h:/",
            "http://h:65536/",
            "http://h:x/",
            "http://u:p@h/",
            "http://u@h/",
            "http://[::1/",
            "http://é/",
            "*",
        ] {
            assert!(violation(given).is_some(), "{given}");
        }
    }
}
