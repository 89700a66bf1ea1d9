//! Payload files: an input and the output that is expected for it.
//!
//! `{"description"?, "input": …, "expected": …, "input-encoding"?}`. An input that is a text starting with `@` is
//! the content of a file next to the payload file: base64 text with `"input-encoding": "base64"`, the value it
//! holds when its name ends in `.json`, its text otherwise.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::failure::Failure;

/// One case.
#[derive(Debug)]
pub(super) struct Payload {
    /// What the case is about; the file's name when it does not say.
    pub(super) description: String,
    /// The input, byte for byte.
    pub(super) input: Box<RawValue>,
    /// The output that is expected.
    pub(super) expected: Value,
}

#[derive(Deserialize)]
struct Content<'a> {
    description: Option<String>,
    #[serde(borrow)]
    input: &'a RawValue,
    expected: Value,
    #[serde(rename = "input-encoding")]
    input_encoding: Option<String>,
}

/// The payload files that a path means: itself, or every `*.json` of a directory, sorted by name.
pub(super) fn find(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "json") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::Failed(format!("there is no payload (*.json) in {}", path.display())));
    }
    Ok(files)
}

/// Reads one payload file.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(super) fn read(path: &Path) -> Result<Payload, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let content: Content<'_> =
        serde_json::from_str(&text).map_err(|error| format!("not a payload: {error}"))?;
    let reference = serde_json::from_str::<String>(content.input.get());
    let input = match reference.as_ref().ok().and_then(|text| text.strip_prefix('@')) {
        Some(name) => {
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            referenced(&folder.join(name), content.input_encoding.as_deref())?
        }
        None => content.input.to_owned(),
    };
    Ok(Payload {
        description: content.description.unwrap_or_else(|| file_name(path)),
        input,
        expected: content.expected,
    })
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn referenced(path: &Path, encoding: Option<&str>) -> Result<Box<RawValue>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = match encoding {
        Some("base64") => STANDARD.encode(&bytes),
        Some(other) => return Err(format!("input-encoding {other:?} is not known; there is base64")),
        None => String::from_utf8(bytes)
            .map_err(|_| format!("{} is not text; say \"input-encoding\": \"base64\"", path.display()))?,
    };
    if encoding.is_none() && path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()));
    }
    RawValue::from_string(Value::String(text).to_string()).map_err(|error| error.to_string())
}
