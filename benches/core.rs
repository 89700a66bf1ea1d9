//! What one step of a shard costs, and that it costs the same however much the shard remembers.
//!
//! The real shard, driven as its thread drives it, with a clock that advances a microsecond per call. Behind every
//! call stand 1, 1 000 or 100 000 finished executions; each new one drops the oldest, as on a server that has been
//! running for a while. Nothing is measured here of threads, HTTP or functions.
//!
//! `cargo bench --bench core` measures, `cargo test --benches` runs everything once.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shard_core::{
    AttemptKey, Effect, Effects, ExecutionId, FunctionSpec, Input, Invoke, Limits, Name, Now, Outcome,
    Output, OutputKind, Payload, Policy, Report, Settings, Shard, Target, Ticket,
};

/// Finished executions behind a call.
const RETAINED: [usize; 3] = [1, 1_000, 100_000];
const EPOCH_MS: u64 = 1_700_000_000_000;
const CALLER: Ticket = Ticket(1);

/// A shard with one function, and what its thread would keep.
struct Rig {
    shard: Shard,
    effects: Effects,
    now: Now,
    name: Name,
    output: Output,
    calls: u64,
}

impl Rig {
    /// A shard that keeps `retained` finished executions and has as many.
    fn new(retained: usize) -> Rig {
        let limits = Limits { executions_max: retained, ..Limits::default() };
        let mut rig = Rig {
            shard: Shard::new(limits, 1, Settings { calls_per_second: u32::MAX, ..Settings::default() }),
            effects: Effects::default(),
            now: Now { mono_us: 0, unix_ms: EPOCH_MS },
            name: Name::new("f").expect("a name"),
            output: Output { body: Bytes::from_static(br#"{"text":"hello"}"#), kind: OutputKind::Json },
            calls: 0,
        };
        // The clock of the limit stands still, and so do both leases.
        rig.step(Input::GrantCalls { second: EPOCH_MS / 1000, calls: u32::MAX });
        rig.step(Input::GrantBytes(1 << 40));
        let spec = FunctionSpec {
            name: rig.name,
            policy: Policy::default(),
            target: Target::Endpoint(Arc::from("http://127.0.0.1:1/invoke")),
            scaling: None,
            document: Bytes::new(),
        };
        rig.step(Input::Register { ticket: CALLER, spec: Box::new(spec) });
        for _ in 0..retained {
            rig.invoke();
        }
        assert_eq!(rig.shard.totals().finished, retained);
        rig
    }

    /// One input; the attempt that it sent off, if any. What it writes to the journal is safe at once.
    fn step(&mut self, input: Input) -> Option<AttemptKey> {
        self.now.mono_us += 1;
        self.shard.handle(self.now, input, &mut self.effects);
        let (mut sent, mut written) = (None, None);
        for effect in black_box(&mut self.effects).drain() {
            match effect {
                Effect::Dispatch(dispatch) => sent = Some(dispatch.attempt),
                Effect::Journal { number, .. } => written = Some(number),
                _ => {}
            }
        }
        match written {
            Some(through) => self.step(Input::Journaled { through }).or(sent),
            None => sent,
        }
    }

    /// A new call. Ids are spread like random ones, and differ.
    fn call(&mut self) -> Invoke {
        self.calls += 1;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        random[9..14].copy_from_slice(&self.calls.to_be_bytes()[3..]);
        Invoke {
            ticket: CALLER,
            id: ExecutionId::new(random, self.name.owner_hash()),
            name: self.name,
            payload: Payload::json(Bytes::from_static(br#"{"page":3}"#)),
            timeout_ms: None,
            extra: None,
        }
    }

    fn finish(&mut self, attempt: Option<AttemptKey>) {
        let attempt = attempt.expect("a free slot");
        let report = Report::warm(Outcome::Success(self.output.clone()));
        self.step(Input::DispatchFinished { attempt, report });
    }

    /// A synchronous call from its arrival to its answer. Its id.
    fn invoke(&mut self) -> ExecutionId {
        let call = self.call();
        let id = call.id;
        let attempt = self.step(Input::Invoke(call));
        self.finish(attempt);
        id
    }

    /// An asynchronous call from its arrival to its result. Its id.
    fn enqueue(&mut self) -> ExecutionId {
        let call = self.call();
        let id = call.id;
        let attempt = self.step(Input::Enqueue(call));
        self.finish(attempt);
        id
    }
}

fn calls(criterion: &mut Criterion) {
    for (name, call) in [("invoke", Rig::invoke as fn(&mut Rig) -> ExecutionId), ("enqueue", Rig::enqueue)] {
        let mut group = criterion.benchmark_group(name);
        for retained in RETAINED {
            group.bench_with_input(BenchmarkId::from_parameter(retained), &retained, |bencher, retained| {
                let mut rig = Rig::new(*retained);
                bencher.iter(|| call(&mut rig));
                assert_eq!(rig.shard.totals().finished, *retained);
            });
        }
        group.finish();
    }
}

/// `GET /v1/executions/{id}` of one that ended.
fn status(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("status");
    for retained in RETAINED {
        group.bench_with_input(BenchmarkId::from_parameter(retained), &retained, |bencher, retained| {
            let mut rig = Rig::new(*retained);
            let id = rig.invoke();
            bencher.iter(|| rig.step(Input::GetExecution { ticket: CALLER, id: black_box(id), wait_ms: 0 }));
        });
    }
    group.finish();
}

criterion_group!(benches, calls, status);
criterion_main!(benches);
