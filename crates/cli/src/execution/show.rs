//! An execution as people read it: moments as text instead of milliseconds, failures as sentences.

use std::process::ExitCode;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{client::Session, failure::Failure};

/// Fields of an ExecutionStatus, in the order in which they are told.
const ORDER: [&str; 15] = [
    "executionId",
    "functionName",
    "status",
    "attempt",
    "output",
    "outputContentType",
    "outputContentEncoding",
    "error",
    "lastError",
    "coldStart",
    "initDurationMs",
    "createdAt",
    "dispatchedAt",
    "startedAt",
    "finishedAt",
];

/// Moments that the server tells in milliseconds, and the names under which they are shown.
const MOMENTS: [(&str, &str); 5] = [
    ("createdAtMillis", "createdAt"),
    ("dispatchedAtMillis", "dispatchedAt"),
    ("startedAtMillis", "startedAt"),
    ("finishedAtMillis", "finishedAt"),
    ("deadAtMillis", "deadAt"),
];

/// Prints an ExecutionStatus and gives the exit code for it.
pub(crate) fn end(session: &Session, (status, body): (Value, Bytes)) -> Result<ExitCode, Failure> {
    match status.as_object() {
        Some(fields) if !session.output.is_json() => session.output.fields(&readable(fields), &ORDER)?,
        _ => session.output.json(&body)?,
    }
    // A function that failed is a failure, also when it is only looked at.
    let failed = matches!(status.get("status").and_then(Value::as_str), Some("error" | "timeout"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The members for people; what is not known stays as it is.
fn readable(status: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = status.clone();
    for (millis, name) in MOMENTS {
        let Some(value) = fields.shift_remove(millis) else { continue };
        let text = value.as_i64().and_then(moment);
        // The server's own text is as good.
        if let (Some(text), true) = (text, fields.get(name).is_none_or(Value::is_null)) {
            fields.insert(name.to_owned(), text.into());
        }
    }
    // What ended it is no second piece of news.
    if fields.get("error") == fields.get("lastError") {
        fields.shift_remove("lastError");
    }
    for name in ["error", "lastError"] {
        if let Some(text) = fields.get(name).and_then(complaint) {
            fields.insert(name.to_owned(), text.into());
        }
    }
    if let Some(text) = fields.get("delivery").and_then(delivery) {
        fields.insert("delivery".to_owned(), text.into());
    }
    fields
}

/// A moment in RFC 3339.
pub(crate) fn moment(millis: i64) -> Option<String> {
    Timestamp::from_millisecond(millis).ok().map(|moment| moment.to_string())
}

/// `{"code","message"}` as one sentence.
pub(crate) fn complaint(error: &Value) -> Option<String> {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    Some(format!("{} ({})", text("message")?, text("code")?))
}

/// `{"status","attempts","lastError"}` as one sentence.
fn delivery(delivery: &Value) -> Option<String> {
    let status = delivery.get("status")?.as_str()?;
    let attempts = match delivery.get("attempts").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(1) => ", 1 attempt".to_owned(),
        Some(count) => format!(", {count} attempts"),
    };
    let error = delivery.get("lastError").and_then(Value::as_str);
    Some(format!("{status}{attempts}{}", error.map_or(String::new(), |error| format!(": {error}"))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_no_milliseconds() {
        let status = json!({
            "executionId": "x", "status": "error", "createdAtMillis": 1_700_000_000_000_i64,
            "startedAtMillis": null, "finishedAtMillis": 1, "finishedAt": "then", "new": [1],
            "error": {"code": "C", "message": "m"}, "lastError": {"code": "C", "message": "l"},
            "delivery": {"status": "failed", "attempts": 2, "lastError": "refused"}
        });
        let shown = readable(status.as_object().expect("an object"));
        let expected = json!({
            "executionId": "x", "status": "error", "createdAt": "2023-11-14T22:13:20Z", "finishedAt": "then",
            "new": [1], "error": "m (C)", "lastError": "l (C)", "delivery": "failed, 2 attempts: refused"
        });
        assert_eq!(Value::Object(shown), expected);
    }
}
