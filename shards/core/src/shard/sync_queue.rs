//! The sync queue: synchronous calls are refused early instead of waiting for long. Off unless the settings have
//! it; then nothing here runs.
//!
//! A synchronous call that would have to wait is refused when too many wait (`depth`), when it would wait too
//! long (`est_wait`), and later when it has waited too long (`timeout`). The estimate is what is ahead of it in the
//! function's queue ÷ the rate at which that drains: as observed (`drain_rate`), before there are enough samples
//! slots ÷ mean service time. Without any history it is admitted.
//!
//! A call that waits for a first replica waits for no slot: neither the estimate nor the longest time in the
//! queue apply before there is one. Retries were admitted before, and are not refused. What was accepted with 202
//! is never ended here.
//!
//! Whoever is refused is told when to come back, and room is kept for it (`retry_plan`). Where the queue is too short
//! for a plan, refused callers are spread at the rate at which it drains.

use crate::{
    answer::{Answer, Refusal, SyncQueueReason},
    effect::{Effect, Effects, Note},
    function::Function,
    keys::{ExecutionKey, FunctionKey},
    limits::Limits,
    retry_plan::{Capacity, RetryPlan},
    settings::SyncQueue,
    shard::Shard,
    sync_history::SyncHistory,
    timers::{Due, TimerKey},
};

/// Furthest that refused callers are spread, in microseconds.
const SPREAD_US_MAX: u64 = 3_600_000_000;

impl Shard {
    /// Whether a synchronous call may join its function's queue.
    pub(super) fn admit_to_sync_queue(&mut self, key: FunctionKey) -> Result<(), Refusal> {
        let now_us = self.now.mono_us;
        let Some(settings) = self.settings.sync_queue.as_ref() else { return Ok(()) };
        let Some(function) = self.functions.get_mut(key) else {
            self.impossible();
            return Ok(());
        };
        let capacity = capacity(function, settings, now_us);
        let ahead = function.queue.len() as u32;
        if let Some(sync) = function.sync.as_mut() {
            sync.plan.take_if(|plan| plan.outstanding(now_us) == 0);
            if let Some(plan) = sync.plan.as_mut() {
                plan.arrived(now_us);
            }
        }
        if function.sync_waiting >= settings.max_depth {
            function.counters.sync_rejected_depth += 1;
            return Err(rejection(function, settings, SyncQueueReason::Depth, now_us));
        }
        let estimated = capacity.filter(|_| settings.admission_enabled && function.has_replica());
        if let Some(capacity) = estimated {
            let wait_us = capacity.wait_us(u64::from(ahead));
            let plan = function.sync.as_mut().and_then(|sync| sync.plan.as_mut());
            let kept_free = plan.is_some_and(|plan| !plan.allows(capacity, ahead, now_us));
            if wait_us > settings.max_estimated_wait_us || kept_free {
                function.counters.sync_rejected_wait += 1;
                return Err(rejection(function, settings, SyncQueueReason::EstimatedWait, now_us));
            }
        }
        let queue_depth = function.waiting_count();
        if queue_depth >= function.policy.queue_size {
            function.counters.queue_rejections += 1;
            let retry_after_s = retry_after_s(function, settings, now_us);
            let est_wait_us = function.known_wait_us(queue_depth + 1);
            return Err(Refusal::QueueFull { queue_depth, est_wait_us, retry_after_s });
        }
        Ok(())
    }

    /// Starts the wait of a synchronous call that was queued.
    pub(super) fn start_sync_wait(&mut self, key: ExecutionKey) {
        // It is off.
        let Some(settings) = self.settings.sync_queue.as_ref() else { return };
        // Stale: with other settings it is called for all that is in a queue, also for what has left it.
        let Some(execution) = self.executions.get_mut(key) else { return };
        if execution.accepted || execution.attempt > 0 || !execution.is_queued() {
            return;
        }
        let Some(function) = self.functions.get_mut(execution.function) else { return self.impossible() };
        // It waits there already.
        let Some(live) = execution.live.as_mut().filter(|live| live.sync_wait.is_none()) else { return };
        function.sync_waiting += 1;
        let timer = if function.has_replica() {
            let at_us = live.queued_us.saturating_add(settings.max_queue_wait_us);
            self.timers.insert(at_us, Due::QueueWait(key))
        } else {
            TimerKey::NONE
        };
        live.sync_wait = Some(timer);
    }

