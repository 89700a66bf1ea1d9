//! One call on its way through the watchdog: what came in, what goes out, what can go wrong.

use std::{io, process::ExitStatus, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue},
};
use nanofaas_web::client::ClientError;
use serde_json::value::RawValue;
use tokio::time::Instant;

/// Largest request and largest answer, in bytes.
pub const BODY_MAX: usize = 16 << 20;

/// Header by which the watchdog, and never its program, tells the server what became of a call.
pub const VERDICT: HeaderName = HeaderName::from_static("x-nanofaas-watchdog");
const NOT_RUN: &str = "not-run";
const CRASHED: &str = "crashed";

/// How much of a wrong output is repeated in the error message, in bytes.
const EXCERPT_MAX: usize = 256;

/// A request for the program.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// `X-Execution-Id`.
    pub execution_id: String,
    /// `X-Trace-Id`, empty when the caller sent none.
    pub trace_id: String,
    /// Headers that a program of mode HTTP gets.
    pub headers: HeaderMap,
    /// The request object as JSON, or any bytes when `raw`.
    pub body: Bytes,
    /// The content type is not JSON: bytes go in and out as they are.
    pub raw: bool,
    /// When the answer must have been given.
    pub deadline: Instant,
}

/// What the program answered.
#[derive(Debug, Clone)]
pub struct Output {
    /// 200, or what a program of mode HTTP chose.
    pub status: StatusCode,
    /// Content type, and `X-*` of a program of mode HTTP.
    pub headers: HeaderMap,
    /// The answer itself.
    pub body: Bytes,
}

impl Output {
    /// Output of a program that writes bytes: JSON when it is JSON, which it has to be unless the call is raw.
    pub(super) fn from_bytes(bytes: Vec<u8>, raw: bool) -> Result<Output, String> {
        let (content_type, body) = match json_document(&bytes) {
            Ok(_) if raw => ("application/json", bytes.into()),
            Ok(_) => ("application/json", trimmed(bytes.into())),
            Err(_) if raw => ("application/octet-stream", bytes.into()),
            Err(reason) => return Err(found(&reason, &bytes)),
        };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Ok(Output { status: StatusCode::OK, headers, body })
    }
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program could not be started.
    #[error("cannot start '{program}': {reason}")]
    NotStarted {
        /// First word of `WATCHDOG_CMD`.
        program: String,
        /// The operating system's word for it.
        reason: String,
    },
    /// A program of mode HTTP ended before it was ready.
    #[error("the program ended before it was ready ({status}){}", after_colon(.tail))]
    EndedEarly {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        tail: String,
    },
    /// A program of mode HTTP did not answer its health check in time.
    #[error("Runtime not ready after {}ms{}", .limit.as_millis(), after_colon(.tail))]
    NotReady {
        /// The time it was given.
        limit: Duration,
        /// The end of what it wrote.
        tail: String,
    },
    /// The call is for another function.
    #[error("the call is for function '{wanted}', and function '{own}' is here")]
    NotOurs {
        /// The function that the call names.
        wanted: String,
        /// `FUNCTION_NAME`.
        own: String,
    },
    /// The limit of the call passed.
    #[error("Function exceeded timeout of {}ms", .0.as_millis())]
    TimedOut(Duration),
    /// A process per call ended with something else than 0.
    #[error("Process exited with {status}{}", after_colon(.stderr))]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// A program of mode HTTP ended while the call ran in it.
    #[error("The program ended while it ran the call ({status}){}", after_colon(.tail))]
    Crashed {
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        tail: String,
    },
    /// Standard output is not one JSON document.
    #[error(
        "Standard output is the answer and has to be one JSON value, but {0}; write logs to standard error"
    )]
    InvalidOutput(String),
    /// The program left no file.
    #[error("Output file {0} not created")]
    NoOutputFile(String),
    /// The file is not one JSON document.
    #[error("The file that OUTPUT_FILE names is the answer and has to be one JSON value, but {0}")]
    InvalidFile(String),
    /// A program of mode HTTP answered with a content type that fits no JSON request.
    #[error("the program answered with content type '{0}' to a JSON request")]
    WrongType(String),
    /// A program of mode HTTP encoded its answer to a JSON request.
    #[error("the program answered with Content-Encoding {0} to a JSON request; send the answer unencoded")]
    Encoded(String),
    /// The output passed the limit.
    #[error("the output of the program is longer than {BODY_MAX} bytes")]
    TooLarge,
    /// A program of mode HTTP broke off.
    #[error("HTTP error: {0}")]
    Broken(ClientError),
    /// A program of mode HTTP answered that it failed.
    #[error("{message}")]
    Reported {
        /// Its own code, or `FUNCTION_ERROR`.
        code: String,
        /// Its own message, or its answer.
        message: String,
    },
    /// The watchdog takes no calls: its program is down, it drains, or too many calls wait.
    #[error("{0}")]
    Unavailable(String),
    /// The watchdog itself failed at something.
    #[error("the watchdog cannot {action}: {reason}")]
    Watchdog {
        /// What it wanted to do.
        action: &'static str,
        /// Why it could not.
        reason: String,
    },
}

impl Failure {
    /// The `code` of the error object.
    pub fn code(&self) -> &str {
        match self {
            Failure::NotStarted { .. } => "SPAWN_ERROR",
            Failure::EndedEarly { .. } | Failure::NotReady { .. } => "STARTUP_ERROR",
            Failure::TimedOut(_) => "TIMEOUT",
            Failure::Crashed { .. } => "FUNCTION_CRASHED",
            Failure::Exited { .. } | Failure::Broken(_) => "FUNCTION_ERROR",
            Failure::InvalidOutput(_)
            | Failure::NoOutputFile(_)
            | Failure::InvalidFile(_)
            | Failure::WrongType(_)
            | Failure::Encoded(_) => "FUNCTION_BAD_OUTPUT",
            Failure::TooLarge => "FUNCTION_RESPONSE_TOO_LARGE",
            Failure::Reported { code, .. } => code,
            Failure::Unavailable(_) => "UNAVAILABLE",
            Failure::NotOurs { .. } => "MISDIRECTED_REQUEST",
            Failure::Watchdog { .. } => "WATCHDOG_ERROR",
        }
    }

