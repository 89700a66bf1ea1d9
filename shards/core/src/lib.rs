//! The state machine of one nanofaas shard.
//!
//! A shard owns its functions, their queues, slots and rate windows, and their executions. It is driven by
//! [`Shard::handle`]: one closed [`Input`] in, any number of closed [`Effect`]s out. The same inputs at the
//! same times give the same effects, byte for byte: time, ids and randomness are given to it.
//!
//! Reading order: [`input`] (what can happen; `keys`, `call`, `spec` and `report` have its parts), [`effect`] and
//! [`answer`] (what it causes), then `shard/`, one file per stage of an execution's life: `registry`, `admission`, `journaling`, `dispatch`, `completion`,
//! `retry`, `timing`, `retention`, `reading`, `sync_queue`; and what is done to executions from outside: `watching`, `dead_letters`,
//! `drain_once`, `delivery`. [`recovery`] makes one thing per function and execution of all records, and
//! `shard/restoration` takes them back. [`invariant::check`] says what holds after every step.
//!
//! Not here, and kept out: I/O, clocks, threads, locks, randomness, serialisation. `clippy.toml` names what std has of
//! that.

#![warn(clippy::iter_over_hash_type)]

pub mod answer;
mod call;
mod dead_letters;
mod drain_rate;
pub mod effect;
mod endpoints;
mod execution;
mod function;
pub mod id;
mod id_table;
mod idempotency;
pub mod input;
pub mod invariant;
pub mod journal;
mod keys;
pub mod limits;
pub mod name;
pub mod partition;
pub mod payload;
mod queue;
mod rate;
pub mod recovery;
mod report;
mod retry_plan;
mod room;
pub mod sabotage;
pub mod scaling;
pub mod settings;
mod shard;
mod slab;
mod spec;
mod sync_history;
mod time;
mod timers;

pub use answer::{
    Answer, Delivery, DeliveryStatus, ExecutionView, ReadFailure, Refusal, State, SyncQueueReason,
};
pub use call::{Extra, Idempotency, Invoke, Ticket};
pub use effect::{Destination, Dispatch, Effect, Effects, Note};
pub use function::{Counters, FunctionView};
pub use id::ExecutionId;
pub use input::{BackendEvent, Control, DispatchEvent, Input, JournalEvent, Lease, Request};
pub use journal::{Entry, Record};
pub use keys::{AttemptKey, EndpointId, FunctionKey};
pub use limits::Limits;
pub use name::Name;
pub use partition::{Epoch, PARTITIONS, Partition, Seating};
pub use payload::{Failure, Media, Output, OutputKind, Payload};
pub use recovery::{Recovery, Stored, StoredEnd, StoredExecution, StoredResult};
pub use report::{Outcome, Report};
pub use room::{Room, RoomRequest};
pub use scaling::{Scaling, ScalingView};
pub use settings::Settings;
pub use shard::{Readiness, Shard, Totals};
pub use slab::Key;
pub use spec::{FunctionSpec, Policy, Provisioned, ReplicaAddress, Target};
pub use time::Now;
