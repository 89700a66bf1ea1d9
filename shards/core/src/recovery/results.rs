//! How executions ended, of which recovery holds no more in memory than a server would: of the oldest it knows that the rest is on
//! disk.

use std::collections::VecDeque;

use super::Recovery;
use crate::{
    answer::State,
    id::ExecutionId,
    journal::{End, EndResult},
};

/// The end of an execution, as far as it is in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEnd {
    /// How it ended.
    pub result: StoredResult,
    /// Start of the last attempt, in milliseconds since the Unix epoch; 0 if there was none.
    pub dispatched_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: u64,
    /// The replica said that this was its first call.
    pub cold_start: bool,
    /// How long that replica took to start, in milliseconds.
    pub init_ms: Option<u32>,
}

/// How an execution ended, or what is known of it without its record.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredResult {
    /// As its record says.
    Here(EndResult),
    /// Its record has to be read for that.
    OnDisk {
        /// The state that it ended in.
        state: State,
        /// What it counts for.
        bytes: u64,
    },
}

impl StoredEnd {
    pub(super) fn new(end: End) -> StoredEnd {
        let End { result, dispatched_ms, finished_ms, cold_start, init_ms } = end;
        StoredEnd { result: StoredResult::Here(result), dispatched_ms, finished_ms, cold_start, init_ms }
    }

    /// The state that it ended in.
    pub fn state(&self) -> State {
        match &self.result {
            StoredResult::Here(result) => result.state(),
            StoredResult::OnDisk { state, .. } => *state,
        }
    }

    /// Bytes of it in memory.
    fn bytes(&self) -> u64 {
        match &self.result {
            StoredResult::Here(result) => result.bytes(),
            StoredResult::OnDisk { .. } => 0,
        }
    }
}

/// Results in memory.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// How many bytes of them there may be; `None`: any number.
    pub(super) bytes_max: Option<u64>,
    pub(super) bytes: u64,
    /// Executions that ended, by when they did; entries may be stale.
    ended: VecDeque<(ExecutionId, u64)>,
}

impl Recovery {
    /// One that holds at most so many bytes of results: of the executions that ended first, beyond it, it knows that theirs are on
    /// disk. Those of dead letters are not counted among them: they have bounds of their own, and are given back as they are.
    #[must_use]
    pub fn with_results_max(self, bytes_max: u64) -> Recovery {
        let results = Results { bytes_max: Some(bytes_max), ..Results::default() };
        Recovery { results, ..self }
    }

    /// Bytes that the result of an execution counts for.
    pub(super) fn held_by(&self, id: ExecutionId) -> u64 {
        let ended = self.executions.get(&id).filter(|execution| !execution.dead);
        ended.and_then(|execution| execution.end.as_ref()).map_or(0, |end| end.bytes())
    }

    /// Counts the result of an execution, and drops the oldest ones while there are too many.
    pub(super) fn hold(&mut self, id: ExecutionId) {
        let bytes = self.held_by(id);
        self.results.bytes += bytes;
        if bytes > 0
            && let Some(execution) = self.executions.get(&id)
        {
            self.results.ended.push_back((id, execution.order));
        }
        while self.results.bytes_max.is_some_and(|most| self.results.bytes > most)
            && let Some((id, order)) = self.results.ended.pop_front()
        {
            let bytes = self.held_by(id);
            let same = self.executions.get_mut(&id).filter(|execution| execution.order == order && bytes > 0);
            if let Some(end) = same.and_then(|execution| execution.end.as_mut()) {
                end.result = StoredResult::OnDisk { state: end.state(), bytes };
                self.results.bytes -= bytes;
            }
        }
    }
}
