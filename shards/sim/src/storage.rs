//! A store that comes from elsewhere, in the place of the disks that are played: with it a run has one log for all shards, in
//! files that somebody else simulates. See `crates/store/tests/store`.

use std::fmt::Debug;

use shard_core::{Entry, ExecutionId, ReadFailure, Record, journal::EndResult};

pub use crate::disk::Told;

/// Keeps the records of all shards. It is asked one thing after the other; time is the world's.
pub trait Storage: Debug {
    /// Takes the next record of a shard. Returns what is known at once.
    fn append(&mut self, shard: u16, number: u64, entry: Entry) -> Option<Told>;

    /// Begins to write what is pending. Returns how long that takes, in microseconds; `None`: nothing is.
    fn begin(&mut self) -> Option<u64>;

    /// What was begun takes too long, and counts as failed until it is done. What shards are told.
    fn give_up(&mut self) -> Vec<(u16, Told)>;

    /// What was begun is written, or cannot be. What shards are told.
    fn commit(&mut self) -> Vec<(u16, Told)>;

    /// How an execution ended, as the newest record of that says which is safe.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn read(&mut self, id: ExecutionId) -> Result<EndResult, ReadFailure>;

    /// The server ends and waits for it.
    fn flush(&mut self);

    /// The machine loses its power, or the server is killed. Returns what is there afterwards.
    ///
    /// # Errors
    /// When the store does not open, or does not notice what was done to it.
    fn crash(&mut self) -> Result<Kept, String>;

    /// From now on everything works.
    fn repair(&mut self);

    /// Whether something is to be written.
    fn is_busy(&self) -> bool;
}

/// What a store has kept over a crash.
#[derive(Debug, Default)]
pub struct Kept {
    /// All records, in their order; of whichever shard, their owner follows from what they are about.
    pub entries: Vec<Entry>,
    /// Of executions whose time was over and which compaction has dropped: something to tell that by.
    pub dropped: Vec<Record>,
}

/// Longest that a commit may take before it counts as failed, in microseconds.
pub(crate) const COMMIT_US_MAX: u64 = 5_000_000;
