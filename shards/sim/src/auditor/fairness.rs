//! Every function has its turn: what could be dispatched is, within as many steps of its shard as it takes to give each
//! function one turn.
//!
//! Judged where it is known for sure that something could be: something waits for its first attempt, a slot is free, and
//! the address is fixed.

use std::collections::BTreeMap;

use super::Verdict;
use crate::swarm::Swarm;

/// See the module.
#[derive(Debug)]
pub(super) struct Fairness {
    /// Steps within which every function has its turn.
    steps_max: u64,
    /// Steps of its shard in which a registration could have been served and was not.
    passed_over: BTreeMap<u64, u64>,
}

impl Fairness {
    pub(super) fn new(swarm: &Swarm) -> Fairness {
        // A step serves one batch. Registrations that are gone may hold a place among the functions that are ready.
        let turns = 2 * u64::from(swarm.names) * swarm.limits.turn_max as u64;
        Fairness {
            steps_max: 2 + turns.div_ceil(swarm.limits.batch_max as u64),
            passed_over: BTreeMap::new(),
        }
    }

    /// After a step of its shard: whether a registration could have had something dispatched.
    pub(super) fn is_ready(&mut self, epoch: u64, name: &str, ready: bool) -> Verdict {
        if !ready {
            self.passed_over.remove(&epoch);
            return Ok(());
        }
        let passed_over = self.passed_over.entry(epoch).or_default();
        *passed_over += 1;
        match *passed_over > self.steps_max {
            true => Err(format!("{name} could be served, and was not in {passed_over} steps")),
            false => Ok(()),
        }
    }

    /// It has its turn: something of it goes out.
    pub(super) fn is_served(&mut self, epoch: u64) {
        self.passed_over.remove(&epoch);
    }

    /// Other shards begin.
    pub(super) fn forget(&mut self) {
        self.passed_over.clear();
    }
}
