//! What travels to a function and what comes back. The core never looks inside.

use std::borrow::Cow;

use bytes::Bytes;

/// Payloads up to this size are copied when they have to wait, so that they don't keep a whole read buffer alive.
const DETACH_BYTES_MAX: usize = 16 << 10;

/// What the caller sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes of `input`, or the whole body in raw mode.
    pub input: Bytes,
    /// The bytes of `metadata`, a JSON object. Always absent in raw mode.
    pub metadata: Option<Bytes>,
    /// Content type of the body in raw mode; `None` means the JSON envelope.
    pub content_type: Option<Box<str>>,
}

impl Payload {
    /// A JSON payload without metadata.
    pub fn json(input: impl Into<Bytes>) -> Payload {
        Payload { input: input.into(), metadata: None, content_type: None }
    }

    /// Bytes that count against the budget for waiting payloads.
    pub fn bytes(&self) -> u64 {
        (self.input.len() + self.metadata.as_ref().map_or(0, Bytes::len)) as u64
    }

    /// Copies small bodies out of the buffer that they were read into.
    pub(crate) fn detach(&mut self) {
        if self.input.len() <= DETACH_BYTES_MAX {
            self.input = Bytes::copy_from_slice(&self.input);
        }
        if let Some(metadata) = &mut self.metadata {
            *metadata = Bytes::copy_from_slice(metadata);
        }
    }
}

/// How an output is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// Valid JSON.
    Json,
    /// UTF-8 text.
    Text,
    /// Anything else, as the function describes it.
    Other(Box<Media>),
}

/// What a function says about the bytes that it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Their type.
    pub content_type: Box<str>,
    /// How they are encoded, such as `gzip`; nothing decodes them here.
    pub encoding: Option<Box<str>>,
}

impl OutputKind {
    /// Bytes of this type, not encoded.
    pub fn other(content_type: impl Into<Box<str>>) -> OutputKind {
        OutputKind::Other(Box::new(Media { content_type: content_type.into(), encoding: None }))
    }
}

/// What the function answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The body.
    pub body: Bytes,
    /// How to read it.
    pub kind: OutputKind,
}

impl Output {
    /// The output of a function that answered nothing.
    pub fn null() -> Output {
        Output { body: Bytes::from_static(b"null"), kind: OutputKind::Json }
    }

    /// Bytes that count against the retention budget.
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }
}

/// Why an attempt or an execution failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A stable code, upper case.
    pub code: Cow<'static, str>,
    /// One sentence for a person.
    pub message: Box<str>,
    /// The function's error body and its content type, for callers in raw mode.
    pub body: Option<Output>,
}

impl Failure {
    /// A failure with one of our own codes.
    pub fn new(code: &'static str, message: impl Into<Box<str>>) -> Failure {
        Failure { code: Cow::Borrowed(code), message: message.into(), body: None }
    }

    /// A function was to report an attempt by callback, and did not.
    pub(crate) fn no_callback(limit_ms: u32) -> Failure {
        let message = format!(
            "The function promised a callback and sent none within {limit_ms} ms; check CALLBACK_URL and its log"
        );
        Failure::new(code::FUNCTION_TIMEOUT, message)
    }

    /// Bytes that count against the retention budget.
    pub fn bytes(&self) -> u64 {
        (self.code.len() + self.message.len()) as u64 + self.body.as_ref().map_or(0, Output::bytes)
    }
}

/// Codes of failures that the core decides itself.
pub mod code {
    /// The attempt took longer than it may.
    pub const FUNCTION_TIMEOUT: &str = "FUNCTION_TIMEOUT";
    /// The replica that ran it ended.
    pub const FUNCTION_CRASHED: &str = "FUNCTION_CRASHED";
    /// The function was removed while the execution waited.
    pub const FUNCTION_REMOVED: &str = "FUNCTION_REMOVED";
    /// The execution was cancelled, or its only caller left while it waited.
    pub const CANCELLED: &str = "CANCELLED";
    /// It waited longer than its caller wanted it to.
    pub const EXPIRED: &str = "EXPIRED";
    /// The store could not take it.
    pub const STORE_UNAVAILABLE: &str = "STORE_UNAVAILABLE";
    /// The caller's deadline passed.
    pub const TIMEOUT: &str = "TIMEOUT";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_counts() {
        let payload = Payload { metadata: Some(Bytes::from_static(b"{}")), ..Payload::json("12345") };
        assert_eq!(payload.bytes(), 7);
        let failure = Failure { body: Some(Output::null()), ..Failure::new("CODE", "a message") };
        assert_eq!(failure.bytes(), 4 + 9 + 4);
    }

    #[test]
    fn small_bodies_leave_their_read_buffer() {
        let buffer = Bytes::from(vec![7; DETACH_BYTES_MAX + 1]);
        for (length, leaves) in
            [(0, true), (9, true), (DETACH_BYTES_MAX, true), (DETACH_BYTES_MAX + 1, false)]
        {
            let input = buffer.slice(..length);
            let mut payload = Payload { metadata: Some(buffer.slice(..2)), ..Payload::json(input.clone()) };
            payload.detach();
            assert_eq!(payload.input, input);
            assert_eq!(payload.input.as_ptr() != buffer.as_ptr(), leaves, "{length}");
            assert_eq!(payload.metadata, Some(buffer.slice(..2)));
            assert!(payload.metadata.is_some_and(|metadata| metadata.as_ptr() != buffer.as_ptr()));
        }
    }
}
