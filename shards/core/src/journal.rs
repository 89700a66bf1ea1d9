//! What has to survive a crash, as records for a store, and who waits for one of them to be safe.
//!
//! A shard numbers its records. A store writes them in that order and says how far it has come
//! ([`crate::Input::Journaled`]); whoever was promised something with a record hears of it then, not before. The
//! other records are written without anybody waiting: should they be lost in a crash, what they say happens again.
//!
//! A record that cannot be written may still turn up after a crash: a disk that fails does not say how far it came.
//! What follows from the failure is therefore written down too ([`Record::Forgotten`], [`Record::Removed`],
//! [`Record::Reinstated`], another [`Record::Ended`]), for a store to take when it can again.

use std::collections::VecDeque;

use crate::{
    answer::{Delivery, Stage, State},
    id::ExecutionId,
    input::{Extra, FunctionSpec, Ticket},
    name::Name,
    payload::{Failure, Output, Payload},
    shard::{ExecutionKey, FunctionKey},
};

/// One thing to remember.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A function was registered.
    Registered {
        /// As it was asked for.
        spec: Box<FunctionSpec>,
    },
    /// It was removed, and what waited for it with it.
    Removed {
        /// Its name.
        name: Name,
    },
    /// Its removal came to nothing: as if it had not been removed.
    Reinstated {
        /// As it was asked for.
        spec: Box<FunctionSpec>,
    },
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
    /// An execution that had ended was accepted: its result will be there.
    Kept {
        /// Which execution.
        id: ExecutionId,
        /// Its function.
        function: Name,
        /// When it was called, in milliseconds since the Unix epoch.
        created_ms: u64,
        /// Number of its last attempt; 0 if there was none.
        attempt: u32,
        /// What to send should it be tried again. Empty unless it is a dead letter.
        payload: Payload,
        /// Trace context, idempotency key, age limit.
        extra: Option<Box<Extra>>,
        /// Why the attempt before failed.
        last_failure: Option<Box<Failure>>,
        /// How, and when it ended.
        end: Box<End>,
        /// It is a dead letter.
        dead: bool,
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
        /// How, and when.
        end: Box<End>,
        /// It is a dead letter now.
        dead: bool,
    },
    /// A dead letter is tried again.
    Replayed {
        /// Which execution.
        id: ExecutionId,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A dead letter is given up; its record stays for its time.
    Purged {
        /// Which execution.
        id: ExecutionId,
    },
    /// The delivery of its result came to an end.
    Delivered {
        /// Which execution.
        id: ExecutionId,
        /// How.
        delivery: Delivery,
    },
    /// Its time is over, or it was not accepted after all: nothing has to be kept of it.
    Forgotten {
        /// Which execution.
        id: ExecutionId,
    },
}

/// The end of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// How it ended.
    pub result: EndResult,
    /// Start of the last attempt, in milliseconds since the Unix epoch; 0 if there was none.
    pub dispatched_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: u64,
    /// The instance said that this was its first call.
    pub cold_start: bool,
    /// How long that instance took to start, in milliseconds.
    pub init_ms: Option<u32>,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq)]
pub enum EndResult {
    /// The function answered.
    Output(Output),
    /// Why there is no output.
    Failed(Box<Failure>),
    /// A deadline passed.
    TimedOut {
        /// Where the execution was.
        stage: Stage,
        /// The deadline, in milliseconds.
        limit_ms: u32,
    },
}

impl EndResult {
    /// The state that it ended in.
    pub fn state(&self) -> State {
        match self {
            EndResult::Output(_) => State::Success,
            EndResult::Failed(_) => State::Error,
            EndResult::TimedOut { .. } => State::Timeout,
        }
    }
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
    /// A function waits for it to become visible.
    Register(FunctionKey),
    /// A function waits for it to be taken down.
    Remove(FunctionKey),
}

impl Promise {
    /// Whether it was given for the acceptance of this execution.
    fn is_about(&self, key: ExecutionKey, id: ExecutionId) -> bool {
        match self {
            Promise::Accept(of, _) | Promise::Replay(of, _) => *of == key,
            Promise::Answer(of, _) => *of == id,
            Promise::Register(_) | Promise::Remove(_) => false,
        }
    }
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

    /// Something follows once everything that was written so far is safe. Returns the number of the record that
    /// decides it.
    pub(crate) fn promise(&mut self, promise: Promise) -> u64 {
        self.promises.push_back((self.written, promise));
        self.written
    }

    /// Something else follows once the newest record of an execution's acceptance is safe: that very one, for were it
    /// to fail and be written once more, a later one would say nothing about it. `false`: none is on its way.
    pub(crate) fn join(&mut self, key: ExecutionKey, id: ExecutionId, ticket: Ticket) -> bool {
        let Some(place) = self.promises.iter().rposition(|(_, promise)| promise.is_about(key, id)) else {
            return false;
        };
        let number = self.promises[place].0;
        self.promises.insert(place + 1, (number, Promise::Answer(id, ticket)));
        true
    }

    /// The oldest promise that a record up to `through` decides, with the number of that.
    pub(crate) fn pop(&mut self, through: u64) -> Option<(u64, Promise)> {
        self.promises.pop_front_if(|(number, _)| *number <= through)
    }

    /// The newest promise that this very record decides. It is among the newest of all.
    pub(crate) fn take(&mut self, number: u64) -> Option<(u64, Promise)> {
        let place = self.promises.iter().rposition(|(of, _)| *of <= number)?;
        self.promises.get(place).filter(|(of, _)| *of == number)?;
        self.promises.remove(place)
    }

    /// Whether something waits for this record.
    pub(crate) fn decides(&self, number: u64) -> bool {
        self.promises.iter().any(|(of, _)| *of == number)
    }

    /// Promises that are open, oldest first.
    pub(crate) fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.promises.iter().map(|(_, promise)| promise)
    }
}
