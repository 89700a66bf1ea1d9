//! The shard: its state, and the one way to change it.
//!
//! The files beside this one follow an execution through its life: `registry` (functions come and go),
//! `admission` (a call is admitted or refused), `dispatch` (an attempt is sent), `completion` (an attempt or an
//! execution ends), `ending` (what it came to is shown), `crashes` (a replica ends),
//! `jobs` (those of functions that have one for each attempt), `retry` (another one follows),
//! `timing` (deadlines), `retention` (finished executions are forgotten), `reading` (results that are on disk are
//! read). `sync_queue` refuses synchronous calls early. `chores` is work in batches. `restoration` takes back what was
//! there before the server started. `requests`, `leases` and `control` are the inputs that go to many of them.

mod admission;
pub(crate) mod chores;
mod completion;
mod control;
mod crashes;
mod dead_letters;
mod delivery;
mod dispatch;
mod drain_once;
mod ending;
mod jobs;
mod journaling;
mod leases;
mod probes;
mod progress;
mod reading;
mod registry;
mod requests;
mod restoration;
mod retention;
mod retry;
mod room;
mod scaling;
mod state;
mod sync_queue;
#[cfg(test)]
mod tests;
mod timing;
mod watching;

pub use progress::Readiness;
pub(crate) use retention::Retention;
pub(crate) use state::{Attempt, ByteAccounts, Impossible, Index, JobStage, Phase, ScalingRound};

use std::{collections::VecDeque, panic::Location};

use crate::{
    dead_letters::DeadLetters,
    effect::Effects,
    endpoints::OpenEndpoint,
    execution::Execution,
    function::{Function, FunctionView},
    id::ExecutionId,
    input::{Input, Lease},
    journal::Journal,
    keys::{AttemptTag, EndpointTag, ExecutionKey, ExecutionTag, FunctionKey, FunctionTag},
    limits::Limits,
    name::Name,
    rate::CallLease,
    sabotage::Sabotaged,
    settings::Settings,
    slab::Slab,
    time::Now,
    timers::Timers,
};

/// Numbers of a whole shard, for metrics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Functions, invisible ones included.
    pub functions: usize,
    /// Executions, finished ones included.
    pub executions: usize,
    /// Finished executions kept.
    pub finished: usize,
    /// Accepted executions that have not ended.
    pub accepted: usize,
    /// Dead letters kept.
    pub dead_letters: usize,
    /// Bytes kept with them in memory.
    pub retained_bytes: u64,
    /// Bytes kept with them that are on disk only.
    pub retained_disk_bytes: u64,
    /// Results that are being read from disk, or are to be.
    pub reads: usize,
    /// Attempts in flight.
    pub attempts: usize,
    /// Timers.
    pub timers: usize,
    /// Idempotency keys.
    pub keys: usize,
    /// Bytes of payloads that wait.
    pub queued_bytes: u64,
    /// Sum of what the accounts of all functions, of executions and of slots, are off by: 0, always.
    pub drift: u64,
    /// Steps that found something missing that cannot be: 0, always.
    pub impossible: u64,
}

/// One shard. See the crate. The files of this folder are pages of one book: each has access to all of it.
#[derive(Debug)]
pub struct Shard {
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
    pub(crate) phase: Phase,
    /// Time of the input being handled.
    pub(crate) now: Now,
    pub(crate) functions: Slab<Function, FunctionTag>,
    pub(crate) executions: Slab<Execution, ExecutionTag>,
    pub(crate) attempts: Slab<Attempt, AttemptTag>,
    /// Open addresses.
    pub(crate) endpoints: Slab<OpenEndpoint, EndpointTag>,
    pub(crate) index: Index,
    pub(crate) timers: Timers,
    pub(crate) journal: Journal,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) retention: Retention,
    /// What is left to do about everything that waits.
    pub(crate) chores: VecDeque<chores::Chore>,
    /// Functions that may have something to dispatch, in turn.
    pub(crate) ring: VecDeque<FunctionKey>,
    pub(crate) scaling: ScalingRound,
    calls: CallLease,
    pub(crate) bytes: ByteAccounts,
    /// Executions that were given a place in the order of their function.
    ordered: u64,
    random: u64,
    pub(crate) impossible: Impossible,
    pub(crate) sabotaged: Sabotaged,
}

impl Shard {
    /// An empty shard. `seed` feeds jitter and the choice of endpoints.
    pub fn new(limits: Limits, seed: u64, settings: Settings) -> Shard {
        Shard {
            retention: Retention::new(limits.room),
            limits,
            settings,
            phase: Phase::default(),
            now: Now::default(),
            functions: Slab::new(),
            executions: Slab::new(),
            attempts: Slab::new(),
            endpoints: Slab::new(),
            index: Index::default(),
            timers: Timers::new(),
            journal: Journal::default(),
            dead_letters: DeadLetters::default(),
            chores: VecDeque::new(),
            ring: VecDeque::new(),
            scaling: ScalingRound::default(),
            calls: CallLease::default(),
            bytes: ByteAccounts::default(),
            ordered: 0,
            random: seed,
            impossible: Impossible::default(),
            sabotaged: Sabotaged::default(),
        }
    }

