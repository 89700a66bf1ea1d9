//! The head of a function's answer: what it says, and how its body ends. Pure: bytes in, facts out.
//!
//! Framing follows RFC 9112 §6.3. What is ambiguous there is refused here: two lengths, a length beside a transfer
//! coding, a coding that is not chunked.

use std::{borrow::Cow, mem::MaybeUninit};

use hyper::StatusCode;

/// Longest head, informational answers before it included: a function may send as many of them as it likes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one answer.
const HEADERS_MAX: usize = 100;

const JSON: &str = "application/json";

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What the head of an answer says, as far as anybody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status of the answer.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: Option<Cow<'static, str>>,
    /// `Content-Encoding`, unless it says that there is none.
    pub content_encoding: Option<Box<str>>,
    /// `X-Nanofaas-Async: true`.
    pub promises_callback: bool,
    /// `X-Cold-Start: true`.
    pub cold_start: bool,
    /// `X-Init-Duration-Ms`.
    pub init_ms: Option<u32>,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u32>,
    /// `X-Nanofaas-Watchdog`.
    pub verdict: Option<WatchdogVerdict>,
    pub(super) framing: Framing,
    /// Another exchange may follow on the connection.
    pub(super) keep_alive: bool,
}

/// What a watchdog says of a call that its program did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogVerdict {
    /// It was not run.
    NotRun,
    /// The program ended with it.
    Crashed,
}

/// Why a head cannot be understood, for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("its answer is not HTTP/1: {0}")]
    Syntax(httparse::Error),
    #[error("the head of its answer is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("its answer carries lengths that contradict each other")]
    Lengths,
    #[error("its answer has a transfer coding that is not chunked")]
    Coding,
}

/// Reads the head at the beginning of `bytes`: the answer's own, informational ones before it are skipped. `None`: it
/// is not all there yet. Returns it with its length.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut skipped = 0;
    loop {
        let Some((head, length)) = parse_one(&bytes[skipped..])? else {
            return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(HeadError::TooLong) };
        };
        skipped += length;
        match head.status {
            status if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {}
            _ => return Ok(Some((head, skipped))),
        }
    }
}

fn parse_one(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed.map_err(HeadError::Syntax)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Syntax(httparse::Error::Status))?;
    let mut facts = Facts::default();
    let mut head = Head {
        status,
        content_type: None,
        content_encoding: None,
        promises_callback: false,
        cold_start: false,
        init_ms: None,
        retry_after_s: None,
        verdict: None,
        framing: Framing::Close,
        keep_alive: false,
    };
    for header in response.headers.iter() {
        read_header(header.name, header.value.trim_ascii(), &mut head, &mut facts)?;
    }
    head.keep_alive = if response.version == Some(1) { !facts.close } else { facts.keep_alive };
    head.framing = framing(status, &facts)?;
    // Behind a change of protocol comes something that nobody asked for.
    if head.framing == Framing::Close || status == StatusCode::SWITCHING_PROTOCOLS {
        head.keep_alive = false;
    }
    Ok(Some((head, length)))
}

/// What headers say of framing and of the connection.
#[derive(Debug, Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

fn read_header(name: &str, value: &[u8], head: &mut Head, facts: &mut Facts) -> Result<(), HeadError> {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    let is_true = || value.eq_ignore_ascii_case(b"true");
    // By length first: most headers are of no interest.
    match name.len() {
        10 if is("connection") => {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                facts.close |= option.eq_ignore_ascii_case(b"close");
                facts.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        11 if is("retry-after") && head.retry_after_s.is_none() => head.retry_after_s = number(value),
        12 if is("content-type") && head.content_type.is_none() => {
            head.content_type = Some(if value == JSON.as_bytes() {
                Cow::Borrowed(JSON)
            } else {
                String::from_utf8_lossy(value).into_owned().into()
            });
        }
        12 if is("x-cold-start") => head.cold_start |= is_true(),
        14 if is("content-length") => {
            // A list of equal lengths is one length, RFC 9110 §8.6.
            for length in value.split(|byte| *byte == b',') {
                let length = digits(length.trim_ascii()).ok_or(HeadError::Lengths)?;
                if facts.length.replace(length).is_some_and(|before| before != length) {
                    return Err(HeadError::Lengths);
                }
            }
        }
        16 if is("content-encoding") => {
            for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                add_coding(&mut head.content_encoding, &String::from_utf8_lossy(coding));
            }
        }
        16 if is("x-nanofaas-async") => head.promises_callback |= is_true(),
        17 if is("transfer-encoding") => {
            if facts.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Coding);
            }
            facts.chunked = true;
        }
        18 if is("x-init-duration-ms") && head.init_ms.is_none() => head.init_ms = number(value),
        19 if is("x-nanofaas-watchdog") => {
            head.verdict = match value {
                b"not-run" => Some(WatchdogVerdict::NotRun),
                b"crashed" => Some(WatchdogVerdict::Crashed),
                _ => None,
            };
        }
        _ => {}
    }
    Ok(())
}

/// Codings are applied one after the other, and may be named in one header or in several.
fn add_coding(codings: &mut Option<Box<str>>, coding: &str) {
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return;
    }
    *codings = Some(match codings.take() {
        None => coding.into(),
        Some(before) => format!("{before}, {coding}").into(),
    });
}

fn framing(status: StatusCode, facts: &Facts) -> Result<Framing, HeadError> {
    match (facts.length, facts.chunked) {
        (Some(_), true) => Err(HeadError::Lengths),
        _ if status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED =>
        {
            Ok(Framing::Length(0))
        }
        (None, true) => Ok(Framing::Chunked),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, false) => Ok(Framing::Close),
    }
}

