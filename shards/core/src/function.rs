//! A function as its shard sees it: queue, slots, endpoints, numbers.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    call::Ticket,
    endpoints::Endpoints,
    keys::ExecutionKey,
    name::Name,
    queue::WaitQueue,
    rate::RateWindow,
    scaling::{ScalingState, ScalingView},
    spec::{FunctionSpec, Policy, Provisioned, Target},
    sync_history::SyncHistory,
    timers::TimerKey,
};

/// Where a function is in its own life. While a backend or the store works on it, requests about it wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Claimed; its replicas are being started. Invisible.
    Provisioning,
    /// Its registration is being written down. Invisible.
    Registering,
    /// Visible, and nothing is being done about it.
    Live,
    /// Visible; its backend is working on it.
    Ordered,
    /// Its removal is being written down. Invisible from here on.
    Removing,
    /// It is removed, and what waits for it ends, batch by batch.
    Ending,
    /// Its replicas are being removed.
    TearingDown,
    /// The same of one that was never seen: its registration could not be written down.
    RollingBack,
    /// Removed; attempts that were in flight are still coming home.
    Gone,
}

impl Life {
    /// Whether it is visible.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Life::Live | Life::Ordered)
    }

    /// Whether it was not visible yet.
    pub(crate) fn is_claimed(self) -> bool {
        matches!(self, Life::Provisioning | Life::Registering)
    }

    /// Whether a removal of it has begun.
    pub(crate) fn is_being_removed(self) -> bool {
        matches!(self, Life::Removing | Life::Ending | Life::TearingDown | Life::RollingBack)
    }

    /// Whether a backend or the store is working on it.
    pub(crate) fn is_busy(self) -> bool {
        self != Life::Live
    }
}

/// What runs a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A fixed address, or nothing yet.
    Address,
    /// The server itself answers its calls.
    Local,
    /// Replicas, which are the backend's.
    Backend,
    /// A job for each attempt.
    Jobs,
}

/// A request about a function that waits for a slow one to end.
#[derive(Debug)]
pub(crate) enum Pending {
    Register { ticket: Ticket, spec: Box<FunctionSpec> },
    Remove { ticket: Ticket },
    Scale { ticket: Ticket, replicas: u32 },
}

/// Numbers that only grow, per function, since its registration. Those of a call that goes well come first and lie
/// together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// New executions.
    pub invocations: u64,
    /// Attempts dispatched.
    pub dispatches: u64,
    /// Executions that ended as success.
    pub successes: u64,
    /// Executions whose replica had not just started.
    pub warm_starts: u64,
    /// New executions that were accepted for later, once they were safe.
    pub enqueued: u64,
    /// Executions that ended as error.
    pub errors: u64,
    /// Executions whose replica had just started.
    pub cold_starts: u64,
    /// Attempts that failed and were followed by another.
    pub retries: u64,
    /// Callers whose deadline passed.
    pub timeouts: u64,
    /// Refused because the queue was full.
    pub queue_rejections: u64,
    /// Attempts that nobody reported.
    pub orphans: u64,
    /// Attempts during which the replica that ran them ended.
    pub crashes: u64,
    /// Jobs created for attempts.
    pub jobs_created: u64,
    /// Answers that claimed to be JSON and were not.
    pub bad_outputs: u64,
    /// Answers and callbacks that came too late.
    pub late_completions: u64,
    /// Executions that became dead letters.
    pub dead_letters: u64,
    /// Accepted executions that waited longer than they were allowed to.
    pub expired: u64,
    /// Synchronous calls admitted while the sync queue was on.
    pub sync_admitted: u64,
    /// Synchronous calls that the sync queue refused because too many waited.
    pub sync_rejected_depth: u64,
    /// Synchronous calls that the sync queue refused because of the wait that was expected.
    pub sync_rejected_wait: u64,
    /// Synchronous calls that the sync queue refused after they had waited too long.
    pub sync_rejected_timeout: u64,
    /// The same, counted as time-outs of the queue.
    pub sync_timeouts: u64,
}

/// Executions of a function by what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accounting {
    pub(crate) admitted: u64,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) finished: u64,
    pub(crate) evicted: u64,
}

