//! What it costs to ask a shard: on the own thread, which is a function call, and on another one, which is a message
//! there and one back through two mailboxes.
//!
//! Two real threads with a shard each. Callers on the first ask for a function that nobody registered, the cheapest
//! question there is; 1, 8 or 64 of them at a time. The figure is time per question: the more there are, the more of
//! them share one wake-up.
//!
//! `cargo bench --bench mailbox` measures; the test suite runs everything once.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use shard_core::{Answer, Effect, Input, Limits, Name, Request, Seating, Settings};
use shard_runtime::{Host, Placement, Shape, Worker, Workers, plan::plan};

const OUTSTANDING: [u64; 3] = [1, 8, 64];
const THREADS: u16 = 2;

/// Nothing that is asked here has an effect.
struct Idle;

impl Host for Idle {
    fn perform(&mut self, _effect: Effect, _follow_up: &mut VecDeque<Input>) {}
}

fn asking(criterion: &mut Criterion) {
    let workers = Workers::new(Shape {
        plan: plan(THREADS, Placement::Colocated),
        limits: Limits::default(),
        settings: Settings::default(),
        queued_bytes_max: 1 << 30,
        room: Limits::default().room,
        mailbox_max: 65_536,
        callers_max: 65_536,
        seed: 1,
    });
    let threads = shard_runtime::start(&workers, |_, _| Idle).expect("two threads");
    for (name, owner) in [("same thread", 0), ("other thread", 1)] {
        for outstanding in OUTSTANDING {
            criterion.bench_function(&format!("{name}/{outstanding}"), |bencher| {
                bencher.iter_custom(|count| ask(&workers, owner, outstanding, count));
            });
        }
    }
    workers.stop();
    threads.join();
}

/// Asks a shard `count` times from the first thread, `outstanding` times at once. How long it took.
fn ask(workers: &Arc<Workers<Idle>>, owner: u16, outstanding: u64, count: u64) -> Duration {
    let hash = (0..=u16::MAX)
        .find(|hash| Seating::of(THREADS).owner_of(*hash) == owner)
        .expect("every shard owns some");
    let (sender, receiver) = mpsc::channel();
    workers.run_on(0, move |worker| {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            let started = Instant::now();
            let callers = (0..outstanding).map(|caller| {
                let questions = count / outstanding + u64::from(caller < count % outstanding);
                tokio::task::spawn_local(caller_of(worker.clone(), hash, questions))
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.expect("no panic");
            }
            sender.send(started.elapsed()).expect("somebody waits");
        });
    });
    receiver.recv().expect("the thread runs")
}

/// A caller that asks again when it has its answer.
async fn caller_of(worker: Worker<Idle>, hash: u16, questions: u64) {
    let name = Name::new("nobody").expect("a name");
    for _ in 0..questions {
        let reply = worker.call(hash, None, Request::GetFunction(name));
        let answer = reply.expect("room for a caller").await;
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
}

criterion_group!(benches, asking);
criterion_main!(benches);
