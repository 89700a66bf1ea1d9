//! Errors of the API, and the one place that maps them to status, headers and body.

use std::borrow::Cow;

use http::{
    HeaderMap, StatusCode,
    header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde_json::{Map, Value, json};
use shard_core::{
    ReadFailure, Refusal, SyncQueueReason,
    answer::{BackendFailure, BackendFailureKind},
};

use super::runtime_config::Rejection;
use crate::headers::{EXECUTION_ID, EXECUTION_STATUS, REJECT_REASON};

/// Everything that a request can be refused for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// Fields of the body violate rules: all of them, each `<field>: <message>`.
    #[error("Request validation failed")]
    Validation(Vec<String>),
    /// No such path.
    #[error("No such path; the API is described at /openapi.yaml")]
    UnknownPath,
    /// No such thing.
    #[error("{0}")]
    NotFound(String),
    /// The path exists, the method on it does not.
    #[error("This path takes {allow} only")]
    MethodNotAllowed {
        /// Methods that it takes, comma-separated.
        allow: &'static str,
    },
    /// The request was sent to another name than ours.
    #[error(
        "This server does not answer to '{0}'; call it by localhost or by its address, or add the name to server.allowed-hosts (NANOFAAS_SERVER_ALLOWED_HOSTS)"
    )]
    Misdirected(String),
    /// A page of another origin sent the request.
    #[error(
        "Pages of {0} may not use this server; add their origin to cors.allowed-origins (NANOFAAS_CORS_ALLOWED_ORIGINS) if they should"
    )]
    OriginNotAllowed(String),
    /// The name is taken.
    #[error(
        "Function '{0}' is already registered; delete it first, or use `nanofaas fn apply` to replace it"
    )]
    FunctionExists(String),
    /// The body is too long.
    #[error("The body is longer than {limit_bytes} bytes; send less, or raise `{setting}`")]
    PayloadTooLarge {
        /// The limit.
        limit_bytes: u64,
        /// The setting that holds it.
        setting: &'static str,
    },
    /// The target of the request is too long.
    #[error("The request's target is longer than 65534 bytes; send its data in a body")]
    UriTooLong,
    /// The head of the request is too long.
    #[error(
        "The request's first line and headers are longer than the server accepts, or there are more than 100 headers; send less, or raise `limits.header-bytes`"
    )]
    HeadTooLarge,
    /// The body's type is not taken.
    #[error("{0}")]
    UnsupportedMediaType(Cow<'static, str>),
    /// A module is off.
    #[error(
        "The async queue is off; start the server with NANOFAAS_ASYNC_QUEUE_ENABLED=true, or use :invoke"
    )]
    AsyncQueueDisabled,
    /// The shard said no.
    #[error("{}", refusal_message(.refusal, .name))]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// Function or execution that was asked about.
        name: String,
    },
    /// The server did not get to it in time.
    #[error("{what} took too long; try again")]
    Overloaded {
        /// What it was.
        what: &'static str,
    },
    /// A bound of the server is reached.
    #[error("The server is at its limit ({what}); retry later")]
    Full {
        /// Which bound, and the setting that holds it.
        what: &'static str,
    },
    /// The runtime configuration was not changed.
    #[error(transparent)]
    RuntimeConfig(Rejection),
    /// A fault of ours.
    #[error("An unexpected error occurred; look for request {request_id} in the server's log")]
    Internal {
        /// Names the request in the log.
        request_id: String,
    },
}

/// An error, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorAnswer {
    /// Status of the answer; never 2xx.
    pub status: StatusCode,
    /// Headers beside content type and length.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Vec<u8>,
    /// Why, for those who count: the code, or whose rate limit it was.
    pub reason: &'static str,
}

impl ApiError {
    /// An error about a header, naming it.
    pub fn bad_header(header: &HeaderName, rule: &str) -> ApiError {
        let name = header.as_str();
        ApiError::BadRequest(Cow::Owned(format!("Header {name} {rule}")))
    }

