//! Metrics with a function: one table per kind, one line per metric, and another table for each part of a metric that
//! has a further label. Lines of one family stand together. `families` writes what stands here.

use shard_core::{
    Counters,
    scaling::{ConcurrencyControl, Metric},
};

use crate::telemetry::shard::{FunctionCopy, Measure};

/// A further label and its value; `NONE` for the many that have none.
pub(super) type Further = (&'static str, &'static str);
const NONE: Further = ("", "");

/// Name, further label, meaning, where it is kept.
pub(super) type CounterRow = (&'static str, Further, &'static str, fn(&Counters) -> u64);

pub(super) static COUNTERS: [CounterRow; 16] = [
    (
        "function_invocation_total",
        NONE,
        "New executions; not rejected calls, nor repeats of an idempotency key.",
        |c| c.invocations,
    ),
    ("function_enqueue_total", NONE, "New executions that :enqueue accepted with a 202.", |c| c.enqueued),
    ("function_dispatch_total", NONE, "Attempts dispatched.", |c| c.dispatches),
    ("function_success_total", NONE, "Executions that ended as success.", |c| c.successes),
    ("function_error_total", NONE, "Executions that ended as error.", |c| c.errors),
    ("function_retry_total", NONE, "Failed attempts that were followed by another.", |c| c.retries),
    ("function_timeout_total", NONE, "Callers whose deadline passed.", |c| c.timeouts),
    ("function_queue_rejected_total", NONE, "Calls and retries rejected because the queue was full.", |c| {
        c.queue_rejections
    }),
    ("function_cold_start_total", NONE, "Executions on a replica that had just started.", |c| c.cold_starts),
    ("function_warm_start_total", NONE, "Executions on a replica that had started before.", |c| {
        c.warm_starts
    }),
    ("function_orphaned_total", NONE, "Attempts whose promised callback never came.", |c| c.orphans),
    ("function_crashed_total", NONE, "Attempts during which the replica that ran them ended.", |c| c.crashes),
    ("function_bad_output_total", NONE, "Answers that claimed to be JSON and were not.", |c| c.bad_outputs),
    ("function_late_completion_total", NONE, "Answers and callbacks that came too late.", |c| {
        c.late_completions
    }),
    ("function_dead_letter_total", NONE, "Executions that became dead letters.", |c| c.dead_letters),
    ("function_expired_total", NONE, "Executions that waited longer than X-Max-Age-Ms.", |c| c.expired),
];

/// There with the first job.
pub(super) static JOB_COUNTERS: [CounterRow; 1] =
    [("nanofaas_job_created_total", NONE, "Jobs created for invocations.", |c| c.jobs_created)];

const SYNC_REJECTED: &str = "sync_queue_rejected_total";
const SYNC_REJECTED_HELP: &str = "Calls that the sync queue rejected, by reason.";

/// There with the first call that passes, or does not pass, a sync queue that is on.
pub(super) static SYNC_COUNTERS: [CounterRow; 5] = [
    ("sync_queue_admitted_total", NONE, "Calls that the sync queue admitted.", |c| c.sync_admitted),
    (SYNC_REJECTED, ("reason", "depth"), SYNC_REJECTED_HELP, |c| c.sync_rejected_depth),
    (SYNC_REJECTED, ("reason", "est_wait"), SYNC_REJECTED_HELP, |c| c.sync_rejected_wait),
    (SYNC_REJECTED, ("reason", "timeout"), SYNC_REJECTED_HELP, |c| c.sync_rejected_timeout),
    ("sync_queue_timedout_total", NONE, "Calls that waited in the sync queue for too long.", |c| {
        c.sync_timeouts
    }),
];

/// As above; `None` when the function has no such thing.
pub(super) type GaugeRow = (&'static str, Further, &'static str, fn(&FunctionCopy) -> Option<f64>);

const REPLICAS: &str = "function_replicas";
const REPLICAS_HELP: &str = "Replicas by state, for functions that a backend runs.";
const LOAD: &str = "gateway_service_target_load";
const LOAD_HELP: &str = "Target load of one replica, by kind of load, for functions that the server scales.";
const MODE: &str = "function_concurrency_controller_mode";
const MODE_HELP: &str = "1 for the mode of the function's concurrency control, 0 for the others.";

pub(super) static GAUGES: [GaugeRow; 15] = [
    ("function_queue_depth", NONE, "Executions that wait, including retries in their back-off.", |f| {
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
        "Target of attempts in flight on one replica; 0 if there is none.",
        |f| Some(f.scaling.as_ref().map_or(0, |view| view.target_per_replica).into()),
    ),
    (MODE, ("mode", "FIXED"), MODE_HELP, |f| f.mode("FIXED")),
    (MODE, ("mode", "STATIC_PER_POD"), MODE_HELP, |f| f.mode("STATIC_PER_POD")),
    (MODE, ("mode", "ADAPTIVE_PER_POD"), MODE_HELP, |f| f.mode("ADAPTIVE_PER_POD")),
];

/// Name, meaning, which histogram.
pub(super) type DurationRow = (&'static str, &'static str, Measure);

pub(super) static HISTOGRAMS: [DurationRow; 5] = [
    ("function_latency_seconds", "Time from dispatch to end, for the last attempt.", Measure::Latency),
    (
        "function_queue_wait_seconds",
        "Time from queueing to dispatch, for the last attempt.",
        Measure::QueueWait,
    ),
    (
        "function_e2e_latency_seconds",
        "Time from acceptance to end, including all attempts.",
        Measure::EndToEnd,
    ),
    (
        "function_init_duration_seconds",
        "Time to start the replica, for cold starts that report it.",
        Measure::Init,
    ),
    (
        "sync_queue_wait_seconds",
        "Time from queueing to dispatch, for calls in the sync queue.",
        Measure::SyncWait,
    ),
];

/// Names without `_ms_seconds`, which dashboards of the Java original look for: in seconds, whatever they say.
pub(super) static SUMMARIES: [DurationRow; 4] = [
    ("function_latency", "Time from dispatch to end", Measure::Latency),
    ("function_queue_wait", "Time from queueing to dispatch", Measure::QueueWait),
    ("function_e2e_latency", "Time from acceptance to end", Measure::EndToEnd),
    ("function_init_duration", "Time to start the replica", Measure::Init),
];

pub(super) const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

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
