//! What a call sends: the arguments that `invoke` and `enqueue` share.

use std::io::Read;

use clap::Args;
use hyper::{HeaderMap, header::HeaderValue};
use serde_json::value::RawValue;

use super::{call::Call, failure::Failure};

/// Function, input, and what goes with it in headers.
#[derive(Args)]
pub(super) struct CallArguments {
    /// Name of the function
    pub(super) name: String,
    /// The input: JSON text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    data: String,
    /// Makes a repeated call return the first one's result
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Trace id that the function gets
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
}

impl CallArguments {
    /// Reads the input; the bytes stay as they are.
    pub(super) fn input(&self) -> Result<Box<RawValue>, Failure> {
        input(&self.data)
    }

    /// The call that the arguments describe.
    pub(super) fn call<'a>(&'a self, input: &'a RawValue) -> Result<Call<'a>, Failure> {
        let mut headers = HeaderMap::new();
        set(&mut headers, "--idempotency-key", "idempotency-key", self.idempotency_key.as_deref())?;
        set(&mut headers, "--trace-id", "x-trace-id", self.trace_id.as_deref())?;
        Ok(Call { function: &self.name, input, headers, timeout_ms: None })
    }
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
    let (origin, text) = match data.strip_prefix('@') {
        None => ("-d", data.to_owned()),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
            ("stdin", text)
        }
        Some(path) => (
            path,
            std::fs::read_to_string(path)
                .map_err(|error| Failure::Failed(format!("cannot read {path}: {error}")))?,
        ),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::Failed(format!("{origin} is not JSON: {error}; a text needs quotes: -d '\"hello\"'"))
    })
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
