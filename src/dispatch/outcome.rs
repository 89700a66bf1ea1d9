//! What a function's answer means. A pure function of status, headers and body; the table is in the tests.

use bytes::Bytes;
use hyper::StatusCode;
use nanofaas_wire::{media_type::MediaType, result::is_json};
use serde::Deserialize;
use shard_core::{
    Failure, Media, Outcome, Output, OutputKind, Report,
    payload::code::{FUNCTION_CRASHED, FUNCTION_TIMEOUT},
};

use super::response::{Head, WatchdogVerdict};

/// The function could not be reached, or left before it had answered.
pub const UNREACHABLE: &str = "FUNCTION_UNREACHABLE";
/// The answer is longer than allowed.
pub const RESPONSE_TOO_LARGE: &str = "FUNCTION_RESPONSE_TOO_LARGE";
/// The answer is neither JSON nor text, and the caller asked for JSON.
pub const BAD_OUTPUT: &str = "FUNCTION_BAD_OUTPUT";
/// The function said that it failed.
pub const FUNCTION_ERROR: &str = "FUNCTION_ERROR";

/// The type of a body that names none.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Part of a failed answer's body that becomes the message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Statuses that say the call itself is wrong: asking again cannot help.
const FINAL_STATUSES: [u16; 13] = [400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 415, 422, 451];

/// Codes by which a watchdog says that the call was run and that another run would not end better.
const FINAL_CODES: [&str; 2] = [BAD_OUTPUT, RESPONSE_TOO_LARGE];

/// Says what an answer means. `raw`: the caller sent something else than JSON and takes whatever comes.
pub fn classify(head: &Head, body: Bytes, raw: bool) -> Report {
    let mut bad_output = false;
    let outcome = if !head.status.is_success() {
        judged(head, failed(head, body))
    } else if head.status == StatusCode::ACCEPTED && head.promises_callback {
        Outcome::Deferred
    } else {
        succeeded(head, body, raw, &mut bad_output)
    };
    Report { outcome, cold_start: head.cold_start, init_ms: head.init_ms, bad_output }
}

fn succeeded(head: &Head, body: Bytes, raw: bool, bad_output: &mut bool) -> Outcome {
    if raw {
        return Outcome::Success(as_it_is(head, body));
    }
    if body.is_empty() {
        return Outcome::Success(Output::null());
    }
    if let Some(encoding) = &head.content_encoding {
        return bad(format!(
            "The function answered with Content-Encoding {encoding}, which a JSON call cannot carry; send the answer \
             unencoded, or call it with another Content-Type (raw mode)"
        ));
    }
    let content_type = head.content_type.as_deref();
    match MediaType::of(content_type.map(str::as_bytes)) {
        MediaType::Json | MediaType::Text if std::str::from_utf8(&body).is_err() => bad(
            "The function answered bytes that are not UTF-8, which a JSON call cannot carry; answer without \
                 compression and in UTF-8, or call it with another Content-Type (raw mode)",
        ),
        MediaType::Json if is_json(&body) => {
            let body = body.slice_ref(body.trim_ascii());
            Outcome::Success(Output { body, kind: OutputKind::Json })
        }
        MediaType::Json => {
            *bad_output = true;
            Outcome::Success(text_output(body))
        }
        MediaType::Text => Outcome::Success(text_output(body)),
        MediaType::Form | MediaType::Other => {
            let content_type = content_type.unwrap_or_default();
            bad(format!(
                "The function answered {content_type}, which a JSON call cannot carry; answer JSON or text, or call it with another Content-Type (raw mode)"
            ))
        }
    }
}

/// An answer that does not fit the call, and would not the next time either.
fn bad(message: impl Into<Box<str>>) -> Outcome {
    let failure = Box::new(Failure::new(BAD_OUTPUT, message));
    Outcome::Failure { failure, retryable: false, retry_after_ms: None }
}

/// The bytes of an answer, and what its head says about them.
fn as_it_is(head: &Head, body: Bytes) -> Output {
    let content_type = head.content_type.as_deref().unwrap_or(UNKNOWN_TYPE).into();
    let media = Media { content_type, encoding: head.content_encoding.clone() };
    Output { body, kind: OutputKind::Other(Box::new(media)) }
}

/// A failure as the watchdog of the program judges it, if there is one.
fn judged(head: &Head, outcome: Outcome) -> Outcome {
    match (head.verdict, head.status, outcome) {
        (
            Some(WatchdogVerdict::NotRun),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::MISDIRECTED_REQUEST,
            Outcome::Failure { failure, .. },
        ) => Outcome::NotRun(failure),
        (Some(WatchdogVerdict::Crashed), StatusCode::BAD_GATEWAY, Outcome::Failure { failure, .. }) => {
            Outcome::Crashed(Box::new(Failure { code: FUNCTION_CRASHED.into(), ..*failure }))
        }
        (_, _, outcome) => outcome,
    }
}

