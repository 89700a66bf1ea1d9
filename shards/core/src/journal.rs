//! What has to survive a crash, as records for a store, and who waits for one of them to be safe.
//!
//! A shard numbers its records, and says of each to which partition it belongs and in which epoch it was written
//! ([`Entry`]). A store writes them in that order and says how far it has come
//! ([`crate::JournalEvent::Safe`]); whoever was promised something with a record hears of it then, not before. The
//! other records are written without anybody waiting: should they be lost in a crash, what they say happens again.
//!
//! Records other than acceptances are *facts*. A store that could not write them keeps them and writes them before
//! anything else once it can: the next `Journaled` is about them as well. What waits for a fact, such as the end of an
//! execution that is shown when it is safe, therefore waits on when a commit fails.
//!
//! A record that cannot be written may still turn up after a crash: a disk that fails does not say how far it came.
//! What follows from the failure is therefore written down too ([`Record::Forgotten`], [`Record::Removed`],
//! [`Record::Reinstated`], another [`Record::Ended`]), for a store to take when it can again.

use std::collections::VecDeque;

use crate::{
    answer::{Delivery, Stage, State},
    call::{Extra, Ticket},
    id::ExecutionId,
    keys::{AttemptKey, ExecutionKey, FunctionKey},
    name::Name,
    partition::{Epoch, Partition},
    payload::{Failure, Output, Payload},
    spec::FunctionSpec,
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
        /// What to send should it be tried again. Empty unless it is a dead letter, or one that is being given up.
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
    /// The same of an attempt that gets a job, before that is created: a later owner can go on with it.
    JobOrdered {
        /// Which execution.
        id: ExecutionId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// When its time is over, in milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// The job of its attempt is not there: what became of the attempt is not known, and it counts for nothing.
    JobLost {
        /// Which execution.
        id: ExecutionId,
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
    /// A server took a partition over, and with it what was there before. From now on it may make attempts whose records
    /// a crash takes away, and no record of an earlier epoch counts.
    Started {
        /// Which partition.
        partition: Partition,
        /// The epoch that begins.
        epoch: Epoch,
    },
}

impl Record {
    /// What it belongs to.
    pub fn partition(&self) -> Partition {
        match self {
            Record::Registered { spec } | Record::Reinstated { spec } => spec.name.partition(),
            Record::Removed { name } => name.partition(),
            Record::Accepted { id, .. }
            | Record::Kept { id, .. }
            | Record::Attempted { id, .. }
            | Record::JobOrdered { id, .. }
            | Record::JobLost { id }
            | Record::Requeued { id, .. }
            | Record::Ended { id, .. }
            | Record::Replayed { id, .. }
            | Record::Purged { id }
            | Record::Delivered { id, .. }
            | Record::Forgotten { id } => id.partition(),
            Record::Started { partition, .. } => *partition,
        }
    }
}

/// A record as it is written: with what it belongs to, and who owned that.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The partition of what the record is about.
    pub partition: Partition,
    /// The epoch of that partition in which it was written.
    pub epoch: Epoch,
    /// What it says.
    pub record: Record,
}

impl Entry {
    /// A record of this epoch of its partition.
    pub fn of(epoch: Epoch, record: Record) -> Entry {
        Entry { partition: record.partition(), epoch, record }
    }
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
    /// The replica said that this was its first call.
    pub cold_start: bool,
    /// How long that replica took to start, in milliseconds.
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
    /// Bytes that count against the retention budget.
    pub fn bytes(&self) -> u64 {
        match self {
            EndResult::Output(output) => output.bytes(),
            EndResult::Failed(failure) => failure.bytes(),
            EndResult::TimedOut { .. } => 0,
        }
    }

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
    /// The same for the address that its result goes to.
    Address(ExecutionId, Ticket),
    /// A function waits for it to become visible.
    Register(FunctionKey),
    /// A function waits for it to be taken down.
    Remove(FunctionKey),
    /// A dead letter waits for it to be given up.
    Purge(ExecutionKey, Ticket),
    /// Who asked for an attempt waits for what came of it.
    Drain(Ticket),
    /// What an execution came to is shown when it is safe.
    End(ExecutionKey),
    /// An attempt is made when it is certain that no other one will have its number.
    Retry(ExecutionKey),
    /// The job of an attempt is ordered when a later owner would know of it.
    Job(AttemptKey),
    /// What was accepted before the server started runs when it is certain that no other one will use its numbers.
    Start,
}

impl Promise {
    /// Whether it was given for the acceptance of this execution.
    fn is_about(&self, key: ExecutionKey, id: ExecutionId) -> bool {
        match self {
            Promise::Accept(of, _) | Promise::Replay(of, _) => *of == key,
            Promise::Answer(of, _) => *of == id,
            Promise::Address(..)
            | Promise::Register(_)
            | Promise::Remove(_)
            | Promise::Purge(..)
            | Promise::Drain(_)
            | Promise::End(_)
            | Promise::Retry(_)
            | Promise::Job(_)
            | Promise::Start => false,
        }
    }

    /// Whether it is kept when a commit fails: what it waits for happened, and will be written.
    fn waits_on(&self) -> bool {
        matches!(self, Promise::End(_) | Promise::Retry(_) | Promise::Job(_) | Promise::Start)
    }
}

/// Records that are on their way, and what was promised with them.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Number of the newest record; the first one is 1.
    written: u64,
    /// Number of the newest one that is safe, and all facts before it.
    safe: u64,
    promises: VecDeque<(u64, Promise)>,
    /// What waits for facts whose commit failed, oldest first.
    delayed: VecDeque<(u64, Promise)>,
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

    /// Number of the newest record.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Takes note that everything up to this record is safe.
    pub(crate) fn is_safe_through(&mut self, through: u64) {
        self.safe = self.safe.max(through);
    }

    /// Whether this record is safe, if it is a fact.
    pub(crate) fn is_safe(&self, number: u64) -> bool {
        number <= self.safe
    }

    /// The oldest promise that is kept, with the number of the record that decided it.
    pub(crate) fn pop_kept(&mut self) -> Option<(u64, Promise)> {
        let safe = self.safe;
        let kept = |(number, _): &mut (u64, Promise)| *number <= safe;
        self.delayed.pop_front_if(kept).or_else(|| self.promises.pop_front_if(kept))
    }

    /// The oldest promise that cannot be kept because records up to `through` were not written. What waits for a fact
    /// waits on.
    pub(crate) fn pop_broken(&mut self, through: u64) -> Option<(u64, Promise)> {
        self.promises.pop_front_if(|(number, _)| *number <= through)
    }

    /// Something waits on for a fact whose commit failed. Returns it again when it is nothing of the kind.
    pub(crate) fn delay(&mut self, number: u64, promise: Promise) -> Option<Promise> {
        if promise.waits_on() {
            self.delayed.push_back((number, promise));
            return None;
        }
        Some(promise)
    }

    /// Whether the commit of this record failed, and it was not written since.
    pub(crate) fn is_delayed(&self, number: u64) -> bool {
        self.delayed.back().is_some_and(|(newest, _)| number <= *newest) && !self.is_safe(number)
    }

    /// The end of an execution that has waited longest for a disk that fails.
    pub(crate) fn pop_delayed_end(&mut self) -> Option<(u64, ExecutionKey)> {
        let place = self.delayed.iter().position(|(_, promise)| matches!(promise, Promise::End(_)))?;
        match self.delayed.remove(place)? {
            (number, Promise::End(key)) => Some((number, key)),
            _ => None,
        }
    }

    /// The newest promise that this very record decides. It is among the newest of all.
    pub(crate) fn take(&mut self, number: u64) -> Option<(u64, Promise)> {
        let place = self.promises.iter().rposition(|(of, _)| *of <= number)?;
        self.promises.get(place).filter(|(of, _)| *of == number)?;
        self.promises.remove(place)
    }

    /// Takes out whoever was to be told that this execution is accepted, though it is not after all.
    pub(crate) fn take_answers(&mut self, id: ExecutionId) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        self.promises.retain(|(_, promise)| match promise {
            Promise::Answer(of, ticket) | Promise::Address(of, ticket) if *of == id => {
                tickets.push(*ticket);
                false
            }
            _ => true,
        });
        tickets
    }

    /// An acceptance failed, with this record. Later ones that bring addresses say the same, and it is they that decide now;
    /// the first of several that waited for the broken one has made them do so. `false`: there are none.
    pub(crate) fn rely_on_addresses(&mut self, id: ExecutionId, broken: u64) -> bool {
        let mut relies = false;
        for (number, promise) in &mut self.promises {
            if let Promise::Address(of, ticket) | Promise::Answer(of, ticket) = promise
                && *of == id
                && *number > broken
            {
                (*promise, relies) = (Promise::Answer(id, *ticket), true);
            }
        }
        relies
    }

    /// Whether something waits for this record.
    pub(crate) fn decides(&self, number: u64) -> bool {
        self.delayed.iter().chain(&self.promises).any(|(of, _)| *of == number)
    }

    /// Promises that are open, oldest first.
    pub(crate) fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.delayed.iter().chain(&self.promises).map(|(_, promise)| promise)
    }
}
