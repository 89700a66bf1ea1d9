//! Finds a request that says twice how long it is: `Content-Length` beside `Transfer-Encoding`.
//!
//! hyper reads such a request as chunked, hides the length and closes the connection after the answer, so what
//! follows is never executed. The contract asks for more: the request itself is refused (RFC 9112 §6.1 allows
//! both). So the bytes of the head are looked at again, for the few requests that are chunked at all.

use hyper::Method;

/// Most headers looked at; hyper takes no more than 100.
const HEADERS_MAX: usize = 128;

/// Whether the newest head in `bytes` that starts with this method and path carries a `Content-Length`.
///
/// `bytes` is what was read since the connection was last idle. A pipelined request whose head came in together with
/// the body before it may not be in there; then hyper's reading stands.
pub(super) fn has_content_length(bytes: &[u8], method: &Method, path_and_query: &str) -> bool {
    let start = format!("{method} {path_and_query} ");
    let found = bytes.windows(start.len()).rposition(|window| window == start.as_bytes());
    let Some(position) = found else { return false };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(&bytes[position..]).is_err() {
        return false;
    }
    request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let both = "POST /a HTTP/1.1\r\nHost: x\r\nContent-length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let length = "POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        for (bytes, path, expected) in [
            (both.to_owned(), "/a", true),
            (chunked.to_owned(), "/a", false),
            (format!("{length}{chunked}"), "/a", false),
            (format!("{length}{both}"), "/a", true),
            (format!("{both}{chunked}"), "/a", false),
            (both.to_owned(), "/b", false),
            (String::new(), "/a", false),
        ] {
            assert_eq!(has_content_length(bytes.as_bytes(), &Method::POST, path), expected, "{bytes}");
        }
    }
}
