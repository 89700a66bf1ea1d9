//! Everything that can happen to a shard.

use crate::{
    answer::{BackendFailure, Delivery, ReadFailure},
    call::{Invoke, Ticket},
    id::ExecutionId,
    journal::EndResult,
    keys::{AttemptKey, FunctionKey},
    name::Name,
    recovery::Stored,
    report::{Outcome, Report},
    settings::Settings,
    spec::{FunctionSpec, Provisioned, ReplicaAddress},
};

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
        /// All replicas that are ready now.
        endpoints: Vec<ReplicaAddress>,
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
    /// What came of reading how an execution ended.
    ResultRead {
        /// The read, as named by the effect that asked.
        ticket: Ticket,
        /// Which execution.
        id: ExecutionId,
        /// How it ended, as its newest record says.
        result: Result<EndResult, ReadFailure>,
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
            | Input::ResultRead { .. }
            | Input::EndWatches
            | Input::Hold
            | Input::Delivered { .. }
            | Input::Drain { .. }
            | Input::Turn => None,
        }
    }
}
