//! Where records go that have to survive a crash.
//!
//! A shard waits for its records to be safe before it promises anything. This version keeps everything in memory:
//! its one store takes a record for safe at once.

use shard_core::{Input, Record};

/// Takes the records of one shard, on that shard's thread.
pub trait Store {
    /// Takes the next record. Never blocks. Returns what is known at once; else [`Input::Journaled`] or
    /// [`Input::JournalFailed`] reaches the shard later, at least once for all records up to a number.
    fn append(&mut self, number: u64, record: Record) -> Option<Input>;
}

/// Forgets everything with the process.
#[derive(Debug, Default)]
pub struct Ephemeral;

impl Store for Ephemeral {
    fn append(&mut self, number: u64, _record: Record) -> Option<Input> {
        Some(Input::Journaled { through: number })
    }
}
