//! Finished executions are kept for a while, within bounds of age, number and bytes; the oldest go first.
//!
//! How an accepted one ended is on disk too. When memory holds too many bytes, the oldest of these keep theirs there only, and
//! are read when somebody asks; they have a bound of bytes of their own. What is not known to be safe stays in memory.
//!
//! Those that were accepted for later are kept longer than synchronous ones, whose callers were told the result: they
//! have a list of their own, so that each list is in the order of age and of expiry. The bounds are for both; neither
//! kind pushes the other out of its half of them.

use std::collections::VecDeque;

use crate::{
    effect::Effects,
    execution::{Course, Ending, Execution},
    journal::Record,
    keys::ExecutionKey,
    room::{Part, Room, RoomLease},
    sabotage::Sabotage,
    shard::{Shard, reading::Reads},
    timers::{Due, TimerKey},
};

/// Old records that one ending takes along: more than one, so that retention catches up under load.
const EVICTIONS_PER_ENDING: usize = 2;

/// Time between two batches of a sweep that has more to do: calls get through in between.
const SWEEP_PAUSE_US: u64 = 1000;

/// Finished executions of one kind.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// Oldest first; entries may be stale.
    order: VecDeque<ExecutionKey>,
    /// The oldest so many hold nothing in memory that could be dropped because it is on disk.
    passed: usize,
    /// Those of them that hold something else, or whose end is not safe. Oldest first; entries may be stale.
    heavy: VecDeque<ExecutionKey>,
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

/// Executions that are kept, and those that are to be.
#[derive(Debug)]
pub(crate) struct Retention {
    /// What there is for them, and for idempotency keys.
    pub(crate) room: RoomLease,
    /// Finished executions: synchronous ones, then those that were accepted for later.
    pub(crate) kinds: [Retained; 2],
    /// Bytes of those that were accepted for later which are on disk only.
    pub(crate) disk_bytes: u64,
    /// Those that are being read from there.
    pub(crate) reads: Reads,
    /// Those of them whose output is to be dropped earlier.
    payloads: VecDeque<ExecutionKey>,
    /// Accepted executions that have not ended.
    pub(crate) accepted: usize,
    sweep: Option<TimerKey>,
}

impl Retention {
    pub(crate) fn new(floor: Room) -> Retention {
        Retention {
            room: RoomLease::new(floor),
            kinds: Default::default(),
            disk_bytes: 0,
            reads: Reads::default(),
            payloads: VecDeque::new(),
            accepted: 0,
            sweep: None,
        }
    }
}

/// An entry stood for nothing.
struct Stale;

impl Retained {
    /// Takes the oldest out.
    fn pop(&mut self) -> Option<ExecutionKey> {
        self.passed = self.passed.saturating_sub(1);
        self.order.pop_front()
    }

    /// What it takes up of a part.
    fn used(&self, part: Part) -> u64 {
        if part == Part::Executions { self.count as u64 } else { self.bytes }
    }
}

impl Shard {
    /// Finished executions of a kind: accepted for later, or synchronous.
    fn retained_mut(&mut self, accepted: bool) -> &mut Retained {
        &mut self.retention.kinds[usize::from(accepted)]
    }

    /// Finished executions kept.
    pub(crate) fn finished_count(&self) -> usize {
        self.retention.kinds.iter().map(|retained| retained.count).sum()
    }

