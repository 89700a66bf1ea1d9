//! Passes one call on to a program of mode HTTP and reads its answer.
//!
//! Requests and answers keep their content type and encoding, all `X-*` headers, the trace and the idempotency key. A success
//! passes unchanged, whatever its 2xx status; so does every answer to a raw call. A failed JSON call is put into
//! the error object that all modes share.

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use nanofaas_web::client::{Bounds, Client, ClientError, Response};
use tokio::time::Instant;

use super::invocation::{BODY_MAX, Failure, Invocation, Output, VERDICT, encoding, excerpt};

/// Milliseconds left for the call.
pub const DEADLINE_HEADER: HeaderName = HeaderName::from_static("x-deadline-ms");

/// Headers without `X-` that are passed on.
const PASSED: [&str; 5] =
    ["content-type", "content-encoding", "traceparent", "tracestate", "idempotency-key"];

/// Code of a failure that has none of its own.
const FUNCTION_ERROR: &str = "FUNCTION_ERROR";

/// The headers that the watchdog passes on, in either direction.
pub fn passed(headers: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| {
        // That one is the watchdog's own word.
        (name.as_str().starts_with("x-") && *name != VERDICT) || PASSED.contains(&name.as_str())
    };
    headers
        .iter()
        .filter(|(name, _)| passes(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Sends the call to `runtime` and waits for the whole answer.
///
/// # Errors
/// The program broke off, or said that it failed.
pub async fn forward(client: &Client, runtime: &Uri, invocation: &Invocation) -> Result<Output, Failure> {
    let left = invocation.deadline.saturating_duration_since(Instant::now());
    let mut headers = invocation.headers.clone();
    headers.insert(DEADLINE_HEADER, HeaderValue::from(left.as_millis() as u64));
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let bounds = Bounds { timeout: left, body_max: BODY_MAX };
    let body = invocation.body.clone();
    match client.send(Method::POST, &runtime.to_string(), headers, body, bounds).await {
        Ok(answer) => read(answer, invocation.raw),
        // The owner of the call says so at the same moment; here it must not look like a broken program.
        Err(ClientError::TimedOut { .. }) => std::future::pending().await,
        Err(ClientError::TooLarge { .. }) => Err(Failure::TooLarge),
        Err(error @ ClientError::Connect { .. }) => Err(Failure::Unavailable(error.to_string())),
        Err(error) => Err(Failure::Broken(error)),
    }
}

fn read(answer: Response, raw: bool) -> Result<Output, Failure> {
    if answer.status.is_success() || raw {
        return Ok(Output { status: answer.status, headers: passed(&answer.headers), body: answer.body });
    }
    Err(match encoding(&answer.headers) {
        // It has no words to read.
        Some(encoding) if !answer.body.is_empty() => Failure::Reported {
            code: FUNCTION_ERROR.to_owned(),
            message: format!("Runtime error {}, with a body in Content-Encoding {encoding}", answer.status),
        },
        _ => reported(answer.status, &answer.body),
    })
}

/// What a program says in `{"error":{"code","message"}}`, `{"error":"message"}`, or any other way.
fn reported(status: StatusCode, body: &Bytes) -> Failure {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|body| body.get("error"));
    let text = |key: &str| error.and_then(|error| error.get(key)).and_then(|value| value.as_str());
    let message = text("message").or_else(|| error.and_then(|error| error.as_str()));
    let message = message.map_or_else(|| format!("Runtime error {status}: {}", excerpt(body)), str::to_owned);
    Failure::Reported { code: text("code").unwrap_or(FUNCTION_ERROR).to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_reports_is_kept() {
        for (body, code, message) in [
            (r#"{"error":{"code":"E1","message":"no"}}"#, "E1", "no"),
            (r#"{"error":"no"}"#, "FUNCTION_ERROR", "no"),
            (
                r#"{"detail":"no"}"#,
                "FUNCTION_ERROR",
                r#"Runtime error 500 Internal Server Error: {"detail":"no"}"#,
            ),
            ("", "FUNCTION_ERROR", "Runtime error 500 Internal Server Error: "),
        ] {
            let failure = reported(StatusCode::INTERNAL_SERVER_ERROR, &Bytes::from(body));
            assert_eq!((failure.code(), failure.to_string().as_str()), (code, message));
        }
    }

    #[test]
    fn connection_headers_do_not_pass() {
        let names = [
            "x-trace-id",
            "traceparent",
            "idempotency-key",
            "content-type",
            "content-encoding",
            "connection",
            "host",
            "authorization",
            "x-nanofaas-watchdog",
        ];
        let headers = names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let passed = passed(&HeaderMap::from_iter(headers));
        assert_eq!(passed.len(), 5);
    }
}
