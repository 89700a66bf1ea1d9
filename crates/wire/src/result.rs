//! Results on the wire: the invocation response and the execution status.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use shard_core::{
    ExecutionId, ExecutionView, Failure, Media, Output, OutputKind, State,
    answer::{DeadLetterView, Stage},
};

use super::media_type::MediaType;

/// How an envelope begins, up to the id.
const ID_BEFORE: &[u8] = b"{\"executionId\":\"";

/// Bytes of the envelope around an output that is JSON: so many are taken at once and none given back.
const ENVELOPE_BYTES: usize = 16 + shard_core::id::TEXT_LENGTH + 30 + 14;

/// `{"executionId","status":"success","output":…,"error":null}`, around the output's own bytes.
pub fn success(id: &ExecutionId, output: &Output) -> Vec<u8> {
    let mut body = Vec::with_capacity(output.body.len() + ENVELOPE_BYTES);
    body.extend_from_slice(ID_BEFORE);
    body.extend_from_slice(&id.text());
    body.extend_from_slice(b"\",\"status\":\"success\",\"output\":");
    match &output.kind {
        OutputKind::Json => body.extend_from_slice(&output.body),
        OutputKind::Text | OutputKind::Other(_) => write_json(&mut body, &output_value(output).0),
    }
    body.extend_from_slice(b",\"error\":null}");
    body
}

/// The body of a function that failed.
pub fn failure(id: &ExecutionId, failure: &Failure) -> Vec<u8> {
    let error = json!({ "code": failure.code, "message": failure.message });
    to_json(&json!({ "executionId": id.to_string(), "status": "error", "output": null, "error": error }))
}

/// The body of a call whose deadline passed.
pub fn timeout(id: &ExecutionId, stage: Stage, limit_ms: u32) -> Vec<u8> {
    let message = stage.timeout_message(limit_ms);
    let error = json!({ "code": "TIMEOUT", "message": message, "stage": stage.as_str() });
    to_json(&json!({ "executionId": id.to_string(), "status": "timeout", "output": null, "error": error }))
}

/// The body of a 202: `{"executionId","status":"queued","output":null,"error":null}`, with no tree made for it.
pub fn accepted(id: &ExecutionId) -> Vec<u8> {
    [ID_BEFORE, &id.text(), b"\",\"status\":\"queued\",\"output\":null,\"error\":null}"].concat()
}

/// ExecutionStatus, field by field in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionStatus<'a> {
    execution_id: String,
    function_name: &'a str,
    status: &'static str,
    attempt: u32,
    output: OutputValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_content_encoding: Option<&'a str>,
    error: Option<Value>,
    last_error: Option<Value>,
    cold_start: bool,
    init_duration_ms: Option<u32>,
    created_at_millis: u64,
    dispatched_at_millis: Option<u64>,
    started_at_millis: Option<u64>,
    finished_at_millis: Option<u64>,
    started_at: Option<String>,
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryStatus<'a>>,
}

/// Where the delivery of the result stands, when the caller asked for one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryStatus<'a> {
    status: &'static str,
    attempts: u32,
    last_error: Option<&'a str>,
}

/// An ExecutionStatus on the list of dead letters.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetter<'a> {
    #[serde(flatten)]
    status: ExecutionStatus<'a>,
    dead_at_millis: u64,
    payload_bytes: u64,
}

/// An output inside a document: its own JSON, or a string.
#[derive(Serialize)]
#[serde(untagged)]
enum OutputValue {
    Raw(Box<RawValue>),
    Tree(Value),
}

/// The body of `GET /v1/executions/{id}`.
pub fn execution(view: &ExecutionView) -> Vec<u8> {
    to_json(&status(view))
}

/// The body of `GET /v1/functions/{name}/dead-letters`.
pub fn dead_letters(letters: &[DeadLetterView]) -> Vec<u8> {
    to_json(&letters.iter().map(dead_letter).collect::<Vec<_>>())
}

/// The body of `:drain-once`.
pub fn drained(dispatched: bool) -> Vec<u8> {
    to_json(&json!({ "dispatched": dispatched }))
}

