//! The log: lines for people on a terminal, JSON otherwise, always on stderr.
//!
//! `NANOFAAS_LOG` filters (`debug`, `nanofaas=trace,info`); without it everything from `info` up is written.

use std::io::IsTerminal;

use nanofaas_base::environment;
use nanofaas_watchdog::function_log::{Line, Shape, TARGET};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        self, FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Variable with the filter.
const VARIABLE: &str = "NANOFAAS_LOG";

/// Starts logging. A second call changes nothing.
pub fn init() {
    let wanted = environment::var(VARIABLE).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { "info".to_owned() } else { wanted };
    let (filter, mistake) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if std::io::stderr().is_terminal() {
        let colour = environment::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let text = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
        registry.with(text.map_event_format(|others| EventFormat { others, shape: Shape::Text })).try_init()
    } else {
        let json = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
        registry.with(json.map_event_format(|others| EventFormat { others, shape: Shape::Json })).try_init()
    };
    if let (Ok(()), Some(error)) = (started, mistake) {
        tracing::warn!(%error, filter = wanted, "NANOFAAS_LOG is not a filter; logging from info up");
    }
}

/// How events are written: what functions wrote in a form of its own, all others as `others` does.
struct EventFormat<F> {
    others: F,
    shape: Shape,
}

impl<S, N, F> FormatEvent<S, N> for EventFormat<F>
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
    ) -> std::fmt::Result {
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
