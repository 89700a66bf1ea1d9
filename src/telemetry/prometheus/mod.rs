//! The exposition: text format 0.0.4.
//!
//! Gauges of a function appear with its registration, counters and histograms with its first event; all vanish
//! with it, because they are copied from where the function lives.

use std::fmt::{Display, Write};

use shard_core::Counters;
use shard_runtime::ThreadView;

use super::{
    histogram::Histogram,
    process::ProcessView,
    shard::{Durations, FunctionCopy, ShardCopy},
};

/// Name of the label value under which functions beyond the bound add up.
const OTHER: &str = "_other";

/// One counter of a function: name, what it counts, where it is kept.
type CounterRow = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTERS: [CounterRow; 13] = [
    ("function_invocation_total", "New executions.", |c| c.invocations),
    ("function_enqueue_total", "Executions put into the queue, retries included.", |c| c.enqueued),
    ("function_dispatch_total", "Attempts dispatched.", |c| c.dispatches),
    ("function_success_total", "Executions that ended as success.", |c| c.successes),
    ("function_error_total", "Executions that ended as error.", |c| c.errors),
    ("function_retry_total", "Failed attempts that were followed by another.", |c| c.retries),
    ("function_timeout_total", "Callers whose deadline passed.", |c| c.timeouts),
    ("function_queue_rejected_total", "Refused because the queue was full.", |c| c.queue_rejections),
    ("function_cold_start_total", "Executions whose instance had just started.", |c| c.cold_starts),
    ("function_warm_start_total", "Executions whose instance had not just started.", |c| c.warm_starts),
    ("function_orphaned_total", "Attempts that nobody reported.", |c| c.orphans),
    ("function_bad_output_total", "Answers that claimed to be JSON and were not.", |c| c.bad_outputs),
    ("function_late_completion_total", "Answers and callbacks that came too late.", |c| c.late_completions),
];

/// One histogram of a function: name, what it measures, where it is kept.
type HistogramRow = (&'static str, &'static str, fn(&Durations) -> &Histogram);

const HISTOGRAMS: [HistogramRow; 4] = [
    ("function_latency_seconds", "From dispatch to end.", |d| &d.latency),
    ("function_queue_wait_seconds", "From queueing to dispatch.", |d| &d.queue_wait),
    ("function_e2e_latency_seconds", "From acceptance to end, all attempts included.", |d| &d.e2e),
    ("function_init_duration_seconds", "Start of the instance, of cold starts.", |d| &d.init),
];

/// Writes everything. `functions_max`: label values; the functions beyond add up under `_other`.
pub fn render(
    shards: Vec<ShardCopy>,
    threads: &[ThreadView],
    process: &ProcessView,
    functions_max: usize,
) -> String {
    let totals: Vec<_> = shards.iter().map(|shard| shard.totals).collect();
    let mut functions: Vec<FunctionCopy> = shards.into_iter().flat_map(|shard| shard.functions).collect();
    functions.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    fold_excess(&mut functions, functions_max);

    let mut text = Exposition(String::with_capacity(4096 + functions.len() * 2048));
    for (name, help, read) in COUNTERS {
        text.family(name, "counter", help);
        for function in functions.iter().filter(|function| function.counters != Counters::default()) {
            text.sample(name, &[("function", &function.name)], read(&function.counters));
        }
    }
    for (name, help, read) in HISTOGRAMS {
        text.family(name, "histogram", help);
        for function in &functions {
            let histogram = function.durations.as_deref().map(read);
            if let Some(histogram) = histogram.filter(|histogram| histogram.count() > 0) {
                text.histogram(name, &function.name, histogram);
            }
        }
    }
    render_gauges(&mut text, &functions);
    text.family("nanofaas_accounting_drift", "gauge", "Executions that the accounts are off by: 0, always.");
    text.sample("nanofaas_accounting_drift", &[], totals.iter().map(|totals| totals.drift).sum::<u64>());
    render_shards(&mut text, &totals, threads);
    render_process(&mut text, process);
    text.0
}

fn render_gauges(text: &mut Exposition, functions: &[FunctionCopy]) {
    type Row = (&'static str, &'static str, fn(&FunctionCopy) -> u32);
    let rows: [Row; 4] = [
        ("function_queue_depth", "Executions that wait.", |f| f.queue_depth),
        ("function_in_flight", "Attempts in flight.", |f| f.in_flight),
        ("function_inFlight", "Attempts in flight, under the name of the Java original.", |f| f.in_flight),
        ("function_effective_concurrency", "Attempts that may be in flight at once.", |f| f.concurrency),
    ];
    for (name, help, read) in rows {
        text.family(name, "gauge", help);
        for function in functions {
            text.sample(name, &[("function", &function.name)], read(function));
        }
    }
    let name = "function_replicas";
    text.family(name, "gauge", "Replicas, by state.");
    for function in functions {
        let Some((desired, ready)) = function.replicas else { continue };
        text.sample(name, &[("function", &function.name), ("state", "desired")], desired);
        text.sample(name, &[("function", &function.name), ("state", "ready")], ready);
    }
}

