//! Finds a request that says twice how long it is: `Content-Length` beside `Transfer-Encoding`.
//!
//! hyper reads such a request as chunked, hides the length and closes the connection after the answer, so what
//! follows is never executed. The contract asks for more: the request itself is refused (RFC 9112 §6.1 allows
//! both). So the bytes of the head are looked at again, for the few requests that are chunked at all.

use hyper::Method;

/// Most headers looked at; hyper takes no more than 100.
const HEADERS_MAX: usize = 128;

/// Whether a head in `bytes` that starts with this method and path carries both headers.
///
/// `bytes` holds everything read since the request before was begun, so the head is in there, whatever it came
/// together with. Another head of the same path may be in there too: a client that sends one such request gets
/// all of them refused.
pub(super) fn has_two_lengths(bytes: &[u8], method: &Method, path_and_query: &str) -> bool {
    let end = format!("{path_and_query} HTTP/1.1");
    let method = method.as_str().as_bytes();
    let mut line_start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        // In absolute form a scheme and a host come before the path; a body may come before the method.
        if line.trim_ascii_end().ends_with(end.as_bytes()) {
            let mut heads = line.windows(method.len()).enumerate().filter(|(_, window)| *window == method);
            if heads.any(|(position, _)| carries_both(&bytes[line_start + position..])) {
                return true;
            }
        }
        line_start += line.len() + 1;
    }
    false
}

fn carries_both(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(bytes).is_err() {
        return false;
    }
    let carries = |name: &str| request.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    carries("content-length") && carries("transfer-encoding")
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
            (both.replace("/a", "http://host/a"), "/a", true),
            (chunked.to_owned(), "/a", false),
            (format!("{length}{chunked}"), "/a", false),
            (format!("{}{chunked}", length.replace("/b", "/a")), "/a", false),
            (format!("{length}{both}"), "/a", true),
            (format!("\"POST\"}}{both}"), "/a", true),
            (format!("{both}{chunked}"), "/a", true),
            (both.to_owned(), "/b", false),
            (both.to_owned(), "/", false),
            (both[..both.len() / 2].to_owned(), "/a", false),
            (String::new(), "/a", false),
        ] {
            assert_eq!(has_two_lengths(bytes.as_bytes(), &Method::POST, path), expected, "{bytes}");
        }
    }
}
