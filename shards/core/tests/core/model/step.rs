//! What a random script is made of: `Op`s, drawn without knowledge of the state, become `Step`s, which name
//! executions, attempts and functions that exist.

use proptest::prelude::*;
use shard_core::Policy;

use super::{
    oracle::Oracle,
    rooms::{EXECUTIONS_FLOOR, EXECUTIONS_MAX},
};

/// Function names in use.
pub(super) const NAMES: u8 = 3;

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    Ok,
    /// May be retried, after so many milliseconds.
    Fail(u32),
    /// May not be retried.
    Refuse,
    Promise,
    /// Nothing of it was run.
    NotRun,
    /// What ran it ended.
    Crash,
    /// Its job was created.
    Created,
    /// Its job ended.
    Ended,
    /// Its job, which was ordered before a crash, is not there.
    Lost,
}

/// What a backend made of its task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Provisioning {
    Failed,
    Degraded,
    /// Which of the addresses are ready, as bits.
    Endpoints(u8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) name: u8,
    pub(super) accepted: bool,
    /// Key and digest.
    pub(super) key: Option<(u8, u8)>,
    pub(super) timeout_ms: Option<u32>,
    pub(super) max_age_ms: Option<u32>,
    pub(super) bytes: u8,
    /// Whether bytes are leased for it when wanted.
    pub(super) lease: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Registration {
    pub(super) name: u8,
    pub(super) backend: bool,
    /// Each attempt has a job of its own, unless a backend has it.
    pub(super) jobs: bool,
    pub(super) policy: Policy,
}

/// An input without the keys that only the shard knows. `ticket`s number callers and the executions they start,
/// `function`s are numbered in the order of their registration.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Turn,
    Call {
        ticket: u64,
        call: Call,
    },
    Answer {
        execution: u64,
        number: u32,
        result: Result,
    },
    Callback {
        ticket: u64,
        execution: u64,
        number: Option<u32>,
        result: Result,
    },
    Connecting {
        execution: u64,
        number: u32,
        connecting: bool,
    },
    Leave {
        ticket: u64,
    },
    Cancel {
        ticket: u64,
        execution: u64,
    },
    Register {
        ticket: u64,
        registration: Registration,
    },
    Remove {
        ticket: u64,
        name: u8,
    },
    Scale {
        ticket: u64,
        name: u8,
        replicas: u32,
    },
    Provisioned {
        function: usize,
        provisioning: Provisioning,
    },
    TornDown {
        function: usize,
        done: bool,
    },
    Scaled {
        function: usize,
        replicas: Option<u32>,
    },
    Endpoints {
        function: usize,
        ready: u8,
        desired: u32,
    },
    /// What comes of a probe.
    Probed {
        function: usize,
        bit: u8,
        reachable: bool,
    },
    Replay {
        ticket: u64,
        name: u8,
        execution: u64,
    },
    Purge {
        ticket: u64,
        name: u8,
        execution: u64,
    },
    Drain {
        finally: bool,
    },
    /// The newest so many steps since somebody was promised something are not on record.
    Crash {
        lost: usize,
    },
}

/// Numbers are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Turn,
    Call(Call),
    Answer(usize, Result),
    Callback {
        which: usize,
        back: u32,
        numbered: bool,
        result: Result,
    },
    Connecting(usize, bool),
    Leave(usize),
    Cancel(usize),
    Replay(usize),
    Purge(usize),
    Register(Registration),
    Remove(u8),
    Scale(u8, u32),
    Backend {
        which: usize,
        good: bool,
        ready: u8,
    },
    Endpoints(usize, u8),
    Probed(usize, bool),
    Drain,
    Crash(usize),
    /// Other shards hold room for so many finished executions.
    Elsewhere(u64),
}

/// An operation, milliseconds that pass before it, and how far the clock is off then.
pub(super) type Timed = (u64, i64, Op);

