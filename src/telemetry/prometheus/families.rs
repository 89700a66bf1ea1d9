//! The families of functions as text, in chunks: the whole of it can be many times what it is made from.
//!
//! Gauges are there with the registration, everything else with the first event.

use std::slice::from_ref;

use shard_core::Counters;

use super::{
    exposition::{Exposition, Kind, Labels},
    functions::{
        COUNTERS, CounterRow, DurationRow, GAUGES, GaugeRow, HISTOGRAMS, JOB_COUNTERS, QUANTILES, SUMMARIES,
        SYNC_COUNTERS,
    },
};
use crate::telemetry::{
    histogram::{Histogram, bounds_seconds},
    shard::{Durations, FunctionCopy, Measure},
};

/// Label value under which functions beyond the bound add up. No function can have this name.
const OTHER: &str = "_other";
/// Bytes of a chunk, about: more than one row's.
const CHUNK_BYTES: usize = 64 * 1024;

/// Families about functions: each is written for all rows before the next one.
enum Family {
    /// Lines of one name, shown for functions of which this holds.
    Counter(&'static [CounterRow], fn(&Counters) -> bool),
    Gauge(&'static [GaugeRow]),
    Histogram(&'static DurationRow),
    Summary(&'static DurationRow),
    /// The longest duration of a summary, which has no place in it.
    Longest(&'static DurationRow),
}

/// What does not follow from the series of single functions: percentiles of all of them together.
pub(super) fn of_all(functions: &[FunctionCopy]) -> String {
    let name = "nanofaas_e2e_latency_recent_seconds";
    let durations = functions.iter().filter_map(|function| function.durations.as_ref());
    let mut all = Histogram::default();
    durations.filter_map(|durations| durations.get(Measure::EndToEnd)).for_each(|one| all.merge(one));
    let recent = all.recent();
    let mut text = Exposition::default();
    let help = "Time from acceptance to end, all functions together, percentiles over the last one to two minutes; absent if nothing ended in them.";
    text.family(name, Kind::Gauge, help);
    // No summary: its count and sum would go back with every function that is removed, and its label is reserved.
    for (percentile, part) in [("50", 0.5), ("95", 0.95), ("99", 0.99)] {
        let seconds = recent.quantile_seconds(part);
        if !seconds.is_nan() {
            text.sample(name, &Labels::of(&[("percentile", percentile)]), seconds);
        }
    }
    text.finish()
}

/// See the module.
pub(super) struct Chunks {
    families: Vec<Family>,
    functions: Vec<FunctionCopy>,
    /// Labels of every row: the first functions have one each, all others share the last.
    labels: Vec<Labels>,
    /// Functions with a row of their own.
    own: usize,
    /// Durations of all others.
    other: Option<Durations>,
    /// Where to go on: family and row.
    place: (usize, usize),
}

/// One value of the label `function`, and what adds up under it.
struct FunctionSeries<'a> {
    labels: &'a Labels,
    functions: &'a [FunctionCopy],
    durations: Option<&'a Durations>,
}

impl Chunks {
    /// Everything about functions with different names, sorted: the first `functions_max` have rows of their own, the
    /// rest adds up under [`OTHER`].
    pub(super) fn new(functions: Vec<FunctionCopy>, functions_max: usize) -> Chunks {
        let own = functions_max.min(functions.len());
        let (first, rest) = functions.split_at(own);
        let names = first.iter().map(|function| &*function.name).chain((!rest.is_empty()).then_some(OTHER));
        let labels = names.map(|name| Labels::of(&[("function", name)])).collect();
        let mut other: Option<Durations> = None;
        for durations in rest.iter().filter_map(|function| function.durations.as_ref()) {
            other.get_or_insert_default().merge(durations);
        }
        Chunks { families: families(), labels, own, other, place: (0, 0), functions }
    }

    fn row(&self, number: usize) -> Option<FunctionSeries<'_>> {
        let labels = self.labels.get(number)?;
        Some(match self.functions.get(number).filter(|_| number < self.own) {
            Some(function) => FunctionSeries {
                labels,
                functions: from_ref(function),
                durations: function.durations.as_ref(),
            },
            None => FunctionSeries {
                labels,
                functions: &self.functions[self.own..],
                durations: self.other.as_ref(),
            },
        })
    }
}

impl Iterator for Chunks {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut text = Exposition::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        let (mut family_at, mut row_at) = self.place;
        while text.bytes() < CHUNK_BYTES
            && let Some(family) = self.families.get(family_at)
        {
            if row_at == 0 {
                family.begin(&mut text);
            }
            if let Some(row) = self.row(row_at) {
                family.write(&mut text, &row);
                row_at += 1;
            } else {
                (family_at, row_at) = (family_at + 1, 0);
            }
        }
        self.place = (family_at, row_at);
        Some(text.finish()).filter(|text| !text.is_empty())
    }
}

fn families() -> Vec<Family> {
    let mut families = Vec::new();
    let executions = COUNTERS.chunk_by(|one, next| one.0 == next.0);
    families
        .extend(executions.map(|rows| Family::Counter(rows, |counters| *counters != Counters::default())));
    let sync = SYNC_COUNTERS.chunk_by(|one, next| one.0 == next.0);
    families.extend(sync.map(|rows| Family::Counter(rows, has_sync_events)));
    families.push(Family::Counter(&JOB_COUNTERS, |counters| counters.jobs_created > 0));
    families.extend(GAUGES.chunk_by(|one, next| one.0 == next.0).map(Family::Gauge));
    families.extend(HISTOGRAMS.iter().map(Family::Histogram));
    families.extend(SUMMARIES.iter().flat_map(|row| [Family::Summary(row), Family::Longest(row)]));
    families
}

fn has_sync_events(counters: &Counters) -> bool {
    SYNC_COUNTERS.iter().any(|(.., read)| read(counters) > 0)
}

impl Family {
    /// Name and what it is.
    fn begin(&self, text: &mut Exposition) {
        match self {
            Family::Counter([(name, _, help, _), ..], _) => text.family(name, Kind::Counter, help),
            Family::Gauge([(name, _, help, _), ..]) => text.family(name, Kind::Gauge, help),
            // A table without lines has no families.
            Family::Counter([], _) | Family::Gauge([]) => {}
            Family::Histogram((name, help, _)) => text.family(name, Kind::Histogram, help),
            Family::Summary((name, what, _)) => {
                let help =
                    "in seconds; quantiles over the last one to two minutes, NaN if nothing ended in them.";
                text.family(&summary(name), Kind::Summary, &format!("{what}, {help}"));
            }
            Family::Longest((name, what, _)) => {
                let help = "maximum of the last one to two minutes, in seconds; 0 if nothing ended in them.";
                text.family(&longest(name), Kind::Gauge, &format!("{what}, {help}"));
            }
        }
    }

    /// The series of one row, if it has any.
    fn write(&self, text: &mut Exposition, row: &FunctionSeries<'_>) {
        match self {
            Family::Counter(lines, is_shown) => {
                if row.functions.iter().any(|function| is_shown(&function.counters)) {
                    for (name, further, _, read) in *lines {
                        let value: u64 = row.functions.iter().map(|function| read(&function.counters)).sum();
                        text.sample_with(name, row.labels, *further, value);
                    }
                }
            }
            Family::Gauge(lines) => {
                for (name, further, _, read) in *lines {
                    let values = row.functions.iter().filter_map(read);
                    if let Some(value) = values.reduce(|sum, more| sum + more) {
                        text.sample_with(name, row.labels, *further, value);
                    }
                }
            }
            Family::Histogram((name, _, measure)) => {
                if let Some(histogram) = row.histogram(*measure) {
                    let (buckets, sum) = (histogram.cumulative(), histogram.sum_seconds());
                    text.histogram(name, row.labels, bounds_seconds(), &buckets, sum);
                }
            }
            Family::Summary((name, _, measure)) => {
                if let Some(histogram) = row.histogram(*measure) {
                    let (recent, sum) = (histogram.recent(), histogram.sum_seconds());
                    let quantiles = QUANTILES.iter().map(|part| (*part, recent.quantile_seconds(*part)));
                    text.summary(&summary(name), row.labels, quantiles, sum, histogram.count());
                }
            }
            Family::Longest((name, _, measure)) => {
                if let Some(histogram) = row.histogram(*measure) {
                    text.sample(&longest(name), row.labels, histogram.recent().longest_seconds());
                }
            }
        }
    }
}

fn summary(name: &str) -> String {
    format!("{name}_ms_seconds")
}

fn longest(name: &str) -> String {
    format!("{name}_ms_seconds_max")
}

impl FunctionSeries<'_> {
    fn histogram(&self, measure: Measure) -> Option<&Histogram> {
        self.durations?.get(measure)
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{
        Scaling, ScalingView,
        scaling::{ConcurrencyControl, Metric, MetricTarget},
    };

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
            jobs_created,
            crashes,
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
            jobs_created,
            crashes,
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
        Chunks::new(functions.to_vec(), functions_max).collect()
    }

    #[test]
    fn percentiles_of_all_are_of_every_call_not_of_every_function() {
        let of = |name, count, duration_us| {
            let mut durations = Durations::default();
            (0..count).for_each(|_| durations.record(Measure::EndToEnd, duration_us));
            FunctionCopy { durations: Some(durations), ..function(name) }
        };
        let percentile = |functions: &[FunctionCopy], percentile: &str| -> Option<f64> {
            let start = format!("nanofaas_e2e_latency_recent_seconds{{percentile=\"{percentile}\"}} ");
            let text = of_all(functions);
            let value = text.lines().find_map(|line| line.strip_prefix(&start))?;
            Some(value.parse().expect("a number"))
        };
        let all = [of("slow", 5, 2_000_000), of("fast", 995, 1_000), function("idle")];
        for part in ["50", "95", "99"] {
            let told = percentile(&all, part);
            assert!(told.is_some_and(|told| (told - 0.001).abs() <= 0.000_05), "{part}: {told:?}");
        }
        assert!(percentile(&[of("slow", 20, 2_000_000), of("fast", 980, 1_000)], "99") > Some(1.8));
        assert_eq!(percentile(&[function("idle")], "99"), None);
    }

    #[test]
    fn chunks_end_anywhere_between_two_rows() {
        let mut durations = Durations::default();
        for measure in [Measure::Latency, Measure::QueueWait, Measure::EndToEnd] {
            durations.record(measure, 1_000);
        }
        let functions: Vec<_> = (1000..1500)
            .map(|number| FunctionCopy {
                durations: Some(durations.clone()),
                ..function(&format!("f{number}"))
            })
            .collect();
        let chunks: Vec<String> = Chunks::new(functions, 400).collect();
        assert!(chunks.len() > 20, "{}", chunks.len());
        assert!(chunks.iter().all(|chunk| chunk.len() < CHUNK_BYTES + 4096 && chunk.ends_with('\n')));
        let text = chunks.concat();
        assert_eq!(text.matches("\nfunction_latency_seconds_count{").count(), 401);
        assert_eq!(text.matches("# TYPE function_latency_seconds histogram\n").count(), 1);
        assert!(text.contains("\nfunction_latency_seconds_count{function=\"_other\"} 100\n"));
    }
}
