//! Function files: YAML or JSON to a FunctionSpec that can be posted.

use std::{io::Read, path::Path};

use serde_json::{Map, Value};

use crate::failure::Failure;

/// Keys of a function file that are for tools, not for the server.
const TOOL_KEYS: [&str; 2] = ["x-cli", "catalog"];

/// A function as a file describes it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Name of the function.
    pub(crate) name: String,
    /// What is posted.
    pub(crate) fields: Map<String, Value>,
}

/// Reads a function file that describes one function; `-` is stdin.
pub(crate) fn read(path: &Path) -> Result<Spec, Failure> {
    let mut specs = read_all(path)?;
    match (specs.pop(), specs.len()) {
        (Some(spec), 0) => Ok(spec),
        (_, others) => {
            Err(Failure::Failed(format!("{}: one function is needed, not {}", path.display(), others + 1)))
        }
    }
}

/// Reads a function file of one or more YAML documents, each a function; `-` is stdin.
pub(crate) fn read_all(path: &Path) -> Result<Vec<Spec>, Failure> {
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
fn parse(text: &str, folder: &Path) -> Result<Vec<Spec>, String> {
    // Empty documents, such as one after a `---` at the end, are left out.
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let is_one = documents.len() == 1;
    let mut specs: Vec<Spec> = Vec::with_capacity(documents.len());
    for (index, document) in documents.into_iter().enumerate() {
        let place = if is_one { String::new() } else { format!("document {}: ", index + 1) };
        let spec = function(document, folder).map_err(|message| format!("{place}{message}"))?;
        if specs.iter().any(|earlier| earlier.name == spec.name) {
            return Err(format!("{place}there is a function {} already", spec.name));
        }
        specs.push(spec);
    }
    if specs.is_empty() {
        return Err("a function file is an object with at least a name, and this one is empty".to_owned());
    }
    Ok(specs)
}

/// One function of a file.
fn function(document: Value, folder: &Path) -> Result<Spec, String> {
    let Value::Object(mut fields) = document else {
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
        let mut specs = parse(text, Path::new("/")).expect("a function file");
        assert_eq!(specs.len(), 1);
        Value::Object(specs.remove(0).fields)
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
    fn every_document_is_a_function() {
        let names = |text: &str| -> Vec<String> {
            parse(text, Path::new("/")).expect("functions").into_iter().map(|spec| spec.name).collect()
        };
        assert_eq!(names("name: f\n---\nname: g\n"), ["f", "g"]);
        assert_eq!(names("# first\n---\nname: f\n---\n# nothing\n---\nname: g\n---\n"), ["f", "g"]);
        for (text, message) in [
            ("name: f\n---\nname: f\n", "document 2: there is a function f already"),
            ("name: f\n---\nimage: i\n", "document 2: `name` is missing, or no text"),
            ("name: f\n---\n- 1\n", "document 2: a function file is an object with at least a name"),
            ("---\n---\n", "a function file is an object with at least a name, and this one is empty"),
        ] {
            assert_eq!(parse(text, Path::new("/")).expect_err("a mistake"), message, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_function_file_is_refused() {
        for text in ["", "[]", "text", "image: x", "name: 5", "name: [", "name: f\nname: g", "catalog: {}"] {
            assert!(parse(text, Path::new(".")).is_err(), "{text:?}");
        }
    }
}
