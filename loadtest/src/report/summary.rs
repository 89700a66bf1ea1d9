//! The summary of a run: the numbers that everything else shows. `summary.json` is this, serialised.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rounds::median;
use crate::{
    plan::{Measure, Plan, Threshold},
    record::{Distribution, Row, Tally},
    run::RunOutcome,
};

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Quantiles of the curve that is drawn.
const CURVE: [f64; 14] =
    [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the format.
    pub schema: u32,
    /// Name of the scenario.
    pub name: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// Version of this program.
    pub loadtest_version: String,
    /// Whether it was ended early; times are those of what was carried out.
    #[serde(default)]
    pub is_interrupted: bool,
    /// What was sent.
    pub setup: Setup,
    /// All functions together.
    pub total: Figures,
    /// Every function of every load.
    pub functions: Vec<FunctionSummary>,
    /// This program itself, in the measured time.
    pub harness: Usage,
    /// The server that was watched, in the measured time.
    pub server: Option<Usage>,
    /// CPU time that the machine's host gave to others, in proportion to time. Latencies are worse for it.
    #[serde(default)]
    pub stolen_cores: Option<f64>,
    /// Limits and whether they hold.
    pub thresholds: Vec<ThresholdVerdict>,
    /// Second by second, with the warm-up.
    pub series: Vec<Row>,
}

/// What was sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Threads that sent.
    pub threads: usize,
    /// Length of the warm-up.
    pub warm_up_s: f64,
    /// Length of the measured time, as planned.
    pub duration_s: f64,
    /// Streams of calls.
    pub loads: Vec<LoadSetup>,
}

/// A stream of calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSetup {
    /// Its name.
    pub name: String,
    /// Where it went.
    pub address: String,
    /// `sync`, `async`, `callback`, `raw` or `url`.
    pub mode: String,
    /// Connections, at most.
    pub connections: usize,
    /// Mean calls per second of an open loop.
    pub rate: Option<f64>,
}

/// One function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionSummary {
    /// Its name.
    pub name: String,
    /// The load it belongs to.
    pub load: String,
    /// Everything after the warm-up.
    pub figures: Figures,
    /// Stage by stage, when there is more than one.
    pub phases: Vec<PhaseSummary>,
}

/// One stage of one function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// What happened in it.
    pub figures: Figures,
}

/// Counts, rates and latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Calls that an open loop should have begun.
    pub intended: Option<u64>,
    /// Requests that were sent, retries included.
    pub sent: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that were answered and failed.
    pub failed: u64,
    /// Calls without an answer.
    pub unanswered: u64,
    /// Of these, calls for which no connection was free.
    pub not_sent: u64,
    /// Successes per second that came in the measured time.
    pub throughput_per_s: f64,
    /// Answers per second that came in the measured time.
    pub answers_per_s: f64,
    /// Calls per second that an open loop should have begun.
    pub intended_per_s: Option<f64>,
    /// Answers in proportion to intended calls.
    pub achieved_ratio: Option<f64>,
    /// Share of the calls that failed or had no answer.
    pub error_rate: f64,
    /// From the intended start: successes, and calls without an answer as long as was waited for them.
    pub latency: Latency,
    /// From the sending of the request; only in open loops.
    pub service: Option<Latency>,
    /// From the intended start to an answer that says failure.
    pub failed_latency: Option<Latency>,
    /// Failures by HTTP status.
    pub errors_by_status: BTreeMap<String, u64>,
    /// Failures by code, in lower case those of this program.
    pub errors_by_code: BTreeMap<String, u64>,
    /// What became of `Retry-After`, when it was obeyed.
    pub retry_after: Option<RetryAfter>,
    /// Bytes per second of answers.
    pub received_bytes_per_s: f64,
    /// Latency by quantile, for drawing.
    pub curve: Vec<(f64, f64)>,
}

/// A distribution, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Shortest.
    pub min_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// 99.99th percentile.
    pub p9999_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

