//! Everything that can happen to a shard.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    answer::{BackendFailure, Delivery},
    id::ExecutionId,
    name::Name,
    payload::{Failure, Output, Payload},
    recovery::Stored,
    scaling::Scaling,
    settings::Settings,
    shard::{AttemptKey, FunctionKey},
};

/// The time, given with every input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds on a clock that never goes back. Deadlines, ages and rate windows are on it.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch. May jump either way: it is for people to read, and tells the age of what
    /// an earlier server left behind.
    pub unix_ms: u64,
}

impl Now {
    /// The rate window that this belongs to: a whole second of the clock that never goes back.
    pub fn second(self) -> u64 {
        self.mono_us / 1_000_000
    }
}

/// Names a caller that waits for an [`crate::Answer`]. Made by the runtime, opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// Register a function.
    Register {
        /// Who asks.
        ticket: Ticket,
        /// What to register, validated and with its defaults filled in.
        spec: Box<FunctionSpec>,
    },
    /// A backend finished provisioning, well or badly.
    Provisioned {
        /// The function, as named by the effect that asked.
        function: FunctionKey,
        /// What came of it.
        result: Result<Provisioned, BackendFailure>,
    },
    /// Remove a function.
    Remove {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
    },
    /// A backend finished tearing down.
    TornDown {
        /// The function, as named by the effect that asked.
        function: FunctionKey,
        /// What came of it.
        result: Result<(), BackendFailure>,
    },
    /// Set the number of replicas.
    Scale {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
        /// How many are wanted.
        replicas: u32,
    },
    /// A backend took note of the wanted number of replicas.
    Scaled {
        /// The function, as named by the effect that asked.
        function: FunctionKey,
        /// How many replicas are wanted now, or why nothing changed.
        result: Result<u32, BackendFailure>,
    },
    /// The replicas of a function changed.
    EndpointsChanged {
        /// The function, as named by the effect that provisioned it.
        function: FunctionKey,
        /// Addresses of all replicas that are ready now.
        endpoints: Vec<Arc<str>>,
        /// How many replicas are wanted.
        desired: u32,
    },
    /// Read one function.
    GetFunction {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
    },
    /// Read how many replicas a function has.
    GetReplicas {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
    },
    /// Read how a function is scaled.
    GetScaling {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
    },
    /// Call a function and wait for its result.
    Invoke(Invoke),
    /// Accept a call whose result is fetched later.
    Enqueue(Invoke),
    /// Read one execution.
    GetExecution {
        /// Who asks.
        ticket: Ticket,
        /// Which execution.
        id: ExecutionId,
        /// How long to wait for its end, in milliseconds; 0 answers at once.
        wait_ms: u32,
    },
    /// Cancel an execution that still waits.
    Cancel {
        /// Who asks.
        ticket: Ticket,
        /// Which execution.
        id: ExecutionId,
    },
    /// List the dead letters of a function, newest first.
    ListDeadLetters {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
        /// How many at most.
        limit: usize,
    },
    /// Queue a dead letter again.
    Replay {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
        /// Which execution.
        id: ExecutionId,
    },
    /// Give a dead letter up.
    Purge {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
        /// Which execution.
        id: ExecutionId,
    },
    /// Dispatch one queued execution, and answer when its attempt has been recorded.
    DrainOnce {
        /// Who asks.
        ticket: Ticket,
        /// Which function.
        name: Name,
    },
    /// Records up to this number are safe.
    Journaled {
        /// Number of the last one.
        through: u64,
    },
    /// Records up to this number that were not reported safe cannot be written.
    JournalFailed {
        /// Number of the last one.
        through: u64,
    },
    /// This record was not taken: it will not be written, while others still may be.
    JournalRefused {
        /// Its number.
        number: u64,
    },
    /// Something that was there before the server started: functions first, then executions in their order. Until
    /// [`Input::Restored`] nothing is dispatched.
    Restore(Stored),
    /// Everything is back.
    Restored,
    /// A function reported the result of an execution by callback.
    Complete {
        /// Who reports.
        ticket: Ticket,
        /// Which execution.
        id: ExecutionId,
        /// Which attempt, when the callback says so.
        attempt: Option<u32>,
        /// Success or failure; [`Outcome::Promised`] is ignored.
        outcome: Outcome,
    },
    /// The dispatcher is opening a connection (`true`), or has sent the request (`false`).
    Connecting {
        /// Which attempt.
        attempt: AttemptKey,
        /// Whether the request has not been sent yet.
        connecting: bool,
    },
    /// An attempt came to its end at the dispatcher.
    DispatchFinished {
        /// Which attempt.
        attempt: AttemptKey,
        /// What the function answered.
        report: Report,
    },
    /// A caller left without waiting for its answer.
    Abandon {
        /// Who left.
        ticket: Ticket,
        /// The id that the call was made with, when it was an invocation.
        id: Option<ExecutionId>,
    },
    /// The server leases calls of the global rate limit to this shard.
    GrantCalls {
        /// Epoch second in which they may be used.
        second: u64,
        /// How many calls.
        calls: u32,
    },
    /// The server leases bytes of the budget for waiting payloads to this shard.
    GrantBytes(u64),
    /// The server lends this shard bytes beyond that budget, for what waits again and cannot be refused. They go back
    /// before any others.
    LendBytes(u64),
    /// Other settings hold from now on.
    Configure(Settings),
    /// The delivery of a result to its callback address made progress.
    Delivered {
        /// Which execution.
        id: ExecutionId,
        /// The number that came with the result.
        number: u32,
        /// Where its delivery stands.
        delivery: Delivery,
    },
    /// Answer everybody who waits to read an execution's end, now and from now on.
    EndWatches,
    /// The server goes away, and what waits is safe: accepted executions that wait do not run any more.
    Hold,
    /// Refuse new work. `finally` also gives up what still waits.
    Drain {
        /// Whether synchronous callers that still wait are refused now.
        finally: bool,
    },
    /// Nothing happened, except that time passed or ready work was left over.
    Turn,
}

