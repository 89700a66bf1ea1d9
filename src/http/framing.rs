//! Finds a request that says twice how long it is: `Content-Length` beside `Transfer-Encoding`.
//!
//! hyper reads such a request as chunked, hides the length and closes the connection after the answer, so what
//! follows is never executed. The contract asks for more: the request itself is refused (RFC 9112 §6.1 allows
//! both). So the bytes of the head are looked at again, for the few requests that are chunked at all.
//!
//! What hyper refuses by itself, two lengths that differ among it, it answers with a status alone; the error that
//! everybody else gets is put in its place ([`nanofaas_web::refusal`]).

use hyper::{Method, StatusCode};
use nanofaas_wire::error::ApiError;

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

/// The error behind a status that hyper gives by itself to a request that it cannot read, as the body of the answer.
/// `recent` is what was read last, as far as that is known.
pub(crate) fn refusal_of_the_parser(status: StatusCode, recent: &[u8]) -> Vec<u8> {
    let bad_request = if has_lengths_that_differ(recent) {
        "The request carries different lengths in Content-Length; send one"
    } else {
        "The request is not HTTP/1.1: its head cannot be read, or does not say how long its body is"
    };
    ApiError::of_unread_head(status, bad_request).answer().body
}

/// Whether the last head in `bytes` has two lengths that are not the same.
fn has_lengths_that_differ(bytes: &[u8]) -> bool {
    let is_length =
        |line: &&[u8]| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"));
    let head = bytes.windows(8).rposition(|bytes| bytes == b" HTTP/1.").unwrap_or(0);
    let lines = bytes[head..].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lengths = lines.filter(is_length).flat_map(|line| line[15..].split(|byte| *byte == b','));
    let first = lengths.next().map(<[u8]>::trim_ascii);
    lengths.any(|length| Some(length.trim_ascii()) != first)
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
    #[test]
    fn the_parsers_own_refusals_get_words() {
        let differ = "POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n";
        for (status, recent, code, part) in [
            (400, differ, "BAD_REQUEST", "different lengths"),
            (400, &differ.replace("2", "1"), "BAD_REQUEST", "not HTTP"),
            (400, "POST / HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\n", "BAD_REQUEST", "different lengths"),
            (400, "nonsense", "BAD_REQUEST", "not HTTP"),
            (400, "", "BAD_REQUEST", "not HTTP"),
            (414, differ, "URI_TOO_LONG", "65534"),
            (431, differ, "REQUEST_HEADER_FIELDS_TOO_LARGE", "limits.header-bytes"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let body = String::from_utf8(refusal_of_the_parser(status, recent.as_bytes())).expect("text");
            assert!(
                body.contains(&format!("\"error\":\"{code}\"")) && body.contains(part),
                "{status} {body}"
            );
        }
    }
}
