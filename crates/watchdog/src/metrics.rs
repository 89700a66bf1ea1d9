//! What `/metrics` shows: calls by result, their duration, calls running, timeouts.

use std::{cell::Cell, fmt::Write, time::Duration};

use super::options::{Mode, Options};

/// Upper bounds of the histogram: 5 ms, doubling up to 40.96 s.
const BUCKETS: usize = 14;

/// Counters of one watchdog. Lives on one thread.
#[derive(Debug)]
pub struct Metrics {
    function: String,
    mode: Mode,
    successes: Cell<u64>,
    failures: Cell<u64>,
    timeouts: Cell<u64>,
    running: Cell<u64>,
    /// Calls per bucket, not cumulated; the last one is for all that took longer.
    buckets: [Cell<u64>; BUCKETS + 1],
    total: Cell<Duration>,
}

/// Counts one running call until dropped.
pub struct RunningCall<'a>(&'a Metrics);

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new(options: &Options) -> Metrics {
        Metrics {
            function: options.function.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"),
            mode: options.mode,
            successes: Cell::default(),
            failures: Cell::default(),
            timeouts: Cell::default(),
            running: Cell::default(),
            buckets: std::array::from_fn(|_| Cell::default()),
            total: Cell::default(),
        }
    }

    /// A call has a slot and runs.
    pub fn begin(&self) -> RunningCall<'_> {
        add_one(&self.running);
        RunningCall(self)
    }

    /// A call is over, `took` after it arrived.
    pub fn count(&self, success: bool, timed_out: bool, took: Duration) {
        add_one(if success { &self.successes } else { &self.failures });
        if timed_out {
            add_one(&self.timeouts);
        }
        let bucket = (0..BUCKETS).find(|bucket| took <= bound(*bucket)).unwrap_or(BUCKETS);
        add_one(&self.buckets[bucket]);
        self.total.set(self.total.get().saturating_add(took));
    }

    /// Prometheus text, version 0.0.4.
    pub fn render(&self) -> String {
        let function = format!("function=\"{}\"", self.function);
        let both = format!("{function},mode=\"{}\"", self.mode.name());
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{line}");
        };
        line("# TYPE watchdog_invocations_total counter".to_owned());
        for (success, count) in [(true, &self.successes), (false, &self.failures)] {
            line(format!("watchdog_invocations_total{{{both},success=\"{success}\"}} {}", count.get()));
        }
        line("# TYPE watchdog_invocation_duration_seconds histogram".to_owned());
        let mut count = 0;
        for (bucket, cell) in self.buckets.iter().enumerate() {
            count += cell.get();
            let le =
                if bucket < BUCKETS { bound(bucket).as_secs_f64().to_string() } else { "+Inf".to_owned() };
            line(format!("watchdog_invocation_duration_seconds_bucket{{{both},le=\"{le}\"}} {count}"));
        }
        line(format!(
            "watchdog_invocation_duration_seconds_sum{{{both}}} {}",
            self.total.get().as_secs_f64()
        ));
        line(format!("watchdog_invocation_duration_seconds_count{{{both}}} {count}"));
        line("# TYPE watchdog_invocations_in_flight gauge".to_owned());
        line(format!("watchdog_invocations_in_flight{{{function}}} {}", self.running.get()));
        line("# TYPE watchdog_timeouts_total counter".to_owned());
        line(format!("watchdog_timeouts_total{{{both}}} {}", self.timeouts.get()));
        text
    }
}

fn bound(bucket: usize) -> Duration {
    Duration::from_millis(5 << bucket)
}

fn add_one(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_is_cumulative_and_labels_are_escaped() {
        let lookup = |name: &str| match name {
            "WARM" => Some("true".into()),
            "EXECUTION_MODE" => Some("STDIO".into()),
            "FUNCTION_NAME" => Some("a\"b".into()),
            _ => None,
        };
        let metrics = Metrics::new(&Options::read(lookup).unwrap());
        metrics.count(true, false, Duration::from_millis(5));
        metrics.count(false, true, Duration::from_secs(60));
        let running = metrics.begin();
        let text = metrics.render();
        for line in [
            r#"watchdog_invocations_total{function="a\"b",mode="STDIO",success="true"} 1"#,
            r#"watchdog_invocations_total{function="a\"b",mode="STDIO",success="false"} 1"#,
            r#"watchdog_invocation_duration_seconds_bucket{function="a\"b",mode="STDIO",le="0.005"} 1"#,
            r#"watchdog_invocation_duration_seconds_bucket{function="a\"b",mode="STDIO",le="40.96"} 1"#,
            r#"watchdog_invocation_duration_seconds_bucket{function="a\"b",mode="STDIO",le="+Inf"} 2"#,
            r#"watchdog_invocation_duration_seconds_sum{function="a\"b",mode="STDIO"} 60.005"#,
            r#"watchdog_invocations_in_flight{function="a\"b"} 1"#,
            r#"watchdog_timeouts_total{function="a\"b",mode="STDIO"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(running);
        assert!(metrics.render().contains("watchdog_invocations_in_flight{function=\"a\\\"b\"} 0"));
    }
}
