//! What a shard consists of, beside its slabs: where it stands in its own life, how things are found, and its accounts.

use std::{
    collections::VecDeque,
    hash::{BuildHasherDefault, DefaultHasher},
    panic::Location,
    sync::Arc,
};

use crate::{
    call::Ticket,
    id::ExecutionId,
    id_table::IdTable,
    idempotency::Keys,
    keys::{AttemptKey, EndpointId, ExecutionKey, FunctionKey},
    partition::{Epochs, Partition},
    timers::TimerKey,
};

/// SipHash with a fixed key: nothing here may depend on a seed that differs from run to run.
#[expect(
    clippy::disallowed_types,
    reason = "the seed is fixed; clippy.toml forbids what would show an order"
)]
type FixedMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// An attempt: one slot of its function from dispatch until it is settled.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) execution: ExecutionKey,
    pub(crate) id: ExecutionId,
    pub(crate) function: FunctionKey,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) timer: TimerKey,
    pub(crate) dispatched_us: u64,
    /// Its slot was given back.
    pub(crate) settled: bool,
    /// It was decided by callback while its HTTP exchange goes on.
    pub(crate) lingers: bool,
    /// The dispatcher is done with it; a callback is to follow.
    pub(crate) exchange_over: bool,
    /// The request is not sent yet.
    pub(crate) connecting: bool,
    /// The job that it has of its own, if it has one.
    pub(crate) job: Option<JobStage>,
    /// Who is to be told when it has been recorded.
    pub(crate) drainer: Option<Ticket>,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// It is ordered when the record of its attempt is safe: nobody has heard of it, and its time has not begun.
    Unrecorded,
    /// It is being created.
    Ordered,
    /// It was; a callback is to follow.
    Created,
}

/// How things are found.
#[derive(Debug)]
pub(crate) struct Index {
    /// Functions by their labels, which are in use anyway with every call.
    pub(crate) names: FixedMap<Arc<str>, FunctionKey>,
    pub(crate) ids: IdTable,
    pub(crate) keys: Keys,
    /// Callers that joined an execution started by another, for the case that they leave.
    pub(super) joined: FixedMap<Ticket, ExecutionKey>,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            names: FixedMap::default(),
            ids: IdTable::new(),
            keys: Keys::default(),
            joined: FixedMap::default(),
        }
    }
}

/// Bytes that are held, and that may be.
#[derive(Debug, Default)]
pub(crate) struct ByteAccounts {
    /// Of the specs of all functions.
    pub(crate) specs: u64,
    /// Of payloads that wait.
    pub(crate) queued: u64,
    /// Leased for those.
    pub(super) granted: u64,
    /// Of these, bytes beyond the server's budget.
    pub(super) lent: u64,
    /// Of what ended and is not shown yet.
    pub(crate) concealed: u64,
}

impl ByteAccounts {
    /// Whether another payload may wait. What has become free in this step goes back to whoever lent it, and admits nobody.
    pub(super) fn have_room_for(&self, payload_bytes: u64) -> bool {
        let repaid = self.granted.saturating_sub(self.queued).min(self.lent);
        self.queued + payload_bytes <= self.granted - repaid
    }
}

/// Steps that found something missing that cannot be, and where the first one was.
#[derive(Debug, Default)]
pub(crate) struct Impossible {
    pub(crate) count: u64,
    pub(crate) first: Option<&'static Location<'static>>,
}

/// Decisions about replicas.
#[derive(Debug, Default)]
pub(crate) struct ScalingRound {
    /// The next ones.
    pub(crate) timer: Option<TimerKey>,
    /// Functions whose turn has yet to come in this round.
    pub(super) turn: VecDeque<FunctionKey>,
}

/// Where a shard stands in its own life. What goes in order is one state; the rest may come at any time: a server may go
/// away while it still takes back what was there, and readers are let go whether or not what waits is held.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// What was there before is still being taken back: nothing is dispatched.
    pub(crate) restoring: bool,
    pub(crate) start: Start,
    /// What it was given, and the epoch that has begun in each with that.
    pub(super) partitions: Vec<Partition>,
    pub(super) epochs: Epochs,
    /// Attempts that were made before, and have jobs: when their time is over. Kept until everything is back.
    pub(crate) adopted: Vec<(AttemptKey, u64)>,
    pub(super) drain: Drain,
    /// Nobody waits for the end of an execution to read it any more.
    pub(super) watches_ended: bool,
    /// Accepted executions wait for another server.
    pub(super) held: bool,
}

/// The records that epochs have begun: what was accepted in an earlier one does not run before they are safe.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing needed it yet.
    #[default]
    Unwritten,
    BeingWritten,
    Written,
}

impl Start {
    pub(crate) fn is_being_written(self) -> bool {
        self == Start::BeingWritten
    }
}

/// What becomes of work that has not begun. There is no way back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drain {
    /// It is admitted.
    #[default]
    Open,
    /// New work is refused.
    Draining,
    /// Synchronous callers are no longer kept waiting for a slot either.
    GivenUp,
}
