//! Records: numbered without a gap, and nothing is promised with one before it is safe.

use std::collections::BTreeMap;

use shard_core::ExecutionId;

use super::Verdict;

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    shards: Vec<Numbers>,
    /// The record that says that an execution was accepted, or is tried again: shard and number.
    acceptance: BTreeMap<ExecutionId, (u16, u64)>,
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
        Records { shards: vec![Numbers::default(); usize::from(shards)], acceptance: BTreeMap::new() }
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

    /// A disk is done with everything up to a number; the newest group was written, or not.
    pub(super) fn committed(&mut self, shard: u16, through: u64, written: bool) {
        let numbers = &mut self.shards[usize::from(shard)];
        if !written {
            numbers.failed.push((numbers.decided + 1, through));
        }
        numbers.decided = numbers.decided.max(through);
    }

    /// Checks that an execution's acceptance survives a crash.
    pub(super) fn is_safe(&self, id: ExecutionId) -> Verdict {
        match self.acceptance.get(&id) {
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
