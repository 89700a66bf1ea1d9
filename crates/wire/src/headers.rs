//! Names of our own headers.

use http::header::HeaderName;

/// Id of the execution that a request or response belongs to.
pub const EXECUTION_ID: HeaderName = HeaderName::from_static("x-execution-id");
/// Status of that execution, in raw mode.
pub const EXECUTION_STATUS: HeaderName = HeaderName::from_static("x-execution-status");
/// Code of its error, in raw mode.
pub const EXECUTION_ERROR: HeaderName = HeaderName::from_static("x-execution-error");
/// Number of the attempt, from 1.
pub const DISPATCH_ATTEMPT: HeaderName = HeaderName::from_static("x-dispatch-attempt");
/// Milliseconds that the function has left.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("x-deadline-ms");
/// The caller's deadline in milliseconds.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-timeout-ms");
/// The caller's trace id, passed on.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// W3C trace context, passed on.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Makes repeated calls one execution.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// A runtime says that it will report by callback.
pub const ASYNC: HeaderName = HeaderName::from_static("x-nanofaas-async");
/// A runtime says that this was its first call.
pub const COLD_START: HeaderName = HeaderName::from_static("x-cold-start");
/// How long it took to start, in milliseconds.
pub const INIT_DURATION_MS: HeaderName = HeaderName::from_static("x-init-duration-ms");
/// Why a queue refused a call.
pub const REJECT_REASON: HeaderName = HeaderName::from_static("x-queue-reject-reason");
/// Where the result of an accepted call is to be delivered.
pub const CALLBACK_URL: HeaderName = HeaderName::from_static("x-callback-url");
/// How old a call may become while it waits, in milliseconds.
pub const MAX_AGE_MS: HeaderName = HeaderName::from_static("x-max-age-ms");
/// Proves to a receiver who sent a result, and when.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-nanofaas-signature");
/// Names a delivery; the same for all of its attempts.
pub const DELIVERY: HeaderName = HeaderName::from_static("x-nanofaas-delivery");