/// What became of calls that were told to wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RetryAfter {
    /// Calls that were told to wait.
    pub told: u64,
    /// Mean time they were told, in seconds.
    pub told_s_mean: f64,
    /// How many called again before the end.
    pub retried: u64,
    /// How many were admitted at the first retry.
    pub first_retry_admitted: u64,
    /// The same as a share of those that called again.
    pub first_retry_admitted_ratio: f64,
    /// How many were admitted at a later retry.
    pub later_retry_admitted: u64,
}

/// What a process used in the measured time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Where the numbers come from.
    pub source: String,
    /// CPU time in seconds.
    pub cpu_s: f64,
    /// CPU time in proportion to time.
    pub cores: f64,
    /// CPU time per answer in microseconds.
    pub cpu_us_per_answer: f64,
    /// Most memory, in bytes.
    pub resident_bytes_max: Option<u64>,
    /// Memory over the measured time, second by second in the series.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// Memory at both ends of the measured time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Median of the first twentieth, in bytes.
    pub start_bytes: u64,
    /// Median of the last twentieth, in bytes.
    pub end_bytes: u64,
    /// What the end has more than the start, as a share of the start.
    pub growth_ratio: f64,
}

/// A limit and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThresholdVerdict {
    /// Its key in the scenario.
    pub key: String,
    /// The function it is about.
    pub function: Option<String>,
    /// The limit.
    pub limit: f64,
    /// The value, if there is one.
    pub value: Option<f64>,
    /// Whether the limit holds; without a value it does not.
    pub is_met: bool,
}

impl Summary {
    /// Sums a run up.
    pub fn new(plan: &Plan, outcome: &RunOutcome) -> Summary {
        let duration_s = plan.duration.as_secs_f64();
        let is_open = |load: usize| plan.loads[load].stages.is_some();
        let functions: Vec<FunctionSummary> =
            plan.targets.iter().enumerate().map(|(index, _)| function(plan, outcome, index)).collect();
        let mut all = Tally::default();
        for tally in outcome.totals.iter().flat_map(|phases| phases.iter().skip(1)) {
            all.add(tally);
        }
        let mut total = Figures::new(&all, duration_s, (0..plan.loads.len()).all(is_open));
        add_window(&mut total, outcome.totals.iter().flatten(), duration_s);
        let answers = total.answers_per_s * duration_s;
        let usage = |source: String, cpu_s: f64, resident_bytes_max: Option<u64>| Usage {
            source,
            cpu_s,
            cores: cpu_s / outcome.measured_s.max(1e-9),
            cpu_us_per_answer: if answers > 0.0 { cpu_s * 1e6 / answers } else { 0.0 },
            resident_bytes_max,
            memory: None,
        };
        let server = outcome
            .server
            .as_ref()
            .map(|server| usage(server.source.clone(), server.cpu_s, Some(server.resident_bytes_max)))
            .map(|server| Usage { memory: Memory::new(plan, &outcome.rows), ..server });
        let mut summary = Summary {
            schema: SCHEMA,
            name: plan.name.clone(),
            started_at: jiff::Timestamp::try_from(outcome.start)
                .map_or_else(|_| String::new(), |at| at.to_string()),
            loadtest_version: env!("CARGO_PKG_VERSION").to_owned(),
            is_interrupted: outcome.is_interrupted,
            setup: setup(plan),
            total,
            functions,
            harness: usage("loadtest".to_owned(), outcome.own_cpu_s, None),
            server,
            stolen_cores: outcome.stolen_s.map(|stolen_s| stolen_s / outcome.measured_s.max(1e-9)),
            thresholds: Vec::new(),
            series: outcome.rows.clone(),
        };
        summary.thresholds = plan.thresholds.iter().map(|threshold| summary.verdict(threshold)).collect();
        summary
    }

    /// Whether every limit holds.
    pub fn is_good(&self) -> bool {
        self.thresholds.iter().all(|verdict| verdict.is_met)
    }