impl Input {
    /// Who waits for an answer, if anybody does.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Input::Invoke(call) | Input::Enqueue(call) => Some(call.ticket),
            Input::Register { ticket, .. }
            | Input::Remove { ticket, .. }
            | Input::Scale { ticket, .. }
            | Input::GetFunction { ticket, .. }
            | Input::GetReplicas { ticket, .. }
            | Input::GetScaling { ticket, .. }
            | Input::GetExecution { ticket, .. }
            | Input::Cancel { ticket, .. }
            | Input::ListDeadLetters { ticket, .. }
            | Input::Replay { ticket, .. }
            | Input::Purge { ticket, .. }
            | Input::DrainOnce { ticket, .. }
            | Input::Complete { ticket, .. } => Some(*ticket),
            Input::Provisioned { .. }
            | Input::TornDown { .. }
            | Input::Scaled { .. }
            | Input::EndpointsChanged { .. }
            | Input::Connecting { .. }
            | Input::DispatchFinished { .. }
            | Input::Abandon { .. }
            | Input::GrantCalls { .. }
            | Input::GrantBytes(_)
            | Input::LendBytes(_)
            | Input::Configure(_)
            | Input::Journaled { .. }
            | Input::JournalFailed { .. }
            | Input::JournalRefused { .. }
            | Input::Restore(_)
            | Input::Restored
            | Input::EndWatches
            | Input::Hold
            | Input::Delivered { .. }
            | Input::Drain { .. }
            | Input::Turn => None,
        }
    }
}

/// A call of a function.
#[derive(Debug)]
pub struct Invoke {
    /// Who waits.
    pub ticket: Ticket,
    /// Id of the execution, should one be created.
    pub id: ExecutionId,
    /// Which function.
    pub name: Name,
    /// What to send.
    pub payload: Payload,
    /// The caller's own deadline in milliseconds; the function's `timeoutMs` when absent.
    pub timeout_ms: Option<u32>,
    /// Rarely used parts, boxed so that common calls stay small.
    pub extra: Option<Box<Extra>>,
}

