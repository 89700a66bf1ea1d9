//! Every caller gets exactly one answer, and not after its deadline; who left gets none.

use std::collections::BTreeMap;

use shard_core::{ExecutionId, Name, Ticket};

use super::Verdict;
use crate::swarm::Swarm;

/// What a caller asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// A call. `due_us`: when it has to be answered at the latest, if that is known.
    Call { id: ExecutionId, due_us: Option<u64>, keyed: bool },
    /// To read an execution, answered then at the latest.
    Read { id: ExecutionId, due_us: u64 },
    /// To try a dead letter again.
    Replay(ExecutionId),
    /// To give a dead letter up.
    Purge(ExecutionId),
    /// To cancel an execution.
    Cancel,
    /// To register a function.
    Register,
    /// To remove a function.
    Remove(Name),
    /// Something that the auditor has no account of.
    Other,
}

#[derive(Debug)]
struct Caller {
    asked: Asked,
    left_us: Option<u64>,
    /// It waits for a disk, which has no deadline.
    reads: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Callers {
    late_us_max: u64,
    waiting: BTreeMap<Ticket, Caller>,
}

impl Callers {
    pub(super) fn new(swarm: &Swarm) -> Callers {
        Callers { late_us_max: swarm.turn_late_us, waiting: BTreeMap::new() }
    }

    /// A request reached its shard.
    pub(super) fn asked(&mut self, ticket: Ticket, asked: Asked) -> Verdict {
        match self.waiting.insert(ticket, Caller { asked, left_us: None, reads: false }) {
            None => Ok(()),
            Some(_) => Err(format!("the world used ticket {} twice", ticket.0)),
        }
    }

    /// What this caller wants is on disk.
    pub(super) fn waits_for_a_read(&mut self, ticket: Ticket) {
        if let Some(caller) = self.waiting.get_mut(&ticket) {
            caller.reads = true;
        }
    }

    /// A caller left. Returns what it had asked for.
    pub(super) fn left(&mut self, ticket: Ticket, now_us: u64) -> Option<Asked> {
        let caller = self.waiting.get_mut(&ticket)?;
        caller.left_us = Some(now_us);
        Some(caller.asked)
    }

    /// A shard answers. Returns what had been asked.
    pub(super) fn answered(&mut self, ticket: Ticket, now_us: u64) -> Result<Asked, String> {
        let Some(caller) = self.waiting.remove(&ticket) else {
            return Err(format!("ticket {} was answered, and nobody waits for that", ticket.0));
        };
        let due_us = match caller.asked {
            Asked::Call { due_us, .. } => due_us,
            Asked::Read { due_us, .. } => Some(due_us),
            _ => None,
        };
        // Deadlines that passed before it left are answered first, in the same step.
        if due_us.is_some() && caller.left_us.is_some_and(|left_us| left_us < now_us) {
            return Err(format!("ticket {} was answered after its caller had left", ticket.0));
        }
        match due_us {
            Some(due_us) if now_us > due_us + self.late_us_max && !caller.reads => {
                let late_us = now_us - due_us;
                Err(format!("ticket {} was answered {late_us} µs after its deadline", ticket.0))
            }
            _ => Ok(caller.asked),
        }
    }

    /// All connections are cut.
    pub(super) fn cut_off(&mut self) {
        self.waiting.clear();
    }

    /// Checks that everybody has an answer.
    pub(super) fn none_waits(&self) -> Verdict {
        let forgotten = self.waiting.iter().find(|(_, caller)| caller.left_us.is_none());
        match forgotten {
            None => Ok(()),
            Some((ticket, caller)) => {
                Err(format!("ticket {} never got an answer to {:?}", ticket.0, caller.asked))
            }
        }
    }
}
