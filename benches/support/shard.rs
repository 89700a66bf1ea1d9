//! A shard as its thread drives it, with as many finished executions behind it as are wanted.
//!
//! Its clock advances a microsecond per input, and what it writes to the journal is safe at once. Used by the benchmark
//! of the core and by the test that counts allocations; nothing here measures.

#![allow(dead_code, reason = "a toolbox: not every tool is in use at every place")]

use std::{hint::black_box, io::Write, ops::Range, sync::Arc};

use bytes::Bytes;
use shard_core::{
    AttemptKey, BackendEvent, Dispatch, DispatchEvent, Effect, Effects, ExecutionId, FunctionKey,
    FunctionSpec, Input, Invoke, JournalEvent, Lease, Limits, Name, Now, Outcome, Output, OutputKind,
    Payload, Policy, Provisioned, ReplicaAddress, Report, Request, Room, Settings, Shard, Target, Ticket,
};

/// Attempts that may be in flight at once.
pub(crate) const SLOTS: u32 = 64;
/// Who asks for everything.
pub(crate) const CALLER: Ticket = Ticket(1);

const EPOCH_MS: u64 = 1_700_000_000_000;

/// A shard with functions that are called in no order, and what its thread would keep.
pub(crate) struct Rig {
    shard: Shard,
    effects: Effects,
    now: Now,
    functions: u64,
    output: Output,
    calls: u64,
    /// The function that a backend runs, if there is one.
    managed: FunctionKey,
}

impl Rig {
    /// A shard that keeps `retained` finished executions and has as many.
    pub(crate) fn new(retained: usize) -> Rig {
        Rig::with_functions(1, retained)
    }

    /// The same with so many functions.
    pub(crate) fn with_functions(functions: u64, retained: usize) -> Rig {
        let room = Room { executions: retained as u64, ..Limits::default().room };
        let limits = Limits { room, ..Limits::default() };
        let policy = Policy { concurrency: SLOTS, ..Policy::default() };
        let mut rig = Rig::empty(functions, limits, policy);
        for _ in 0..retained {
            rig.invoke();
        }
        assert_eq!(rig.finished(), retained);
        rig
    }

