//! Finished executions are kept for a while, within bounds of age, number and bytes; the oldest go first.

use crate::{
    answer::State,
    effect::Effects,
    execution::{Ending, Execution},
    journal::Record,
    shard::{ExecutionKey, Shard},
    timers::Due,
};

/// Old records that one ending takes along: more than one, so that retention catches up under load.
const EVICTIONS_PER_ENDING: usize = 2;

/// Time between two batches of a sweep that has more to do: calls get through in between.
const SWEEP_PAUSE_US: u64 = 1000;

impl Shard {
    /// Starts the retention of an execution that just ended.
    pub(super) fn retain(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return };
        // The output of a keyed execution answers whoever repeats the key: it stays as long as the record.
        let has_payload = match &execution.ending {
            Ending::Output(output) => output.is_some(),
            Ending::Failed(failure) => failure.body.is_some(),
            Ending::None | Ending::TimedOut { .. } => false,
        };
        self.retained_bytes += execution.retained_bytes();
        self.finished_count += 1;
        if has_payload && !execution.keyed {
            self.payloads.push_back(key);
        }
        self.finished.push_back(key);
        let mut left = EVICTIONS_PER_ENDING;
        while left > 0 && self.evict_one(fx) {
            left -= 1;
        }
        // Entries of evicted executions would pile up until the next sweep.
        let mut left = EVICTIONS_PER_ENDING;
        while left > 0 && self.release_one() {
            left -= 1;
        }
        self.arm_sweep();
    }

    /// Looks through finished executions and keys, one batch; more follows soon when there is more, but not within
    /// the same step.
    pub(super) fn sweep(&mut self, fx: &mut Effects) {
        self.sweep = None;
        let batch = self.limits.batch_max * 16;
        let more = (0..batch).all(|_| {
            let released = self.release_one();
            let evicted = self.evict_one(fx);
            released || evicted
        });
        let more = self.expire_keys(batch) || more;
        if more {
            let at_us = self.now.mono_us + SWEEP_PAUSE_US;
            self.sweep = Some(self.timers.insert(at_us, Due::Sweep));
        } else {
            self.arm_sweep();
        }
    }

    /// Makes sure that a sweep comes while there is something to sweep.
    pub(super) fn arm_sweep(&mut self) {
        if self.sweep.is_none() && (!self.finished.is_empty() || self.keys.len() > 0) {
            let at_us = self.now.mono_us + self.limits.sweep_interval_us;
            self.sweep = Some(self.timers.insert(at_us, Due::Sweep));
        }
    }

    /// Forgets idempotency keys that are too old or too many, at most `batch`. `true`: there may be more.
    pub(super) fn expire_keys(&mut self, batch: usize) -> bool {
        let (ttl_us, keys_max) = (self.limits.keys_ttl_us, self.limits.keys_max);
        let executions = &self.executions;
        let unfinished = |key| executions.get(key).is_some_and(|execution| !execution.state.is_terminal());
        (0..batch).all(|_| self.keys.expire_one(self.now.mono_us, ttl_us, keys_max, unfinished))
    }

    /// Drops the oldest output that was kept long enough.
    fn release_one(&mut self) -> bool {
        let Some(&key) = self.payloads.front() else { return false };
        let ttl_us = self.limits.payload_ttl_us;
        let now_us = self.now.mono_us;
        if let Some(execution) = self.executions.get_mut(key) {
            if execution.finished_us + ttl_us > now_us {
                return false;
            }
            let output = match &mut execution.ending {
                Ending::Output(output) => output.take(),
                Ending::Failed(failure) => failure.body.take(),
                Ending::None | Ending::TimedOut { .. } => None,
            };
            self.retained_bytes -= output.map_or(0, |output| output.bytes());
        }
        self.payloads.pop_front();
        true
    }

    /// Forgets the oldest finished execution if a bound asks for it.
    fn evict_one(&mut self, fx: &mut Effects) -> bool {
        let Some(&key) = self.finished.front() else { return false };
        let limits = &self.limits;
        let crowded =
            self.finished_count > limits.executions_max || self.retained_bytes > limits.executions_bytes_max;
        let finished = |execution: &&Execution| execution.state.is_terminal() && execution.dead.is_none();
        let Some(execution) = self.executions.get(key).filter(finished) else {
            self.finished.pop_front();
            return true;
        };
        if !crowded && execution.finished_us + limits.executions_ttl_us > self.now.mono_us {
            return false;
        }
        self.finished.pop_front();
        self.finished_count -= 1;
        self.retained_bytes -= execution.retained_bytes();
        self.forget(key, true, fx);
        true
    }

    /// Forgets an execution that ends without a record: its only caller left before anything was done.
    pub(super) fn discard(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return };
        let label = execution.label.clone();
        let Some(live) = execution.live.as_mut() else { return };
        let idempotency_key =
            live.extra.as_ref().and_then(|extra| Some(extra.idempotency.as_ref()?.key.clone()));
        let watchers = std::mem::take(&mut live.watchers);
        self.timers.remove(live.expiry);
        self.accepted_count -= usize::from(execution.accepted);
        self.take_waiters(key);
        self.leave_queue(key, State::Error);
        self.forget(key, false, fx);
        self.tell(key, watchers, fx);
        if let Some(idempotency_key) = idempotency_key {
            self.keys.remove(&label, &idempotency_key);
        }
    }

    fn forget(&mut self, key: ExecutionKey, finished: bool, fx: &mut Effects) {
        let Some(execution) = self.executions.remove(key) else { return };
        if execution.accepted {
            self.write(Record::Forgotten { id: execution.id }, fx);
        }
        self.ids.release(execution.id_table);
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.accounting.finished -= u64::from(finished);
            function.accounting.evicted += 1;
        }
    }
}
