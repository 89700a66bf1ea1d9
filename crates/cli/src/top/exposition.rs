//! The Prometheus text format, version 0.0.4, as far as a reader of samples needs it.
//!
//! Comments (`# HELP`, `# TYPE`) and lines that are no samples are passed over: one metric that is not understood
//! must not hide the others. Timestamps are read past.

use std::borrow::Cow;

/// One line: a metric, its labels and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample<'a> {
    /// Name of the metric.
    pub(super) name: &'a str,
    /// What stands between the braces, unread.
    labels: &'a str,
    /// The value; may be infinite, or not a number.
    pub(super) value: f64,
}

/// The samples of a text, in its order.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(sample)
}

impl<'a> Sample<'a> {
    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut rest = self.labels;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let end = end_of_quoted(after)?;
            let (value, after) = after.split_at(end);
            if key.trim() == name {
                return Some(unescape(value));
            }
            rest = after[1..].trim_start_matches([',', ' ']);
        }
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.find(['{', ' ']) {
        Some(brace) if line[brace..].starts_with('{') => {
            let inside = &line[brace + 1..];
            let end = end_of_labels(inside)?;
            (&line[..brace], &inside[..end], &inside[end + 1..])
        }
        Some(space) => (&line[..space], "", &line[space..]),
        None => return None,
    };
    let value = rest.split_whitespace().next()?;
    Some(Sample { name, labels, value: number(value)? })
}

/// Where the closing brace is. A quoted value may contain one.
fn end_of_labels(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let escaped = std::mem::take(&mut is_escaped);
        match byte {
            _ if escaped => {}
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return true,
            _ => {}
        }
        false
    })
}

/// Where the closing quote is.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let escaped = std::mem::take(&mut is_escaped);
        is_escaped = byte == b'\\' && !escaped;
        byte == b'"' && !escaped
    })
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

/// Go's notation of numbers, which the format prescribes.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("", None),
            ("# TYPE a counter", None),
            ("a", None),
            ("a b", None),
            ("a{x=\"1\" 2", None),
            ("a 1", Some(("a", 1.0))),
            ("  a 1.5e3 1700000000", Some(("a", 1500.0))),
            ("a{} 1", Some(("a", 1.0))),
            ("a{x=\"}\\\"{\",y=\"2\"} +Inf", Some(("a", f64::INFINITY))),
        ] {
            let found = sample(line).map(|sample| (sample.name, sample.value));
            assert_eq!(found, expected, "{line}");
        }
        assert!(sample("a NaN").is_some_and(|sample| sample.value.is_nan()));
    }

    #[test]
    fn labels() {
        let line = "a{function=\"f\", state=\"rea\\\\dy\\n\\\"}\",le=\"0.5\"} 3";
        let sample = sample(line).expect("a sample");
        assert_eq!(sample.label("function").as_deref(), Some("f"));
        assert_eq!(sample.label("state").as_deref(), Some("rea\\dy\n\"}"));
        assert_eq!(sample.label("le").as_deref(), Some("0.5"));
        assert_eq!(sample.label("e"), None);
    }

    #[test]
    fn a_text() {
        let text = "# HELP a A.\na{function=\"f\"} 1\n???\nb 2\n";
        let names: Vec<_> = samples(text).map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(names, [("a", 1.0), ("b", 2.0)]);
    }
}
