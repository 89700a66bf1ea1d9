//! What stands ready, for whoever watches that it is taken up.
//!
//! Read from the queues and slots themselves, not from the ring of functions that the shard believes to be ready: a
//! function that fell out of it is what is to be found.

use crate::{keys::FunctionKey, shard::Shard};

/// Whether a function has work that could be dispatched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The function.
    pub function: FunctionKey,
    /// Attempts sent so far, if executions wait and a slot is free for them: when the number moves, so does the
    /// function.
    pub ready: Option<u64>,
}

impl Shard {
    /// Functions whose position is at least this, by position. While what was there before is taken back, nothing is
    /// ready.
    pub fn readiness_from(&self, from: usize) -> impl Iterator<Item = Readiness> {
        self.functions.iter_from(from).filter(|(_, function)| function.life.is_live()).map(
            |(function, of)| {
                // The queue first: it is empty for most of them, and nothing else of them is read then.
                let ready = match !of.queue.is_empty() && !self.phase.restoring && of.can_dispatch() {
                    true => Some(of.counters.dispatches),
                    false => None,
                };
                Readiness { function, ready }
            },
        )
    }
}
