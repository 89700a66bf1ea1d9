//! Records: numbered without a gap, and nothing is promised with one before it is safe.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{ExecutionId, Seating, Ticket};

use super::Verdict;
use crate::disk::Told;

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    shards: Vec<Numbers>,
    /// The records that say that an execution was accepted, oldest first: shard and number.
    acceptances: BTreeMap<ExecutionId, Vec<(u16, u64)>>,
    /// Those of them that say how it had ended as well: one that could not be written is tried again, and safe before anything that
    /// comes after it.
    kept: BTreeSet<(u16, u64)>,
    /// The one that was written for a caller: whether that one is told follows from it alone.
    own: BTreeMap<Ticket, (u16, u64)>,
    /// The one that says that a dead letter is tried again, by who asked for that: an execution may die again, and be tried again,
    /// before the first of them is told.
    replays: BTreeMap<Ticket, (ExecutionId, (u16, u64))>,
    /// Executions whose replay has failed since their acceptance was last written: that may have failed with it, and what was
    /// written while nobody knew of the failure may fail as well.
    replays_failed: BTreeSet<ExecutionId>,
    /// The newest one that says how an execution ended, unless it has been safe since a crash.
    ends: BTreeMap<ExecutionId, (u16, u64)>,
    /// The newest one that says that another attempt follows.
    requeues: BTreeMap<ExecutionId, (u16, u64)>,
    /// The newest one that says that an attempt gets a job.
    jobs: BTreeMap<ExecutionId, (u16, u64)>,
    /// The one that says that a dead letter is given up, by who asked for that.
    purges: BTreeMap<Ticket, (u16, u64)>,
}

#[derive(Debug, Default, Clone)]
struct Numbers {
    written: u64,
    /// Up to here it is known what became of records.
    decided: u64,
    /// Up to here all is safe that is no acceptance: what could not be written is, before anything that comes after.
    facts: u64,
    /// The same before the shard was told last.
    facts_before: u64,
    /// Groups that could not be written: first and last number.
    failed: Vec<(u64, u64)>,
}

