//! Metrics with a function: one table per kind, one line per metric, and another table for each part of a metric that
//! has a further label. Lines of one family stand together.
//!
//! Gauges are there with the registration, everything else with the first event.

use std::{borrow::Cow, slice::from_ref};

use shard_core::{
    Counters,
    scaling::{ConcurrencyControl, Metric},
};

use super::exposition::{Exposition, Kind, Labels};
use crate::telemetry::{
    histogram::{Histogram, bounds_seconds},
    shard::{Durations, FunctionCopy, Measure},
};

/// Label value under which functions beyond the bound add up. No function can have this name.
const OTHER: &str = "_other";

/// A further label and its value; `NONE` for the many that have none.
type Further = (&'static str, &'static str);
const NONE: Further = ("", "");

/// Name, further label, meaning, where it is kept.
type CounterRow = (&'static str, Further, &'static str, fn(&Counters) -> u64);

const COUNTERS: [CounterRow; 15] = [
    ("function_invocation_total", NONE, "New executions, without refusals and replays.", |c| c.invocations),
    ("function_enqueue_total", NONE, "Executions put into the queue, retries included.", |c| c.enqueued),
    ("function_dispatch_total", NONE, "Attempts dispatched.", |c| c.dispatches),
    ("function_success_total", NONE, "Executions that ended as success.", |c| c.successes),
    ("function_error_total", NONE, "Executions that ended as error.", |c| c.errors),
    ("function_retry_total", NONE, "Failed attempts that were followed by another.", |c| c.retries),
    ("function_timeout_total", NONE, "Callers whose deadline passed.", |c| c.timeouts),
    ("function_queue_rejected_total", NONE, "Refused because the queue was full.", |c| c.queue_rejections),
    ("function_cold_start_total", NONE, "Executions whose instance had just started.", |c| c.cold_starts),
    ("function_warm_start_total", NONE, "Executions whose instance had not just started.", |c| c.warm_starts),
    ("function_orphaned_total", NONE, "Attempts that nobody reported.", |c| c.orphans),
    ("function_bad_output_total", NONE, "Answers that claimed to be JSON and were not.", |c| c.bad_outputs),
    ("function_late_completion_total", NONE, "Answers and callbacks that came too late.", |c| {
        c.late_completions
    }),
    ("function_dead_letter_total", NONE, "Executions that became dead letters.", |c| c.dead_letters),
    ("function_expired_total", NONE, "Executions that waited longer than they were allowed to.", |c| {
        c.expired
    }),
];

const SYNC_REJECTED: &str = "sync_queue_rejected_total";
const SYNC_REJECTED_HELP: &str = "Calls that the sync queue refused, by reason.";

/// There with the first call that passes, or does not pass, a sync queue that is on.
const SYNC_COUNTERS: [CounterRow; 5] = [
    ("sync_queue_admitted_total", NONE, "Calls that the sync queue admitted.", |c| c.sync_admitted),
    (SYNC_REJECTED, ("reason", "depth"), SYNC_REJECTED_HELP, |c| c.sync_rejected_depth),
    (SYNC_REJECTED, ("reason", "est_wait"), SYNC_REJECTED_HELP, |c| c.sync_rejected_wait),
    (SYNC_REJECTED, ("reason", "timeout"), SYNC_REJECTED_HELP, |c| c.sync_rejected_timeout),
    ("sync_queue_timedout_total", NONE, "Calls whose time in the sync queue was over.", |c| c.sync_timeouts),
];

/// As above; `None` when the function has no such thing.
type GaugeRow = (&'static str, Further, &'static str, fn(&FunctionCopy) -> Option<f64>);

const REPLICAS: &str = "function_replicas";
const REPLICAS_HELP: &str = "Replicas, by state, of functions that a backend runs.";
const LOAD: &str = "gateway_service_target_load";
const LOAD_HELP: &str =
    "Load that one replica is to have, by what is measured, of functions that the server scales.";
const MODE: &str = "function_concurrency_controller_mode";
const MODE_HELP: &str = "1 for the way in which attempts in flight follow the replicas, 0 for the others.";

