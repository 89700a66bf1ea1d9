//! Reads what handlers need off a request: its body within the limit, and header values with their rules.

use std::rc::Rc;

use bytes::Bytes;
use hyper::{
    HeaderMap,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use nanofaas_wire::{
    error::ApiError,
    headers::{
        CALLBACK_URL, DISPATCH_ATTEMPT, IDEMPOTENCY_KEY, MAX_AGE_MS, TIMEOUT_MS, TRACE_ID, TRACEPARENT,
    },
    media_type::MediaType,
};
use sha2::{Digest, Sha256};
use shard_core::{Extra, Idempotency};

use super::{
    body::{BodyBudget, ReadError, read_whole},
    io::{ConnectionState, Phase},
};
use crate::delivery::{address::Permit, target::CallbackTarget};

/// Longest deadline, or age, that a caller may ask for: one day.
const TIMEOUT_MS_MAX: u32 = 86_400_000;
/// Longest idempotency key or trace id, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// A body that has not been read, and the connection that it comes by.
pub(super) struct RequestBody<'a> {
    pub(super) incoming: Incoming,
    pub(super) state: Rc<ConnectionState>,
    /// Memory for all bodies that are being read.
    pub(super) budget: &'a BodyBudget,
}

/// Reads a body to its end. Most bodies are one frame, which is not copied.
///
/// # Errors
/// Longer than the limit, which is known from `Content-Length` before anything is read; not whole; or one too many.
pub(super) async fn read_body(
    body: RequestBody<'_>,
    limit: usize,
    setting: &'static str,
) -> Result<Bytes, ApiError> {
    let RequestBody { incoming, state, budget } = body;
    state.set_phase(Phase::Body);
    let body = read_whole(incoming, limit, budget).await.map_err(|error| match error {
        ReadError::TooLarge => ApiError::PayloadTooLarge { limit_bytes: limit as u64, setting },
        ReadError::NoRoom => ApiError::Full { what: "bodies being read, limits.bodies-bytes" },
        ReadError::Broken => ApiError::BadRequest("The body did not arrive whole".into()),
    })?;
    state.set_phase(Phase::Busy);
    Ok(body)
}

/// The media type of a body that must be JSON. None counts as JSON.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers) {
        MediaType::Json => Ok(()),
        MediaType::Text | MediaType::Form | MediaType::Other => Err(ApiError::UnsupportedMediaType(
            "This request takes JSON; send Content-Type: application/json".into(),
        )),
    }
}

/// The media type of a body that must say that it is JSON: what changes the server is not taken from a page that is
/// not allowed to name a type. A browser asks before it lets a page of another origin send `application/json`, and not
/// when it sends no type at all.
pub(super) fn require_declared_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_declared =
        headers.get(CONTENT_TYPE).is_some_and(|value| !value.as_bytes().trim_ascii().is_empty());
    if is_declared {
        return require_json(headers);
    }
    Err(ApiError::UnsupportedMediaType(
        "This request takes JSON and has no content type; send Content-Type: application/json".into(),
    ))
}

fn media_type(headers: &HeaderMap) -> MediaType {
    MediaType::of(headers.get(CONTENT_TYPE).map(|value| value.as_bytes()))
}

/// The headers that say something about a call. Found in one pass (see [`super::origin::Seen`]): each lookup in the map would
/// hash the name, and most calls have none of our own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallHeaders<'a> {
    content_type: Option<&'a HeaderValue>,
    timeout_ms: Option<&'a HeaderValue>,
    trace_id: Option<&'a HeaderValue>,
    traceparent: Option<&'a HeaderValue>,
    idempotency_key: Option<&'a HeaderValue>,
    callback_url: Option<&'a HeaderValue>,
    max_age_ms: Option<&'a HeaderValue>,
}

impl<'a> CallHeaders<'a> {
    /// Keeps a header that is one of them, the first of each.
    #[inline]
    pub(super) fn look_at(&mut self, name: &HeaderName, value: &'a HeaderValue) {
        let place = match name {
            name if *name == CONTENT_TYPE => &mut self.content_type,
            name if *name == TIMEOUT_MS => &mut self.timeout_ms,
            name if *name == TRACE_ID => &mut self.trace_id,
            name if *name == TRACEPARENT => &mut self.traceparent,
            name if *name == IDEMPOTENCY_KEY => &mut self.idempotency_key,
            name if *name == CALLBACK_URL => &mut self.callback_url,
            name if *name == MAX_AGE_MS => &mut self.max_age_ms,
            _ => return,
        };
        place.get_or_insert(value);
    }