/// Optional parts of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// `X-Trace-Id`, passed on as it is.
    pub trace_id: Option<Box<str>>,
    /// W3C `traceparent`, passed on as it is.
    pub traceparent: Option<Box<str>>,
    /// `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// `X-Max-Age-Ms`: how long an accepted execution may wait, in milliseconds.
    pub max_age_ms: Option<u32>,
    /// `X-Callback-Url`: where the result of an accepted execution goes.
    pub callback_url: Option<Box<str>>,
}

/// An idempotency key and what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key as sent.
    pub key: Box<str>,
    /// Digest of body and content type.
    pub digest: [u8; 16],
}

/// What the core has to know of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSpec {
    /// Its name.
    pub name: Name,
    /// Its numbers.
    pub policy: Policy,
    /// Where its calls go.
    pub target: Target,
    /// How its replicas are scaled, when the shard is to decide about them.
    pub scaling: Option<Box<Scaling>>,
    /// The description that clients read. Opaque here.
    pub document: Bytes,
}

impl FunctionSpec {
    /// What it counts for in [`crate::Limits::specs_bytes_max`].
    pub(crate) fn bytes(&self) -> u64 {
        self.document.len() as u64
    }
}

/// The numbers of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Longest attempt, and the deadline of callers that set none, in milliseconds.
    pub timeout_ms: u32,
    /// Attempts in flight at once, at least 1.
    pub concurrency: u32,
    /// Executions that may wait, at least 1.
    pub queue_size: u32,
    /// Attempts of an accepted call in total, at least 1.
    pub attempts_max: u32,
    /// The same for a synchronous call: its caller's request is repeated only when the function asks for that.
    pub sync_attempts_max: u32,
    /// Base of the exponential back-off between attempts, in milliseconds.
    pub retry_backoff_ms: u32,
    /// Calls admitted per epoch second.
    pub rate_limit_per_second: Option<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            timeout_ms: 30_000,
            concurrency: 4,
            queue_size: 100,
            attempts_max: 3,
            sync_attempts_max: 1,
            retry_backoff_ms: 100,
            rate_limit_per_second: None,
        }
    }
}

impl Policy {
    /// Attempts that an execution may have. One that was called and is accepted later has those of an accepted one.
    pub fn attempts_of(&self, accepted: bool) -> u32 {
        if accepted { self.attempts_max } else { self.sync_attempts_max }
    }
}

/// Where the calls of a function go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Answered by the server with the input.
    Local,
    /// One fixed address.
    Endpoint(Arc<str>),
    /// Replicas that a backend starts and reports.
    Backend,
}

/// A function whose provisioning succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The description that clients read from now on.
    pub document: Bytes,
    /// Where its calls go: [`Target::Backend`], or a fixed address when it was degraded.
    pub target: Target,
    /// Addresses of the replicas that are ready.
    pub endpoints: Vec<Arc<str>>,
    /// How many replicas are wanted.
    pub desired: u32,
}

/// How an attempt ended, with what the answer said about the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The replica said that this was its first call.
    pub cold_start: bool,
    /// How long the replica took to start, in milliseconds.
    pub init_ms: Option<u32>,
    /// The answer claimed to be JSON and was not.
    pub bad_output: bool,
}

impl Report {
    /// A report of a warm replica.
    pub fn warm(outcome: Outcome) -> Report {
        Report { outcome, cold_start: false, init_ms: None, bad_output: false }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The function answered.
    Success(Output),
    /// It failed, or could not be reached.
    Failure {
        /// Why.
        failure: Box<Failure>,
        /// Whether another attempt may be made.
        retryable: bool,
        /// How long the function asks to be left alone, in milliseconds.
        retry_after_ms: Option<u32>,
    },
    /// The function promised to report by callback.
    Promised,
    /// It was not run: nothing of it was written, or who watches over the function says so.
    NotRun(Box<Failure>),
    /// What ran it ended before it had answered.
    Crashed(Box<Failure>),
}