    fn verdict(&self, threshold: &Threshold) -> ThresholdVerdict {
        let function = threshold.function.as_deref();
        let figures = match function {
            None => Some(&self.total),
            Some(name) => {
                self.functions.iter().find(|function| function.name == name).map(|found| &found.figures)
            }
        };
        let value = figures.and_then(|figures| match threshold.measure {
            Measure::ServerCpu => self.server.as_ref().map(|server| server.cpu_us_per_answer),
            Measure::ServerMemoryGrowth => Some(self.server.as_ref()?.memory?.growth_ratio),
            measure => figures.value(measure),
        });
        ThresholdVerdict {
            key: threshold.key.clone(),
            function: threshold.function.clone(),
            limit: threshold.limit,
            value,
            is_met: value.is_some_and(|value| threshold.is_met(value)),
        }
    }
}

impl Memory {
    fn new(plan: &Plan, rows: &[Row]) -> Option<Memory> {
        let measured = plan.warm_up.as_secs_f64()..plan.length().as_secs_f64();
        let rows = rows.iter().filter(|row| measured.contains(&f64::from(row.second)));
        let bytes: Vec<f64> = rows.filter_map(|row| Some(row.server_resident_bytes? as f64)).collect();
        let count = (bytes.len() / 20).max(1);
        let start = median(bytes.iter().take(count).copied())?;
        let end = median(bytes.iter().rev().take(count).copied())?;
        let growth_ratio = end / start.max(1.0) - 1.0;
        Some(Memory { start_bytes: start as u64, end_bytes: end as u64, growth_ratio })
    }
}

impl Figures {
    /// Everything but the rates, which count what came in a time, not what began in it.
    fn new(tally: &Tally, seconds: f64, is_open: bool) -> Figures {
        let counts = &tally.counts;
        let calls = counts.succeeded + counts.failed + counts.unanswered;
        let failures = counts.failed + counts.unanswered;
        let intended = is_open.then_some(counts.intended);
        let answers = (counts.succeeded + counts.failed) as f64;
        Figures {
            intended,
            sent: counts.sent,
            succeeded: counts.succeeded,
            failed: counts.failed,
            unanswered: counts.unanswered,
            not_sent: counts.not_sent,
            throughput_per_s: counts.succeeded as f64 / seconds,
            answers_per_s: answers / seconds,
            intended_per_s: intended.map(|intended| intended as f64 / seconds),
            achieved_ratio: intended.map(|intended| answers / (intended as f64).max(1.0)),
            error_rate: if calls > 0 { failures as f64 / calls as f64 } else { 0.0 },
            latency: Latency::new(&tally.latency),
            service: (tally.service.count() > 0).then(|| Latency::new(&tally.service)),
            failed_latency: (tally.failed.count() > 0).then(|| Latency::new(&tally.failed)),
            errors_by_status: tally.by_status.iter().map(|(status, n)| (status.to_string(), *n)).collect(),
            errors_by_code: tally.by_code.clone(),
            retry_after: (counts.told_to_wait > 0).then(|| RetryAfter {
                told: counts.told_to_wait,
                told_s_mean: counts.told_seconds as f64 / counts.told_to_wait as f64,
                retried: counts.retried,
                first_retry_admitted: counts.first_retry_admitted,
                first_retry_admitted_ratio: counts.first_retry_admitted as f64
                    / (counts.retried as f64).max(1.0),
                later_retry_admitted: counts.later_retry_admitted,
            }),
            received_bytes_per_s: counts.bytes_received as f64 / seconds,
            curve: CURVE.iter().map(|quantile| (*quantile, tally.latency.quantile_ms(*quantile))).collect(),
        }
    }

