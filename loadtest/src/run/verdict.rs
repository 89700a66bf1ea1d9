//! What an answer means for its call.

use memchr::memmem;
use serde::Deserialize;

use super::call::CallStep;
use crate::{client::reader::Answer, plan::Mode};

/// How far into a body the status of an envelope is looked for before the body is parsed.
const ENVELOPE_BYTES: usize = 256;

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CallVerdict {
    /// The call succeeded.
    Success,
    /// The execution with this id will have a result.
    Accepted(String),
    /// The execution has no result yet.
    Unfinished,
    /// The call failed.
    Failure(CallFailure),
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallFailure {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    /// Seconds after which it makes sense to call again; only with 429 and 503.
    pub(super) retry_after_s: Option<u32>,
}

/// Reads of envelopes, statuses and error bodies what matters here.
#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(rename = "executionId", borrow, default)]
    id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<ErrorField<'a>>,
}

/// A code, or what it is in.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorField<'a> {
    Code(#[serde(borrow)] std::borrow::Cow<'a, str>),
    Inside {
        #[serde(borrow)]
        code: std::borrow::Cow<'a, str>,
    },
    Other(serde::de::IgnoredAny),
}

/// Judges an answer.
pub(super) fn judge(mode: Mode, step: CallStep, answer: &Answer<'_>) -> CallVerdict {
    let status = answer.head.status;
    match (mode, step) {
        (Mode::Url, _) if (200..400).contains(&status) => CallVerdict::Success,
        (Mode::Raw, _) if status == 200 => CallVerdict::Success,
        (Mode::Sync, _) if status == 200 => envelope(answer),
        (_, CallStep::Poll) if status == 200 => envelope(answer),
        (Mode::Async | Mode::Callback, CallStep::Enqueue) if status == 202 => accepted(answer),
        _ => CallVerdict::Failure(failure(answer)),
    }
}

/// Whether the result that a callback carries is a success, and the code otherwise.
pub(crate) fn result(body: &[u8]) -> Result<(), Option<String>> {
    match status_of(body) {
        Some((true, _)) => Ok(()),
        Some((false, code)) => Err(code),
        None => Err(Some("bad_body".to_owned())),
    }
}

fn envelope(answer: &Answer<'_>) -> CallVerdict {
    match status_of(answer.body) {
        Some((true, _)) => CallVerdict::Success,
        Some((false, Some(code))) if code == UNFINISHED => CallVerdict::Unfinished,
        Some((false, code)) => CallVerdict::Failure(CallFailure { status: 200, code, retry_after_s: None }),
        None => {
            let code = Some("bad_body".to_owned());
            CallVerdict::Failure(CallFailure { status: 200, code, retry_after_s: None })
        }
    }
}

/// Stands in the place of a code while there is no result.
const UNFINISHED: &str = "unfinished";

/// Whether an envelope says success, else its code; `None` when it is none.
fn status_of(body: &[u8]) -> Option<(bool, Option<String>)> {
    // Compact JSON is the common case, and the output of the function comes after the status; what a function puts into
    // its output cannot stand before it. Anything else is parsed.
    let start = &body[..body.len().min(ENVELOPE_BYTES)];
    let output = memmem::find(start, b"\"output\"").unwrap_or(start.len());
    if memmem::find(&start[..output], br#""status":"success""#).is_some() {
        return Some((true, None));
    }
    let body: AnswerBody<'_> = serde_json::from_slice(body).ok()?;
    let code = match body.error {
        Some(ErrorField::Code(code) | ErrorField::Inside { code }) => Some(code.into_owned()),
        Some(ErrorField::Other(_)) | None => None,
    };
    match body.status.as_deref()? {
        "success" => Some((true, None)),
        "queued" | "running" => Some((false, Some(UNFINISHED.to_owned()))),
        status => Some((false, code.or_else(|| Some(status.to_owned())))),
    }
}

