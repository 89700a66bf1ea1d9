//! Records: numbered without a gap, and nothing is promised with one before it is safe.

use std::collections::BTreeMap;

use shard_core::{ExecutionId, Ticket};

use super::Verdict;
use crate::disk::Told;

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    shards: Vec<Numbers>,
    /// The record that says that an execution was accepted: shard and number.
    acceptance: BTreeMap<ExecutionId, (u16, u64)>,
    /// The one that says that a dead letter is tried again, by who asked for that: an execution may die again, and be tried again,
    /// before the first of them is told.
    replays: BTreeMap<Ticket, (u16, u64)>,
}

#[derive(Debug, Default, Clone)]
struct Numbers {
    written: u64,
    /// Up to here it is known what became of records.
    decided: u64,
    /// Groups that could not be written: first and last number.
    failed: Vec<(u64, u64)>,
}

impl Records {
    pub(super) fn new(shards: u16) -> Records {
        Records {
            shards: vec![Numbers::default(); usize::from(shards)],
            acceptance: BTreeMap::new(),
            replays: BTreeMap::new(),
        }
    }

    /// A shard has a record written.
    pub(super) fn written(&mut self, shard: u16, number: u64) -> Verdict {
        let numbers = &mut self.shards[usize::from(shard)];
        numbers.written += 1;
        if number == numbers.written {
            return Ok(());
        }
        Err(format!("record {number} of shard {shard} comes after {}", numbers.written - 1))
    }

    /// It says that an execution is accepted.
    pub(super) fn accepts(&mut self, shard: u16, number: u64, id: ExecutionId) {
        self.acceptance.insert(id, (shard, number));
    }

    /// It says that a dead letter is tried again, as this caller wants it.
    pub(super) fn replays(&mut self, shard: u16, number: u64, ticket: Ticket) {
        self.replays.insert(ticket, (shard, number));
    }

    /// A disk is done with some of them.
    pub(super) fn told(&mut self, shard: u16, told: Told) {
        let numbers = &mut self.shards[usize::from(shard)];
        match told {
            Told::Written(through) => numbers.decided = numbers.decided.max(through),
            Told::Failed(through) => {
                numbers.failed.push((numbers.decided + 1, through));
                numbers.decided = numbers.decided.max(through);
            }
            Told::Refused(number) => numbers.failed.push((number, number)),
        }
    }

    /// Shards begin anew: what they are given back is safe.
    pub(super) fn crashed(&mut self) {
        self.shards.iter_mut().for_each(|numbers| *numbers = Numbers::default());
        self.acceptance.values_mut().for_each(|(_, number)| *number = 0);
        self.replays.clear();
    }

    /// Whether its acceptance may be written down once more: nobody knows what became of the record before, or of a later
    /// one that a caller waited for.
    pub(super) fn is_doubtful(&self, id: ExecutionId) -> bool {
        let Some((shard, number)) = self.acceptance.get(&id) else { return true };
        self.shards[usize::from(*shard)].failed.iter().any(|(_, to)| to >= number)
    }

    /// Checks that an execution's acceptance survives a crash.
    pub(super) fn is_accepted(&self, id: ExecutionId) -> Verdict {
        self.is_safe(id, self.acceptance.get(&id))
    }

    /// Checks that the replay that this caller asked for does.
    pub(super) fn is_replayed(&self, id: ExecutionId, ticket: Ticket) -> Verdict {
        self.is_safe(id, self.replays.get(&ticket))
    }

    fn is_safe(&self, id: ExecutionId, record: Option<&(u16, u64)>) -> Verdict {
        match record {
            None => Err(format!("{id} was accepted, and no record says so")),
            Some((shard, number)) => {
                let numbers = &self.shards[usize::from(*shard)];
                let failed = numbers.failed.iter().any(|(from, to)| (from..=to).contains(&number));
                if *number > numbers.decided || failed {
                    return Err(format!("{id} was accepted before its record {number} was safe"));
                }
                Ok(())
            }
        }
    }
}
