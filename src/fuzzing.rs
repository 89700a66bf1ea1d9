//! Readers of foreign input, as fuzz targets: bytes in, and what must hold of whatever comes out.
//!
//! `fuzz/` lets libFuzzer choose the bytes; `tests/corpus.rs` takes those that are kept in `fuzz/corpus`, a folder per
//! target. That nothing panics is the first property of all of them. Not part of the library's interface.

use std::collections::BTreeMap;

use bytes::Bytes;
use nanofaas_wire::{
    callback, envelope,
    error::ApiError,
    function::{FunctionSpec, Registration},
};
use shard_core::Outcome;

use crate::{
    config::{Base, Sources, load},
    dispatch,
    durable::functions::ApiFunctions,
    http,
};

/// A reader and what must hold of it. The error says what does not.
pub type FuzzTarget = fn(&[u8]) -> Result<(), String>;

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, FuzzTarget); 8] = [
    ("callback", callback),
    ("config", config),
    ("envelope", envelope),
    ("frames", nanofaas_store::fuzzing::frames),
    ("function", function),
    ("record", record),
    ("response", dispatch::fuzz_response),
    ("route", http::fuzz_route),
];

/// Runs one target, which may be called by any of the names in [`TARGETS`].
///
/// # Errors
/// What does not hold; or that there is no such target.
pub fn check(target: &str, bytes: &[u8]) -> Result<(), String> {
    match TARGETS.iter().find(|(name, _)| *name == target) {
        Some((_, check)) => check(bytes),
        None => Err(format!("there is no target {target}")),
    }
}

/// The input of an envelope is a value that means the same in another envelope.
fn envelope(bytes: &[u8]) -> Result<(), String> {
    let payload = match envelope::parse(&Bytes::copy_from_slice(bytes)) {
        Ok(payload) => payload,
        Err(error) => return refused(&error),
    };
    let mut again = [b"{\"input\":", &payload.input[..]].concat();
    if let Some(metadata) = &payload.metadata {
        again.extend([b",\"metadata\":", &metadata[..]].concat());
    }
    again.push(b'}');
    match envelope::parse(&Bytes::from(again)) {
        Ok(other) if other.input == payload.input && other.metadata == payload.metadata => Ok(()),
        other => Err(format!("{payload:?} becomes {other:?}")),
    }
}

/// The same for the output of a callback.
fn callback(bytes: &[u8]) -> Result<(), String> {
    let output = match callback::parse(&Bytes::copy_from_slice(bytes)) {
        Ok(Outcome::Success(output)) => output,
        Ok(_) => return Ok(()),
        Err(error) => return refused(&error),
    };
    let again = [b"{\"success\":true,\"output\":", &output.body[..], b"}"].concat();
    match callback::parse(&Bytes::from(again)) {
        Ok(Outcome::Success(other)) if other.body == output.body => Ok(()),
        other => Err(format!("{output:?} becomes {other:?}")),
    }
}

/// A function that was accepted is the same after it was written down, and the core can take it.
fn function(bytes: &[u8]) -> Result<(), String> {
    let registration = Registration {
        default_timeout_ms: 30_000,
        default_concurrency: 4,
        default_queue_size: 100,
        default_max_retries: 3,
        image_optional: bytes.len().is_multiple_of(2),
        pods: bytes.len().is_multiple_of(3),
    };
    let Ok(spec) = FunctionSpec::parse(bytes, &registration) else { return Ok(()) };
    let core = spec.core_spec();
    if core.policy.concurrency == 0 || core.policy.timeout_ms == 0 {
        return Err(format!("{:?} can never be called", core.policy));
    }
    match FunctionSpec::from_document(&spec.document()) {
        Ok(other) if other == spec => Ok(()),
        other => Err(format!("{spec:?} becomes {other:?}")),
    }
}

/// What is read as a record of the log.
fn record(bytes: &[u8]) -> Result<(), String> {
    nanofaas_store::fuzzing::record(&ApiFunctions, bytes)
}

/// A configuration is valid, or something is said about it.
fn config(bytes: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
    let file = Some(("nanofaas.toml", text));
    let environment = BTreeMap::new();
    match load(&Sources { base: Base::Serve, file, environment: &environment, flags: &[] }) {
        Ok(_) => Ok(()),
        Err(problems) if problems.0.is_empty() => Err("it is refused without a reason".to_owned()),
        Err(problems) => match problems.0.iter().find(|problem| problem.message.is_empty()) {
            Some(problem) => Err(format!("nothing is said about {}", problem.origin)),
            None => Ok(()),
        },
    }
}

/// What is wrong with a request is the client's fault.
fn refused(error: &ApiError) -> Result<(), String> {
    let status = error.answer().status;
    if status.is_client_error() { Ok(()) } else { Err(format!("bad input is answered with {status}")) }
}