    /// Bytes kept with them.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.retention.kinds.iter().map(|retained| retained.bytes).sum()
    }

    /// Starts the retention of an execution that just ended.
    pub(super) fn retain(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let (accepted, bytes) = (execution.accepted, execution.retained_bytes());
        self.retention.disk_bytes += execution.disk_bytes();
        // The output of a keyed execution answers whoever repeats the key: it stays as long as the record. That of an
        // accepted one is what its caller has yet to fetch.
        let stays = execution.keyed || accepted && !self.sabotaged.by(Sabotage::OutputDroppedEarly);
        let has_payload = match &execution.course {
            Course::Ended(Ending::Output(output)) => output.is_some(),
            Course::Ended(Ending::Failed(failure)) => failure.body.is_some(),
            Course::Ended(Ending::TimedOut { .. } | Ending::OnDisk { .. }) | Course::Active(_) => false,
        };
        if has_payload && !stays {
            self.retention.payloads.push_back(key);
        }
        let retained = self.retained_mut(accepted);
        retained.bytes += bytes;
        retained.count += 1;
        retained.order.push_back(key);
        self.retention.room.count_ending();
        let mut left = EVICTIONS_PER_ENDING;
        while left > 0 && self.evict_one(fx) {
            left -= 1;
        }
        self.make_room(fx);
        // Entries of evicted executions would pile up until the next sweep.
        let mut left = EVICTIONS_PER_ENDING;
        while left > 0 && self.release_one() {
            left -= 1;
        }
        self.arm_sweep();
    }

    /// An execution that had ended was accepted after all: it is kept as long as others that were, from now on.
    pub(super) fn retain_as_accepted(&mut self, key: ExecutionKey) {
        let now_us = self.now.mono_us;
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if std::mem::replace(&mut execution.accepted, true) || execution.dead.is_some() {
            return;
        }
        execution.finished_us = now_us;
        let bytes = execution.retained_bytes();
        let retained = self.retained_mut(false);
        retained.count -= 1;
        retained.bytes -= bytes;
        let retained = self.retained_mut(true);
        retained.count += 1;
        retained.bytes += bytes;
        retained.order.push_back(key);
    }

    /// Looks through finished executions and keys, one batch; more follows soon when there is more, but not within
    /// the same step.
    pub(super) fn sweep(&mut self, fx: &mut Effects) {
        self.retention.sweep = None;
        if self.sabotaged.by(Sabotage::RoomNotTaken) {
            self.retention.room.forget();
        }
        self.retention.room.ask();
        let batch = self.limits.batch_max * 16;
        let more = (0..batch).all(|_| {
            let released = self.release_one();
            let evicted = self.evict_one(fx);
            released || evicted
        });
        let more = self.expire_keys(batch) || more;
        self.read_again(fx);
        if more {
            self.arm_sweep_in(SWEEP_PAUSE_US);
        } else {
            self.arm_sweep();
        }
    }

    /// The next sweep is to come soon.
    pub(super) fn sweep_soon(&mut self) {
        if let Some(timer) = self.retention.sweep.take() {
            self.timers.remove(timer);
        }
        self.arm_sweep_in(SWEEP_PAUSE_US);
    }

    /// Makes sure that a sweep comes while there is something to sweep.
    pub(super) fn arm_sweep(&mut self) {
        let retains = self.retention.kinds.iter().any(|retained| !retained.order.is_empty());
        if retains || self.index.keys.len() > 0 || self.retention.room.is_open() {
            self.arm_sweep_in(self.limits.sweep_interval_us);
        }
    }

    fn arm_sweep_in(&mut self, pause_us: u64) {
        if self.retention.sweep.is_none() {
            let at_us = self.now.mono_us + pause_us;
            self.retention.sweep = Some(self.timers.insert(at_us, Due::Sweep));
        }
    }

    /// Forgets idempotency keys that are too old or too many, at most `batch`. `true`: there may be more.
    pub(super) fn expire_keys(&mut self, batch: usize) -> bool {
        let ttl_us = self.limits.keys_ttl_us;
        (0..batch).all(|_| {
            let is_one_too_many = self.lacks_room(Part::Keys, self.index.keys.len() as u64);
            let executions = &self.executions;
            let unfinished = |key| executions.get(key).is_some_and(|execution| !execution.has_ended());
            self.index.keys.expire_one(self.now.mono_us, ttl_us, is_one_too_many, unfinished)
        })
    }

    /// Drops the oldest output that was kept long enough.
    fn release_one(&mut self) -> bool {
        let Some(&key) = self.retention.payloads.front() else { return false };
        let ttl_us = self.limits.payload_ttl_us;
        let now_us = self.now.mono_us;
        if let Some(execution) = self.executions.get_mut(key) {
            if execution.finished_us + ttl_us > now_us && !self.sabotaged.by(Sabotage::OutputDroppedAtOnce) {
                return false;
            }
            let output = match &mut execution.course {
                Course::Ended(Ending::Output(output)) => output.take(),
                Course::Ended(Ending::Failed(failure)) => failure.body.take(),
                Course::Ended(Ending::TimedOut { .. } | Ending::OnDisk { .. }) | Course::Active(_) => None,
            };
            let accepted = execution.accepted;
            self.retained_mut(accepted).bytes -= output.map_or(0, |output| output.bytes());
        }
        self.retention.payloads.pop_front();
        true
    }

    /// Forgets the oldest finished execution of a kind if a bound asks for it.
    pub(super) fn evict_one(&mut self, fx: &mut Effects) -> bool {
        let Ok(oldest_us) = self.oldest_us() else { return true };
        let kind = self.crowded_kind(oldest_us);
        let is_for_memory =
            kind == Some(true) && !self.lacks_room(Part::Executions, self.finished_count() as u64);
        if is_for_memory && self.leave_one_on_disk() {
            return true;
        }
        let kind = kind.or_else(|| self.full_disk()).or_else(|| self.expired_kind(oldest_us));
        let Some(accepted) = kind else { return false };
        // What is on disk would make no room.
        let heavy = if is_for_memory { self.retained_mut(true).heavy.pop_front() } else { None };
        let Some(key) = heavy.or_else(|| self.retained_mut(accepted).pop()) else { return false };
        if self.executions.get(key).is_none() {
            return true;
        }
        let execution = self.executions.get(key);
        let (bytes, disk_bytes) =
            execution.map_or((0, 0), |execution| (execution.retained_bytes(), execution.disk_bytes()));
        self.retention.disk_bytes -= disk_bytes;
        let retained = self.retained_mut(accepted);
        retained.count -= 1;
        retained.bytes -= bytes;
        self.forget(key, true, fx);
        true
    }

    /// Drops how the oldest execution ended that is in memory and safe on disk. `false`: there is none.
    fn leave_one_on_disk(&mut self) -> bool {
        if !self.limits.results_on_disk || self.sabotaged.by(Sabotage::DiskUnused) {
            return false;
        }
        let retained = self.retained_mut(true);
        let Some(&key) = retained.order.get(retained.passed) else { return false };
        retained.passed += 1;
        let any = self.sabotaged.by(Sabotage::OutputDroppedUnsafe);
        let Some(execution) = self.executions.get_mut(key) else { return true };
        let has_ended = execution.has_ended() && execution.dead.is_none() && execution.accepted;
        let is_safe = execution.end_is_safe && !execution.unwritten || any;
        let bytes = execution.ending().map_or(0, Ending::bytes);
        let leaves = has_ended && is_safe && bytes > 0;
        if leaves && let Course::Ended(ending) = &mut execution.course {
            *ending = Ending::OnDisk { state: ending.state(), bytes };
        }
        let stays = has_ended && execution.retained_bytes() > 0;
        if leaves {
            self.retained_mut(true).bytes -= bytes;
            self.retention.disk_bytes += bytes;
        }
        if stays {
            let executions = &self.executions;
            let heavy = &mut self.retention.kinds[1].heavy;
            while heavy.pop_front_if(|key| executions.get(*key).is_none()).is_some() {}
            heavy.push_back(key);
        }
        true
    }

    /// The kind that has to make room on disk, if it has to.
    fn full_disk(&mut self) -> Option<bool> {
        self.lacks_room(Part::Disk, self.retention.disk_bytes).then_some(true)
    }

    /// When the oldest of each kind ended: looked up once per ending, for it is in no cache. An entry that stands for
    /// nothing that is kept there any more is dropped instead.
    fn oldest_us(&mut self) -> Result<[Option<u64>; 2], Stale> {
        let mut oldest_us = [None; 2];
        for accepted in [false, true] {
            let kind = usize::from(accepted);
            let Some(&key) = self.retention.kinds[kind].order.front() else { continue };
            let stays = |execution: &&Execution| {
                execution.has_ended() && execution.dead.is_none() && execution.accepted == accepted
            };
            let Some(execution) = self.executions.get(key).filter(stays) else {
                self.retention.kinds[kind].pop();
                return Err(Stale);
            };
            oldest_us[kind] = Some(execution.finished_us);
        }
        Ok(oldest_us)
    }

    /// The kind that has to make room, if one has to: the one with more than its half of the bound that is exceeded. The number
    /// comes before bytes: those of a result may go to disk once nothing has to be forgotten.
    fn crowded_kind(&mut self, oldest_us: [Option<u64>; 2]) -> Option<bool> {
        let part = if self.lacks_room(Part::Executions, self.finished_count() as u64) {
            Part::Executions
        } else if self.lacks_room(Part::Bytes, self.retained_bytes()) {
            Part::Bytes
        } else {
            return None;
        };
        let most = self.retention.room.bound(part);
        let [synchronous, accepted] = &self.retention.kinds;
        let gives_way = [synchronous, accepted].map(|retained| retained.used(part) > most / 2);
        Some(match (gives_way, oldest_us) {
            ([true, false], _) => false,
            ([false, true], _) => true,
            (_, [Some(synchronous_us), Some(accepted_us)]) => accepted_us < synchronous_us,
            (_, [_, accepted_us]) => accepted_us.is_some(),
        })
    }

    /// The kind whose oldest was kept for its time.
    fn expired_kind(&self, oldest_us: [Option<u64>; 2]) -> Option<bool> {
        let ttls_us = [self.limits.executions_ttl_us, self.limits.accepted_ttl_us];
        let is_over = |accepted: &bool| {
            let kind = usize::from(*accepted);
            oldest_us[kind].is_some_and(|ended_us| ended_us + ttls_us[kind] <= self.now.mono_us)
        };
        [false, true].into_iter().find(is_over)
    }

    /// Forgets an execution that ends without a record: its only caller left before anything was done.
    pub(super) fn discard(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let label = execution.label.clone();
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        let idempotency_key =
            live.extra.as_ref().and_then(|extra| Some(extra.idempotency.as_ref()?.key.clone()));
        let watchers = std::mem::take(&mut live.watchers);
        self.timers.remove(live.expiry);
        self.retention.accepted -= usize::from(execution.accepted);
        self.take_waiters(key);
        // Nobody sees how it ended: it is forgotten at once.
        if self.leave_queue(key, Ending::Output(None)).is_none() {
            return self.impossible();
        }
        self.forget(key, false, fx);
        self.tell(key, watchers, fx);
        if let Some(idempotency_key) = idempotency_key {
            self.index.keys.remove(&label, &idempotency_key);
        }
    }

    fn forget(&mut self, key: ExecutionKey, finished: bool, fx: &mut Effects) {
        let Some(execution) = self.executions.remove(key) else { return self.impossible() };
        if execution.accepted {
            self.write(Record::Forgotten { id: execution.id }, fx);
        }
        self.index.ids.release(execution.id_table);
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.accounting.finished -= u64::from(finished);
            function.accounting.evicted += 1;
        }
    }
}