fn accepted(answer: &Answer<'_>) -> CallVerdict {
    let body: Option<AnswerBody<'_>> = serde_json::from_slice(answer.body).ok();
    match body.and_then(|body| body.id) {
        Some(id) => CallVerdict::Accepted(id.into_owned()),
        None => {
            let code = Some("bad_body".to_owned());
            CallVerdict::Failure(CallFailure { status: answer.head.status, code, retry_after_s: None })
        }
    }
}

fn failure(answer: &Answer<'_>) -> CallFailure {
    let body: Option<AnswerBody<'_>> = serde_json::from_slice(answer.body).ok();
    let in_body = match body.and_then(|body| body.error) {
        Some(ErrorField::Code(code) | ErrorField::Inside { code }) => Some(code.into_owned()),
        _ => None,
    };
    let status = answer.head.status;
    CallFailure {
        status,
        code: in_body.or_else(|| answer.head.execution_error.as_deref().map(str::to_owned)),
        retry_after_s: answer.head.retry_after_s.filter(|_| matches!(status, 429 | 503)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::head;

    fn verdict(mode: Mode, step: CallStep, status: u16, headers: &str, body: &str) -> CallVerdict {
        let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        let head = head::parse(text.as_bytes()).expect("a head").expect("a complete one");
        judge(mode, step, &Answer { head: &head, body: body.as_bytes() })
    }

    fn failed(status: u16, code: Option<&str>, retry_after_s: Option<u32>) -> CallVerdict {
        CallVerdict::Failure(CallFailure { status, code: code.map(str::to_owned), retry_after_s })
    }

    #[test]
    fn answers_and_what_they_mean() {
        let success = r#"{"executionId":"a","status":"success","output":1,"error":null}"#;
        let error =
            r#"{"executionId":"a","status":"error","output":null,"error":{"code":"E","message":"m"}}"#;
        let spaced = r#"{ "status" : "success" }"#;
        let hidden = r#"{"status":"error","output":"\"status\":\"success\"","error":null}"#;
        let refused = r#"{"error":"QUEUE_FULL","message":"m"}"#;
        let running = r#"{"executionId":"a","status":"running"}"#;
        let (sync, wait) = (Mode::Sync, "Retry-After: 2\r\n");
        for (mode, step, status, headers, body, expected) in [
            (sync, CallStep::Invoke, 200, "", success, CallVerdict::Success),
            (sync, CallStep::Invoke, 200, "", spaced, CallVerdict::Success),
            (sync, CallStep::Invoke, 200, "", error, failed(200, Some("E"), None)),
            (sync, CallStep::Invoke, 200, "", hidden, failed(200, Some("error"), None)),
            (sync, CallStep::Invoke, 200, "", "hello", failed(200, Some("bad_body"), None)),
            (sync, CallStep::Invoke, 429, wait, refused, failed(429, Some("QUEUE_FULL"), Some(2))),
            (sync, CallStep::Invoke, 404, wait, "", failed(404, None, None)),
            (sync, CallStep::Invoke, 408, "", error, failed(408, Some("E"), None)),
            (Mode::Raw, CallStep::Invoke, 200, "", "hello", CallVerdict::Success),
            (
                Mode::Raw,
                CallStep::Invoke,
                502,
                "X-Execution-Error: F\r\n",
                "oops",
                failed(502, Some("F"), None),
            ),
            (Mode::Url, CallStep::Invoke, 302, "", "", CallVerdict::Success),
            (Mode::Url, CallStep::Invoke, 500, "", "", failed(500, None, None)),
            (Mode::Async, CallStep::Enqueue, 202, "", running, CallVerdict::Accepted("a".to_owned())),
            (Mode::Async, CallStep::Enqueue, 200, "", running, failed(200, None, None)),
            (Mode::Async, CallStep::Poll, 200, "", running, CallVerdict::Unfinished),
            (Mode::Async, CallStep::Poll, 200, "", success, CallVerdict::Success),
            (Mode::Async, CallStep::Poll, 200, "", error, failed(200, Some("E"), None)),
        ] {
            assert_eq!(
                verdict(mode, step, status, headers, body),
                expected,
                "{mode:?} {step:?} {status} {body}"
            );
        }
    }
}