/// Starts with a function of each kind, and lets little time pass: queues are to be full, attempts in flight.
pub(super) fn script() -> impl Strategy<Value = Vec<Timed>> {
    let wait_ms = prop_oneof![
        40 => Just(0u64),
        24 => 1..5u64,
        6 => 5..300u64,
        2 => 300..3000u64,
        1 => 3000..200_000u64,
    ];
    let shift_ms = prop_oneof![20 => Just(0i64), 1 => -5000..5000i64, 1 => -3_700_000..3_700_000i64];
    let first = (registration(), registration()).prop_map(|(fixed, backed)| {
        [
            Op::Register(Registration { name: 0, backend: false, ..fixed }),
            Op::Register(Registration { name: 1, backend: true, ..backed }),
            Op::Backend { which: 0, good: true, ready: 3 },
        ]
    });
    let rest = prop::collection::vec((wait_ms, shift_ms, op()), 1..140);
    (first, rest).prop_map(|(first, rest)| first.map(|op| (0, 0, op)).into_iter().chain(rest).collect())
}

fn name() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 3 => Just(1), 1 => Just(NAMES - 1)]
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<u16>().prop_map(usize::from);
    prop_oneof![
        2 => Just(Op::Turn),
        30 => call().prop_map(Op::Call),
        22 => (which.clone(), result()).prop_map(|(which, result)| Op::Answer(which, result)),
        8 => (which.clone(), 0..3u32, any::<bool>(), said()).prop_map(|(which, back, numbered, result)| {
            Op::Callback { which, back: back.saturating_sub(1), numbered, result }
        }),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, on)| Op::Connecting(which, on)),
        6 => which.clone().prop_map(Op::Leave),
        3 => which.clone().prop_map(Op::Cancel),
        8 => which.clone().prop_map(Op::Replay),
        1 => which.clone().prop_map(Op::Purge),
        7 => registration().prop_map(Op::Register),
        2 => name().prop_map(Op::Remove),
        2 => (name(), 0..4u32).prop_map(|(name, replicas)| Op::Scale(name, replicas)),
        6 => (which.clone(), prop::bool::weighted(0.7), any::<u8>())
            .prop_map(|(which, good, ready)| Op::Backend { which, good, ready }),
        3 => (which.clone(), any::<u8>()).prop_map(|(which, ready)| Op::Endpoints(which, ready)),
        4 => (which.clone(), any::<bool>()).prop_map(|(which, reachable)| Op::Probed(which, reachable)),
        3 => which.prop_map(Op::Crash),
        3 => (0..=EXECUTIONS_MAX - EXECUTIONS_FLOOR).prop_map(Op::Elsewhere),
        1 => prop::bool::weighted(0.1).prop_map(|drain| if drain { Op::Drain } else { Op::Turn }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let key = prop::option::weighted(0.3, (0..3u8, prop::bool::weighted(0.1).prop_map(u8::from)));
    let timeout_ms = prop::option::weighted(0.3, prop_oneof![1..50u32, 50..2000u32]);
    let lease = prop::bool::weighted(0.95);
    let max_age_ms = prop::option::weighted(0.3, prop_oneof![1..50u32, 50..2000u32]);
    (name(), prop::bool::weighted(0.4), key, timeout_ms, max_age_ms, 0..30u8, lease).prop_map(
        |(name, accepted, key, timeout_ms, max_age_ms, bytes, lease)| Call {
            name,
            accepted,
            key,
            timeout_ms,
            max_age_ms,
            bytes,
            lease,
        },
    )
}

fn registration() -> impl Strategy<Value = Registration> {
    let rate = prop::option::weighted(0.2, 1..6u32);
    let attempts = (1..4u32, 1..4u32);
    let numbers =
        (prop_oneof![1 => Just(20u32), 2 => Just(200), 3 => Just(1000)], 1..4u32, 1..4u32, attempts, rate);
    let (backend, jobs) = (prop::bool::weighted(0.4), prop::bool::weighted(0.4));
    (name(), backend, jobs, numbers).prop_map(|(name, backend, jobs, numbers)| {
        let (timeout_ms, concurrency, queue_size, attempts, rate_limit_per_second) = numbers;
        let (attempts_max, sync_attempts_max) = attempts;
        // Without a base, back-offs are what functions ask for: the model need not draw the same numbers.
        let retry_backoff_ms = 0;
        let policy = Policy {
            timeout_ms,
            concurrency,
            queue_size,
            attempts_max,
            sync_attempts_max,
            retry_backoff_ms,
            rate_limit_per_second,
        };
        Registration { name, backend, jobs, policy }
    })
}