    /// The error behind a status that a request was refused with before its head was read; `bad_request` is what is wrong when
    /// it was not too long.
    pub fn of_unread_head(status: StatusCode, bad_request: &'static str) -> ApiError {
        match status {
            StatusCode::URI_TOO_LONG => ApiError::UriTooLong,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError::HeadTooLarge,
            _ => ApiError::BadRequest(bad_request.into()),
        }
    }

    /// Something that a function needs has another owner; the text says what.
    pub fn conflict(message: String) -> ApiError {
        ApiError::of_backend(BackendFailureKind::Conflict, message)
    }

    /// What functions are kept in does not answer; the text says what to do.
    pub fn unavailable(message: String) -> ApiError {
        ApiError::of_backend(BackendFailureKind::Unavailable, message)
    }

    fn of_backend(kind: BackendFailureKind, message: String) -> ApiError {
        let refusal = Refusal::Backend(BackendFailure { kind, message: message.into() });
        ApiError::Refused { refusal, name: String::new() }
    }

    /// The mapping to status, code, headers and context fields: the only one.
    pub fn answer(&self) -> ErrorAnswer {
        let mut headers = HeaderMap::new();
        let mut retry_after = |seconds: u32| {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        };
        let (status, code, context) = match self {
            ApiError::BadRequest(_) => (400, "BAD_REQUEST", Value::Null),
            ApiError::Validation(details) => (400, "VALIDATION_ERROR", json!({ "details": details })),
            ApiError::UnknownPath | ApiError::NotFound(_) => (404, "NOT_FOUND", Value::Null),
            ApiError::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
                (405, "METHOD_NOT_ALLOWED", Value::Null)
            }
            ApiError::Misdirected(_) => (421, "MISDIRECTED_REQUEST", Value::Null),
            ApiError::OriginNotAllowed(_) => (403, "ORIGIN_NOT_ALLOWED", Value::Null),
            ApiError::FunctionExists(_) => (409, "CONFLICT", Value::Null),
            ApiError::PayloadTooLarge { limit_bytes, .. } => {
                (413, "PAYLOAD_TOO_LARGE", json!({ "limitBytes": limit_bytes }))
            }
            ApiError::UriTooLong => (414, "URI_TOO_LONG", Value::Null),
            ApiError::HeadTooLarge => (431, "REQUEST_HEADER_FIELDS_TOO_LARGE", Value::Null),
            ApiError::UnsupportedMediaType(_) => (415, "UNSUPPORTED_MEDIA_TYPE", Value::Null),
            ApiError::AsyncQueueDisabled => (501, "ASYNC_QUEUE_DISABLED", Value::Null),
            ApiError::Overloaded { .. } | ApiError::Full { .. } => {
                retry_after(1);
                (503, "OVERLOADED", Value::Null)
            }
            ApiError::RuntimeConfig(rejection) => match rejection {
                Rejection::Duration { field, value } => {
                    (400, "BAD_REQUEST", json!({ "field": field, "value": value }))
                }
                Rejection::Invalid(errors) => (422, "VALIDATION_ERROR", json!({ "errors": errors })),
                Rejection::Revision { current, .. } => {
                    (409, "REVISION_MISMATCH", json!({ "currentRevision": current }))
                }
                Rejection::RolledBack { .. } => {
                    retry_after(1);
                    (503, "OVERLOADED", Value::Null)
                }
            },
            ApiError::Internal { .. } => (500, "INTERNAL_ERROR", Value::Null),
            ApiError::Refused { refusal, name } => match refusal {
                Refusal::FunctionNotFound | Refusal::ExecutionNotFound | Refusal::DeadLetterNotFound => {
                    (404, "NOT_FOUND", Value::Null)
                }
                Refusal::FunctionExists => (409, "CONFLICT", Value::Null),
                Refusal::RateLimited { function, limit_per_second, retry_after_s } => {
                    retry_after(*retry_after_s);
                    let scope = if *function { "function" } else { "global" };
                    let context = json!({ "scope": scope, "limitPerSecond": limit_per_second });
                    (429, "RATE_LIMIT_EXCEEDED", context)
                }
                Refusal::QueueFull { queue_depth, est_wait_us, retry_after_s } => {
                    retry_after(*retry_after_s);
                    headers.insert(REJECT_REASON, HeaderValue::from_static("depth"));
                    let context = json!({ "function": name, "queue_depth": queue_depth });
                    (429, "QUEUE_FULL", with_wait(context, *est_wait_us))
                }
                Refusal::SyncQueueRejected { reason, queue_depth, est_wait_us, retry_after_s } => {
                    retry_after(*retry_after_s);
                    headers.insert(REJECT_REASON, HeaderValue::from_static(reason.as_str()));
                    let context = json!({
                        "function": name,
                        "reason": reason.as_str(),
                        "queue_depth": queue_depth,
                    });
                    (429, "SYNC_QUEUE_REJECTED", with_wait(context, *est_wait_us))
                }
                Refusal::KeyReused => (422, "IDEMPOTENCY_KEY_REUSED", Value::Null),
                Refusal::KeyInUse { .. } => (409, "CONFLICT", Value::Null),
                Refusal::Overloaded { retry_after_s, .. } => {
                    retry_after(*retry_after_s);
                    (503, "OVERLOADED", Value::Null)
                }
                Refusal::StoreUnavailable | Refusal::ResultUnread(_) => {
                    (503, "STORE_UNAVAILABLE", Value::Null)
                }
                Refusal::ShuttingDown => {
                    retry_after(1);
                    (503, "SHUTTING_DOWN", Value::Null)
                }
                Refusal::NotScalable => (400, "NOT_SCALABLE", Value::Null),
                Refusal::NotCancellable(state) => {
                    if let Ok(id) = HeaderValue::from_str(name) {
                        headers.insert(EXECUTION_ID, id);
                        headers.insert(EXECUTION_STATUS, HeaderValue::from_static(state.as_str()));
                    }
                    (409, "NOT_CANCELLABLE", json!({ "status": state.as_str() }))
                }
                Refusal::Backend(failure) => match failure.kind {
                    BackendFailureKind::NoBackend => (503, "NO_DEPLOYMENT_BACKEND", Value::Null),
                    BackendFailureKind::Provisioning | BackendFailureKind::Unavailable => {
                        (503, "PROVISIONING_FAILED", Value::Null)
                    }
                    BackendFailureKind::Teardown => (500, "INTERNAL_ERROR", Value::Null),
                    BackendFailureKind::ImageNotFound => (422, "IMAGE_NOT_FOUND", Value::Null),
                    BackendFailureKind::ImagePullAuthRequired => {
                        (424, "IMAGE_PULL_AUTH_REQUIRED", Value::Null)
                    }
                    BackendFailureKind::ImageRegistryUnavailable => {
                        (503, "IMAGE_REGISTRY_UNAVAILABLE", Value::Null)
                    }
                    BackendFailureKind::Conflict => (409, "CONFLICT", Value::Null),
                },
            },
        };
        let reason = match self {
            ApiError::Refused { refusal: Refusal::RateLimited { function, .. }, .. } => match function {
                true => "rate_limit_function",
                false => "rate_limit_server",
            },
            _ => code,
        };
        let mut body = Map::new();
        body.insert("error".into(), code.into());
        body.insert("message".into(), self.to_string().into());
        if let Value::Object(context) = context {
            body.extend(context);
        }
        // Every status above is a literal between 400 and 503.
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        ErrorAnswer { status, headers, body: Value::Object(body).to_string().into_bytes(), reason }
    }
}

