//! The head of an answer: what of it a load test has to know.
//!
//! Heads are parsed by httparse; headers that mean nothing here are skipped without being copied.

/// Most headers of one answer.
const HEADERS_MAX: usize = 64;

/// The bytes are no HTTP/1 answer that this client understands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an HTTP answer: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Bytes.
    Known(u64),
    /// Chunks say so.
    Chunked,
    /// It ends with the connection.
    ToEnd,
}

/// What the head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Length,
    /// The connection can carry another request.
    pub(crate) keep_alive: bool,
    /// `Retry-After`, in whole seconds; its other form, a date, counts as absent.
    pub(crate) retry_after_s: Option<u32>,
    /// `X-Execution-Error`: the code of a function that failed in raw mode.
    pub(crate) execution_error: Option<Box<str>>,
    /// Bytes of the head.
    pub(crate) size: usize,
}

/// Parses the head at the beginning of `bytes`; `None` while it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("more than 64 headers")),
        Err(_) => return Err(Malformed("its head cannot be parsed")),
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        length: Length::ToEnd,
        keep_alive: response.version == Some(1),
        retry_after_s: None,
        execution_error: None,
        size,
    };
    for header in response.headers.iter() {
        read(&mut head, header)?;
    }
    if matches!(status, 100..=199 | 204 | 304) {
        head.length = Length::Known(0);
    }
    if head.length == Length::ToEnd {
        head.keep_alive = false;
    }
    Ok(Some(head))
}

fn read(head: &mut Head, header: &httparse::Header<'_>) -> Result<(), Malformed> {
    // By length first: most headers are none of these, and comparing all names costs as much as the rest.
    let name = header.name;
    match name.len() {
        10 if name.eq_ignore_ascii_case("connection") => {
            if has_token(header.value, b"close") {
                head.keep_alive = false;
            } else if has_token(header.value, b"keep-alive") {
                head.keep_alive = true;
            }
        }
        11 if name.eq_ignore_ascii_case("retry-after") => head.retry_after_s = number(header.value),
        14 if name.eq_ignore_ascii_case("content-length") => {
            let length = number(header.value).ok_or(Malformed("its Content-Length is no number"))?;
            if head.length != Length::Chunked {
                head.length = Length::Known(length);
            }
        }
        17 if name.eq_ignore_ascii_case("transfer-encoding") && has_token(header.value, b"chunked") => {
            head.length = Length::Chunked;
        }
        17 if name.eq_ignore_ascii_case("x-execution-error") => {
            head.execution_error = Some(String::from_utf8_lossy(header.value).into());
        }
        _ => {}
    }
    Ok(())
}

fn number<N: std::str::FromStr>(value: &[u8]) -> Option<N> {
    str::from_utf8(value).ok()?.trim().parse().ok()
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).expect("a head").expect("a complete one")
    }

    #[test]
    fn lengths_and_reuse() {
        for (text, length, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Length::Known(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close\r\n\r\n", Length::Known(5), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Length::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", Length::ToEnd, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Length::Known(5), false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
                Length::Known(5),
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", Length::Known(0), true),
        ] {
            let head = head(text);
            assert_eq!((head.length, head.keep_alive), (length, keep_alive), "{text}");
        }
    }

    #[test]
    fn what_a_refusal_says() {
        let head = head(
            "HTTP/1.1 429 No\r\nRetry-After: 3\r\nX-Execution-Error: QUEUE\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(head.retry_after_s, Some(3));
        assert_eq!(head.execution_error.as_deref(), Some("QUEUE"));
    }

    #[test]
    fn a_part_is_no_head_and_nonsense_is_an_error() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
    }
}