impl Accounting {
    /// `admitted − (queued + running + finished + evicted)`: 0, always.
    pub(crate) fn drift(&self) -> i64 {
        let places = self.queued + self.running + self.finished + self.evicted;
        self.admitted.wrapping_sub(places) as i64
    }
}

/// See the module.
///
/// What every call needs comes first and lies together: with ten thousand functions, each line of it has left the cache
/// when it is needed again. `repr(C)` keeps it that way.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Function {
    pub(crate) queue: WaitQueue,
    pub(crate) life: Life,
    pub(crate) runner: Runner,
    /// It is in the ring of functions that may have something to dispatch.
    pub(crate) ringed: bool,
    /// Slots taken.
    pub(crate) in_flight: u32,
    pub(crate) policy: Policy,
    /// Synchronous calls that wait, while the sync queue is on.
    pub(crate) sync_waiting: u32,
    /// Its name, shared with its executions.
    pub(crate) label: Arc<str>,
    /// How its replicas are scaled, when the shard decides about that.
    pub(crate) scaling: Option<Box<ScalingState>>,
    /// Moving average of the time from dispatch to end, in microseconds; 0 before the first.
    pub(crate) service_us: u64,
    pub(crate) accounting: Accounting,
    pub(crate) endpoints: Endpoints,
    pub(crate) counters: Counters,
    pub(crate) rate: RateWindow,

    pub(crate) name: Name,
    pub(crate) document: Bytes,
    /// What was asked for.
    pub(crate) spec: Box<FunctionSpec>,
    /// It was there before the server started, and its replicas are not there again: when they are tried again, unless
    /// they are being tried.
    pub(crate) reconciling: Option<TimerKey>,
    /// How it will run, while it is being registered.
    pub(crate) provisioned: Option<Box<Provisioned>>,
    /// Who waits for that backend.
    pub(crate) waiting: Option<Ticket>,
    /// Requests that come after.
    pub(crate) pending: VecDeque<Pending>,
    /// Replicas wanted.
    pub(crate) desired: u32,
    /// What waited when it was restored, which may be more than its queue takes.
    pub(crate) restored: u32,
    /// Attempts decided by callback whose HTTP exchange goes on.
    pub(crate) lingering: u32,
    /// Accepted executions that wait to be drained one by one, while the background scheduler is off.
    pub(crate) backlog: WaitQueue,
    /// Executions that wait, but not for a slot: retries in their back-off, and accepted ones whose record is not
    /// safe yet.
    pub(crate) parked: BTreeSet<ExecutionKey>,
    /// What the sync queue knows of it, since there was something to know.
    pub(crate) sync: Option<Box<SyncHistory>>,
}

impl Function {
    pub(crate) fn new(spec: &FunctionSpec) -> Function {
        Function {
            name: spec.name,
            label: Arc::from(spec.name.as_str()),
            policy: spec.policy.clone(),
            document: spec.document.clone(),
            life: Life::Live,
            reconciling: None,
            spec: Box::new(spec.clone()),
            provisioned: None,
            restored: 0,
            waiting: None,
            pending: VecDeque::new(),
            runner: Runner::Address,
            desired: 0,
            endpoints: Endpoints::default(),
            queue: WaitQueue::default(),
            backlog: WaitQueue::default(),
            parked: BTreeSet::new(),
            in_flight: 0,
            lingering: 0,
            ringed: false,
            rate: RateWindow::default(),
            counters: Counters::default(),
            accounting: Accounting::default(),
            service_us: 0,
            scaling: spec
                .scaling
                .as_deref()
                .map(|scaling| Box::new(ScalingState::new(scaling.clone(), spec.policy.concurrency))),
            sync_waiting: 0,
            sync: None,
        }
    }

    /// Whether its replicas are the backend's.
    pub(crate) fn is_managed(&self) -> bool {
        self.runner == Runner::Backend
    }

    /// Whether each attempt has a job of its own.
    pub(crate) fn has_jobs(&self) -> bool {
        self.runner == Runner::Jobs
    }

    /// Slots that attempts with jobs hold, at most: before its backend has answered, a restored function may have some.
    pub(crate) fn jobs_in_flight(&self) -> u32 {
        if self.has_jobs() || self.reconciling.is_some() { self.in_flight } else { 0 }
    }

