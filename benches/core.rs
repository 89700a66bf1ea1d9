//! What one step of a shard costs, and that it costs the same however much the shard remembers.
//!
//! The real shard, driven as its thread drives it, with a clock that advances a microsecond per call. Behind every
//! call stand 1, 1 000 or 1 000 000 finished executions; each new one drops the oldest, as on a server that has been
//! running for a while. The same with 1 to 100 000 functions, and of one function with 1 to 10 000 replicas. Nothing is measured here of threads, HTTP or what
//! functions do.
//!
//! `cargo bench --bench core` measures; the test suite runs everything once, without the million.

mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use shard_core::{ExecutionId, Input, Request};
use support::{
    once,
    shard::{CALLER, Rig, SLOTS},
};

fn steps(criterion: &mut Criterion) {
    let retained = if once() { &[1, 100][..] } else { &[1, 1_000, 1_000_000] };
    for retained in retained.iter().copied() {
        // Made once, and only for what is not filtered out: a million takes a while.
        let mut rig = None;
        whole_calls(criterion, &mut rig, retained);
        halves(criterion, &mut rig, retained);
        status(criterion, &mut rig, retained);
        assert!(rig.is_none_or(|rig| rig.finished() == retained));
    }
}

/// A call from its arrival to its result.
fn whole_calls(criterion: &mut Criterion, rig: &mut Option<Rig>, retained: usize) {
    for (name, call) in [("invoke", Rig::invoke as fn(&mut Rig) -> ExecutionId), ("enqueue", Rig::enqueue)] {
        criterion.bench_function(&format!("{name}/{retained}"), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::new(retained));
            bencher.iter(|| call(rig));
        });
    }
}

/// The two halves of a synchronous call: its arrival up to its dispatch, and its answer up to its result. As many as
/// there are slots in a row, so that reading the clock does not count.
fn halves(criterion: &mut Criterion, rig: &mut Option<Rig>, retained: usize) {
    for (name, second) in [("accept", false), ("complete", true)] {
        criterion.bench_function(&format!("{name}/{retained}"), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::new(retained));
            bencher.iter_custom(|count| {
                let mut attempts = Vec::with_capacity(SLOTS as usize);
                let (mut left, mut took) = (count, Duration::ZERO);
                while left > 0 {
                    let batch = left.min(u64::from(SLOTS));
                    let started = Instant::now();
                    attempts.extend((0..batch).map(|_| rig.accept()));
                    let accepted = Instant::now();
                    attempts.drain(..).for_each(|attempt| rig.finish(attempt));
                    took += if second { accepted.elapsed() } else { accepted - started };
                    left -= batch;
                }
                took
            });
        });
    }
}

/// `GET /v1/executions/{id}` of one that ended.
fn status(criterion: &mut Criterion, rig: &mut Option<Rig>, retained: usize) {
    criterion.bench_function(&format!("status/{retained}"), |bencher| {
        let rig = rig.get_or_insert_with(|| Rig::new(retained));
        let id = rig.invoke();
        bencher
            .iter(|| rig.step(Input::Ask(CALLER, Request::GetExecution { id: black_box(id), wait_ms: 0 })));
    });
}

/// A call from its arrival to its result, of one of so many functions.
fn functions(criterion: &mut Criterion) {
    let functions = if once() { &[1, 10][..] } else { &[1, 100, 10_000, 100_000] };
    for functions in functions {
        let mut rig = None;
        criterion.bench_function(&format!("functions/{functions}"), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::with_functions(*functions, 1000));
            bencher.iter(|| rig.invoke());
        });
    }
}

/// A call of a function with so many replicas, and the news that one of them was replaced.
fn replicas(criterion: &mut Criterion) {
    let replicas = if once() { &[1, 10][..] } else { &[1, 100, 10_000] };
    for replicas in replicas {
        let mut rig = None;
        criterion.bench_function(&format!("replicas/{replicas}"), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::with_replicas(*replicas));
            bencher.iter(|| rig.invoke());
        });
        criterion.bench_function(&format!("replaced/{replicas}"), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::with_replicas(*replicas));
            let mut oldest = 0;
            bencher.iter(|| {
                oldest += 1;
                rig.set_replicas(oldest..oldest + replicas);
            });
        });
    }
}

criterion_group!(benches, steps, functions, replicas);
criterion_main!(benches);
