//! Idempotency keys: what several callers send with one key runs once.

use std::collections::BTreeMap;

use shard_core::{ExecutionId, Name};

use super::{Verdict, executions::Executions};
use crate::swarm::Swarm;

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    ttl_us: u64,
    /// Furthest that the clock that people read is set.
    clock_steps_us_max: u64,
    newest: BTreeMap<(Name, Box<str>), ExecutionId>,
}

impl Keys {
    pub(super) fn new(swarm: &Swarm) -> Keys {
        let limits = &swarm.limits;
        Keys {
            ttl_us: limits.keys_ttl_us.min(limits.executions_ttl_us).min(limits.accepted_ttl_us),
            clock_steps_us_max: swarm.clock_steps_us_max(),
            newest: BTreeMap::new(),
        }
    }

    /// A dead letter with a key is tried again: no other execution of that key may go on.
    pub(super) fn replays(&mut self, id: ExecutionId, name: Name, key: &str, all: &Executions) -> Verdict {
        let before = self.newest.insert((name, key.into()), id).filter(|before| *before != id);
        let Some(before) =
            before.and_then(|before| all.get(before)).filter(|before| before.is_known_to_live())
        else {
            return Ok(());
        };
        match before.ended {
            None => Err(format!("key {key} of {name} runs, and {id} is tried again with it")),
            Some(_) => Ok(()),
        }
    }

    /// An execution with a key is surely one of its own, and not joined to another one: it is accepted, or its first attempt goes
    /// out.
    pub(super) fn runs(&mut self, id: ExecutionId, name: Name, key: &str, all: &Executions) -> Verdict {
        let newest = self.newest.entry((name, key.into())).or_insert(id);
        let Some(run) = all.get(id).filter(|_| *newest != id) else { return Ok(()) };
        // Whoever replays a dead letter means that execution, whatever has its key by now.
        if run.is_replayed_since(0) {
            return Ok(());
        }
        let Some(before) = all.get(std::mem::replace(newest, id)) else { return Ok(()) };
        if !before.is_known_to_live() {
            return Ok(());
        }
        let runs_still = before.ended.is_none();
        let older_us_max = before.older_us_max(self.clock_steps_us_max);
        let until_us = (before.claims_us() + self.ttl_us).saturating_sub(older_us_max);
        // If not, executions or keys may have been pushed out by newer ones: a repeated call may run again.
        let remembered = all.have_room_for_keys() && run.offered_us < until_us;
        if runs_still || remembered {
            return Err(format!("key {key} of {name} runs again as {id}"));
        }
        Ok(())
    }
}
