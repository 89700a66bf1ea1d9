//! What recovery knows of one execution.

use super::StoredEnd;
use crate::{
    answer::Delivery,
    call::Extra,
    id::ExecutionId,
    name::Name,
    partition::Epoch,
    payload::{Failure, Payload},
};

/// What is known of an accepted execution.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Its function.
    pub function: Name,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it was accepted or last replayed, in milliseconds since the Unix epoch: its age limit counts from then.
    pub queued_ms: u64,
    /// What to send. Empty once it has ended, unless it is a dead letter.
    pub payload: Payload,
    /// Trace context, idempotency key, age limit.
    pub extra: Option<Box<Extra>>,
    /// Where the result goes.
    pub callback_url: Option<Box<str>>,
    /// How its delivery ended; `None` while it has to be tried.
    pub delivery: Option<Delivery>,
    /// Number of the last attempt; 0 if there was none.
    pub attempt: u32,
    /// Attempts that do not count: those before a replay, and interrupted ones.
    pub attempts_before: u32,
    /// Replicas that ended while they ran it, since it was accepted or last replayed.
    pub crashes: u32,
    /// The last attempt did not come to an end.
    pub is_interrupted: bool,
    /// When the time of its last attempt is over, in milliseconds since the Unix epoch, if that has a job and is not known to have
    /// come to an end.
    pub job_until_ms: Option<u64>,
    /// Attempts that may have been made without a record. They do not count, and their numbers are not used again.
    pub unrecorded: u32,
    /// Why the attempt before failed.
    pub last_failure: Option<Box<Failure>>,
    /// How it ended, if it did.
    pub end: Option<Box<StoredEnd>>,
    /// It is a dead letter.
    pub dead: bool,
    /// Its function was removed while it was there.
    pub is_removed: bool,
    /// Its idempotency key stands for it: no other execution has taken the key since.
    pub has_its_key: bool,
    /// Its place among all others: by acceptance, or by what put it at the tail since.
    pub(super) order: u64,
    /// When it was accepted, in the same count.
    pub(super) accepted: u64,
    /// The epoch in which the last record about it was written.
    pub(super) epoch: Epoch,
}

impl StoredExecution {
    /// One that waits for its first attempt.
    pub(super) fn new(
        id: ExecutionId,
        function: Name,
        created_ms: u64,
        payload: Payload,
        extra: Option<Box<Extra>>,
        order: u64,
        epoch: Epoch,
    ) -> StoredExecution {
        StoredExecution {
            id,
            function,
            created_ms,
            queued_ms: created_ms,
            payload,
            extra,
            callback_url: None,
            delivery: None,
            attempt: 0,
            attempts_before: 0,
            crashes: 0,
            is_interrupted: false,
            job_until_ms: None,
            unrecorded: 0,
            last_failure: None,
            end: None,
            dead: false,
            is_removed: false,
            has_its_key: true,
            order,
            accepted: order,
            epoch,
        }
    }
}
