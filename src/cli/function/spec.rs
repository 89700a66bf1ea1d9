//! Function files: YAML or JSON to a FunctionSpec that can be posted.

use std::{io::Read, path::Path};

use serde_json::{Map, Value};

use crate::cli::failure::Failure;

/// Keys of a function file that are for tools, not for the server.
const TOOL_KEYS: [&str; 2] = ["x-cli", "catalog"];

/// A function as a file describes it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Spec {
    /// Name of the function.
    pub(in crate::cli) name: String,
    /// What is posted.
    pub(in crate::cli) fields: Map<String, Value>,
}

/// Reads a function file; `-` is stdin.
pub(in crate::cli) fn read(path: &Path) -> Result<Spec, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", path.display()));
    let (text, folder) = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| failed(&error))?;
        (text, Path::new("."))
    } else {
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        (text, path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    };
    parse(&text, folder).map_err(|error| failed(&error))
}

/// Reads the text of a function file that lies in `folder`. JSON is YAML, too.
fn parse(text: &str, folder: &Path) -> Result<Spec, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = value else {
        return Err("a function file is an object with at least a name".to_owned());
    };
    fields.retain(|key, _| !TOOL_KEYS.contains(&key.as_str()));
    let Some(name) = fields.get("name").and_then(Value::as_str).map(str::to_owned) else {
        return Err("`name` is missing, or no text".to_owned());
    };
    if let Some(Value::String(directory)) = fields.get_mut("workingDir") {
        *directory = absolute(folder, directory)?;
    }
    Ok(Spec { name, fields })
}

/// The server runs elsewhere: a path relative to the file means nothing to it.
fn absolute(folder: &Path, directory: &str) -> Result<String, String> {
    let path = folder.join(directory);
    // Without `.` and `..` where the directory exists, so that two ways to write it compare as equal.
    let path = path.canonicalize().or_else(|_| std::path::absolute(&path));
    let path = path.map_err(|error| format!("workingDir {directory:?}: {error}"))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| format!("workingDir {directory:?}: the path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(text: &str) -> Value {
        Value::Object(parse(text, Path::new("/")).expect("a function file").fields)
    }

    #[test]
    fn yaml_and_json_are_the_same() {
        let expected = json!({
            "name": "f", "timeoutMs": 1000, "env": {"A": "1", "B": "on"},
            "scalingConfig": {"metrics": [{"type": "queue_depth", "target": "5"}]}
        });
        let yaml = "# a comment\nname: f\ntimeoutMs: 1000\nenv:\n  A: \"1\"\n  B: 'on'\nscalingConfig:\n  metrics:\n\
                    \x20   - type: queue_depth\n      target: \"5\"\ncatalog: {family: x}\nx-cli:\n  build: {}\n";
        assert_eq!(fields(yaml), expected);
        assert_eq!(fields(&expected.to_string()), expected);
    }

    #[test]
    fn working_directories_become_absolute() {
        for (given, expected) in
            [(".", "/"), ("/does/not/exist", "/does/not/exist"), ("does-not-exist", "/does-not-exist")]
        {
            assert_eq!(fields(&format!("name: f\nworkingDir: {given}\n"))["workingDir"], expected);
        }
        assert_eq!(fields("name: f\nruntimeCommand: python3 x.py\n").get("workingDir"), None);
    }

    #[test]
    fn what_is_no_function_file_is_refused() {
        for text in ["", "[]", "text", "image: x", "name: 5", "name: [", "name: f\nname: g", "catalog: {}"] {
            assert!(parse(text, Path::new(".")).is_err(), "{text:?}");
        }
    }
}
