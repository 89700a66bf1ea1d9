//! What a scrape costs with 10 000 functions, all of which were called: how long the shard is kept from its calls by
//! one slice, and what the whole costs the shard and the management thread.
//!
//! Durations spread over two decades, as those of functions do. `cargo bench --bench scrape` measures; the test
//! suite runs everything once, with fewer functions.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nanofaas::{
    management::scrape::SLICE_FUNCTIONS,
    telemetry::{
        prometheus,
        shard::{Finished, ShardCopy, ShardMetrics},
    },
};
use shard_core::{
    Effects, FunctionSpec, Input, JournalEvent, Limits, Name, Now, Policy, Request, Settings, Shard, Target,
    Ticket,
};

const FUNCTIONS: usize = 10_000;
/// As many when everything runs once.
const FUNCTIONS_ONCE: usize = 300;
/// Calls of each function, in each of the two recent periods.
const CALLS: u64 = 100;

fn functions() -> usize {
    if support::once() { FUNCTIONS_ONCE } else { FUNCTIONS }
}

/// A shard with all functions, and what was measured of them.
fn filled() -> (Shard, ShardMetrics) {
    let mut shard = Shard::new(Limits::default(), 1, Settings::default());
    let mut effects = Effects::default();
    let now = Now { mono_us: 0, unix_ms: 1_700_000_000_000 };
    for number in 0..functions() {
        let spec = FunctionSpec {
            name: Name::new(&format!("function-{number}")).expect("a name"),
            policy: Policy::default(),
            target: Target::Local,
            scaling: None,
            document: Bytes::new(),
        };
        shard.handle(now, Input::Ask(Ticket(1), Request::Register(Box::new(spec))), &mut effects);
        effects.drain().for_each(drop);
        shard.handle(now, Input::Journal(JournalEvent::Safe { through: number as u64 + 1 }), &mut effects);
        effects.drain().for_each(drop);
    }
    let mut metrics = ShardMetrics::default();
    for _ in 0..2 {
        metrics.rotate();
        for (key, _) in shard.functions() {
            for call in 0..CALLS {
                let latency_us = 900 + call * call * 9;
                metrics
                    .finished(key, Finished { queue_wait_us: call % 7, latency_us, e2e_us: latency_us + 50 });
            }
        }
    }
    (shard, metrics)
}

/// What happens to a slice that was copied: the management thread takes it, nothing of it stays with the shard.
fn slice(criterion: &mut Criterion) {
    let (shard, mut metrics) = filled();
    let mut from = 0;
    criterion.bench_function("scrape/slice", |bencher| {
        bencher.iter_with_large_drop(|| {
            let slice = metrics.copy(&shard, from, SLICE_FUNCTIONS);
            from = slice.next.unwrap_or(0);
            slice
        });
    });
    criterion.bench_function("scrape/totals", |bencher| bencher.iter(|| black_box(&shard).totals()));
}

fn copy(shard: &Shard, metrics: &mut ShardMetrics) -> ShardCopy {
    let mut copy = ShardCopy { functions: Vec::new(), totals: shard.totals() };
    let mut from = Some(0);
    while let Some(start) = from {
        let slice = metrics.copy(shard, start, SLICE_FUNCTIONS);
        copy.functions.extend(slice.functions);
        from = slice.next;
    }
    copy
}

fn whole(criterion: &mut Criterion) {
    let (shard, mut metrics) = filled();
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(10);
    group.bench_function("copy", |bencher| bencher.iter_with_large_drop(|| copy(&shard, &mut metrics)));
    for (name, functions_max) in [("text", functions()), ("text of 100 and the rest", 100)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || copy(&shard, &mut metrics),
                |copy| {
                    prometheus::of_functions(vec![copy], functions_max)
                        .map(|chunk| chunk.len())
                        .sum::<usize>()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// The durations of one call that ended.
fn finished(criterion: &mut Criterion) {
    let (shard, mut metrics) = filled();
    let (key, _) = shard.functions().next().expect("a function");
    let mut duration_us = 0;
    criterion.bench_function("finished", |bencher| {
        bencher.iter(|| {
            duration_us = (duration_us + 77) % 1_000_000;
            let finished = Finished { queue_wait_us: 0, latency_us: duration_us, e2e_us: duration_us + 50 };
            metrics.finished(key, black_box(finished));
        });
    });
}

criterion_group!(benches, slice, whole, finished);
criterion_main!(benches);
