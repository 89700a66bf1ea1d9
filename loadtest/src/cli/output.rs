//! What commands write: JSON and files.

use std::{fs, io, path::Path, time::SystemTime};

use serde::Serialize;

use super::failure::Failure;

/// The value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))
}

/// Makes a directory for results.
pub(super) fn folder(out: &Path) -> Result<(), Failure> {
    fs::create_dir_all(out).map_err(|error| unwritable(out, &error))
}

/// Writes a file of the results; its directory is made when it is missing.
pub(super) fn write(out: &Path, name: &str, content: &str) -> Result<(), Failure> {
    folder(out)?;
    let path = out.join(name);
    fs::write(&path, content).map_err(|error| unwritable(&path, &error))
}

/// An instant in RFC 3339.
pub(super) fn timestamp(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| String::new(), |at| at.to_string())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}
