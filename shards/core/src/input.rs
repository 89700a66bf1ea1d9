//! Everything that can happen to a shard, in groups by where it comes from.

use crate::{
    answer::{BackendFailure, Delivery, ReadFailure},
    call::{Invoke, Ticket},
    id::ExecutionId,
    journal::EndResult,
    keys::{AttemptKey, EndpointId, FunctionKey},
    name::Name,
    payload::Failure,
    recovery::Stored,
    report::{Outcome, Report},
    room::Room,
    settings::Settings,
    spec::{FunctionSpec, Provisioned, ReplicaAddress},
};

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A caller asks, and gets exactly one [`crate::Answer`], unless it leaves before.
    Ask(Ticket, Request),
    /// A caller left without waiting for its answer.
    Abandon {
        /// The one that it asked with.
        ticket: Ticket,
        /// The id that the call was made with, when it was an invocation.
        id: Option<ExecutionId>,
    },
    /// What the dispatcher says about an attempt.
    Dispatch(AttemptKey, DispatchEvent),
    /// What the dispatcher found when it connected to an address, as [`crate::Effect::Probe`] asked.
    Probed {
        /// The function.
        function: FunctionKey,
        /// The address.
        endpoint: EndpointId,
        /// Whether somebody listens there.
        reachable: bool,
    },
    /// What a backend says about a function, which it names as the effect that ordered something did.
    Backend(FunctionKey, BackendEvent),
    /// What the journal says.
    Journal(JournalEvent),
    /// The delivery of a result to its callback address made progress.
    Delivered {
        /// The execution that it is the result of.
        id: ExecutionId,
        /// The number that came with the result.
        number: u32,
        /// Where its delivery stands.
        delivery: Delivery,
    },
    /// The server leases a part of one of its limits to this shard, or wants some back.
    Lease(Lease),
    /// The server starts, changes its settings, or ends.
    Control(Control),
    /// Nothing happened, except that time passed or ready work was left over.
    Turn,
}

// Every one is copied into a mailbox, out of it, and into a shard.
const _: () = assert!(size_of::<Input>() == 192);

/// What a caller can ask for: a client of the API, or a function that calls back.
#[derive(Debug)]
#[expect(missing_docs, reason = "the members are what requests of the API name; openapi.yaml explains them")]
pub enum Request {
    /// Register a function: validated, and with its defaults filled in.
    Register(Box<FunctionSpec>),
    /// Remove a function.
    Remove(Name),
    /// Set the number of replicas that are wanted.
    Scale { name: Name, replicas: u32 },
    /// Read one function.
    GetFunction(Name),
    /// Read how many replicas a function has.
    GetReplicas(Name),
    /// Read how a function is scaled.
    GetScaling(Name),
    /// Call a function and wait for its result.
    Invoke(Invoke),
    /// Accept a call whose result is fetched later.
    Enqueue(Invoke),
    /// Read one execution, and wait so long for its end; 0 answers at once.
    GetExecution { id: ExecutionId, wait_ms: u32 },
    /// Cancel an execution that still waits.
    Cancel(ExecutionId),
    /// List the dead letters of a function, newest first, so many at most.
    ListDeadLetters { name: Name, limit: usize },
    /// Queue a dead letter again.
    Replay { name: Name, id: ExecutionId },
    /// Give a dead letter up.
    Purge { name: Name, id: ExecutionId },
    /// Dispatch one queued execution, and answer when its attempt has been recorded.
    DrainOnce(Name),
    /// A function reports by callback how an execution ended, and by which attempt when the callback says so.
    /// [`Outcome::Deferred`] is ignored.
    Complete { id: ExecutionId, attempt: Option<u32>, outcome: Outcome },
}

/// What becomes of an attempt at the dispatcher.
#[derive(Debug)]
pub enum DispatchEvent {
    /// It waits for a connection.
    Connecting,
    /// Its request has been sent.
    Sent,
    /// It came to its end.
    Finished(Report),
    /// Its job was created: a callback is to follow, or the end of the job without one.
    JobCreated,
    /// Its job has ended. That decides the attempt, in this way, unless a callback did.
    JobEnded(Box<Failure>),
    /// Its job, which an owner before was to create, is not there: it never was, or it has ended and nobody knows how. The attempt
    /// counts for nothing, unless a callback has decided it.
    JobLost,
}

/// What becomes of a function at a backend.
#[derive(Debug)]
pub enum BackendEvent {
    /// Provisioning is over, well or badly.
    Provisioned(Result<Provisioned, BackendFailure>),
    /// Tearing down is over, well or badly.
    TornDown(Result<(), BackendFailure>),
    /// So many replicas are wanted now, or why nothing changed.
    Scaled(Result<u32, BackendFailure>),
    /// Its replicas changed.
    EndpointsChanged {
        /// All replicas that are ready now.
        endpoints: Vec<ReplicaAddress>,
        /// How many replicas are wanted.
        desired: u32,
    },
}

/// What becomes of records, and of results that are on disk.
#[derive(Debug)]
pub enum JournalEvent {
    /// Records up to this number are safe.
    Safe {
        /// Number of the last one.
        through: u64,
    },
    /// Records up to this number that were not reported safe cannot be written.
    Failed {
        /// Number of the last one.
        through: u64,
    },
    /// This record was not taken: it will not be written, while others still may be.
    NotTaken {
        /// Its number.
        number: u64,
    },
    /// What came of reading how an execution ended.
    Read {
        /// The read, as named by the effect that asked.
        ticket: Ticket,
        /// The execution.
        id: ExecutionId,
        /// How it ended, as its newest record says.
        result: Result<EndResult, ReadFailure>,
    },
}

/// A part of a limit of the whole server that a shard may use on its own.
#[derive(Debug)]
pub enum Lease {
    /// Calls of the global rate limit.
    Calls {
        /// Epoch second in which they may be used.
        second: u64,
        /// How many.
        calls: u32,
    },
    /// Bytes of the budget for waiting payloads.
    Bytes(u64),
    /// Bytes beyond that budget, for what waits again and cannot be refused. They go back before any others.
    LentBytes(u64),
    /// The answer to [`crate::Shard::room_request`].
    Room {
        /// Room for what has ended, and for keys, that this shard has from now on.
        granted: Room,
        /// Room that it is to give back as soon as it has forgotten what is in it: another one needs it for its share.
        recalled: Room,
    },
    /// Another shard lacks room: this one is to ask whether it has more than its share.
    CheckRoom,
}

/// What the server does with a shard in the course of its own life.
#[derive(Debug)]
pub enum Control {
    /// Something that was there before the server started: functions first, then executions in their order. Until
    /// [`Control::Restored`] nothing is dispatched.
    Restore(Stored),
    /// Everything is back.
    Restored,
    /// Other settings hold from now on.
    Configure(Settings),
    /// Answer everybody who waits to read an execution's end, now and from now on.
    EndWatches,
    /// The server goes away, and what waits is safe: accepted executions that wait do not run any more.
    Hold,
    /// Refuse new work. `finally` also gives up what still waits.
    Drain {
        /// Whether synchronous callers that still wait are refused now.
        finally: bool,
    },
}
