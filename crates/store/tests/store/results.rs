//! How executions ended, as the store may say it: what is safe, and nothing older.

use std::collections::{BTreeMap, VecDeque};

use shard_core::{ExecutionId, Record, journal::End};
use shard_sim::{random::Random, storage::Told};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Of every execution that ever ended. `None`: it has been forgotten since, or is tried again.
    safe: BTreeMap<ExecutionId, Option<Box<End>>>,
    /// What waits to be safe, by shard.
    pending: BTreeMap<u16, VecDeque<(u64, Said)>>,
}

type Said = (ExecutionId, Option<Box<End>>);

/// What a record says of an end.
fn said(record: &Record) -> Option<Said> {
    match record {
        Record::Ended { id, end, .. } | Record::Kept { id, end, .. } => Some((*id, Some(end.clone()))),
        Record::Replayed { id, .. } | Record::Forgotten { id } => Some((*id, None)),
        _ => None,
    }
}

impl Results {
    /// What is there after a crash.
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Results {
        Results { safe: records.into_iter().filter_map(said).collect(), pending: BTreeMap::new() }
    }

    /// A shard gave a record to the store.
    pub(crate) fn given(&mut self, shard: u16, number: u64, record: &Record) {
        if let Some(said) = said(record) {
            self.pending.entry(shard).or_default().push_back((number, said));
        }
    }

    /// A shard is told something. What failed is a fact, and is written later.
    pub(crate) fn told(&mut self, shard: u16, told: Told) {
        let pending = self.pending.entry(shard).or_default();
        match told {
            Told::Written(through) => {
                while let Some((_, (id, end))) = pending.pop_front_if(|(number, _)| *number <= through) {
                    self.safe.insert(id, end);
                }
            }
            Told::NotTaken(refused) => pending.retain(|(number, _)| *number != refused),
            Told::Failed(_) => {}
        }
    }

    /// Executions to ask about: some of all, and some that are on their way.
    pub(crate) fn some(&self, random: &mut Random, count: usize) -> Vec<ExecutionId> {
        let all: Vec<ExecutionId> = self.safe.keys().copied().collect();
        let mut some: Vec<_> = (0..count).filter_map(|_| random.pick(&all).copied()).collect();
        let pending = self.pending.values().flat_map(|pending| pending.back());
        some.extend(pending.map(|(_, (id, _))| *id));
        some
    }

    /// Everything.
    pub(crate) fn all(&self) -> Vec<ExecutionId> {
        self.safe.keys().copied().collect()
    }

    /// What is wrong with what was read. `is_damaged`: the disk gives back something else than was written.
    pub(crate) fn check(
        &self,
        id: ExecutionId,
        read: &Result<Option<Box<End>>, String>,
        is_damaged: bool,
    ) -> Result<(), String> {
        let expected = self.safe.get(&id).cloned().flatten();
        match read {
            Ok(end) if *end == expected => Ok(()),
            Err(_) if is_damaged => Ok(()),
            read => Err(format!("execution {id} ended with {expected:?}, and {read:?} is read")),
        }
    }
}