    /// Whether a backend has to hear of its end.
    pub(crate) fn has_backend(&self) -> bool {
        self.is_managed() || (self.has_jobs() && self.spec.target == Target::Backend)
    }

    /// Executions that wait, retries in their back-off included.
    pub(crate) fn waiting_count(&self) -> u32 {
        (self.queue.len() + self.backlog.len() + self.parked.len()) as u32
    }

    /// Executions that may wait: what was there when the server started may again.
    pub(crate) fn places(&self) -> u32 {
        self.policy.queue_size.max(self.restored)
    }

    /// Attempts that may be in flight now.
    pub(crate) fn slots(&self) -> u32 {
        match &self.scaling {
            Some(state) => state.effective.min(self.policy.concurrency),
            None => self.policy.concurrency,
        }
    }

    /// Whether there is anything to send its calls to.
    pub(crate) fn has_replica(&self) -> bool {
        matches!(self.runner, Runner::Local | Runner::Jobs) || self.endpoints.up() > 0
    }

    /// Whether an attempt could be dispatched now.
    pub(crate) fn can_dispatch(&self) -> bool {
        self.life.is_live() && self.in_flight < self.slots() && self.has_replica()
    }

    /// Whether one more attempt that takes no place could wait again, should it not be run.
    pub(crate) fn has_room_to_come_back(&self) -> bool {
        let admitted = self.places() + self.policy.concurrency;
        let never_comes_back = matches!(self.runner, Runner::Address | Runner::Local);
        never_comes_back || self.waiting_count() + self.in_flight < admitted
    }

    /// Takes note of how long an attempt took. Weight of the newest: one eighth.
    pub(crate) fn observe_service(&mut self, duration_us: u64) {
        self.service_us = match self.service_us {
            0 => duration_us.max(1),
            average => average - average / 8 + duration_us / 8,
        };
    }

    /// The same, for those who are told: `None` when no attempt has ended yet, so that it would be a guess.
    pub(crate) fn known_wait_us(&self, ahead: u32) -> Option<u64> {
        (self.service_us > 0).then(|| self.estimated_wait_us(ahead))
    }

    /// Expected wait behind `ahead` executions, in microseconds; 0 without a history.
    pub(crate) fn estimated_wait_us(&self, ahead: u32) -> u64 {
        u64::from(ahead).saturating_mul(self.service_us) / u64::from(self.slots().max(1))
    }
}

/// A function, as read by metrics.
#[derive(Debug, Clone)]
pub struct FunctionView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its document.
    pub document: &'a Bytes,
    /// Its counters.
    pub counters: &'a Counters,
    /// Executions that wait.
    pub queue_depth: u32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts that may be in flight at once.
    pub concurrency: u32,
    /// Wanted and ready replicas, when a backend runs it.
    pub replicas: Option<(u32, u32)>,
    /// Synchronous calls that wait, while the sync queue is on.
    pub sync_queue_depth: u32,
    /// Dead letters kept.
    pub dead_letters: u32,
    /// How it is scaled, when the shard decides about that.
    pub scaling: Option<ScalingView>,
}

impl Function {
    /// How it is scaled, for metrics.
    pub(crate) fn scaling_view(&self) -> Option<ScalingView> {
        self.scaling.as_ref().filter(|_| self.is_managed()).map(|state| state.view())
    }

    /// Lets the number of attempts in flight follow the replicas that are there.
    pub(crate) fn follow_replicas(&mut self, autoscaler_on: bool) {
        let (replicas, configured) = (self.endpoints.len() as u32, self.policy.concurrency);
        let follows = autoscaler_on && self.is_managed();
        let Some(state) = self.scaling.as_mut() else { return };
        state.effective = if follows {
            state.per_replica.effective(&state.scaling.control, replicas, configured)
        } else {
            configured
        };
    }

    pub(crate) fn view(&self) -> FunctionView<'_> {
        FunctionView {
            name: &self.label,
            document: &self.document,
            counters: &self.counters,
            queue_depth: self.waiting_count(),
            in_flight: self.in_flight,
            concurrency: self.slots(),
            replicas: self.is_managed().then_some((self.desired, self.endpoints.len() as u32)),
            sync_queue_depth: self.sync_waiting,
            dead_letters: 0,
            scaling: self.scaling_view(),
        }
    }
}