    /// Takes note of one thing that happened, and appends what follows from it.
    ///
    /// Total and synchronous. Should `now.mono_us` go back between calls, it stands still here. Timers that are
    /// due fire first, so that a deadline that has passed wins over an answer that comes after it.
    pub fn handle(&mut self, now: Now, input: Input, fx: &mut Effects) {
        self.now = Now { mono_us: now.mono_us.max(self.now.mono_us), unix_ms: now.unix_ms };
        // A lease is for the call that comes next: what it is too large by now is not yet spare.
        let leases =
            matches!(input, Input::Lease(Lease::Calls { .. } | Lease::Bytes(_) | Lease::LentBytes(_)));
        // Before anything else changes what it is about.
        if let Input::Lease(Lease::Room { granted, recalled }) = input {
            self.room_granted(granted, recalled, fx);
        }
        self.fire_timers(fx);
        match input {
            Input::Ask(ticket, request) => self.asked(ticket, request, fx),
            Input::Abandon { ticket, id } => self.abandon(ticket, id, fx),
            Input::Dispatch(attempt, event) => self.dispatch_event(attempt, event, fx),
            Input::Probed { function, endpoint, reachable } => {
                self.endpoint_probed(function, endpoint, reachable);
            }
            Input::Backend(function, event) => self.backend_event(function, event, fx),
            Input::Journal(event) => self.journal_event(event, fx),
            Input::Delivered { id, number, delivery } => self.delivered(id, number, delivery, fx),
            Input::Lease(lease) => self.take_lease(lease),
            Input::Control(control) => self.controlled(control, fx),
            Input::Turn => self.work_off(fx),
        }
        self.serve(fx);
        if !leases {
            self.return_bytes(fx);
        }
    }

    /// Whether what was there before is still being taken back.
    pub(crate) fn is_restoring(&self) -> bool {
        self.phase.restoring
    }

    /// What holds now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When [`Input::Turn`] is needed at the latest, on the monotonic clock.
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.timers.next_us()
    }

    /// Whether work is left over that another [`Input::Turn`] would take up.
    pub fn has_ready(&self) -> bool {
        !self.chores.is_empty() || (!self.ring.is_empty() && !self.phase.restoring)
    }

    /// Visible functions, by position.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionKey, FunctionView<'_>)> {
        self.functions_from(0)
    }

    /// Visible functions whose position is at least this, by position: for readers that come back for the rest.
    pub fn functions_from(&self, from: usize) -> impl Iterator<Item = (FunctionKey, FunctionView<'_>)> {
        let live = self.functions.iter_from(from).filter(|(_, function)| function.life.is_live());
        live.map(|(key, function)| {
            let dead_letters = self.dead_letters.count_of(&function.name) as u32;
            (key, FunctionView { dead_letters, ..function.view() })
        })
    }

    /// A visible function; without what the shard keeps beside it.
    pub fn function(&self, name: &Name) -> Option<FunctionView<'_>> {
        self.live_function(name).map(|(_, function)| function.view())
    }

    /// Numbers of the whole shard.
    pub fn totals(&self) -> Totals {
        Totals {
            functions: self.functions.len(),
            executions: self.executions.len(),
            finished: self.finished_count(),
            accepted: self.retention.accepted,
            dead_letters: self.dead_letters.len(),
            retained_bytes: self.retained_bytes(),
            retained_disk_bytes: self.retention.disk_bytes,
            reads: self.retention.reads.pending(),
            attempts: self.attempts.len(),
            timers: self.timers.len(),
            keys: self.index.keys.len(),
            queued_bytes: self.bytes.queued,
            drift: self.drift(),
            impossible: self.impossible.count,
        }
    }

    /// Executions that the accounts of all functions are off by, and slots that are held without an attempt or the
    /// other way round.
    fn drift(&self) -> u64 {
        let functions = self.functions.iter().map(|(_, function)| function);
        let (executions, slots) = functions.fold((0, 0), |(executions, slots), function| {
            let off = function.accounting.drift().unsigned_abs();
            (executions + off, slots + u64::from(function.in_flight))
        });
        let holding = self.attempts.iter().filter(|(_, attempt)| !attempt.settled).count() as u64;
        executions + slots.abs_diff(holding)
    }

    /// Counts a step that found missing what its shard says is there, and goes no further. A key that may be stale is
    /// another thing: where it is looked up stands why it may be, which a test in `tests/tidy` asks for.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn impossible(&mut self) {
        self.impossible.count += 1;
        self.impossible.first.get_or_insert(Location::caller());
    }

    fn live_function(&self, name: &Name) -> Option<(FunctionKey, &Function)> {
        let key = *self.index.names.get(name.as_str())?;
        self.functions.get(key).filter(|function| function.life.is_live()).map(|function| (key, function))
    }

    pub(crate) fn find(&self, id: ExecutionId) -> Option<&Execution> {
        self.executions.get(self.index.ids.get(id)?)
    }

    fn find_key(&self, id: ExecutionId) -> Option<ExecutionKey> {
        self.index.ids.get(id).filter(|key| self.executions.get(*key).is_some())
    }

    /// Makes an execution known by its id.
    fn index_id(&mut self, key: ExecutionKey) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        execution.id_table = self.index.ids.insert(execution.id, key);
        for key in self.index.ids.take_overdue().into_iter().flatten() {
            if let Some(execution) = self.executions.get_mut(key) {
                execution.id_table = self.index.ids.insert(execution.id, key);
            }
        }
    }

    /// The next number of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

impl Limits {
    /// Seconds for a `Retry-After`: rounded up, at least 1.
    pub(crate) fn retry_after_s(wait_us: u64) -> u32 {
        u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
    }
}