    /// Ends the wait of a synchronous call in the sync queue, whatever becomes of it.
    pub(super) fn end_sync_wait(&mut self, key: ExecutionKey) {
        // Stale, for the same reason.
        let Some(execution) = self.executions.get_mut(key) else { return };
        // It does not wait there, as most do not.
        let Some(timer) = execution.live.as_mut().and_then(|live| live.sync_wait.take()) else { return };
        self.timers.remove(timer);
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.sync_waiting -= 1;
        }
    }

    /// An execution is about to take a slot.
    pub(super) fn note_sync_dispatch(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let now_us = self.now.mono_us;
        if self.settings.sync_queue.is_none() {
            return;
        }
        self.end_sync_wait(key);
        // Looked at above.
        let Some(settings) = self.settings.sync_queue.as_ref() else { return };
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let Some(function) = self.functions.get_mut(execution.function) else { return self.impossible() };
        if function.in_flight + 1 >= function.slots() {
            history(function, settings).rate.filled(now_us);
        }
        if let Some(live) = execution.live.as_ref().filter(|_| !execution.accepted && execution.attempt == 0)
        {
            let wait_us = now_us - live.queued_us;
            fx.push(Effect::Note(Note::SyncDispatched { function: execution.function, wait_us }));
        }
    }

    /// A slot of a function was given back.
    pub(super) fn note_slot_release(&mut self, key: FunctionKey) {
        if self.settings.sync_queue.is_none() {
            return;
        }
        let now_us = self.now.mono_us;
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        // With fewer slots than before, giving one back frees none.
        if function.in_flight < function.slots() {
            let waited = !function.queue.is_empty();
            if let Some(sync) = function.sync.as_mut() {
                sync.rate.released(now_us, waited);
            }
        }
    }

    /// A synchronous call has waited as long as it may: whoever waits for it is refused.
    pub(super) fn queue_wait_is_over(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let now_us = self.now.mono_us;
        let Some(settings) = self.settings.sync_queue.clone() else { return self.impossible() };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        let Some(function) = self.functions.get_mut(execution.function) else { return self.impossible() };
        if !function.has_replica() {
            // All replicas went away: it waits for one again, not for a slot.
            live.sync_wait = live.sync_wait.map(|_| TimerKey::NONE);
            return;
        }
        function.counters.sync_rejected_timeout += 1;
        function.counters.sync_timeouts += 1;
        let function_key = execution.function;
        for ticket in self.take_waiters(key) {
            let Some(function) = self.functions.get_mut(function_key) else { break };
            let refusal = rejection(function, &settings, SyncQueueReason::Timeout, now_us);
            fx.reply(ticket, Answer::Refused(refusal));
        }
        self.discard(key, fx);
    }

    /// A function got its first replica: calls that waited for one wait for a slot from now on.
    pub(super) fn restart_sync_waits(&mut self, key: FunctionKey) {
        // It is off.
        let Some(settings) = self.settings.sync_queue.as_ref() else { return };
        let Some(function) = self.functions.get(key).filter(|function| function.sync_waiting > 0) else {
            // Nothing waits there.
            return;
        };
        let at_us = self.now.mono_us.saturating_add(settings.max_queue_wait_us);
        for key in function.queue.iter() {
            let live = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut());
            if let Some(live) = live.filter(|live| live.sync_wait == Some(TimerKey::NONE)) {
                live.sync_wait = Some(self.timers.insert(at_us, Due::QueueWait(key)));
            }
        }
    }

    /// Other settings hold: what waits, waits by them. What was observed and reserved is kept while the window
    /// stays the same.
    pub(super) fn reconfigure_sync_queue(&mut self, before: Option<SyncQueue>) {
        if self.settings.sync_queue == before {
            return;
        }
        let window_us = |settings: &Option<SyncQueue>| settings.as_ref().map(|on| on.throughput_window_us);
        let keep = window_us(&self.settings.sync_queue) == window_us(&before);
        let functions: Vec<FunctionKey> = self.functions.iter().map(|(key, _)| key).collect();
        for function_key in functions {
            let waiting = match self.functions.get_mut(function_key) {
                Some(function) => {
                    function.sync.take_if(|_| !keep);
                    function.queue.iter().collect::<Vec<_>>()
                }
                None => continue,
            };
            for key in waiting {
                self.end_sync_wait(key);
                self.start_sync_wait(key);
            }
        }
    }
}

