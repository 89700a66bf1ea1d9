//! Executions that were accepted and ended badly, per function name: kept until somebody tries them again or gives
//! them up, and across another registration of the name, for that is how a broken function is mended.
//!
//! Bounded in number per function and in bytes over all; the oldest go first.

use std::collections::{BTreeMap, VecDeque};

use crate::{input::Extra, name::Name, payload::Payload, shard::ExecutionKey};

/// What a dead letter needs to be tried again.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) payload: Payload,
    pub(crate) extra: Option<Box<Extra>>,
    /// When it became one, in milliseconds since the Unix epoch.
    pub(crate) dead_ms: u64,
    /// Bytes that it holds of the budget for dead letters.
    pub(crate) bytes: u64,
    /// Somebody gives it up, and that is being written down: it is not tried again meanwhile.
    pub(crate) is_given_up: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    functions: BTreeMap<Name, VecDeque<ExecutionKey>>,
    count: usize,
    pub(crate) bytes: u64,
}

impl DeadLetters {
    /// Adds the newest.
    pub(crate) fn push(&mut self, function: Name, execution: ExecutionKey, bytes: u64) {
        self.functions.entry(function).or_default().push_back(execution);
        self.count += 1;
        self.bytes += bytes;
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, function: &Name, execution: ExecutionKey, bytes: u64) {
        let Some(letters) = self.functions.get_mut(function) else { return };
        let Some(position) = letters.iter().position(|letter| *letter == execution) else { return };
        letters.remove(position);
        if letters.is_empty() {
            self.functions.remove(function);
        }
        self.count -= 1;
        self.bytes -= bytes;
    }

    /// The oldest of a function.
    pub(crate) fn oldest(&self, function: &Name) -> Option<ExecutionKey> {
        self.functions.get(function)?.front().copied()
    }

    /// Those of a function, oldest first.
    pub(crate) fn of(&self, function: &Name) -> impl DoubleEndedIterator<Item = ExecutionKey> {
        self.functions.get(function).into_iter().flatten().copied()
    }

    /// How many a function has.
    pub(crate) fn count_of(&self, function: &Name) -> usize {
        self.functions.get(function).map_or(0, VecDeque::len)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Functions that have any, and how many, by name.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&Name, usize)> {
        self.functions.iter().map(|(name, letters)| (name, letters.len()))
    }
}