/// Digits and nothing else: a sign or a space in a length is how requests are smuggled.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number that may be too large to matter.
fn number(text: &[u8]) -> Option<u32> {
    digits(text).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// What must hold of every head, for [`crate::fuzzing`]: it is there exactly when its last byte is.
pub(crate) fn fuzz(bytes: &[u8]) -> Result<(), String> {
    let Ok(Some((head, length))) = parse(bytes) else { return Ok(()) };
    if length > bytes.len() {
        return Err(format!("{length} bytes of {} were read", bytes.len()));
    }
    if head.framing == Framing::Close && head.keep_alive {
        return Err("a connection is used again whose end is the end of the body".to_owned());
    }
    match (parse(&bytes[..length]), parse(&bytes[..length - 1])) {
        (Ok(Some((same, again))), Ok(None)) if same == head && again == length => Ok(()),
        (whole, part) => Err(format!("its bytes alone are {whole:?}, without the last one {part:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text.replace('\n', "\r\n").as_bytes()) {
            Ok(None) => "more".to_owned(),
            Ok(Some((head, length))) => {
                let keep = if head.keep_alive { "keep" } else { "close" };
                format!("{} {:?} {keep} {}", head.status.as_u16(), head.framing, length)
            }
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn framing_and_reuse() {
        for (head, expected) in [
            ("", "more"),
            ("HTTP/1.1 200 OK\n", "more"),
            ("HTTP/1.1 200 OK\ncontent-length: 3\n\nabc", "200 Length(3) keep 38"),
            ("HTTP/1.1 200 OK\nCONTENT-LENGTH: 3\nConnection: Close\n\n", "200 Length(3) close 57"),
            ("HTTP/1.0 200 OK\ncontent-length: 3\n\n", "200 Length(3) close 38"),
            ("HTTP/1.0 200 OK\ncontent-length: 3\nconnection: x, keep-alive\n\n", "200 Length(3) keep 65"),
            ("HTTP/1.1 200 OK\ntransfer-encoding: Chunked\n\n", "200 Chunked keep 47"),
            ("HTTP/1.1 200 OK\n\n", "200 Close close 19"),
            ("HTTP/1.1 204 No Content\n\n", "204 Length(0) keep 27"),
            ("HTTP/1.1 304 Not Modified\ncontent-length: 9\n\n", "304 Length(0) keep 48"),
            ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\ncontent-length: 0\n\n", "200 Length(0) keep 63"),
            ("HTTP/1.1 103 Early Hints\nlink: </x>\n\n", "more"),
            ("HTTP/1.1 101 Switching Protocols\nupgrade: x\n\n", "101 Length(0) close 48"),
            ("HTTP/1.1 200 OK\ncontent-length: 3\ncontent-length: 3\n\n", "200 Length(3) keep 57"),
            ("HTTP/1.1 200 OK\ncontent-length: 3, 3\n\n", "200 Length(3) keep 41"),
            ("HTTP/1.1 200 OK\ncontent-length: 3\ncontent-length: 4\n\n", "Lengths"),
            ("HTTP/1.1 200 OK\ncontent-length: +3\n\n", "Lengths"),
            ("HTTP/1.1 200 OK\ncontent-length:\n\n", "Lengths"),
            ("HTTP/1.1 200 OK\ncontent-length: 99999999999999999999\n\n", "Lengths"),
            ("HTTP/1.1 200 OK\ncontent-length: 3\ntransfer-encoding: chunked\n\n", "Lengths"),
            ("HTTP/1.1 200 OK\ntransfer-encoding: gzip, chunked\n\n", "Coding"),
            ("HTTP/1.1 200 OK\ntransfer-encoding: chunked\ntransfer-encoding: chunked\n\n", "Coding"),
            ("SSH-2.0-OpenSSH\n", "Syntax(Version)"),
            ("HTTP/1.1 200 OK\nno colon\n\n", "Syntax(HeaderName)"),
        ] {
            assert_eq!(read(head), expected, "{head}");
        }
    }

    #[test]
    fn facts() {
        let text = "HTTP/1.1 202 Accepted\r\nContent-Type: text/html\r\nX-Nanofaas-Async: True\r\nX-Cold-Start: true\r\nX-Init-Duration-Ms: 12\r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n";
        let (head, _) = parse(text.as_bytes()).expect("a head").expect("a whole one");
        assert_eq!(head.content_type.as_deref(), Some("text/html"));
        assert_eq!((head.init_ms, head.retry_after_s), (Some(12), Some(7)));
        assert!(head.cold_start && head.promises_callback);
    }

    #[test]
    fn codings_are_collected() {
        for (headers, expected) in [
            ("", None),
            ("content-encoding: \r\n", None),
            ("content-encoding: Identity\r\n", None),
            ("Content-Encoding: gzip\r\n", Some("gzip")),
            ("content-encoding: br , identity,gzip\r\ncontent-encoding: x\r\n", Some("br, gzip, x")),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
            let (head, _) = parse(text.as_bytes()).expect("a head").expect("a whole one");
            assert_eq!(head.content_encoding.as_deref(), expected, "{headers}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse(long.as_bytes()), Err(HeadError::TooLong));
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(HEAD_BYTES_MAX / 28 + 1);
        assert_eq!(parse(hints.as_bytes()), Err(HeadError::TooLong));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(parse(many.as_bytes()), Err(HeadError::Syntax(httparse::Error::TooManyHeaders)));
    }
}