fn render_shards(text: &mut Exposition, totals: &[shard_core::Totals], threads: &[ThreadView]) {
    type TotalRow = (&'static str, &'static str, fn(&shard_core::Totals) -> u64);
    let rows: [TotalRow; 7] = [
        ("nanofaas_shard_functions", "Functions.", |t| t.functions as u64),
        ("nanofaas_shard_executions", "Executions, finished ones included.", |t| t.executions as u64),
        ("nanofaas_shard_retained_bytes", "Bytes kept with finished executions.", |t| t.retained_bytes),
        ("nanofaas_shard_attempts", "Attempts in flight.", |t| t.attempts as u64),
        ("nanofaas_shard_timers", "Deadlines being watched.", |t| t.timers as u64),
        ("nanofaas_shard_idempotency_keys", "Idempotency keys kept.", |t| t.keys as u64),
        ("nanofaas_shard_queued_bytes", "Bytes of payloads that wait.", |t| t.queued_bytes),
    ];
    for (name, help, read) in rows {
        text.family(name, "gauge", help);
        for (shard, totals) in totals.iter().enumerate() {
            text.sample(name, &[("shard", &shard.to_string())], read(totals));
        }
    }
    type ThreadRow = (&'static str, &'static str, &'static str, fn(&ThreadView) -> u64);
    let rows: [ThreadRow; 4] = [
        ("nanofaas_shard_turns_total", "counter", "Turns of the thread's loop.", |t| t.turns),
        ("nanofaas_shard_messages_sent_total", "counter", "Messages sent to other threads.", |t| t.sent),
        ("nanofaas_shard_messages_received_total", "counter", "Messages from other threads.", |t| t.received),
        ("nanofaas_shard_mailbox_depth", "gauge", "New work that waits in the mailbox.", |t| {
            t.mailbox_depth as u64
        }),
    ];
    for (name, kind, help, read) in rows {
        text.family(name, kind, help);
        for (number, thread) in threads.iter().enumerate() {
            let shard = thread.shard.map_or("none".to_owned(), |shard| shard.to_string());
            text.sample(name, &[("thread", &number.to_string()), ("shard", &shard)], read(thread));
        }
    }
    let name = "nanofaas_shard_loop_idle_seconds";
    text.family(name, "gauge", "Time since the thread's loop last turned; more than 10 s fails liveness.");
    for (number, thread) in threads.iter().enumerate() {
        text.sample(name, &[("thread", &number.to_string())], thread.idle_us as f64 / 1e6);
    }
}

fn render_process(text: &mut Exposition, process: &ProcessView) {
    text.family("process_cpu_seconds_total", "counter", "User and system time.");
    text.sample("process_cpu_seconds_total", &[], process.cpu_seconds);
    let gauges: [(&str, &str, f64); 6] = [
        ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes as f64),
        ("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes as f64),
        ("process_open_fds", "Open file descriptors.", process.open_fds as f64),
        ("process_max_fds", "Limit of open file descriptors.", process.max_fds as f64),
        ("process_threads", "Threads.", process.threads as f64),
        ("process_start_time_seconds", "Start, since the Unix epoch.", process.start_time_seconds),
    ];
    for (name, help, value) in gauges {
        text.family(name, "gauge", help);
        text.sample(name, &[], value);
    }
}

/// Adds the functions beyond the bound up under one name.
fn fold_excess(functions: &mut Vec<FunctionCopy>, functions_max: usize) {
    if functions.len() <= functions_max {
        return;
    }
    let mut excess = functions.split_off(functions_max).into_iter();
    let Some(mut other) = excess.next() else { return };
    other.name = OTHER.into();
    for function in excess {
        add_counters(&mut other.counters, &function.counters);
        other.queue_depth += function.queue_depth;
        other.in_flight += function.in_flight;
        other.concurrency = other.concurrency.saturating_add(function.concurrency);
        other.replicas = match (other.replicas, function.replicas) {
            (Some((desired, ready)), Some((more_desired, more_ready))) => {
                Some((desired + more_desired, ready + more_ready))
            }
            (replicas, more) => replicas.or(more),
        };
        if let Some(durations) = function.durations {
            other.durations.get_or_insert_default().merge(&durations);
        }
    }
    functions.push(other);
}

fn add_counters(sum: &mut Counters, more: &Counters) {
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
    } = more;
    sum.invocations += invocations;
    sum.enqueued += enqueued;
    sum.dispatches += dispatches;
    sum.successes += successes;
    sum.errors += errors;
    sum.retries += retries;
    sum.timeouts += timeouts;
    sum.queue_rejections += queue_rejections;
    sum.cold_starts += cold_starts;
    sum.warm_starts += warm_starts;
    sum.orphans += orphans;
    sum.bad_outputs += bad_outputs;
    sum.late_completions += late_completions;
    sum.dead_letters += dead_letters;
    sum.expired += expired;
    sum.sync_admitted += sync_admitted;
    sum.sync_rejected_depth += sync_rejected_depth;
    sum.sync_rejected_wait += sync_rejected_wait;
    sum.sync_rejected_timeout += sync_rejected_timeout;
    sum.sync_timeouts += sync_timeouts;
}

/// The text being written. Label values are function names and numbers: nothing in them needs escaping.
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (position, (label, text)) in labels.iter().enumerate() {
            let before = if position == 0 { "{" } else { "," };
            self.line(format_args!("{before}{label}=\"{text}\""));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.line(format_args!(" {value}\n"));
    }

    fn histogram(&mut self, name: &str, function: &str, histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            self.line(format_args!("{name}_bucket{{function=\"{function}\",le=\"{bound}\"}} {count}\n"));
        }
        let count = histogram.count();
        self.line(format_args!("{name}_bucket{{function=\"{function}\",le=\"+Inf\"}} {count}\n"));
        self.line(format_args!("{name}_sum{{function=\"{function}\"}} {}\n", histogram.sum_seconds()));
        self.line(format_args!("{name}_count{{function=\"{function}\"}} {count}\n"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}
