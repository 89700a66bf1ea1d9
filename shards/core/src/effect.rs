//! Everything that a shard can cause.

use std::{borrow::Cow, sync::Arc};

use crate::{
    answer::{Answer, ExecutionView},
    call::{Extra, Ticket},
    id::ExecutionId,
    journal::Entry,
    keys::{AttemptKey, EndpointId, FunctionKey},
    name::Name,
    payload::Payload,
    room::Room,
    spec::FunctionSpec,
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a caller.
    Reply {
        /// Who waits.
        ticket: Ticket,
        /// What to say.
        answer: Answer,
    },
    /// Send an attempt to a function. [`crate::DispatchEvent::Finished`] must follow, unless it is aborted.
    Dispatch(Dispatch),
    /// Go on with the job of an attempt that was made before the server started, if it is there. [`crate::DispatchEvent::JobEnded`]
    /// may follow, or [`crate::DispatchEvent::JobLost`].
    AdoptJob {
        /// Which attempt.
        attempt: AttemptKey,
        /// The execution that it belongs to.
        id: ExecutionId,
        /// Number of the attempt.
        number: u32,
        /// Its function.
        function: FunctionKey,
    },
    /// Stop an attempt and end its job, if it has one: nothing waits for it any more, and nothing is to be reported.
    Abort {
        /// Which attempt.
        attempt: AttemptKey,
    },
    /// Calls may go to this address from now on.
    OpenEndpoint {
        /// The id that dispatches will name it by.
        endpoint: EndpointId,
        /// Whose calls.
        function: Name,
        /// Its address.
        address: Arc<str>,
        /// Most calls in flight to it.
        concurrency: u32,
    },
    /// No further calls go to this address; those in flight go on.
    CloseEndpoint {
        /// Its id.
        endpoint: EndpointId,
    },
    /// Connect to an open address, and no more. [`crate::Input::Probed`] must follow, unless the address is closed before.
    Probe {
        /// The function.
        function: FunctionKey,
        /// Which address.
        endpoint: EndpointId,
    },
    /// Start the replicas of a function. [`crate::BackendEvent::Provisioned`] must follow.
    Provision {
        /// The function.
        function: FunctionKey,
        /// What was asked for.
        spec: Box<FunctionSpec>,
    },
    /// Stop all replicas of a function. [`crate::BackendEvent::TornDown`] must follow.
    Teardown {
        /// The function.
        function: FunctionKey,
        /// Its name.
        name: Name,
    },
    /// Change the number of replicas. [`crate::BackendEvent::Scaled`] must follow.
    Scale {
        /// The function.
        function: FunctionKey,
        /// Its name.
        name: Name,
        /// How many are wanted.
        replicas: u32,
        /// Those that go before others that are ready, when there are to be fewer: first those that take no calls, then
        /// those with the fewest. As many as may have to go, by the numbers that the backend gave them.
        first_to_go: Box<[u64]>,
    },
    /// Write a record down, in the order of their numbers. [`crate::JournalEvent::Safe`] or
    /// [`crate::JournalEvent::Failed`] must follow.
    Journal {
        /// Number of the record; one more than the one before.
        number: u64,
        /// What to write. Not in a box: an allocation per record costs more than the room does.
        entry: Entry,
    },
    /// Deliver a result to the address that its caller gave. [`crate::Input::Delivered`] follows, once or more.
    Deliver {
        /// Which execution.
        id: ExecutionId,
        /// Which of its results: each replay has another one.
        number: u32,
        /// Where to.
        url: Box<str>,
        /// What to say.
        view: Box<ExecutionView>,
    },
    /// Read how an accepted execution ended, which is safe and no longer in memory. [`crate::JournalEvent::Read`] must follow,
    /// once.
    ReadResult {
        /// Names the read. Made by the shard: no caller waits under this one.
        ticket: Ticket,
        /// Which execution.
        id: ExecutionId,
    },
    /// Give leased bytes back to the budget for waiting payloads.
    ReturnBytes(u64),
    /// Give leased room for finished executions and keys back.
    ReturnRoom(Room),
    /// Something to measure or to write into the log.
    Note(Note),
}

/// Where an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The server answers with the input.
    Local,
    /// An open endpoint.
    Endpoint(EndpointId),
    /// A job of its own, of this function. [`crate::DispatchEvent::JobCreated`] may follow, and
    /// [`crate::DispatchEvent::JobEnded`] after it; a job that cannot be created is an attempt that failed.
    Job(FunctionKey),
}

/// An attempt to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Names the attempt in [`crate::DispatchEvent::Finished`].
    pub attempt: AttemptKey,
    /// The execution it belongs to.
    pub id: ExecutionId,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Where it goes.
    pub destination: Destination,
    /// What to send.
    pub payload: Payload,
    /// How long the function may take, in milliseconds.
    pub remaining_ms: u32,
    /// Trace context, and the idempotency key on the first attempt that anybody knows of.
    pub extra: Option<Box<Extra>>,
}

/// Something to measure or to write into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An attempt ended its execution as success or error. Durations in microseconds.
    Finished {
        /// The function.
        function: FunctionKey,
        /// From its last queueing to its last dispatch.
        queue_wait_us: u64,
        /// From its last dispatch to its end.
        latency_us: u64,
        /// From its acceptance to its end.
        e2e_us: u64,
        /// How long the replica took to start, when it was a cold one that said so.
        init_ms: Option<u32>,
    },
    /// A synchronous call left the queue for a slot, while the sync queue is on.
    SyncDispatched {
        /// The function.
        function: FunctionKey,
        /// How long it waited, in microseconds.
        wait_us: u64,
    },
    /// A function is gone; its series can be dropped.
    FunctionGone {
        /// The function.
        function: FunctionKey,
    },
    /// An answer or callback came too late to matter.
    Late {
        /// The execution it was for.
        id: ExecutionId,
        /// What was wrong with it.
        reason: &'static str,
    },
    /// A function has too many dead letters: its oldest is no longer one.
    DeadLetterDropped {
        /// The execution.
        id: ExecutionId,
    },
    /// The replicas of a function that was there before the server started cannot be started; that is tried again.
    NotReconciled {
        /// Its name.
        name: Name,
        /// What stands in the way.
        message: Box<str>,
    },
    /// An attempt was not run, and counts for nothing: its execution waits again, at its place.
    NotRun {
        /// The execution.
        id: ExecutionId,
        /// Number of the attempt. The next one has it too.
        attempt: u32,
    },
    /// The job of an attempt is not there, and the attempt counts for nothing: its execution waits again, at its place.
    JobLost {
        /// The execution.
        id: ExecutionId,
        /// Number of the attempt. No other one has it.
        attempt: u32,
    },
    /// An attempt failed and another one follows.
    Retry {
        /// The execution.
        id: ExecutionId,
        /// Number of the attempt that failed.
        attempt: u32,
        /// Code of its failure.
        code: Cow<'static, str>,
    },
}

/// Effects of one or several inputs, in order. Reused to save allocations.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    /// Adds one.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Answers a caller.
    pub(crate) fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.list.push(Effect::Reply { ticket, answer });
    }

    /// Takes all of them out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> {
        self.list.drain(..)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Effect] {
        &self.list
    }
}
