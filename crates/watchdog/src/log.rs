//! The log: lines for people on a terminal, JSON otherwise, always on standard error; for a server, in the form that it
//! reads.
//!
//! `NANOFAAS_LOG` filters as it does for the server (`debug`, `nanofaas=trace,info`). Written by hand, because what the
//! server uses for it is larger than all the rest of the watchdog: there are events here, but no spans.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

use crate::function_log::{Line, Shape, TARGET};

/// Variable with the filter.
const VARIABLE: &str = "NANOFAAS_LOG";

/// Variable that a server sets for its watchdogs: it makes every line that they write an event of its own log, so
/// they write them in the form that it reads ([`crate::function_log`]).
pub const WRAPPED: &str = "NANOFAAS_LOG_WRAPPED";

/// Starts logging. A second call changes nothing.
pub fn init() {
    let wanted = env::var(VARIABLE).unwrap_or_default();
    let filter = Filter::parse(&wanted);
    let form = match (env::var_os(WRAPPED).is_some(), io::stderr().is_terminal()) {
        (true, _) => Form::Wrapped,
        (false, true) => Form::Text,
        (false, false) => Form::Json,
    };
    let is_understood = filter.is_some();
    let log = Log { filter: filter.unwrap_or_default(), form };
    if tracing::subscriber::set_global_default(log).is_ok() && !is_understood {
        tracing::warn!(filter = wanted, "NANOFAAS_LOG is not a filter; logging from info up");
    }
}

/// Which events are written: the least important level by the beginning of a target, the longest beginning first.
#[derive(Debug, PartialEq, Eq)]
struct Filter(Vec<(String, LevelFilter)>);

impl Default for Filter {
    fn default() -> Self {
        Filter(vec![(String::new(), LevelFilter::INFO)])
    }
}

impl Filter {
    /// Reads `level`, `target=level` and `target`, separated by commas. `None` when there is anything else.
    fn parse(text: &str) -> Option<Filter> {
        let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        let mut parsed = Vec::new();
        for directive in directives {
            parsed.push(match directive.split_once('=') {
                Some((target, level)) => (target.trim().to_owned(), level.trim().parse().ok()?),
                None => match directive.parse() {
                    Ok(level) => (String::new(), level),
                    Err(_) => (directive.to_owned(), LevelFilter::TRACE),
                },
            });
        }
        if parsed.iter().any(|(target, _)| target.contains(|letter: char| !is_of_target(letter))) {
            return None;
        }
        // Stable: of two about the same targets the last one counts, as it is looked for from the end.
        parsed.sort_by_key(|(target, _)| target.len());
        Some(if parsed.is_empty() { Filter::default() } else { Filter(parsed) })
    }

    fn takes(&self, target: &str, level: Level) -> bool {
        let found = self.0.iter().rev().find(|(beginning, _)| target.starts_with(beginning.as_str()));
        found.is_some_and(|(_, least)| level <= *least)
    }
}

fn is_of_target(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_:-.".contains(letter)
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For a person.
    Text,
    /// For programs.
    Json,
    /// For the server, which adds the time.
    Wrapped,
}

/// Writes events as lines.
struct Log {
    filter: Filter,
    form: Form,
}

impl Log {
    fn line(&self, metadata: &Metadata<'_>, event: &Line) -> String {
        let (level, target) = (metadata.level().as_str(), metadata.target());
        match self.form {
            Form::Wrapped => event.json(None, level, target),
            Form::Text if target == TARGET => event.text(&now(), Shape::Text),
            Form::Json if target == TARGET => event.text(&now(), Shape::Json),
            Form::Text => event.plain(&now(), level, target),
            Form::Json => event.json(Some(&now()), level, target),
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.filter.takes(metadata.target(), *metadata.level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Line::default();
        event.record(&mut fields);
        let mut line = self.line(event.metadata(), &fields);
        line.push('\n');
        // In one write, so that lines of two processes do not mix. Nobody to tell when standard error is closed.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.filter.0.iter().map(|(_, level)| *level).max()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The time, as in the server's log.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_server() {
        let takes = |filter: &str, target: &str, level| Filter::parse(filter).map(|f| f.takes(target, level));
        for (filter, target, level, expected) in [
            ("", "a", Level::INFO, Some(true)),
            ("", "a", Level::DEBUG, Some(false)),
            ("debug", "a", Level::DEBUG, Some(true)),
            ("nanofaas=trace,info", "nanofaas_watchdog::http", Level::TRACE, Some(true)),
            ("nanofaas=trace,info", "hyper", Level::DEBUG, Some(false)),
            ("info, a::b=off", "a::b::c", Level::ERROR, Some(false)),
            ("a", "a", Level::TRACE, Some(true)),
            ("a", "b", Level::ERROR, Some(false)),
            ("debug,warn", "a", Level::INFO, Some(false)),
            ("a=loud", "a", Level::INFO, None),
            ("[span]=debug", "a", Level::INFO, None),
        ] {
            assert_eq!(takes(filter, target, level), expected, "{filter} {target} {level}");
        }
    }
}
