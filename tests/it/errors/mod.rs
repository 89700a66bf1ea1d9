//! Refusals: status, headers and the whole body of every error code, and nothing changed afterwards.
//!
//! Failures of functions are results, not refusals: they are in `invocation`.

mod capacity;
mod paths;
mod registration;
mod requests;

use serde_json::{Value, json};

use crate::support::Response;

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

pub(super) fn local(name: &str) -> Value {
    json!({ "name": name, "executionMode": "LOCAL" })
}

pub(super) fn keys(body: &Value) -> Vec<&str> {
    body.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
pub(super) fn retry_after(response: &Response) -> u32 {
    let text = response.header("retry-after").expect("Retry-After");
    let seconds = text.parse().unwrap_or_else(|_| panic!("not whole seconds: {text}"));
    assert!(seconds >= 1);
    seconds
}
