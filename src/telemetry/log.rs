//! The log: lines for people on a terminal, JSON otherwise, always on stderr.
//!
//! `NANOFAAS_LOG` filters (`debug`, `nanofaas=trace,info`); without it everything from `info` up is written.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::watchdog::function_log::{Format, Shape};

/// Variable with the filter.
const VARIABLE: &str = "NANOFAAS_LOG";

/// Variable that a server sets for its watchdogs: it makes every line that they write an event of its own log, so
/// they write them in the form that it reads ([`crate::watchdog::function_log`]).
pub const WRAPPED: &str = "NANOFAAS_LOG_WRAPPED";

/// Starts logging. A second call changes nothing.
pub fn init() {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { "info".to_owned() } else { wanted };
    let (filter, mistake) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if std::env::var_os(WRAPPED).is_some() {
        let wrapped = fmt::layer().json().flatten_event(true).without_time().with_writer(std::io::stderr);
        registry.with(wrapped).try_init()
    } else if std::io::stderr().is_terminal() {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let text = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
        registry.with(text.map_event_format(|others| Format { others, shape: Shape::Text })).try_init()
    } else {
        let json = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
        registry.with(json.map_event_format(|others| Format { others, shape: Shape::Json })).try_init()
    };
    if let (Ok(()), Some(error)) = (started, mistake) {
        tracing::warn!(%error, filter = wanted, "NANOFAAS_LOG is not a filter; logging from info up");
    }
}