    /// The failure without what the program wrote, which is in the log already.
    pub fn without_output(&self) -> String {
        let whole = self.to_string();
        // Every message that has output ends in it.
        whole.strip_suffix(&after_colon(self.logged_output())).unwrap_or(&whole).to_owned()
    }

    /// The end of what the program wrote to its log; empty where that says nothing about the failure.
    pub fn logged_output(&self) -> &str {
        match self {
            Failure::EndedEarly { tail, .. }
            | Failure::NotReady { tail, .. }
            | Failure::Crashed { tail, .. }
            | Failure::Exited { stderr: tail, .. } => tail,
            _ => "",
        }
    }

    /// The status that the failure is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Failure::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::NotOurs { .. } => StatusCode::MISDIRECTED_REQUEST,
            Failure::Crashed { .. } => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the server is told besides: that the call was not run, or that the program ended with it.
    pub(super) fn verdict(&self) -> Option<HeaderValue> {
        match self {
            Failure::Unavailable(_) | Failure::NotOurs { .. } => Some(HeaderValue::from_static(NOT_RUN)),
            Failure::Crashed { .. } => Some(HeaderValue::from_static(CRASHED)),
            _ => None,
        }
    }

    pub(super) fn watchdog(action: &'static str) -> impl Fn(io::Error) -> Failure {
        move |reason| Failure::Watchdog { action, reason: reason.to_string() }
    }

    pub(super) fn not_started(program: &str, reason: &io::Error) -> Failure {
        // std appends "(os error 2)", which helps nobody.
        let reason = reason.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
        Failure::NotStarted { program: program.to_owned(), reason }
    }
}

/// `{"code":…,"message":…}`.
pub fn error_object(code: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "code": code, "message": message })
}

/// A missing content type counts as JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// How a body is encoded, if it is.
pub(super) fn encoding(headers: &HeaderMap) -> Option<String> {
    let values =
        headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let all = values.collect::<Vec<_>>().join(", ");
    let is_encoded = all
        .split(',')
        .map(str::trim)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    is_encoded.then_some(all)
}

/// Checks that the bytes are exactly one JSON document, and gives it without the white space around.
///
/// # Errors
/// Where and why it is none.
pub fn json_document(bytes: &[u8]) -> Result<&RawValue, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What is there instead of an answer.
fn found(reason: &str, bytes: &[u8]) -> String {
    if bytes.trim_ascii().is_empty() {
        return "there is nothing".to_owned();
    }
    format!("there is `{}` ({reason})", excerpt(bytes))
}

/// The beginning of a body, for a message.
pub fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_MAX)]).trim().to_owned();
    if bytes.len() > EXCERPT_MAX { format!("{text}…") } else { text }
}

/// Bytes without the white space around them.
fn trimmed(bytes: Bytes) -> Bytes {
    bytes.slice_ref(bytes.trim_ascii())
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_is_not_logged_again_with_its_failure() {
        let status = <ExitStatus as std::os::unix::process::ExitStatusExt>::from_raw(256);
        let tail = || "first: a\nlast".to_owned();
        for (failure, expected) in [
            (
                Failure::EndedEarly { status, tail: tail() },
                "the program ended before it was ready (exit status: 1)",
            ),
            (
                Failure::NotReady { limit: Duration::from_millis(5), tail: tail() },
                "Runtime not ready after 5ms",
            ),
            (
                Failure::Crashed { status: status.to_string(), tail: tail() },
                "The program ended while it ran the call (exit status: 1)",
            ),
            (Failure::Exited { status, stderr: tail() }, "Process exited with exit status: 1"),
            (Failure::Exited { status, stderr: String::new() }, "Process exited with exit status: 1"),
            (Failure::Unavailable("no".to_owned()), "no"),
        ] {
            assert_eq!(failure.without_output(), expected);
            let output = failure.logged_output();
            assert!(output.is_empty() || failure.to_string() == format!("{expected}: {output}"), "{failure}");
        }
    }

    #[test]
    fn output_of_a_json_call_is_one_document() {
        for (bytes, body) in [
            (" {\"a\":1}\n", Some("{\"a\":1}")),
            ("null", Some("null")),
            ("1 2", None),
            ("", None),
            ("oops", None),
        ] {
            let output = Output::from_bytes(bytes.into(), false);
            assert_eq!(output.ok().map(|output| output.body), body.map(Bytes::from), "{bytes:?}");
        }
    }

    #[test]
    fn output_of_a_raw_call_keeps_every_byte() {
        for (bytes, content_type) in
            [(&b"\xff\x00"[..], "application/octet-stream"), (b" [1]\n", "application/json")]
        {
            let output = Output::from_bytes(bytes.into(), true).unwrap();
            assert_eq!(output.body, bytes);
            assert_eq!(output.headers[CONTENT_TYPE], content_type);
        }
    }

    #[test]
    fn json_is_told_by_the_content_type() {
        for (content_type, expected) in [
            ("application/json; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/cloudevents+json", true),
            ("text/plain", false),
            ("application/jsonp", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(is_json(&headers), expected, "{content_type}");
        }
        assert!(is_json(&HeaderMap::new()));
    }
}