const GAUGES: [GaugeRow; 15] = [
    ("function_queue_depth", NONE, "Executions that wait, retries in their back-off included.", |f| {
        Some(f.queue_depth.into())
    }),
    ("function_in_flight", NONE, "Attempts in flight.", |f| Some(f.in_flight.into())),
    ("function_inFlight", NONE, "Attempts in flight, under the name of the Java original.", |f| {
        Some(f.in_flight.into())
    }),
    ("function_effective_concurrency", NONE, "Attempts that may be in flight at once.", |f| {
        Some(f.concurrency.into())
    }),
    ("function_dead_letters", NONE, "Dead letters kept.", |f| Some(f.dead_letters.into())),
    (REPLICAS, ("state", "desired"), REPLICAS_HELP, |f| f.replicas.map(|(desired, _)| desired.into())),
    (REPLICAS, ("state", "ready"), REPLICAS_HELP, |f| f.replicas.map(|(_, ready)| ready.into())),
    ("sync_queue_depth", NONE, "Synchronous calls that wait, while the sync queue is on.", |f| {
        Some(f.sync_queue_depth.into())
    }),
    (LOAD, ("scaling_type", "queue"), LOAD_HELP, |f| f.load(Metric::QueueDepth)),
    (LOAD, ("scaling_type", "capacity"), LOAD_HELP, |f| f.load(Metric::InFlight)),
    (LOAD, ("scaling_type", "rps"), LOAD_HELP, |f| f.load(Metric::Rps)),
    (
        "function_target_inflight_per_pod",
        NONE,
        "Attempts in flight that one replica is to have; 0 for any.",
        |f| Some(f.scaling.as_ref().map_or(0, |view| view.target_per_replica).into()),
    ),
    (MODE, ("mode", "FIXED"), MODE_HELP, |f| f.mode("FIXED")),
    (MODE, ("mode", "STATIC_PER_POD"), MODE_HELP, |f| f.mode("STATIC_PER_POD")),
    (MODE, ("mode", "ADAPTIVE_PER_POD"), MODE_HELP, |f| f.mode("ADAPTIVE_PER_POD")),
];

type DurationRow = (&'static str, &'static str, Measure);

const HISTOGRAMS: [DurationRow; 5] = [
    ("function_latency_seconds", "From dispatch to end, of the last attempt.", Measure::Latency),
    ("function_queue_wait_seconds", "From queueing to dispatch, of the last attempt.", Measure::QueueWait),
    ("function_e2e_latency_seconds", "From acceptance to end, all attempts included.", Measure::EndToEnd),
    ("function_init_duration_seconds", "Start of the instance, of cold starts that say so.", Measure::Init),
    ("sync_queue_wait_seconds", "From queueing to dispatch, of calls in the sync queue.", Measure::SyncWait),
];

/// Names without `_ms_seconds`, which dashboards of the Java original look for: in seconds, whatever they say.
const SUMMARIES: [DurationRow; 4] = [
    ("function_latency", "From dispatch to end", Measure::Latency),
    ("function_queue_wait", "From queueing to dispatch", Measure::QueueWait),
    ("function_e2e_latency", "From acceptance to end", Measure::EndToEnd),
    ("function_init_duration", "Start of the instance", Measure::Init),
];

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// One value of the label `function`, and what adds up under it: one function, or all those beyond the bound.
pub(super) struct Row<'a> {
    labels: Labels,
    functions: &'a [FunctionCopy],
    durations: Option<Cow<'a, Durations>>,
}

/// Rows of functions with different names, sorted: the first `functions_max` each, the rest under [`OTHER`].
pub(super) fn rows(functions: &[FunctionCopy], functions_max: usize) -> Vec<Row<'_>> {
    let (own, other) = functions.split_at(functions_max.min(functions.len()));
    let mut rows: Vec<Row<'_>> =
        own.iter().map(|function| Row::of(&function.name, from_ref(function))).collect();
    rows.extend((!other.is_empty()).then(|| Row::of(OTHER, other)));
    rows
}