fn history<'a>(function: &'a mut Function, settings: &SyncQueue) -> &'a mut SyncHistory {
    function.sync.get_or_insert_with(|| Box::new(SyncHistory::new(settings)))
}

/// What a function can take for now. `None`: nothing is known yet.
fn capacity(function: &mut Function, settings: &SyncQueue, now_us: u64) -> Option<Capacity> {
    let observed = function.sync.as_mut().and_then(|sync| sync.rate.per_us(now_us, settings.min_samples));
    let slots = f64::from(function.slots().max(1));
    let from_service = || (function.service_us > 0).then(|| slots / function.service_us as f64);
    let rate_per_us = observed.or_else(from_service)?;
    let queued = function.queue.len() as u32;
    let by_depth = queued.saturating_add(settings.max_depth.saturating_sub(function.sync_waiting));
    let elsewhere = function.waiting_count() - queued;
    let by_size = function.policy.queue_size.saturating_sub(elsewhere);
    // Who has a place reserved is to be served within the longest wait, not refused at its end.
    let wait_us = settings.max_estimated_wait_us.min(settings.max_queue_wait_us / 5 * 4);
    let by_wait = (wait_us as f64 * rate_per_us).min(f64::from(u32::MAX - 1)) as u32 + 1;
    Some(Capacity { room: by_depth.min(by_size).min(by_wait), rate_per_us })
}

fn rejection(function: &mut Function, settings: &SyncQueue, reason: SyncQueueReason, now_us: u64) -> Refusal {
    let retry_after_s = retry_after_s(function, settings, now_us);
    let ahead = function.queue.len() as u64 + reserved(function, now_us);
    let est_wait_us = capacity(function, settings, now_us).map(|capacity| capacity.wait_us(ahead));
    Refusal::SyncQueueRejected { reason, queue_depth: function.sync_waiting, est_wait_us, retry_after_s }
}

/// Callers that were told to come back.
fn reserved(function: &mut Function, now_us: u64) -> u64 {
    let plan = function.sync.as_mut().and_then(|sync| sync.plan.as_mut());
    plan.map_or(0, |plan| plan.outstanding(now_us))
}

