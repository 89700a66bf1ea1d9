//! Requests as bytes: built once per payload, sent many times.

use std::fmt::Write as _;

use memchr::memmem;

/// Stands for the sixteen hex digits that tell one call's callback from another's.
pub(crate) const TOKEN_PLACE: &str = "tttttttttttttttt";

/// A request, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Box<[u8]>,
    /// Where a token has to be put in, when every call needs its own.
    pub(crate) token_at: Option<usize>,
}

impl Request {
    /// Builds the request. `headers` come as given, after `Host` and `Content-Length`.
    pub(crate) fn new(
        method: &str,
        host: &str,
        path: &str,
        headers: &[(String, String)],
        body: Option<&[u8]>,
    ) -> Request {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        // Writing to a string cannot fail.
        if let Some(body) = body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let token_at = memmem::find(head.as_bytes(), TOKEN_PLACE.as_bytes());
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        Request { bytes: bytes.into(), token_at }
    }

    /// The request's bytes with `token` in them.
    pub(crate) fn with_token(&self, token: u64) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        if let Some(place) = self.token_at.and_then(|at| bytes.get_mut(at..at + TOKEN_PLACE.len())) {
            place.copy_from_slice(format!("{token:016x}").as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_token() {
        let headers = [("X-Callback-Url".to_owned(), format!("http://h/{TOKEN_PLACE}"))];
        let request = Request::new("POST", "h:1", "/a", &headers, Some(b"{}"));
        let text = String::from_utf8(request.with_token(0xab)).expect("text");
        assert_eq!(
            text,
            "POST /a HTTP/1.1\r\nHost: h:1\r\nContent-Length: 2\r\nX-Callback-Url: http://h/00000000000000ab\r\n\r\n{}"
        );
    }
}