    fn value(&self, measure: Measure) -> Option<f64> {
        let has_latency = self.latency.count > 0;
        match measure {
            Measure::Quantile(quantile) => has_latency.then_some(match quantile {
                5000 => self.latency.p50_ms,
                9000 => self.latency.p90_ms,
                9500 => self.latency.p95_ms,
                9900 => self.latency.p99_ms,
                _ => self.latency.p999_ms,
            }),
            Measure::Mean => has_latency.then_some(self.latency.mean_ms),
            Measure::Max => has_latency.then_some(self.latency.max_ms),
            Measure::ErrorRate => {
                (self.succeeded + self.failed + self.unanswered > 0).then_some(self.error_rate)
            }
            Measure::AchievedRate => self.achieved_ratio,
            Measure::Throughput => Some(self.throughput_per_s),
            Measure::FirstRetryAdmitted => {
                self.retry_after.as_ref().map(|retry_after| retry_after.first_retry_admitted_ratio)
            }
            Measure::P99ToP50 => {
                has_latency.then(|| self.latency.p99_ms / self.latency.p50_ms.max(f64::MIN_POSITIVE))
            }
            Measure::ServerCpu | Measure::ServerMemoryGrowth => None,
        }
    }
}

impl Latency {
    fn new(distribution: &Distribution) -> Latency {
        Latency {
            count: distribution.count(),
            mean_ms: distribution.mean_ms(),
            min_ms: distribution.min_ms(),
            p50_ms: distribution.quantile_ms(0.5),
            p90_ms: distribution.quantile_ms(0.9),
            p95_ms: distribution.quantile_ms(0.95),
            p99_ms: distribution.quantile_ms(0.99),
            p999_ms: distribution.quantile_ms(0.999),
            p9999_ms: distribution.quantile_ms(0.9999),
            max_ms: distribution.max_ms(),
        }
    }
}

/// Rates of the measured time: answers that came in it, whenever their calls began, so that calls on their way at its
/// beginning make up for those on their way at its end.
fn add_window<'a>(figures: &mut Figures, phases: impl Iterator<Item = &'a Tally>, seconds: f64) {
    let (mut answers, mut successes) = (0, 0);
    for tally in phases {
        answers += tally.counts.answers_in_window;
        successes += tally.counts.successes_in_window;
    }
    figures.answers_per_s = answers as f64 / seconds;
    figures.throughput_per_s = successes as f64 / seconds;
    figures.achieved_ratio = figures.intended.map(|intended| answers as f64 / (intended as f64).max(1.0));
}

fn function(plan: &Plan, outcome: &RunOutcome, index: usize) -> FunctionSummary {
    let target = &plan.targets[index];
    let load = &plan.loads[target.load];
    let tallies = &outcome.totals[index];
    let mut all = Tally::default();
    for tally in tallies.iter().skip(1) {
        all.add(tally);
    }
    let is_open = load.stages.is_some();
    let mut figures = Figures::new(&all, plan.duration.as_secs_f64(), is_open);
    add_window(&mut figures, tallies.iter(), plan.duration.as_secs_f64());
    let names = plan.phases(target.load);
    let lengths = load.stages.as_ref().map(|stages| stages.lengths()).unwrap_or_default();
    let (mut phases, mut left) = (Vec::new(), plan.duration);
    if tallies.len() > 2 {
        for ((name, length), tally) in names.iter().zip(lengths).zip(tallies).skip(1) {
            // An interrupted run has a last stage that is shorter than planned, and none after it.
            let length = length.min(left);
            left -= length;
            if length.is_zero() {
                break;
            }
            let figures = Figures::new(tally, length.as_secs_f64(), is_open);
            phases.push(PhaseSummary { name: name.clone(), figures });
        }
    }
    FunctionSummary { name: target.name.clone(), load: load.name.clone(), figures, phases }
}

fn setup(plan: &Plan) -> Setup {
    let loads = plan.loads.iter().map(|load| LoadSetup {
        name: load.name.clone(),
        address: load.socket.to_string(),
        mode: load.mode.name().to_owned(),
        connections: load.connections,
        rate: load.stages.as_ref().map(|stages| stages.mean_rate()),
    });
    Setup {
        threads: plan.threads,
        warm_up_s: plan.warm_up.as_secs_f64(),
        duration_s: plan.duration.as_secs_f64(),
        loads: loads.collect(),
    }
}
