//! What has to survive a crash, as records for a store, and who waits for one of them to be safe.
//!
//! A shard numbers its records. A store writes them in that order and says how far it has come
//! ([`crate::Input::Journaled`]); whoever was promised something with a record hears of it then, not before. The
//! other records are written without anybody waiting: should they be lost in a crash, what they say happens again.

use std::collections::VecDeque;

use crate::{
    answer::State,
    id::ExecutionId,
    input::{Extra, Ticket},
    name::Name,
    payload::{Failure, Output, Payload},
    shard::ExecutionKey,
};

/// One thing to remember.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An execution was accepted: its result will be there, whatever happens.
    Accepted {
        /// Which execution.
        id: ExecutionId,
        /// Its function.
        function: Name,
        /// When, in milliseconds since the Unix epoch.
        created_ms: u64,
        /// What to send.
        payload: Payload,
        /// Trace context, idempotency key, age limit.
        extra: Option<Box<Extra>>,
        /// Where the result goes.
        callback_url: Option<Box<str>>,
    },
    /// An attempt of it was dispatched.
    Attempted {
        /// Which execution.
        id: ExecutionId,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// The attempt failed, and another one follows.
    Requeued {
        /// Which execution.
        id: ExecutionId,
        /// Why it failed.
        failure: Failure,
    },
    /// It ended.
    Ended {
        /// Which execution.
        id: ExecutionId,
        /// How.
        state: State,
        /// Output, or why there is none.
        result: Result<Output, Failure>,
        /// When, in milliseconds since the Unix epoch.
        finished_ms: u64,
        /// It is a dead letter now.
        dead: bool,
    },
    /// A dead letter is tried again.
    Replayed {
        /// Which execution.
        id: ExecutionId,
    },
    /// A dead letter is given up; its record stays for its time.
    Purged {
        /// Which execution.
        id: ExecutionId,
    },
}

/// What follows once a record is safe, or cannot be written.
#[derive(Debug)]
pub(crate) enum Promise {
    /// A new execution waits for it: it may be dispatched, and its caller told.
    Accept(ExecutionKey, Ticket),
    /// The same for a dead letter that is tried again.
    Replay(ExecutionKey, Ticket),
    /// Nothing but the answer: the execution was there already.
    Answer(ExecutionId, Ticket),
}

/// Records that are on their way, and what was promised with them.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Number of the newest record; the first one is 1.
    written: u64,
    promises: VecDeque<(u64, Promise)>,
}

impl Journal {
    /// The number for the next record.
    pub(crate) fn number(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    /// Something follows once everything that was written so far is safe.
    pub(crate) fn promise(&mut self, promise: Promise) {
        self.promises.push_back((self.written, promise));
    }

    /// The oldest promise that a record up to `through` decides.
    pub(crate) fn pop(&mut self, through: u64) -> Option<Promise> {
        self.promises.pop_front_if(|(number, _)| *number <= through).map(|(_, promise)| promise)
    }

    /// Promises that are open, oldest first.
    pub(crate) fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.promises.iter().map(|(_, promise)| promise)
    }
}
