//! A call of a function, and who waits for what comes of it.

use crate::{id::ExecutionId, name::Name, payload::Payload};

/// Names a caller that waits for an [`crate::Answer`]. Made by the runtime, opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A call of a function.
#[derive(Debug)]
pub struct Invoke {
    /// Id of the execution, should one be created.
    pub id: ExecutionId,
    /// Which function.
    pub name: Name,
    /// What to send.
    pub payload: Payload,
    /// The caller's own deadline in milliseconds; the function's `timeoutMs` when absent.
    pub timeout_ms: Option<u32>,
    /// Rarely used parts, boxed so that common calls stay small.
    pub extra: Option<Box<Extra>>,
}

/// Optional parts of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// `X-Trace-Id`, passed on as it is.
    pub trace_id: Option<Box<str>>,
    /// W3C `traceparent`, passed on as it is.
    pub traceparent: Option<Box<str>>,
    /// `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// `X-Max-Age-Ms`: how long an accepted execution may wait, in milliseconds.
    pub max_age_ms: Option<u32>,
    /// `X-Callback-Url`: where the result of an accepted execution goes.
    pub callback_url: Option<Box<str>>,
}

/// An idempotency key and what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key as sent.
    pub key: Box<str>,
    /// Digest of body and content type.
    pub digest: [u8; 16],
}