fn dead_letter(letter: &DeadLetterView) -> DeadLetter<'_> {
    DeadLetter {
        status: status(&letter.execution),
        dead_at_millis: letter.dead_ms,
        payload_bytes: letter.payload_bytes,
    }
}

fn status(view: &ExecutionView) -> ExecutionStatus<'_> {
    let error = |failure: &Failure| json!({ "code": failure.code, "message": failure.message });
    let (output, media) = match &view.output {
        Some(output) => output_value(output),
        None => (OutputValue::Tree(Value::Null), None),
    };
    ExecutionStatus {
        execution_id: view.id.to_string(),
        function_name: &view.function,
        status: view.state.as_str(),
        attempt: view.attempt.max(1),
        output,
        output_content_type: media.map(|media| &*media.content_type),
        output_content_encoding: media.and_then(|media| media.encoding.as_deref()),
        error: view.error.as_ref().map(error),
        last_error: view.last_error.as_ref().map(error),
        cold_start: view.cold_start,
        init_duration_ms: view.init_ms,
        created_at_millis: view.created_ms,
        dispatched_at_millis: view.dispatched_ms,
        started_at_millis: view.dispatched_ms,
        finished_at_millis: view.finished_ms.filter(|_| view.state != State::Queued),
        started_at: view.dispatched_ms.map(rfc3339),
        finished_at: view.finished_ms.map(rfc3339),
        delivery: view.delivery.as_ref().map(|delivery| DeliveryStatus {
            status: delivery.status.as_str(),
            attempts: delivery.attempts,
            last_error: delivery.last_error.as_deref(),
        }),
    }
}

/// JSON as JSON, text as a string, anything else as base64 with its description.
fn output_value(output: &Output) -> (OutputValue, Option<&Media>) {
    let text = || String::from_utf8_lossy(&output.body).into_owned();
    let json = || match RawValue::from_string(text()) {
        Ok(raw) => OutputValue::Raw(raw),
        Err(_) => OutputValue::Tree(text().into()),
    };
    match &output.kind {
        OutputKind::Json => (json(), None),
        OutputKind::Text => (OutputValue::Tree(text().into()), None),
        OutputKind::Other(media) => match MediaType::of(Some(media.content_type.as_bytes())) {
            MediaType::Json if media.encoding.is_none() && is_json(&output.body) => (json(), None),
            MediaType::Text if media.encoding.is_none() && std::str::from_utf8(&output.body).is_ok() => {
                (OutputValue::Tree(text().into()), None)
            }
            _ => (OutputValue::Tree(STANDARD.encode(&output.body).into()), Some(media)),
        },
    }
}

/// Whether these bytes are one JSON value, in UTF-8.
pub fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// Milliseconds since the epoch as RFC 3339 text in UTC.
fn rfc3339(unix_ms: u64) -> String {
    let instant = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map(|instant| instant.to_string()).unwrap_or_default()
}

/// Serialises what cannot fail: maps with string keys, strings, numbers.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn write_json(body: &mut Vec<u8>, value: &impl Serialize) {
    body.extend_from_slice(&to_json(value));
}

/// An output copied out of the buffer that it was read into, when it is small enough for that to pay.
pub fn detach(body: &Bytes) -> Bytes {
    const COPY_BYTES_MAX: usize = 16 << 10;
    if body.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(body) } else { body.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_made_by_hand_are_those_of_the_serialiser() {
        let id = ExecutionId::new(*b"0123456789abcdef", 0xbeef);
        let answer = |status: &str, output: Value| {
            let fields =
                json!({ "executionId": id.to_string(), "status": status, "output": output, "error": null });
            String::from_utf8(to_json(&fields)).expect("JSON")
        };
        let output = Output { body: Bytes::from_static(b"{\"a\":1}"), kind: OutputKind::Json };
        assert_eq!(String::from_utf8(accepted(&id)), Ok(answer("queued", Value::Null)));
        assert_eq!(String::from_utf8(success(&id, &output)), Ok(answer("success", json!({ "a": 1 }))));
    }
}
