//! Metrics without a function: of shards, of the threads that they run on, of the process. One line per metric.

use shard_core::Totals;
use shard_runtime::{TallyView, ThreadView};

use super::exposition::{Exposition, Kind, Labels};
use crate::telemetry::process::ProcessView;

type TotalRow = (&'static str, &'static str, fn(&Totals) -> u64);

const TOTALS: [TotalRow; 10] = [
    ("nanofaas_shard_functions", "Functions, including those being provisioned or removed.", |t| {
        t.functions as u64
    }),
    ("nanofaas_shard_executions", "Executions, including finished ones.", |t| t.executions as u64),
    ("nanofaas_shard_accepted_executions", "Accepted executions that have not ended.", |t| t.accepted as u64),
    ("nanofaas_shard_dead_letters", "Dead letters, including those of deleted functions.", |t| {
        t.dead_letters as u64
    }),
    ("nanofaas_shard_retained_bytes", "Bytes kept in memory with finished executions.", |t| t.retained_bytes),
    (
        "nanofaas_shard_retained_disk_bytes",
        "Bytes kept with finished executions that are on disk only.",
        |t| t.retained_disk_bytes,
    ),
    ("nanofaas_shard_attempts", "Attempts in flight.", |t| t.attempts as u64),
    ("nanofaas_shard_timers", "Timers that are set.", |t| t.timers as u64),
    ("nanofaas_shard_idempotency_keys", "Idempotency keys kept.", |t| t.keys as u64),
    ("nanofaas_shard_queued_bytes", "Bytes of payloads that wait.", |t| t.queued_bytes),
];

type ThreadRow = (&'static str, Kind, &'static str, fn(&ThreadView) -> f64);

const THREADS: [ThreadRow; 5] = [
    ("nanofaas_shard_turns_total", Kind::Counter, "Turns of the thread's loop.", |t| t.turns as f64),
    ("nanofaas_shard_messages_sent_total", Kind::Counter, "Messages sent to other threads.", |t| {
        t.sent as f64
    }),
    ("nanofaas_shard_messages_received_total", Kind::Counter, "Messages from other threads.", |t| {
        t.received as f64
    }),
    ("nanofaas_shard_mailbox_depth", Kind::Gauge, "New work that waits in the thread's mailbox.", |t| {
        t.mailbox_depth as f64
    }),
    (
        "nanofaas_shard_loop_idle_seconds",
        Kind::Gauge,
        "Time since the thread's loop last turned; more than 10 s fails liveness.",
        |t| t.idle_us as f64 / 1e6,
    ),
];

/// Name, meaning, where it is kept, how many of its units make one of the exposition.
type TallyRow = (&'static str, &'static str, fn(&ThreadView) -> &TallyView, f64);

const TALLIES: [TallyRow; 2] = [
    ("nanofaas_shard_loop_seconds", "Time that one turn of the thread's loop took.", |t| &t.turn_us, 1e6),
    (
        "nanofaas_shard_batch_messages",
        "Messages handled in one turn of the thread's loop.",
        |t| &t.batch,
        1.0,
    ),
];

type ProcessRow = (&'static str, Kind, &'static str, fn(&ProcessView) -> f64);

const PROCESS: [ProcessRow; 7] = [
    ("process_cpu_seconds_total", Kind::Counter, "User and system time.", |p| p.cpu_seconds),
    ("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", |p| p.resident_bytes as f64),
    ("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory.", |p| p.virtual_bytes as f64),
    ("process_open_fds", Kind::Gauge, "Open file descriptors.", |p| p.open_fds as f64),
    ("process_max_fds", Kind::Gauge, "Limit of open file descriptors.", |p| p.max_fds as f64),
    ("process_threads", Kind::Gauge, "Threads.", |p| p.threads as f64),
    ("process_start_time_seconds", Kind::Gauge, "Start, since the Unix epoch.", |p| p.start_time_seconds),
];

/// Writes everything about the server.
pub(super) fn render(
    text: &mut Exposition,
    totals: &[Totals],
    threads: &[ThreadView],
    process: &ProcessView,
) {
    let name = "nanofaas_accounting_drift";
    text.family(
        name,
        Kind::Gauge,
        "Executions and slots by which the accounts are wrong; not 0 means a bug of nanofaas.",
    );
    text.sample(name, &Labels::NONE, totals.iter().map(|totals| totals.drift).sum::<u64>());
    let name = "nanofaas_impossible_steps_total";
    text.family(
        name,
        Kind::Counter,
        "Steps that found missing what has to be there; not 0 means a bug of nanofaas.",
    );
    text.sample(name, &Labels::NONE, totals.iter().map(|totals| totals.impossible).sum::<u64>());
    let numbers: Vec<String> =
        (0..totals.len().max(threads.len())).map(|number| number.to_string()).collect();
    for (name, help, read) in TOTALS {
        text.family(name, Kind::Gauge, help);
        for (shard, totals) in numbers.iter().zip(totals) {
            text.sample(name, &Labels::of(&[("shard", shard)]), read(totals));
        }
    }
    render_threads(text, &numbers, threads);
    for (name, kind, help, read) in PROCESS {
        text.family(name, kind, help);
        text.sample(name, &Labels::NONE, read(process));
    }
}

fn render_threads(text: &mut Exposition, numbers: &[String], threads: &[ThreadView]) {
    let labels = |(number, thread): (&String, &ThreadView)| {
        let shard = thread.shard.map_or("none".to_owned(), |shard| shard.to_string());
        Labels::of(&[("thread", number), ("shard", &shard)])
    };
    let labels: Vec<Labels> = numbers.iter().zip(threads).map(labels).collect();
    for (name, kind, help, read) in THREADS {
        text.family(name, kind, help);
        for (labels, thread) in labels.iter().zip(threads) {
            text.sample(name, labels, read(thread));
        }
    }
    for (name, help, read, unit) in TALLIES {
        text.family(name, Kind::Histogram, help);
        for (labels, thread) in labels.iter().zip(threads) {
            let tally = read(thread);
            let mut total = 0;
            let add = |count: &u64| {
                total += count;
                total
            };
            let cumulative: Vec<u64> = tally.counts.iter().map(add).collect();
            let bounds = tally.bounds.iter().map(|bound| *bound as f64 / unit);
            text.histogram(name, labels, bounds, &cumulative, tally.sum as f64 / unit);
        }
    }
}