/// When a caller that is refused now should come back.
fn retry_after_s(function: &mut Function, settings: &SyncQueue, now_us: u64) -> u32 {
    let least_s = settings.retry_after_s_min.max(1);
    let Some(capacity) = capacity(function, settings, now_us) else { return least_s };
    let sync = history(function, settings);
    if sync.plan.is_none() && settings.admission_enabled {
        sync.plan = RetryPlan::new(capacity, now_us);
    }
    if let Some(plan) = sync.plan.as_mut() {
        return plan.reserve(capacity, least_s, now_us);
    }
    let place_us = capacity.wait_us(1).min(SPREAD_US_MAX);
    sync.spread_us = (sync.spread_us.max(now_us) + place_us).min(now_us + SPREAD_US_MAX);
    Limits::retry_after_s(sync.spread_us - now_us).max(least_s)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        name::Name,
        settings::Settings,
        spec::{FunctionSpec, Policy, Target},
    };

    const SECOND_US: u64 = 1_000_000;

    /// No bound is in the way.
    fn settings() -> SyncQueue {
        SyncQueue {
            admission_enabled: true,
            max_depth: u32::MAX,
            max_estimated_wait_us: u64::MAX,
            max_queue_wait_us: u64::MAX,
            retry_after_s_min: 1,
            throughput_window_us: 16 * SECOND_US,
            min_samples: 3,
        }
    }

    /// Two slots, and 100 ms for a call: 20 calls per second. Four wait in its queue, three of them synchronous calls.
    fn function() -> Function {
        let policy = Policy { concurrency: 2, queue_size: u32::MAX, ..Policy::default() };
        let name = Name::new("f").expect("valid");
        let spec =
            FunctionSpec { name, policy, target: Target::Local, scaling: None, document: Bytes::new() };
        let mut function = Function::new(&spec);
        (0..4).for_each(|_| function.queue.push(ExecutionKey::NONE));
        function.sync_waiting = 3;
        function.service_us = 100_000;
        function
    }

    fn room(function: &mut Function, settings: &SyncQueue) -> Option<u32> {
        capacity(function, settings, 0).map(|capacity| capacity.room)
    }

    #[test]
    fn a_queue_takes_what_its_shortest_bound_leaves() {
        let mut function = function();
        let depth = SyncQueue { max_depth: 10, ..settings() };
        assert_eq!(room(&mut function, &depth), Some(4 + 7), "seven more synchronous calls");
        let wait = SyncQueue { max_estimated_wait_us: SECOND_US, ..settings() };
        assert_eq!(room(&mut function, &wait), Some(20 + 1), "the last one waits for those that drain");
        let queue_wait = SyncQueue { max_queue_wait_us: SECOND_US, ..settings() };
        assert_eq!(room(&mut function, &queue_wait), Some(16 + 1), "four fifths of the longest wait");
        assert_eq!(room(&mut function, &settings()), Some(u32::MAX));
        (0..6).for_each(|_| function.backlog.push(ExecutionKey::NONE));
        function.policy.queue_size = 20;
        assert_eq!(room(&mut function, &settings()), Some(20 - 6), "others have places of the queue as well");
    }

    #[test]
    fn nothing_is_known_of_a_function_that_has_answered_nothing() {
        let mut function = Function { service_us: 0, ..function() };
        assert_eq!(room(&mut function, &settings()), None);
        assert_eq!(retry_after_s(&mut function, &settings(), 0), 1);
        assert!(function.sync.is_none());
    }

    #[test]
    fn who_is_refused_waits_behind_those_who_were_told_to_come_back() {
        let mut function = function();
        let settings = settings();
        let waits_us = |function: &mut Function| {
            let refusal = rejection(function, &settings, SyncQueueReason::EstimatedWait, 0);
            let Refusal::SyncQueueRejected { est_wait_us, .. } = refusal else { return None };
            est_wait_us
        };
        assert_eq!(reserved(&mut function, 0), 0);
        // 50 ms for each of the four that wait, and for each that was refused before, and for the one itself.
        assert_eq!([1, 2, 3].map(|_| waits_us(&mut function)), [5, 6, 7].map(|calls| Some(calls * 50_000)));
        assert_eq!(reserved(&mut function, 0), 3);
        assert_eq!(reserved(&mut function, 100 * SECOND_US), 0, "they have come, or do not");
    }

    #[test]
    fn without_a_plan_refused_callers_are_spread_at_the_rate_at_which_the_queue_drains() {
        let mut function = Function { service_us: 2 * SECOND_US, ..function() };
        let depth_only = SyncQueue { admission_enabled: false, ..settings() };
        let now_us = 7 * SECOND_US;
        let mut told = |now_us| retry_after_s(&mut function, &depth_only, now_us);
        assert_eq!([0; 3].map(|_| told(now_us)), [1, 2, 3]);
        // Those places have become free.
        assert_eq!(told(now_us + 4 * SECOND_US), 1);
        assert!(function.sync.is_some_and(|sync| sync.plan.is_none()), "no room is kept");
    }

    #[test]
    fn nobody_is_sent_away_for_more_than_an_hour() {
        let mut function = Function { service_us: 3_000 * SECOND_US, ..function() };
        let depth_only = SyncQueue { admission_enabled: false, ..settings() };
        let told = [0; 4].map(|_| retry_after_s(&mut function, &depth_only, 7 * SECOND_US));
        assert_eq!(told, [1500, 3000, 3600, 3600]);
    }

    #[test]
    fn a_slot_that_is_one_too_many_makes_no_place_for_who_waits() {
        let sync_queue = settings();
        let mut history = SyncHistory::new(&sync_queue);
        let settings = Settings { sync_queue: Some(sync_queue), ..Settings::default() };
        let mut shard = Shard::new(Limits::default(), 1, settings);
        let mut observed = function();
        history.rate.filled(0);
        observed.sync = Some(Box::new(history));
        let key = shard.add_function(observed);
        // Three ran when there were three slots; there are two now.
        for (in_flight, samples_per_us) in [(2, None), (1, Some(1.0 / SECOND_US as f64))] {
            shard.now.mono_us = SECOND_US;
            let function = shard.functions.get_mut(key).expect("it was added");
            function.in_flight = in_flight;
            shard.note_slot_release(key);
            let sync = shard.functions.get_mut(key).and_then(|function| function.sync.as_mut());
            let observed = sync.and_then(|sync| sync.rate.per_us(SECOND_US, 1));
            assert_eq!(observed, samples_per_us, "{in_flight} are left");
        }
    }
}
