//! What functions write, in the log: every line is one event with target and level `function`.
//!
//! A local function writes to its watchdog, which cuts what it reads into events, and the watchdog writes to its
//! server. Between the two an event is one JSON object per line, so that a program cannot make up an event of its
//! own: what it writes is never more than the `message` of one. The server adds what it knows (function and replica)
//! and logs the event again; nothing is logged inside of something else.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// Target of everything that functions write.
pub const TARGET: &str = "function";

/// A line as a watchdog writes it for its server.
#[derive(Deserialize)]
struct Wrapped {
    level: String,
    target: String,
    #[serde(default)]
    message: String,
    stream: Option<String>,
    execution_id: Option<String>,
    reason: Option<String>,
    #[serde(flatten)]
    details: Map<String, Value>,
}

/// A line of a watchdog's standard error, as people read it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// An event of its program or of its own: it is in the log.
    Event(String),
    /// No event: its last words, which say why it ends.
    LastWords(String),
}

/// Logs a line of a watchdog's standard error, and gives it back.
pub fn wrote(function: &str, replica: i32, line: &str) -> Wrote {
    let Ok(event) = serde_json::from_str::<Wrapped>(line) else {
        // Its last words: how it ended says who ends it.
        tracing::debug!(target: "watchdog", function, replica, "{line}");
        return Wrote::LastWords(line.to_owned());
    };
    let Wrapped { level, target, message, stream, execution_id, reason, details } = event;
    let (stream, execution_id, reason) = (stream.as_deref(), execution_id.as_deref(), reason.as_deref());
    if target == TARGET {
        tracing::info!(target: TARGET, function, replica, stream, execution_id, "{message}");
        return Wrote::Event(message);
    }
    let details = details.iter().map(|(name, value)| format!("{name}: {}", plain(value)));
    let message = std::iter::once(message).chain(details).collect::<Vec<_>>().join("; ");
    match level.as_str() {
        "ERROR" => tracing::error!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        "WARN" => tracing::warn!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        "INFO" => tracing::info!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        _ => tracing::debug!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
    }
    Wrote::Event(message)
}

/// The form of an event that a function wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What an event says.
#[derive(Debug, Default)]
pub struct Line {
    message: String,
    /// The others, in their order.
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// The event of a function, as a line of the log.
    pub fn text(&self, time: &str, shape: Shape) -> String {
        match shape {
            Shape::Json => {
                let mut members =
                    vec![("timestamp", time.into()), ("level", TARGET.into()), ("target", TARGET.into())];
                members.extend(self.fields.iter().cloned());
                members.push(("message", self.message.as_str().into()));
                object(&members)
            }
            Shape::Text => {
                let named = |wanted| self.fields.iter().find(|(name, _)| *name == wanted);
                let function = named("function").and_then(|(_, value)| value.as_str()).unwrap_or("-");
                let others = self.fields.iter().filter(|(name, _)| *name != "function");
                let others: String =
                    others.map(|(name, value)| format!(" {name}={}", plain(value))).collect();
                format!("{time} {TARGET} {function}: {}{others}", shown(&self.message))
            }
        }
    }

    /// Any other event, as a line for programs, in the members that the server's log has.
    pub(crate) fn json(&self, time: Option<&str>, level: &str, target: &str) -> String {
        let mut members: Vec<(&str, Value)> =
            time.map(|time| ("timestamp", time.into())).into_iter().collect();
        members.push(("level", level.into()));
        members.push(("message", self.message.as_str().into()));
        members.extend(self.fields.iter().cloned());
        members.push(("target", target.into()));
        object(&members)
    }

    /// Any other event, as a line for people.
    pub(crate) fn plain(&self, time: &str, level: &str, target: &str) -> String {
        let fields: String =
            self.fields.iter().map(|(name, value)| format!(" {name}={}", plain(value))).collect();
        format!("{time} {level:>5} {target}: {}{fields}", shown(&self.message))
    }
}

/// A JSON object with these members, in this order.
fn object(members: &[(&str, Value)]) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A text for a terminal: what a program writes must not paint or move what that shows.
fn shown(text: &str) -> String {
    text.chars().map(printable).collect()
}

fn printable(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.record_u64(field, value.try_into().unwrap_or(u64::MAX));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_fields_in_both_forms() {
        let line = Line {
            message: "a \"b\"\u{1b}[31m".to_owned(),
            fields: vec![("function", "f".into()), ("replica", 7.into()), ("stream", "stderr".into())],
        };
        assert_eq!(line.text("T", Shape::Text), "T function f: a \"b\"\u{fffd}[31m replica=7 stream=stderr");
        assert_eq!(
            line.text("T", Shape::Json),
            "{\"timestamp\":\"T\",\"level\":\"function\",\"target\":\"function\",\"function\":\"f\",\"replica\":7,\
             \"stream\":\"stderr\",\"message\":\"a \\\"b\\\"\\u001b[31m\"}"
        );
    }

    #[test]
    fn other_lines_have_the_members_of_the_servers_log() {
        let line = Line {
            message: "\u{1b}starting".to_owned(),
            fields: vec![("reason", "a b".into()), ("pause_ms", 100.into())],
        };
        assert_eq!(line.plain("T", "WARN", "x::y"), "T  WARN x::y: \u{fffd}starting reason=a b pause_ms=100");
        assert_eq!(
            line.json(Some("T"), "WARN", "x::y"),
            r#"{"timestamp":"T","level":"WARN","message":"\u001bstarting","reason":"a b","pause_ms":100,"target":"x::y"}"#
        );
    }

    #[test]
    fn what_is_kept_for_messages_is_what_people_read() {
        for (line, expected) in [
            ("error: no port", Wrote::LastWords("error: no port".to_owned())),
            (
                r#"{"level":"INFO","target":"function","stream":"stderr","message":"KeyError: 'name'"}"#,
                Wrote::Event("KeyError: 'name'".to_owned()),
            ),
            (
                r#"{"level":"WARN","target":"nanofaas::watchdog","message":"starting it again","pause_ms":100}"#,
                Wrote::Event("starting it again; pause_ms: 100".to_owned()),
            ),
            (r#"{"level":"INFO"}"#, Wrote::LastWords(r#"{"level":"INFO"}"#.to_owned())),
        ] {
            assert_eq!(wrote("f", 1, line), expected);
        }
    }
}
