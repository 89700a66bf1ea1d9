//! What a call sends: the arguments that `invoke` and `enqueue` share.

use std::io::Read;

use bytes::Bytes;
use clap::Args;
use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::value::RawValue;

use super::{
    call::{CallRequest, envelope},
    failure::Failure,
};

/// Content type of raw data that has none.
const BYTES: &str = "application/octet-stream";

/// Function, input, and what goes with it in headers.
#[derive(Args)]
pub(super) struct CallArguments {
    /// Name of the function
    pub(super) name: String,
    /// The input: JSON text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    data: String,
    /// Send the data as it is, any bytes, and print the answer as it is
    #[arg(long)]
    pub(super) raw: bool,
    /// Content type of raw data [default: application/octet-stream]
    #[arg(long, value_name = "TYPE", requires = "raw")]
    content_type: Option<String>,
    /// Makes a repeated call return the first one's result
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Trace id that the function gets
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
}

impl CallArguments {
    /// Reads the input, whose bytes stay as they are, and makes the call that the arguments describe.
    pub(super) fn call(&self) -> Result<CallRequest<'_>, Failure> {
        let mut headers = HeaderMap::new();
        let body = if self.raw {
            let content_type = self.content_type.as_deref().unwrap_or(BYTES);
            if is_json(content_type) {
                let message = "is for what is no JSON; without --raw, JSON reaches the function as it is";
                return Err(Failure::Usage(format!("--raw: {message}")));
            }
            set(&mut headers, "--content-type", CONTENT_TYPE.as_str(), Some(content_type))?;
            read(&self.data)?.1
        } else {
            envelope(&input(&self.data)?)
        };
        set(&mut headers, "--idempotency-key", "idempotency-key", self.idempotency_key.as_deref())?;
        set(&mut headers, "--trace-id", "x-trace-id", self.trace_id.as_deref())?;
        Ok(CallRequest { function: &self.name, body, headers, timeout_ms: None })
    }
}

/// Whether the server would read an envelope out of it.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Puts the value of a flag into a header.
pub(super) fn set(
    headers: &mut HeaderMap,
    flag: &str,
    header: &'static str,
    value: Option<&str>,
) -> Result<(), Failure> {
    let Some(value) = value else { return Ok(()) };
    let value = HeaderValue::from_str(value)
        .map_err(|_| Failure::Usage(format!("{flag}: {value:?} cannot be sent in a header")))?;
    headers.insert(header, value);
    Ok(())
}

/// Reads what `-d` names; the bytes stay as they are.
fn input(data: &str) -> Result<Box<RawValue>, Failure> {
    let (origin, bytes) = read(data)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("{origin} is not JSON: {error}");
        match origin {
            "-d" => Failure::Usage(format!(
                "{message}; a text needs quotes: -d '\"hello\"', a file an @: -d @FILE"
            )),
            _ => Failure::Failed(message),
        }
    })
}

/// Where what `-d` names comes from, and its bytes.
fn read(data: &str) -> Result<(&str, Bytes), Failure> {
    let unreadable =
        |name: &str, error: std::io::Error| Failure::Failed(format!("cannot read {name}: {error}"));
    match data.strip_prefix('@') {
        None => Ok(("-d", data.to_owned().into())),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable("stdin", error))?;
            Ok(("stdin", bytes.into()))
        }
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
            Ok((path, bytes.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_keeps_its_bytes() {
        let text = "{\"n\": 1.50, \"big\": 123456789012345678901234567890}";
        assert_eq!(input(text).expect("JSON").get(), text);
        assert_eq!(input(" 1 ").expect("JSON").get(), "1");
        assert!(input("hello").is_err());
        assert!(input("").is_err());
        assert!(input("@/does/not/exist").is_err());
    }
}
