//! What functions write, in the log: every line is one event with target and level `function`.
//!
//! A local function writes to its watchdog, which cuts what it reads into events, and the watchdog writes to its
//! server. Between the two an event is one JSON object per line, so that a program cannot make up an event of its
//! own: what it writes is never more than the `message` of one. The server adds what it knows (function and replica)
//! and logs the event again; nothing is logged inside of something else.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

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

/// Logs a line of a watchdog's standard error. Gives it back as people read it, for messages.
pub fn wrote(function: &str, replica: i32, line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Wrapped>(line) else {
        // Its last words: how it ended says who ends it.
        tracing::debug!(target: "watchdog", function, replica, "{line}");
        return line.to_owned();
    };
    let Wrapped { level, target, message, stream, execution_id, reason, details } = event;
    let (stream, execution_id, reason) = (stream.as_deref(), execution_id.as_deref(), reason.as_deref());
    if target == TARGET {
        tracing::info!(target: TARGET, function, replica, stream, execution_id, "{message}");
        return message;
    }
    let details = details.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    });
    let message = std::iter::once(message).chain(details).collect::<Vec<_>>().join("; ");
    match level.as_str() {
        "ERROR" => tracing::error!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        "WARN" => tracing::warn!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        "INFO" => tracing::info!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
        _ => tracing::debug!(target: "watchdog", function, replica, execution_id, reason, "{message}"),
    }
    message
}

/// How events are written: what functions wrote in a form of its own, all others as `others` does.
pub(crate) struct Format<F> {
    pub(crate) others: F,
    pub(crate) shape: Shape,
}

/// The form of an event that a function wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl<S, N, F> FormatEvent<S, N> for Format<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != TARGET {
            return self.others.format_event(context, writer, event);
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Line::default();
        event.record(&mut line);
        writeln!(writer, "{}", line.text(&time, self.shape))
    }
}

/// The fields of an event that a function wrote: texts and whole numbers.
#[derive(Debug, Default)]
struct Line {
    message: String,
    /// The others, in their order.
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    fn text(&self, time: &str, shape: Shape) -> String {
        match shape {
            Shape::Json => {
                let mut object = json!({ "timestamp": time, "level": TARGET, "target": TARGET });
                for (name, value) in &self.fields {
                    object[*name] = value.clone();
                }
                object["message"] = json!(self.message);
                object.to_string()
            }
            Shape::Text => {
                let named = |wanted| self.fields.iter().find(|(name, _)| *name == wanted);
                let function = named("function").and_then(|(_, value)| value.as_str()).unwrap_or("-");
                // What a program writes must not paint or move what a terminal shows.
                let message: String = self.message.chars().map(printable).collect();
                let others = self.fields.iter().filter(|(name, _)| *name != "function");
                let others: String = others
                    .map(|(name, value)| match value {
                        Value::String(text) => format!(" {name}={text}"),
                        other => format!(" {name}={other}"),
                    })
                    .collect();
                format!("{time} {TARGET} {function}: {message}{others}")
            }
        }
    }
}

fn printable(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

impl tracing::field::Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
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
    fn what_is_kept_for_messages_is_what_people_read() {
        for (line, expected) in [
            ("error: no port", "error: no port"),
            (
                r#"{"level":"INFO","target":"function","stream":"stderr","message":"KeyError: 'name'"}"#,
                "KeyError: 'name'",
            ),
            (
                r#"{"level":"WARN","target":"nanofaas::watchdog","message":"starting it again","pause_ms":100}"#,
                "starting it again; pause_ms: 100",
            ),
            (r#"{"level":"INFO"}"#, r#"{"level":"INFO"}"#),
        ] {
            assert_eq!(wrote("f", 1, line), expected);
        }
    }
}
