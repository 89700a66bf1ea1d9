//! Completion callbacks, in both body forms.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shard_core::{Failure, Outcome, Output, OutputKind};

use super::{
    envelope::{Object, malformed},
    error::ApiError,
};

#[derive(Deserialize)]
struct Body<'a> {
    success: Option<bool>,
    status: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Object<ErrorBody>>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

/// Reads what a function reports. `{"success":…}` and `{"status":…}` are told apart by their keys; with neither
/// it is a success when there is no error.
///
/// # Errors
/// Malformed JSON, wrong types, an unknown status.
pub fn parse(body: &Bytes) -> Result<Outcome, ApiError> {
    let Object(report): Object<Body<'_>> =
        serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
    let (success, timed_out) = match (report.success, report.status.as_deref()) {
        (Some(success), _) => (success, false),
        (None, Some(status)) => match status.to_ascii_uppercase().as_str() {
            "SUCCESS" => (true, false),
            "ERROR" => (false, false),
            "TIMEOUT" => (false, true),
            _ => {
                let rule = "status: must be one of SUCCESS, ERROR, TIMEOUT".to_owned();
                return Err(ApiError::Validation(vec![rule]));
            }
        },
        (None, None) => (report.error.is_none(), false),
    };
    if success {
        let output = match report.output {
            Some(raw) => {
                Output { body: Bytes::copy_from_slice(raw.get().as_bytes()), kind: OutputKind::Json }
            }
            None => Output::null(),
        };
        return Ok(Outcome::Success(output));
    }
    let default_code = if timed_out { "FUNCTION_TIMEOUT" } else { "FUNCTION_ERROR" };
    let Object(said) = report.error.unwrap_or(Object(ErrorBody { code: None, message: None }));
    let code = if timed_out { None } else { said.code.filter(|code| !code.is_empty()) };
    let message = said.message.unwrap_or_else(|| {
        if timed_out {
            "The function reported by callback that it ran out of time".to_owned()
        } else {
            "The function reported a failure by callback without saying why".to_owned()
        }
    });
    let failure =
        Failure { code: code.map_or(default_code.into(), Into::into), message: message.into(), body: None };
    Ok(Outcome::Failure { failure: Box::new(failure), retryable: true, retry_after_ms: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_none() {
        for (body, expected) in [
            (r#"{"success":true,"output":{"a":1}}"#, Ok(r#"{"a":1}"#)),
            (r#"{"success":true}"#, Ok("null")),
            (r#"{"success":false}"#, Err("FUNCTION_ERROR")),
            (r#"{"success":false,"error":{"code":"X","message":"m"}}"#, Err("X")),
            (r#"{"success":true,"error":{"code":"X","message":"m"},"output":1}"#, Ok("1")),
            (r#"{"status":"success","output":"x"}"#, Ok("\"x\"")),
            (r#"{"status":"Error","error":{"code":"E","message":"m"}}"#, Err("E")),
            (r#"{"status":"TIMEOUT"}"#, Err("FUNCTION_TIMEOUT")),
            (r#"{"output":7}"#, Ok("7")),
            (r#"{}"#, Ok("null")),
            (r#"{"error":null}"#, Ok("null")),
            (r#"{"error":{"code":"G","message":"m"}}"#, Err("G")),
        ] {
            match (parse(&Bytes::from(body)).expect(body), expected) {
                (Outcome::Success(output), Ok(text)) => assert_eq!(output.body, text, "{body}"),
                (Outcome::Failure { failure, .. }, Err(code)) => assert_eq!(failure.code, code, "{body}"),
                (outcome, _) => panic!("{body}: {outcome:?}"),
            }
        }
        for body in ["", "[]", "null", r#"{"success":1}"#, r#"{"status":"done"}"#, r#"{"success":true"#] {
            assert!(parse(&Bytes::from(body)).is_err(), "{body}");
        }
        for body in ["[]", "[true]", r#"{"error":"x"}"#, r#"{"error":["X","m"]}"#] {
            let error = parse(&Bytes::from(body)).expect_err(body).to_string();
            assert!(error.contains("expected an object"), "{body}: {error}");
        }
    }
}