impl<'a> Row<'a> {
    fn of(name: &str, functions: &'a [FunctionCopy]) -> Row<'a> {
        let mut durations: Option<Cow<'a, Durations>> = None;
        for more in functions.iter().filter_map(|function| function.durations.as_ref()) {
            match &mut durations {
                Some(sum) => sum.to_mut().merge(more),
                none => *none = Some(Cow::Borrowed(more)),
            }
        }
        Row { labels: Labels::of(&[("function", name)]), functions, durations }
    }

    fn counter(&self, read: fn(&Counters) -> u64) -> u64 {
        self.functions.iter().map(|function| read(&function.counters)).sum()
    }

    fn gauge(&self, read: fn(&FunctionCopy) -> Option<f64>) -> Option<f64> {
        self.functions.iter().filter_map(read).reduce(|sum, more| sum + more)
    }
}

/// Writes everything about these functions.
pub(super) fn render(text: &mut Exposition, rows: &[Row<'_>]) {
    render_counters(text, rows, &COUNTERS, |counters| *counters != Counters::default());
    render_counters(text, rows, &SYNC_COUNTERS, |counters| {
        SYNC_COUNTERS.iter().any(|(.., read)| read(counters) > 0)
    });
    // Jobs come with the Kubernetes backend; their series with the first job.
    text.family("nanofaas_job_created_total", Kind::Counter, "Jobs created for invocations.");
    render_gauges(text, rows);
    for (name, help, measure) in HISTOGRAMS {
        text.family(name, Kind::Histogram, help);
        for (labels, histogram) in measured(rows, measure) {
            let buckets = histogram.cumulative();
            text.histogram(name, labels, bounds_seconds(), &buckets, histogram.sum_seconds());
        }
    }
    for row in &SUMMARIES {
        render_summary(text, rows, row);
    }
}

fn render_counters(
    text: &mut Exposition,
    rows: &[Row<'_>],
    table: &[CounterRow],
    is_shown: fn(&Counters) -> bool,
) {
    let has_events = |row: &&Row<'_>| row.functions.iter().any(|function| is_shown(&function.counters));
    for family in table.chunk_by(|one, next| one.0 == next.0) {
        let (name, _, help, _) = family[0];
        text.family(name, Kind::Counter, help);
        for row in rows.iter().filter(has_events) {
            for (_, further, _, read) in family {
                text.sample_with(name, &row.labels, *further, row.counter(*read));
            }
        }
    }
}

fn render_gauges(text: &mut Exposition, rows: &[Row<'_>]) {
    for family in GAUGES.chunk_by(|one, next| one.0 == next.0) {
        let (name, _, help, _) = family[0];
        text.family(name, Kind::Gauge, help);
        for row in rows {
            for (_, further, _, read) in family {
                if let Some(value) = row.gauge(*read) {
                    text.sample_with(name, &row.labels, *further, value);
                }
            }
        }
    }
}

fn render_summary(text: &mut Exposition, rows: &[Row<'_>], (name, what, measure): &DurationRow) {
    let name = format!("{name}_ms_seconds");
    let help = format!(
        "{what}, in seconds; quantiles over the last one to two minutes, NaN when nothing ended in them."
    );
    text.family(&name, Kind::Summary, &help);
    for (labels, histogram) in measured(rows, *measure) {
        let recent = histogram.recent();
        let quantiles = QUANTILES.iter().map(|part| (*part, recent.quantile_seconds(*part)));
        text.summary(&name, labels, quantiles, histogram.sum_seconds(), histogram.count());
    }
    let name = format!("{name}_max");
    let help = format!(
        "{what}, the longest of the last one to two minutes, in seconds; 0 when nothing ended in them."
    );
    text.family(&name, Kind::Gauge, &help);
    for (labels, histogram) in measured(rows, *measure) {
        text.sample(&name, labels, histogram.recent().longest_seconds());
    }
}

fn measured<'a>(rows: &'a [Row<'_>], measure: Measure) -> impl Iterator<Item = (&'a Labels, &'a Histogram)> {
    rows.iter().filter_map(move |row| Some((&row.labels, row.durations.as_ref()?.get(measure)?)))
}

impl FunctionCopy {
    /// Target of the metric for one replica.
    fn load(&self, metric: Metric) -> Option<f64> {
        let targets = &self.scaling.as_ref()?.scaling.metrics;
        targets.iter().find(|target| target.metric == metric).map(|target| target.target)
    }

    fn mode(&self, name: &str) -> Option<f64> {
        let control = self.scaling.as_ref().map_or(ConcurrencyControl::Fixed, |view| view.scaling.control);
        let own = match control {
            ConcurrencyControl::Fixed => "FIXED",
            ConcurrencyControl::StaticPerPod { .. } => "STATIC_PER_POD",
            ConcurrencyControl::AdaptivePerPod { .. } => "ADAPTIVE_PER_POD",
        };
        Some(f64::from(u8::from(own == name)))
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{Scaling, ScalingView, scaling::MetricTarget};

    use super::*;

    /// Whoever adds a counter to the core learns here that it is not exported.
    #[test]
    fn every_counter_of_the_core_is_exported() {
        let mut counters = Counters::default();
        let Counters {
            invocations,
            enqueued,
            dispatches,
            successes,
            errors,
            retries,
            timeouts,
            queue_rejections,
            cold_starts,
            warm_starts,
            orphans,
            bad_outputs,
            late_completions,
            dead_letters,
            expired,
            sync_admitted,
            sync_rejected_depth,
            sync_rejected_wait,
            sync_rejected_timeout,
            sync_timeouts,
        } = &mut counters;
        let all = [
            invocations,
            enqueued,
            dispatches,
            successes,
            errors,
            retries,
            timeouts,
            queue_rejections,
            cold_starts,
            warm_starts,
            orphans,
            bad_outputs,
            late_completions,
            dead_letters,
            expired,
            sync_admitted,
            sync_rejected_depth,
            sync_rejected_wait,
            sync_rejected_timeout,
            sync_timeouts,
        ];
        let count = all.len();
        for (value, counter) in (1000..).zip(all) {
            *counter = value;
        }
        let text = exposition(&[FunctionCopy { counters, ..function("f") }], 1);
        for value in 1000..1000 + count {
            assert_eq!(text.matches(&format!("}} {value}\n")).count(), 1, "{value} in\n{text}");
        }
    }

    #[test]
    fn functions_beyond_the_bound_add_up_in_every_family() {
        let scaled = |control, target_per_replica| {
            let metrics = vec![MetricTarget { metric: Metric::InFlight, target: 2.5 }];
            let scaling = Scaling { min_replicas: 0, max_replicas: 3, metrics, control };
            Some(Box::new(ScalingView { scaling, target_per_replica }))
        };
        let mut durations = Durations::default();
        durations.record(Measure::Latency, 1_000);
        let functions = [
            function("a"),
            FunctionCopy { scaling: scaled(ConcurrencyControl::Fixed, 0), ..function("b") },
            FunctionCopy {
                scaling: scaled(ConcurrencyControl::StaticPerPod { target: 2 }, 2),
                durations: Some(durations.clone()),
                replicas: Some((3, 1)),
                queue_depth: 7,
                ..function("c")
            },
            FunctionCopy {
                durations: Some(durations),
                replicas: Some((2, 2)),
                queue_depth: 4,
                ..function("d")
            },
        ];
        let text = exposition(&functions, 1);
        for line in [
            "function_queue_depth{function=\"a\"} 0",
            "function_queue_depth{function=\"_other\"} 11",
            "function_replicas{function=\"_other\",state=\"desired\"} 5",
            "function_replicas{function=\"_other\",state=\"ready\"} 3",
            "gateway_service_target_load{function=\"_other\",scaling_type=\"capacity\"} 5",
            "function_target_inflight_per_pod{function=\"_other\"} 2",
            "function_concurrency_controller_mode{function=\"a\",mode=\"FIXED\"} 1",
            "function_concurrency_controller_mode{function=\"_other\",mode=\"FIXED\"} 2",
            "function_concurrency_controller_mode{function=\"_other\",mode=\"STATIC_PER_POD\"} 1",
            "function_latency_seconds_bucket{function=\"_other\",le=\"0.001\"} 2",
            "function_latency_ms_seconds_count{function=\"_other\"} 2",
            "function_latency_ms_seconds_max{function=\"_other\"} 0.001",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
        }
        for absent in
            ["function=\"b\"", "scaling_type=\"queue\"", "function_replicas{function=\"a\"", "_total{"]
        {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
    }

    fn function(name: &str) -> FunctionCopy {
        FunctionCopy {
            name: name.into(),
            counters: Counters::default(),
            queue_depth: 0,
            sync_queue_depth: 0,
            in_flight: 0,
            concurrency: 1,
            dead_letters: 0,
            replicas: None,
            scaling: None,
            durations: None,
        }
    }

    fn exposition(functions: &[FunctionCopy], functions_max: usize) -> String {
        let mut text = Exposition::default();
        render(&mut text, &rows(functions, functions_max));
        text.finish()
    }
}