    /// The content type of an invocation in raw mode; `None` means JSON.
    pub(super) fn raw_content_type(&self) -> Result<Option<Box<str>>, ApiError> {
        match MediaType::of(self.content_type.map(HeaderValue::as_bytes)) {
            MediaType::Json => Ok(None),
            MediaType::Form => Err(ApiError::UnsupportedMediaType(
                "Forms are not taken as input; send Content-Type: application/json (curl: -H 'Content-Type: application/json')"
                    .into(),
            )),
            MediaType::Text | MediaType::Other => {
                let value = self.content_type.and_then(|value| value.to_str().ok());
                value.map(|value| Some(value.into())).ok_or_else(|| {
                    ApiError::bad_header(&CONTENT_TYPE, "is not text; send a media type such as application/json")
                })
            }
        }
    }

    /// `X-Timeout-Ms`.
    pub(super) fn timeout_ms(&self) -> Result<Option<u32>, ApiError> {
        milliseconds(self.timeout_ms, &TIMEOUT_MS)
    }

    /// Trace context and idempotency key. `None` when there is neither.
    pub(super) fn extra(&self, body: &[u8]) -> Result<Option<Box<Extra>>, ApiError> {
        let trace_id = text(self.trace_id, &TRACE_ID)?;
        let traceparent = text(self.traceparent, &TRACEPARENT)?;
        let idempotency = text(self.idempotency_key, &IDEMPOTENCY_KEY)?
            .map(|key| Idempotency { key, digest: digest(self.content_type, body) });
        if trace_id.is_none() && traceparent.is_none() && idempotency.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(Extra { trace_id, traceparent, idempotency, ..Extra::default() })))
    }

    /// Adds `X-Callback-Url` and `X-Max-Age-Ms`, which only calls that are accepted may have. `delivery` says where
    /// results may go; `None` that none are delivered.
    pub(super) fn add_async(
        &self,
        delivery: Option<Permit>,
        extra: &mut Option<Box<Extra>>,
    ) -> Result<(), ApiError> {
        let callback_url = callback_url(self.callback_url, delivery)?;
        let max_age_ms = milliseconds(self.max_age_ms, &MAX_AGE_MS)?;
        if callback_url.is_some() || max_age_ms.is_some() {
            let extra = extra.get_or_insert_default();
            (extra.callback_url, extra.max_age_ms) = (callback_url, max_age_ms);
        }
        Ok(())
    }
}

fn milliseconds(value: Option<&HeaderValue>, name: &HeaderName) -> Result<Option<u32>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
    match number.filter(|ms| (1..=TIMEOUT_MS_MAX).contains(ms)) {
        Some(ms) => Ok(Some(ms)),
        None => {
            let rule = format!("must be an integer from 1 to {TIMEOUT_MS_MAX} (milliseconds)");
            Err(ApiError::bad_header(name, &rule))
        }
    }
}

fn callback_url(value: Option<&HeaderValue>, delivery: Option<Permit>) -> Result<Option<Box<str>>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let bad = |rule: &str| ApiError::bad_header(&CALLBACK_URL, rule);
    let permit = delivery.ok_or_else(|| {
        bad("cannot be taken, because there is no key to sign results with; set delivery.secret on the server")
    })?;
    let text = value.to_str().map_err(|_| bad("must be ASCII text"))?.trim();
    CallbackTarget::parse(text, permit).map_err(|error| bad(&error.to_string()))?;
    Ok(Some(text.into()))
}

/// `X-Dispatch-Attempt`; anything but a positive integer counts as absent.
pub(super) fn dispatch_attempt(headers: &HeaderMap) -> Option<u32> {
    headers.get(DISPATCH_ATTEMPT)?.to_str().ok()?.trim().parse().ok().filter(|attempt| *attempt > 0)
}

fn text(value: Option<&HeaderValue>, name: &HeaderName) -> Result<Option<Box<str>>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.into())),
        _ => {
            Err(ApiError::bad_header(name, &format!("must be ASCII text of at most {TEXT_BYTES_MAX} bytes")))
        }
    }
}

/// Binds an idempotency key to the request it was sent with: SHA-256 of content type and body, first half.
fn digest(content_type: Option<&HeaderValue>, body: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
    hash.update((content_type.len() as u64).to_le_bytes());
    hash.update(content_type);
    hash.update(body);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}