fn failed(head: &Head, body: Bytes) -> Outcome {
    let status = head.status;
    let encoding = head.content_encoding.as_deref().filter(|_| !body.is_empty());
    // An encoded body has no words to read.
    let readable = if encoding.is_none() { &body[..] } else { b"" };
    let said = serde_json::from_slice::<SaidBody>(readable).ok().map(|body| body.error);
    let said_code = said.as_ref().map_or("", |said| said.code.as_str());
    let final_code = FINAL_CODES
        .into_iter()
        .find(|code| status == StatusCode::INTERNAL_SERVER_ERROR && *code == said_code);
    let timed_out = status == StatusCode::GATEWAY_TIMEOUT && said_code == "TIMEOUT";
    // A body that names code and message says it better than its own JSON.
    let text = said.map_or_else(|| shortened(readable), |said| shortened(said.message.as_bytes()));
    let message: Box<str> = match (text.trim(), encoding) {
        ("", Some(encoding)) => format!("{status}, with a body in Content-Encoding {encoding}").into(),
        ("", None) => status.to_string().into(),
        (text, _) => text.into(),
    };
    let failure = Failure {
        code: final_code.unwrap_or(if timed_out { FUNCTION_TIMEOUT } else { FUNCTION_ERROR }).into(),
        message,
        body: (!body.is_empty()).then(|| as_it_is(head, body)),
    };
    let retry_after_ms = head.retry_after_s.map(|seconds| seconds.saturating_mul(1000));
    // Who has enough of calls and does not say for how long would be asked again at once.
    let unwilling = status == StatusCode::TOO_MANY_REQUESTS && head.retry_after_s.is_none();
    let retryable = final_code.is_none() && !unwilling && !FINAL_STATUSES.contains(&status.as_u16());
    Outcome::Failure { failure: Box::new(failure), retryable, retry_after_ms }
}

/// What the watchdog and several runtimes answer when they fail: `{"error":{"code":…,"message":…}}`.
#[derive(Deserialize)]
struct SaidBody {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    code: String,
    message: String,
}

fn text_output(body: Bytes) -> Output {
    Output { body, kind: OutputKind::Text }
}

