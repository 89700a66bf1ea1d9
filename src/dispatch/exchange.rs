//! One attempt on the wire: a connection, a request, an answer.

use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use shard_core::{Dispatch, Failure, Input, Outcome, Report};
use tokio::sync::SemaphorePermit;

use super::{DispatchOptions, Sink, outcome, pool::Connection, pool::Pool};
use crate::{
    api::envelope::request_body,
    body::{ReadError, read_whole},
    http::headers::{DEADLINE_MS, DISPATCH_ATTEMPT, EXECUTION_ID, IDEMPOTENCY_KEY, TRACE_ID, TRACEPARENT},
};

/// New connections that may be closed by the peer before anything was written, per attempt: a peer that does
/// nothing else must not keep an attempt busy.
const FRESH_RESENDS_MAX: u32 = 1;

/// Sends an attempt and says what became of it.
pub(super) async fn run(
    pool: &Rc<Pool>,
    dispatch: Dispatch,
    options: &DispatchOptions,
    sink: &Sink,
) -> Report {
    let exchange = exchange(pool, &dispatch, options, sink);
    let result = match options.read_timeout {
        None => exchange.await,
        Some(limit) => match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let limit_ms = limit.as_millis();
                let message =
                    format!("The function did not answer within {limit_ms} ms (http-client.read-timeout-ms)");
                Err(Box::new(Failure::new(shard_core::payload::code::FUNCTION_TIMEOUT, message)))
            }
        },
    };
    result.unwrap_or_else(|failure| {
        let retryable = failure.code != outcome::RESPONSE_TOO_LARGE;
        Report::warm(Outcome::Failure { failure, retryable, retry_after_ms: None })
    })
}

async fn exchange(
    pool: &Rc<Pool>,
    dispatch: &Dispatch,
    options: &DispatchOptions,
    sink: &Sink,
) -> Result<Report, Box<Failure>> {
    let unreachable = |reason: String| {
        let message = format!("The function at {} could not be reached: {reason}", pool.address);
        Box::new(Failure::new(outcome::UNREACHABLE, message))
    };
    let _permit = match pool.permits.try_acquire() {
        Ok(permit) => Some(permit),
        Err(_) => wait_for_permit(pool, dispatch, sink).await,
    };
    let mut request = request(pool, dispatch);
    let mut fresh_resends = 0;
    let (connection, response) = loop {
        let (mut connection, reused) = match pool.take_idle() {
            Some(connection) => (connection, true),
            None => {
                (open(pool, dispatch, sink).await.map_err(|error| unreachable(error.to_string()))?, false)
            }
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => break (connection, response),
            Err(mut error) => match error.take_message() {
                // Not a byte of it was written: the peer had closed the connection. Another one may do, and
                // the function cannot have seen the call.
                Some(unsent) if reused || fresh_resends < FRESH_RESENDS_MAX => {
                    fresh_resends += u32::from(!reused);
                    request = unsent;
                }
                _ => return Err(unreachable(cause(&error.into_error()))),
            },
        }
    };
    let raw = dispatch.payload.content_type.is_some();
    let (head, body) = response.into_parts();
    let body = match read_whole(body, options.response_bytes_max).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => {
            let limit = options.response_bytes_max;
            let message = format!(
                "The function's answer is longer than {limit} bytes; answer less, or raise `limits.response-bytes`"
            );
            return Err(Box::new(Failure::new(outcome::RESPONSE_TOO_LARGE, message)));
        }
        Err(ReadError::Broken(error)) => return Err(unreachable(cause(&error))),
    };
    pool.give_back(connection);
    Ok(outcome::classify(head.status, &head.headers, &body, raw))
}

/// Waits until one connection fewer is in use, telling the core meanwhile that the function has not got the call.
async fn wait_for_permit<'a>(
    pool: &'a Pool,
    dispatch: &Dispatch,
    sink: &Sink,
) -> Option<SemaphorePermit<'a>> {
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: true });
    // Never closed, so it always gives a permit in the end.
    let permit = pool.permits.acquire().await.ok();
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: false });
    permit
}

/// Opens a connection, telling the core meanwhile that the function has not got the call yet.
async fn open(pool: &Pool, dispatch: &Dispatch, sink: &Sink) -> std::io::Result<Connection> {
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: true });
    let connection = pool.connect().await?;
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: false });
    Ok(connection)
}

fn request(pool: &Pool, dispatch: &Dispatch) -> Request<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(HOST, pool.host.clone());
    let content_type = match &dispatch.payload.content_type {
        None => HeaderValue::from_static("application/json"),
        Some(text) => HeaderValue::from_str(text)
            .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream")),
    };
    headers.insert(CONTENT_TYPE, content_type);
    if let Ok(id) = HeaderValue::from_bytes(&dispatch.id.text()) {
        headers.insert(EXECUTION_ID, id);
    }
    headers.insert(DISPATCH_ATTEMPT, HeaderValue::from(dispatch.number));
    headers.insert(DEADLINE_MS, HeaderValue::from(dispatch.remaining_ms));
    if let Some(extra) = &dispatch.extra {
        insert_text(&mut headers, TRACE_ID, extra.trace_id.as_deref());
        insert_text(&mut headers, TRACEPARENT, extra.traceparent.as_deref());
        let key = extra.idempotency.as_ref().map(|idempotency| &*idempotency.key);
        insert_text(&mut headers, IDEMPOTENCY_KEY, key);
    }
    let mut request = Request::new(Full::new(request_body(&dispatch.payload)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = pool.path.clone();
    *request.headers_mut() = headers;
    request
}

fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: Option<&str>) {
    // The text was a header value when it came in.
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(name, value);
    }
}

/// The innermost reason of a hyper error, which says more than its outer layers.
fn cause(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    if let Some(inner) = std::error::Error::source(error) {
        text = format!("{text}: {inner}");
    }
    text
}
