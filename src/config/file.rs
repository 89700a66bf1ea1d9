//! The configuration file: TOML text to keys, texts and lines.
//!
//! A key may be written as a table (`[server]`, `port = 1`) or dotted (`server.port = 1`). Whether a key exists
//! and what its text means is decided by [`super::load`].

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One setting as the file gives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileEntry {
    /// Dotted key.
    pub(super) key: String,
    /// The value as text; the parts of a list are separated by commas.
    pub(super) text: String,
    /// Line of the value, from 1.
    pub(super) line: usize,
    /// Whether the file has a list here.
    pub(super) is_list: bool,
}

/// What is wrong with the file itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Defect {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads the whole file; what could be read comes with everything that could not, both by line.
pub(super) fn read(text: &str) -> (Vec<FileEntry>, Vec<Defect>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut defects: Vec<Defect> = errors
        .iter()
        .map(|error| Defect {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })
        .collect();
    let mut entries = Vec::new();
    // What is left of a broken file is a guess: complaints about it would hide the real mistake.
    if defects.is_empty() {
        collect(text, "", table.get_ref(), &mut entries, &mut defects);
    }
    entries.sort_by_key(|entry| entry.line);
    defects.sort_by_key(|defect| defect.line);
    (entries, defects)
}

fn collect(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    entries: &mut Vec<FileEntry>,
    defects: &mut Vec<Defect>,
) {
    for (name, value) in table {
        let name = name.get_ref();
        let key = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        let line = line_of(text, value.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => collect(text, &key, inner, entries, defects),
            DeValue::Array(values) => match values.iter().map(scalar).collect::<Option<Vec<String>>>() {
                Some(parts) => entries.push(FileEntry { key, text: parts.join(","), line, is_list: true }),
                None => defects.push(Defect { line, message: format!("{key}: a list of lists or tables") }),
            },
            _ => match scalar(value) {
                Some(text) => entries.push(FileEntry { key, text, line, is_list: false }),
                None => defects.push(Defect { line, message: format!("{key}: not a number in range") }),
            },
        }
    }
}

/// The text of a value that is neither list nor table.
fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(instant) => Some(instant.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_dotted_keys_are_the_same() {
        let (entries, defects) = read(
            "workers = 0x2\nserver.port = 1_000\n\n[admin.runtime-config]\nenabled = true\n\
             [deployment]\nbackends = [\n  'process',\n  'k8s']\n",
        );
        assert_eq!(defects, []);
        let entry = |key: &str, text: &str, line, is_list| FileEntry {
            key: key.into(),
            text: text.into(),
            line,
            is_list,
        };
        assert_eq!(
            entries,
            [
                entry("workers", "2", 1, false),
                entry("server.port", "1000", 2, false),
                entry("admin.runtime-config.enabled", "true", 5, false),
                entry("deployment.backends", "process,k8s", 7, true),
            ]
        );
    }

    #[test]
    fn every_syntax_error_has_a_line() {
        for (text, lines) in [
            ("a = ", &[1][..]),
            ("a = 1\na = 2\n", &[2]),
            ("x = [1\n", &[1]),
            ("a = 1\nb = = 2\nc = 3\nd ? 4\n", &[2, 4]),
            ("ok = 1\nlist = [[1]]\n", &[2]),
        ] {
            let (_, defects) = read(text);
            let mut found: Vec<usize> = defects.iter().map(|defect| defect.line).collect();
            found.dedup();
            assert_eq!(found, lines, "{text:?} {defects:?}");
        }
    }
}