    fn empty(functions: u64, limits: Limits, policy: Policy) -> Rig {
        let mut rig = Rig {
            shard: Shard::new(limits, 1, Settings { calls_per_second: u32::MAX, ..Settings::default() }),
            effects: Effects::default(),
            now: Now { mono_us: 0, unix_ms: EPOCH_MS },
            functions,
            output: Output { body: Bytes::from_static(br#"{"text":"hello"}"#), kind: OutputKind::Json },
            calls: 0,
            managed: FunctionKey::default(),
        };
        rig.step(Input::Lease(Lease::Bytes(1 << 40)));
        for number in 0..functions {
            let spec = FunctionSpec {
                name: name(number),
                policy: policy.clone(),
                target: Target::Endpoint(Arc::from("http://127.0.0.1:1/invoke")),
                scaling: None,
                document: Bytes::new(),
            };
            rig.step(Input::Ask(CALLER, Request::Register(Box::new(spec))));
        }
        rig
    }

    /// A shard with one function that has no slot left, for which so many accepted calls wait.
    pub(crate) fn with_waiting(waiting: u32) -> Rig {
        let policy = Policy { concurrency: 1, queue_size: waiting + 1, ..Policy::default() };
        // A lease in one piece: what is more than a chunk of it would be given back while little waits.
        let limits = Limits { queued_bytes_chunk: 1 << 40, ..Limits::default() };
        let mut rig = Rig::empty(1, limits, policy);
        for _ in 0..=waiting {
            let call = rig.call();
            rig.step(Input::Ask(CALLER, Request::Enqueue(call)));
        }
        rig
    }

    /// A shard with one function that has so many replicas.
    pub(crate) fn with_replicas(replicas: u64) -> Rig {
        let mut rig = Rig::empty(0, Limits::default(), Policy::default());
        rig.functions = 1;
        let policy = Policy { concurrency: SLOTS, ..Policy::default() };
        let spec = FunctionSpec {
            name: name(0),
            policy,
            target: Target::Backend,
            scaling: None,
            document: Bytes::new(),
        };
        rig.handle(Input::Ask(CALLER, Request::Register(Box::new(spec))));
        let provision = rig.effects.drain().find_map(|effect| match effect {
            Effect::Provision { function, .. } => Some(function),
            _ => None,
        });
        rig.managed = provision.expect("it is a backend's");
        rig.step(Input::Backend(
            rig.managed,
            BackendEvent::Provisioned(Ok(Provisioned {
                document: Bytes::new(),
                target: Target::Backend,
                endpoints: addresses(0..replicas),
                desired: replicas as u32,
            })),
        ));
        rig
    }

    /// These replicas of its first function are ready now.
    pub(crate) fn set_replicas(&mut self, numbers: Range<u64>) {
        let desired = (numbers.end - numbers.start) as u32;
        let endpoints = addresses(numbers);
        self.step(Input::Backend(self.managed, BackendEvent::EndpointsChanged { endpoints, desired }));
    }

    /// The removal of its first function.
    pub(crate) fn removal(&self) -> Input {
        Input::Ask(CALLER, Request::Remove(name(0)))
    }

    /// Whether there is work for another turn.
    pub(crate) fn has_ready(&self) -> bool {
        self.shard.has_ready()
    }

    /// Dead letters that it keeps.
    pub(crate) fn dead_letters(&self) -> usize {
        self.shard.totals().dead_letters
    }

    /// Finished executions that it keeps.
    pub(crate) fn finished(&self) -> usize {
        self.shard.totals().finished
    }

    /// One input; the attempt that it sent off, if any. What it writes to the journal is safe at once.
    pub(crate) fn step(&mut self, input: Input) -> Option<AttemptKey> {
        self.handle(input);
        let (mut sent, mut written) = (None, None);
        for effect in black_box(&mut self.effects).drain() {
            match effect {
                Effect::Dispatch(dispatch) => sent = Some(dispatch.attempt),
                Effect::Journal { number, .. } => written = Some(number),
                _ => {}
            }
        }
        match written {
            Some(through) => self.step(Input::Journal(JournalEvent::Safe { through })).or(sent),
            None => sent,
        }
    }

    /// One input. What it caused is left for [`Rig::perform`].
    pub(crate) fn handle(&mut self, input: Input) {
        self.now.mono_us += 1;
        // Calls that were leased for a second are void in the next one.
        if self.now.mono_us == 1 || self.now.mono_us.is_multiple_of(1_000_000) {
            let second = self.now.second();
            self.shard.handle(
                self.now,
                Input::Lease(Lease::Calls { second, calls: u32::MAX }),
                &mut self.effects,
            );
        }
        self.shard.handle(self.now, input, &mut self.effects);
        while self.shard.room_request().is_some() {
            // It has all there is.
            let answer = Input::Lease(Lease::Room { granted: Room::default(), recalled: Room::default() });
            self.shard.handle(self.now, answer, &mut self.effects);
        }
    }

    /// Drops what was caused. The number of the newest record that is to be written, if any.
    pub(crate) fn perform(&mut self) -> Option<u64> {
        let number = |effect| match effect {
            Effect::Journal { number, .. } => Some(number),
            _ => None,
        };
        self.effects.drain().filter_map(number).last()
    }

    /// A new call. Ids are spread like random ones, and differ.
    fn call(&mut self) -> Invoke {
        self.calls += 1;
        let spread = self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&spread.to_be_bytes());
        random[9..14].copy_from_slice(&self.calls.to_be_bytes()[3..]);
        // Its upper half: the lowest bits go round in an order.
        let name = name((spread >> 32) % self.functions);
        Invoke {
            id: ExecutionId::new(random, name.owner_hash()),
            name,
            payload: Payload::json(Bytes::from_static(br#"{"page":3}"#)),
            timeout_ms: None,
            extra: None,
        }
    }

    /// Begins a synchronous call; its attempt.
    pub(crate) fn accept(&mut self) -> Option<AttemptKey> {
        let call = self.call();
        self.step(Input::Ask(CALLER, Request::Invoke(call)))
    }

    /// Begins a synchronous call; what is to be sent for it.
    pub(crate) fn dispatch(&mut self) -> Dispatch {
        let call = self.call();
        self.shard.handle(self.now, Input::Ask(CALLER, Request::Invoke(call)), &mut self.effects);
        let dispatch = self.effects.drain().find_map(|effect| match effect {
            Effect::Dispatch(dispatch) => Some(dispatch),
            _ => None,
        });
        dispatch.expect("a free slot")
    }

    /// Ends an attempt well.
    pub(crate) fn finish(&mut self, attempt: Option<AttemptKey>) {
        let attempt = attempt.expect("a free slot");
        let report = Report::warm(Outcome::Success(self.output.clone()));
        self.step(Input::Dispatch(attempt, DispatchEvent::Finished(report)));
    }

    /// A synchronous call from its arrival to its answer. Its id.
    pub(crate) fn invoke(&mut self) -> ExecutionId {
        let call = self.call();
        let id = call.id;
        let attempt = self.step(Input::Ask(CALLER, Request::Invoke(call)));
        self.finish(attempt);
        id
    }

    /// An asynchronous call from its arrival to its result. Its id.
    pub(crate) fn enqueue(&mut self) -> ExecutionId {
        let call = self.call();
        let id = call.id;
        let attempt = self.step(Input::Ask(CALLER, Request::Enqueue(call)));
        self.finish(attempt);
        id
    }
}

/// Replicas with these numbers, each at an address of its own.
fn addresses(numbers: Range<u64>) -> Vec<ReplicaAddress> {
    let of = |replica| ReplicaAddress { replica, address: format!("http://127.0.0.1:{replica}").into() };
    numbers.map(of).collect()
}

/// Allocates nothing: what a call allocates is counted.
fn name(number: u64) -> Name {
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    write!(rest, "function-{number}").expect("room for any number");
    let length = 32 - rest.len();
    std::str::from_utf8(&text[..length]).ok().and_then(Name::new).expect("a name")
}