/// The beginning of a body as text, without a character cut in half.
fn shortened(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_BYTES_MAX)]).into_owned();
    let cut = body.len() > MESSAGE_BYTES_MAX;
    if cut { text.trim_end_matches('\u{fffd}').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::response;

    /// The head of an answer, as it is read from the wire.
    fn head(status: u16, headers: &[(&str, &str)]) -> Head {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        response::parse(text.as_bytes()).expect("a head").expect("a whole one").0
    }

    /// `status`, headers as `name: value` lines, body, raw → the outcome in a few words.
    fn check(status: u16, headers: &[(&str, &str)], body: &str, raw: bool, expected: &str) {
        let report = classify(&head(status, headers), Bytes::from(body.to_owned()), raw);
        let mut text = match &report.outcome {
            Outcome::Deferred => "deferred".to_owned(),
            Outcome::NotRun(failure) => format!("{} not run: {}", failure.code, failure.message),
            Outcome::Crashed(failure) => format!("{} crashed: {}", failure.code, failure.message),
            Outcome::Success(output) => {
                let body = String::from_utf8_lossy(&output.body);
                match &output.kind {
                    OutputKind::Json => format!("json {body}"),
                    OutputKind::Text => format!("text {body}"),
                    OutputKind::Other(media) => match &media.encoding {
                        None => format!("{} {body}", media.content_type),
                        Some(encoding) => format!("{} in {encoding} {body}", media.content_type),
                    },
                }
            }
            Outcome::Failure { failure, retryable, retry_after_ms } => {
                let again = if *retryable { "again" } else { "final" };
                let after = retry_after_ms.map(|ms| format!(" after {ms}")).unwrap_or_default();
                format!("{} {again}{after}: {}", failure.code, failure.message)
            }
        };
        if report.cold_start {
            text.push_str(&format!(" cold {:?}", report.init_ms));
        }
        if report.bad_output {
            text.push_str(" bad");
        }
        assert_eq!(text, expected, "{status} {headers:?} {body:?}");
    }

    #[test]
    fn answers() {
        let json = ("content-type", "application/json");
        let text = ("content-type", "text/plain; charset=utf-8");
        let png = ("content-type", "image/png");
        check(200, &[json], " {\"a\":1}\n", false, "json {\"a\":1}");
        check(200, &[], "[1]", false, "json [1]");
        check(201, &[json], "nonsense", false, "text nonsense bad");
        check(200, &[], "plain words", false, "text plain words bad");
        check(200, &[text], "12", false, "text 12");
        check(200, &[json], "", false, "json null");
        check(204, &[], "", false, "json null");
        check(200, &[png], "\u{1}", true, "image/png \u{1}");
        check(200, &[text], "a", true, "text/plain; charset=utf-8 a");
        check(202, &[("x-nanofaas-async", "true")], "", false, "deferred");
        check(202, &[json], "1", false, "json 1");
        check(
            200,
            &[json, ("x-cold-start", "TRUE"), ("x-init-duration-ms", "12")],
            "1",
            false,
            "json 1 cold Some(12)",
        );
        check(
            200,
            &[json, ("x-cold-start", "true"), ("x-init-duration-ms", "x")],
            "1",
            false,
            "json 1 cold None",
        );
        check(500, &[json], "{\"error\":\"x\"}", false, "FUNCTION_ERROR again: {\"error\":\"x\"}");
        check(
            503,
            &[("retry-after", "2")],
            "",
            false,
            "FUNCTION_ERROR again after 2000: 503 Service Unavailable",
        );
        check(302, &[("location", "/")], "", false, "FUNCTION_ERROR again: 302 Found");
        check(429, &[("retry-after", "3")], "busy", false, "FUNCTION_ERROR again after 3000: busy");
        check(429, &[], "busy", false, "FUNCTION_ERROR final: busy");
        for status in FINAL_STATUSES {
            check(status, &[], "no", false, "FUNCTION_ERROR final: no");
        }
        let timeout = r#"{"error":{"code":"TIMEOUT","message":"10 ms"}}"#;
        check(504, &[json], timeout, false, "FUNCTION_TIMEOUT again: 10 ms");
        check(500, &[json], timeout, false, "FUNCTION_ERROR again: 10 ms");
        let (down, over) = (("x-nanofaas-watchdog", "not-run"), ("X-Nanofaas-Watchdog", "crashed"));
        check(503, &[down], "down", false, "FUNCTION_ERROR not run: down");
        check(421, &[down], "down", false, "FUNCTION_ERROR not run: down");
        check(502, &[over], "over", true, "FUNCTION_CRASHED crashed: over");
        check(500, &[down], "no", false, "FUNCTION_ERROR again: no");
        check(503, &[over], "no", false, "FUNCTION_ERROR again: no");
        check(200, &[json, over], "1", false, "json 1");
        for code in FINAL_CODES {
            let said = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
            check(500, &[json], &said, false, &format!("{code} final: no"));
            check(503, &[json], &said, false, "FUNCTION_ERROR again: no");
        }
        check(504, &[json], "{}", false, "FUNCTION_ERROR again: {}");
    }

    #[test]
    fn encoded_answers() {
        let json = ("content-type", "application/json");
        let gzip = ("content-encoding", "gzip");
        let refused = "FUNCTION_BAD_OUTPUT final: The function answered with Content-Encoding gzip, which a JSON call \
                       cannot carry; send the answer unencoded, or call it with another Content-Type (raw mode)";
        // Also when its bytes happen to be text.
        check(200, &[json, gzip], "1", false, refused);
        check(200, &[("content-type", "text/plain"), gzip], "x", false, refused);
        check(200, &[json, gzip], "x", true, "application/json in gzip x");
        check(200, &[json, gzip], "", false, "json null");
        check(200, &[json, ("content-encoding", "identity")], "1", false, "json 1");
        let said = r#"{"error":{"code":"TIMEOUT","message":"no"}}"#;
        let message = "500 Internal Server Error, with a body in Content-Encoding gzip";
        check(500, &[json, gzip], said, false, &format!("FUNCTION_ERROR again: {message}"));
        check(500, &[gzip], "", false, "FUNCTION_ERROR again: 500 Internal Server Error");
        let report = classify(&head(500, &[json, gzip]), Bytes::from_static(b"x"), true);
        let Outcome::Failure { failure, .. } = report.outcome else { panic!("{report:?}") };
        let Some(Output { kind: OutputKind::Other(media), .. }) = failure.body else { panic!("{failure:?}") };
        assert_eq!(media.encoding.as_deref(), Some("gzip"));
    }

    #[test]
    fn a_json_call_cannot_carry_a_picture() {
        let head = head(200, &[("content-type", "image/png")]);
        let report = classify(&head, Bytes::from_static(b"\x89PNG"), false);
        let Outcome::Failure { failure, retryable: false, .. } = report.outcome else { panic!("{report:?}") };
        assert_eq!(failure.code, BAD_OUTPUT);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_or_refused() {
        for content_type in ["application/json", "text/plain"] {
            for body in [&b"\x1f\x8b\x08\x00"[..], b"\"\xe9\""] {
                let head = head(200, &[("content-type", content_type)]);
                let report = classify(&head, Bytes::from_static(body), false);
                let Outcome::Failure { failure, retryable: false, .. } = report.outcome else {
                    panic!("{report:?}")
                };
                assert_eq!(failure.code, BAD_OUTPUT);
                let report = classify(&head, Bytes::from_static(body), true);
                let Outcome::Success(output) = report.outcome else { panic!("{report:?}") };
                assert_eq!(output.body, body);
            }
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let body = Bytes::from("é".repeat(MESSAGE_BYTES_MAX));
        let report = classify(&head(500, &[]), body, false);
        let Outcome::Failure { failure, .. } = report.outcome else { panic!("{report:?}") };
        assert_eq!(failure.message.len(), MESSAGE_BYTES_MAX);
    }
}