fn result() -> impl Strategy<Value = Result> {
    prop_oneof![
        10 => said(),
        2 => Just(Result::NotRun),
        6 => Just(Result::Crash),
        4 => Just(Result::Created),
        3 => Just(Result::Ended),
        2 => Just(Result::Lost),
    ]
}

/// What functions say themselves.
fn said() -> impl Strategy<Value = Result> {
    prop_oneof![
        4 => Just(Result::Ok),
        3 => Just(Result::Fail(0)),
        2 => (1..100u32).prop_map(Result::Fail),
        1 => (1000..100_000u32).prop_map(Result::Fail),
        1 => Just(Result::Refuse),
        2 => Just(Result::Promise),
    ]
}

/// Picks what an operation is about. `None`: there is nothing of the kind.
pub(super) fn resolve(op: &Op, oracle: &Oracle, ticket: u64) -> Option<Step> {
    let pick = |which: usize, count: usize| (count > 0).then(|| which % count);
    Some(match op {
        Op::Turn => Step::Turn,
        Op::Call(call) => Step::Call { ticket, call: *call },
        Op::Answer(which, result) => {
            let adopted = oracle.adopted();
            let open = if *result == Result::Lost { adopted } else { oracle.exchanges() };
            let (execution, number) = open[pick(*which, open.len())?];
            Step::Answer { execution, number, result: *result }
        }
        Op::Callback { which, back, numbered, result } => {
            let known = oracle.latest_executions(6);
            let (execution, attempt) = known[pick(*which, known.len())?];
            let number = numbered.then(|| attempt.saturating_sub(*back).max(1));
            Step::Callback { ticket, execution, number, result: *result }
        }
        Op::Connecting(which, connecting) => {
            let open = oracle.exchanges();
            let (execution, number) = open[pick(*which, open.len())?];
            Step::Connecting { execution, number, connecting: *connecting }
        }
        Op::Leave(which) => {
            let waiting = oracle.waiting_tickets();
            Step::Leave { ticket: waiting[pick(*which, waiting.len())?] }
        }
        Op::Cancel(which) => {
            let known = oracle.latest_executions(6);
            Step::Cancel { ticket, execution: known[pick(*which, known.len())?].0 }
        }
        Op::Replay(which) => {
            let letters = oracle.letters();
            let (name, execution) = letters[pick(*which, letters.len())?];
            Step::Replay { ticket, name, execution }
        }
        Op::Purge(which) => {
            let letters = oracle.letters();
            let (name, execution) = letters[pick(*which, letters.len())?];
            Step::Purge { ticket, name, execution }
        }
        Op::Register(registration) => Step::Register { ticket, registration: registration.clone() },
        Op::Remove(name) => Step::Remove { ticket, name: *name },
        Op::Scale(name, replicas) => Step::Scale { ticket, name: *name, replicas: *replicas },
        Op::Backend { which, good, ready } => {
            let busy = oracle.busy_functions();
            let function = busy[pick(*which, busy.len())?];
            oracle.backend_step(function, *good, *ready)
        }
        Op::Endpoints(which, ready) => {
            let backed = oracle.provisioned_functions();
            let function = backed[pick(*which, backed.len())?];
            Step::Endpoints { function, ready: *ready, desired: u32::from(*ready >> 6) }
        }
        Op::Probed(which, reachable) => {
            let probes = oracle.probes();
            let (function, bit) = probes[pick(*which, probes.len())?];
            Step::Probed { function, bit, reachable: *reachable }
        }
        Op::Drain => Step::Drain { finally: true },
        Op::Crash(lost) => Step::Crash { lost: *lost },
        Op::Elsewhere(_) => return None,
    })
}