/// Adds how long the wait is expected to be, when that is known.
fn with_wait(mut context: Value, est_wait_us: Option<u64>) -> Value {
    if let Some(us) = est_wait_us {
        context["est_wait"] = json!(us as f64 / 1e6);
    }
    context
}

fn refusal_message(refusal: &Refusal, name: &str) -> String {
    match refusal {
        Refusal::FunctionNotFound => {
            format!("Function '{name}' is not registered; `nanofaas fn list` shows all functions")
        }
        Refusal::ExecutionNotFound => {
            format!(
                "Execution '{name}' is unknown: it never existed, or it ended longer ago than `executions.ttl` (`executions.accepted-ttl` when it was enqueued)"
            )
        }
        Refusal::DeadLetterNotFound => {
            format!("Function or execution '{name}': no such dead letter; `nanofaas dlq list` shows all of them")
        }
        Refusal::StoreUnavailable => {
            "The request could not be recorded on disk, so it is not acknowledged; look at the server's log and its disk"
                .to_owned()
        }
        Refusal::ResultUnread(ReadFailure::Unreadable) => {
            "The execution has ended, and its result could not be read from disk; try again, and look at the server's log \
             and its disk"
                .to_owned()
        }
        Refusal::ResultUnread(ReadFailure::Missing) => {
            "The execution has ended, and its result is no longer on disk; look at the server's log, and call again"
                .to_owned()
        }
        Refusal::FunctionExists => ApiError::FunctionExists(name.to_owned()).to_string(),
        Refusal::RateLimited { function: true, limit_per_second, .. } => format!(
            "Function '{name}' takes {limit_per_second} calls per second; slow down, or raise its rateLimitPerSecond"
        ),
        Refusal::RateLimited { limit_per_second, .. } => {
            format!(
                "The server takes {limit_per_second} calls per second; slow down, or raise `rate.max-per-second` (0: no limit)"
            )
        }
        Refusal::QueueFull { queue_depth, .. } => format!(
            "The queue of function '{name}' is full with {queue_depth} waiting; retry later, or raise its queueSize or concurrency"
        ),
        Refusal::SyncQueueRejected { reason, queue_depth, est_wait_us, .. } => {
            // Without an estimate, none is the reason.
            let seconds = est_wait_us.unwrap_or_default() as f64 / 1e6;
            match reason {
                SyncQueueReason::Depth => format!(
                    "Function '{name}' has {queue_depth} calls waiting, which is sync-queue.max-depth; wait for Retry-After, or raise its concurrency"
                ),
                SyncQueueReason::EstimatedWait => format!(
                    "A call of function '{name}' would wait about {seconds:.1} s behind {queue_depth} waiting calls and those that were told to come back; wait for Retry-After, or raise its concurrency or sync-queue.max-estimated-wait"
                ),
                SyncQueueReason::Timeout => format!(
                    "The call waited in the queue of function '{name}' for as long as sync-queue.max-queue-wait allows; wait for Retry-After, or raise its concurrency"
                ),
            }
        }
        Refusal::KeyInUse { id } => format!(
            "Execution {id} has the idempotency key of the dead letter and has not ended; replay the dead letter after its end"
        ),
        Refusal::KeyReused => {
            "This Idempotency-Key was used with another payload; use a new key for a new request".to_owned()
        }
        Refusal::Overloaded { what, .. } => {
            format!("The server is at its limit ({what}); retry later")
        }
        Refusal::ShuttingDown => "The server is shutting down; retry against another server".to_owned(),
        Refusal::NotScalable => format!(
            "Function '{name}' does not run as a deployment: only functions whose effectiveExecutionMode is DEPLOYMENT have replicas"
        ),
        Refusal::NotCancellable(state) => {
            format!("Execution '{name}' is {}; only queued executions can be cancelled", state.as_str())
        }
        Refusal::Backend(failure) => failure.message.to_string(),
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> ApiError {
        ApiError::RuntimeConfig(rejection)
    }
}
