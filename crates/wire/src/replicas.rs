//! Replicas of a function on the wire.

use serde_json::{Value, json};

use super::{envelope::malformed, error::ApiError, result::to_json};

/// Reads `{"replicas": n}`.
///
/// # Errors
/// Not JSON, or not a number that can be wanted.
pub fn parse(body: &[u8]) -> Result<u32, ApiError> {
    let document: Value = serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
    let invalid = |rule: &str| Err(ApiError::Validation(vec![format!("replicas: {rule}")]));
    match document.get("replicas") {
        None | Some(Value::Null) => invalid("must not be null"),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(replicas), _) => u32::try_from(replicas).or_else(|_| invalid("is too large")),
            (None, Some(_)) => invalid("must be greater than or equal to 0"),
            (None, None) => invalid("must be an integer"),
        },
        Some(_) => invalid("must be an integer"),
    }
}

/// How many are wanted and how many are ready.
pub fn status(function: &str, desired: u32, ready: u32) -> Vec<u8> {
    to_json(&json!({ "function": function, "desired": desired, "ready": ready }))
}

/// How many are wanted from now on.
pub fn accepted(function: &str, replicas: u32) -> Vec<u8> {
    to_json(&json!({ "function": function, "replicas": replicas }))
}
