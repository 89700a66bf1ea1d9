//! Results that are read back from disk: each read has one end, what is dropped from memory is there, and whoever waits for it
//! has as long as that takes.

use std::collections::BTreeMap;

use shard_core::{ExecutionId, Input, JournalEvent, ReadFailure, Ticket};

use super::{Auditor, Verdict};

/// Reads that are on their way: of which execution, by their shard and what they are named by.
#[derive(Debug, Default)]
pub(super) struct Reads {
    open: BTreeMap<(u16, Ticket), ExecutionId>,
}

impl Reads {
    /// All shards are gone.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }
}

impl Auditor {
    /// A shard wants to know how an execution ended.
    pub(super) fn reads(&mut self, shard: u16, ticket: Ticket, id: ExecutionId) -> Verdict {
        self.stats.read += 1;
        if let Some(asker) = self.asker {
            self.callers.waits_for_a_read(asker);
        }
        if self.reads.open.insert((shard, ticket), id).is_some() {
            return Err(format!("two reads of shard {shard} are named {}", ticket.0));
        }
        match self.executions.get_mut(id)?.ended {
            Some(_) => Ok(()),
            None => Err(format!("{id} has not ended, and how it did is read")),
        }
    }

    /// It is told.
    pub(super) fn has_read(&mut self, shard: u16, input: &Input) -> Verdict {
        let Input::Journal(JournalEvent::Read { ticket, id, result }) = input else { return Ok(()) };
        if self.reads.open.remove(&(shard, *ticket)) != Some(*id) {
            return Err(format!("the world answers read {} of shard {shard}, which is not open", ticket.0));
        }
        let is_gone = self.executions.get(*id).is_none_or(|run| run.is_gone);
        match result {
            Err(ReadFailure::Missing) if !is_gone => {
                Err(format!("how {id} ended is not in memory any more, and not on disk"))
            }
            _ => Ok(()),
        }
    }
}