impl Records {
    pub(super) fn new(shards: u16) -> Records {
        Records {
            shards: vec![Numbers::default(); usize::from(shards)],
            acceptances: BTreeMap::new(),
            kept: BTreeSet::new(),
            own: BTreeMap::new(),
            replays: BTreeMap::new(),
            replays_failed: BTreeSet::new(),
            ends: BTreeMap::new(),
            requeues: BTreeMap::new(),
            jobs: BTreeMap::new(),
            purges: BTreeMap::new(),
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

    /// It says that an execution is accepted, as this caller wants it.
    pub(super) fn accepts(&mut self, shard: u16, number: u64, id: ExecutionId, asker: Option<Ticket>) {
        self.acceptances.entry(id).or_default().push((shard, number));
        self.replays_failed.remove(&id);
        if let Some(asker) = asker {
            self.own.insert(asker, (shard, number));
        }
    }

    /// It says so of one that had ended.
    pub(super) fn keeps(&mut self, shard: u16, number: u64) {
        self.kept.insert((shard, number));
    }

    /// It says that an execution is not there, nor was accepted.
    pub(super) fn forgets(&mut self, id: ExecutionId) {
        self.acceptances.remove(&id);
        self.replays_failed.remove(&id);
    }

    /// It says that a dead letter is tried again, as this caller wants it.
    pub(super) fn replays(&mut self, shard: u16, number: u64, id: ExecutionId, ticket: Ticket) {
        self.replays.insert(ticket, (id, (shard, number)));
    }

    /// A disk is done with some of them.
    pub(super) fn told(&mut self, shard: u16, told: Told) {
        let numbers = &mut self.shards[usize::from(shard)];
        match told {
            Told::Written(through) => {
                numbers.decided = numbers.decided.max(through);
                numbers.facts_before = numbers.facts;
                numbers.facts = numbers.facts.max(through);
            }
            Told::Failed(through) => {
                let from = numbers.decided + 1;
                numbers.decided = numbers.decided.max(through);
                self.failed(shard, from, through);
            }
            Told::NotTaken(number) => self.failed(shard, number, number),
        }
    }

    /// A shard is told that these records could not be written.
    fn failed(&mut self, shard: u16, from: u64, to: u64) {
        self.shards[usize::from(shard)].failed.push((from, to));
        let is_among = |(of, number): (u16, u64)| of == shard && (from..=to).contains(&number);
        let replays = self.replays.values().filter(|(_, record)| is_among(*record));
        self.replays_failed.extend(replays.map(|(id, _)| *id));
    }

    /// Shards begin anew: what they are given back is safe.
    pub(super) fn crashed(&mut self, given_back: impl Iterator<Item = ExecutionId>) {
        self.shards.iter_mut().for_each(|numbers| *numbers = Numbers::default());
        let seating = Seating::of(self.shards.len() as u16);
        let safe = |id: ExecutionId| (id, vec![(seating.owner_of(id.owner_hash()), 0)]);
        self.acceptances = given_back.map(safe).collect();
        self.kept.clear();
        self.own.clear();
        self.replays.clear();
        self.replays_failed.clear();
        self.ends.clear();
        self.requeues.clear();
        self.jobs.clear();
        self.purges.clear();
    }

    /// It says how an execution ended. `known`: that was safe before.
    pub(super) fn ends(&mut self, shard: u16, number: u64, id: ExecutionId, known: bool) {
        if !known {
            self.ends.insert(id, (shard, number));
        }
    }

    /// It says that another attempt follows.
    pub(super) fn requeues(&mut self, shard: u16, number: u64, id: ExecutionId) {
        self.requeues.insert(id, (shard, number));
    }

    /// It says that an attempt gets a job.
    pub(super) fn orders(&mut self, shard: u16, number: u64, id: ExecutionId) {
        self.jobs.insert(id, (shard, number));
    }

    /// Checks that a server that comes after this one would know of the job that is ordered.
    pub(super) fn may_be_ordered(&self, id: ExecutionId) -> Verdict {
        match self.jobs.get(&id) {
            Some(record) if self.fact_is_safe(*record) => Ok(()),
            _ => Err(format!("the job of {id} is ordered before its record is safe")),
        }
    }

    /// It says that a dead letter is given up, as this caller wants it.
    pub(super) fn purges(&mut self, shard: u16, number: u64, ticket: Ticket) {
        self.purges.insert(ticket, (shard, number));
    }

    /// Whether a crash leaves it ended as it did.
    pub(super) fn end_is_safe(&self, id: ExecutionId) -> bool {
        self.ends.get(&id).is_none_or(|record| self.fact_is_safe(*record))
    }

    /// Whether its shard has known that for more than this step.
    pub(super) fn end_is_known_to_be_safe(&self, id: ExecutionId) -> bool {
        self.ends
            .get(&id)
            .is_none_or(|(shard, number)| *number <= self.shards[usize::from(*shard)].facts_before)
    }

    /// Checks that nobody will use the number of an attempt that goes out once more.
    pub(super) fn may_be_tried_again(&self, id: ExecutionId) -> Verdict {
        match self.requeues.get(&id).filter(|record| !self.fact_is_safe(**record)) {
            Some((_, number)) => Err(format!("{id} is tried again before its record {number} is safe")),
            None => Ok(()),
        }
    }

    /// Checks that the purge that this caller asked for survives a crash.
    pub(super) fn is_purged(&self, ticket: Ticket) -> Verdict {
        match self.purges.get(&ticket) {
            Some(record) if self.fact_is_safe(*record) => Ok(()),
            _ => Err("a dead letter was given up before that was safe".to_owned()),
        }
    }

    fn fact_is_safe(&self, (shard, number): (u16, u64)) -> bool {
        number <= self.shards[usize::from(shard)].facts
    }

    /// Whether its acceptance may be written down once more: nobody knows what became of the record before, or of a later one
    /// that a caller waited for. That of a replay may be an earlier one: somebody brought an address before it had failed.
    pub(super) fn is_doubtful(&self, id: ExecutionId) -> bool {
        let newest = self.acceptances.get(&id).and_then(|records| records.last());
        let has_failed = newest.is_none_or(|(shard, number)| {
            self.shards[usize::from(*shard)].failed.iter().any(|(_, to)| to >= number)
        });
        has_failed || self.replays_failed.contains(&id)
    }

    /// Whether its acceptance could not be written: nobody was told of it.
    pub(super) fn is_unwritten(&self, id: ExecutionId) -> bool {
        let records = self.acceptances.get(&id);
        records.is_none_or(|records| records.iter().all(|record| self.has_record_failed(*record)))
    }

    fn has_record_failed(&self, (shard, number): (u16, u64)) -> bool {
        self.shards[usize::from(shard)].failed.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }

    /// Whether the replay that this caller asked for came to nothing.
    pub(super) fn replay_has_failed(&self, asker: Ticket) -> bool {
        self.replays.get(&asker).is_some_and(|(_, record)| self.has_record_failed(*record))
    }

    /// Whether a shard was told that something could not be written.
    pub(super) fn has_failed(&self, shard: u16) -> bool {
        !self.shards[usize::from(shard)].failed.is_empty()
    }

    /// Checks that an execution's acceptance, of which this caller is told, survives a crash.
    pub(super) fn is_accepted(&self, id: ExecutionId, asker: Ticket) -> Verdict {
        let Some(records) = self.acceptances.get(&id) else { return self.is_safe(id, None) };
        match self.own.get(&asker) {
            Some(own) => self.is_safe(id, Some(own)),
            None => {
                let was_kept = |record: &(u16, u64)| self.kept.contains(record) && self.fact_is_safe(*record);
                let says_so =
                    |record: &&(u16, u64)| self.is_safe(id, Some(record)).is_ok() || was_kept(record);
                match records.iter().find(says_so) {
                    Some(_) => Ok(()),
                    None => self.is_safe(id, records.last()),
                }
            }
        }
    }

    /// Checks that the replay that this caller asked for does.
    pub(super) fn is_replayed(&self, id: ExecutionId, ticket: Ticket) -> Verdict {
        self.is_safe(id, self.replays.get(&ticket).map(|(_, record)| record))
    }

    fn is_safe(&self, id: ExecutionId, record: Option<&(u16, u64)>) -> Verdict {
        match record {
            None => Err(format!("{id} was accepted, and no record says so")),
            Some((shard, number)) => {
                let is_decided = *number <= self.shards[usize::from(*shard)].decided;
                if !is_decided || self.has_record_failed((*shard, *number)) {
                    return Err(format!("{id} was accepted before its record {number} was safe"));
                }
                Ok(())
            }
        }
    }
}
