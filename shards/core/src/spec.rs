//! What is asked for when a function is registered, and what a backend makes of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{name::Name, scaling::Scaling};

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
    /// A job for each attempt, which the host orders and watches.
    Jobs,
}

/// A function whose provisioning succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The description that clients read from now on.
    pub document: Bytes,
    /// Where its calls go: [`Target::Backend`], [`Target::Jobs`], or a fixed address when it was degraded.
    pub target: Target,
    /// The replicas that are ready.
    pub endpoints: Vec<ReplicaAddress>,
    /// How many replicas are wanted.
    pub desired: u32,
}

/// Where a replica takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaAddress {
    /// Which replica: a number that no other one of its function has or had. Another replica may get the address of one
    /// that is gone, and what is still open to that one must not serve it.
    pub replica: u64,
    /// Where its calls go.
    pub address: Arc<str>,
}
