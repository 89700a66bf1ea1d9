//! What was there before the server started is taken back: functions first, then executions in their order.
//!
//! No bound refuses any of it: it was admitted once. What had not ended is queued again, unless it has an attempt with a job,
//! which goes on (`jobs`); what had ended is kept for the rest of its time. Nothing is dispatched until all is there, so that the order in the queues is that of before.

use std::sync::Arc;

use crate::{
    answer::BackendFailure,
    dead_letters::DeadLetter,
    effect::{Effect, Effects, Note},
    execution::{Activity, Course, Ending, Execution, Live, ResultDelivery},
    function::{Function, Life, Runner},
    id_table::TableNumber,
    journal::{Promise, Record},
    keys::{ExecutionKey, FunctionKey},
    payload::{Failure, code},
    recovery::{Stored, StoredEnd, StoredExecution, StoredResult},
    sabotage::Sabotage,
    shard::{Shard, state::Start},
    spec::{FunctionSpec, Provisioned, ReplicaAddress, Target},
    timers::{Due, TimerKey},
};

/// Time after which replicas that could not be started are tried again.
const RECONCILE_PAUSE_US: u64 = 5_000_000;

impl Shard {
    /// Takes one thing back.
    pub(super) fn restore(&mut self, stored: Stored, fx: &mut Effects) {
        self.phase.restoring = true;
        match stored {
            Stored::Partition { partition, epoch } => {
                self.phase.partitions.push(partition);
                self.phase.epochs.set(partition, epoch.next());
            }
            Stored::Function(spec) => self.restore_function(spec, fx),
            Stored::Execution(execution) => self.restore_execution(*execution, fx),
        }
    }

    /// Everything is back: what waits may run.
    pub(super) fn restored(&mut self, fx: &mut Effects) {
        self.phase.restoring = false;
        self.look_for_jobs(fx);
        let functions: Vec<FunctionKey> = self.functions.iter().map(|(key, _)| key).collect();
        for key in functions {
            if let Some(function) = self.functions.get_mut(key) {
                // An attempt that goes on may have to be made again.
                function.restored = function.waiting_count() + function.in_flight;
            }
            self.ring(key);
        }
        self.arm_sweep();
    }

    /// What was accepted runs when it is written down that there is another owner: whoever comes after this one must know
    /// which attempts it may have made. That is written of all partitions at once, before any other record.
    pub(super) fn note_start(&mut self, fx: &mut Effects) {
        if self.phase.start != Start::Unwritten || self.phase.partitions.is_empty() {
            return;
        }
        self.phase.start = Start::BeingWritten;
        for partition in std::mem::take(&mut self.phase.partitions) {
            if self.sabotaged.by(Sabotage::StartUnwritten) {
                continue;
            }
            self.write(Record::Started { partition, epoch: self.phase.epochs.of(partition) }, fx);
        }
        self.journal.promise(Promise::Start);
    }

    /// It is written down that there is another owner.
    pub(super) fn release_restored(&mut self) {
        self.phase.start = Start::Written;
        if self.settings.background_scheduler && !self.phase.held {
            self.release_backlogs();
        }
    }

    /// A function is visible at once. Its replicas are gone: its calls wait for new ones.
    fn restore_function(&mut self, spec: Box<FunctionSpec>, fx: &mut Effects) {
        if self.index.names.contains_key(spec.name.as_str()) {
            return;
        }
        let mut function = Function::new(&spec);
        match &spec.target {
            Target::Local => function.runner = Runner::Local,
            Target::Jobs => function.runner = Runner::Jobs,
            Target::Endpoint(_) => {}
            Target::Backend => {
                function.runner = Runner::Backend;
                function.reconciling = Some(TimerKey::NONE);
                function.life = Life::Ordered;
            }
        }
        let key = self.add_function(function);
        let poll_us = self.settings.autoscaler.as_ref().map_or(0, |auto| auto.poll_interval_us);
        self.arm_scaling(poll_us);
        match spec.target.clone() {
            Target::Local | Target::Jobs => {}
            Target::Endpoint(address) => self.open_endpoint(key, ReplicaAddress { replica: 0, address }, fx),
            Target::Backend => fx.push(Effect::Provision { function: key, spec }),
        }
    }

    /// The backend has an answer about replicas of a restored function.
    pub(super) fn reconciled(
        &mut self,
        key: FunctionKey,
        result: Result<Provisioned, BackendFailure>,
        fx: &mut Effects,
    ) {
        let ordered = |function: &&mut Function| function.life == Life::Ordered;
        // Stale when the backend answers twice.
        let Some(function) = self.functions.get_mut(key).filter(ordered) else { return };
        function.life = Life::Live;
        match result {
            Ok(provisioned) => {
                self.timers.remove(function.reconciling.take().unwrap_or_default());
                self.settle_provisioned(key, provisioned, fx);
            }
            Err(failure) => {
                let note = Note::NotReconciled { name: function.name, message: failure.message };
                fx.push(Effect::Note(note));
                self.reconcile_later(key);
            }
        }
        self.next_pending(key, fx);
    }

    /// Replicas that could not be started are tried again.
    pub(super) fn reconcile(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key).filter(|function| function.reconciling.is_some())
        else {
            return self.impossible();
        };
        if function.life.is_busy() {
            self.reconcile_later(key);
            return;
        }
        function.life = Life::Ordered;
        fx.push(Effect::Provision { function: key, spec: function.spec.clone() });
    }

    fn reconcile_later(&mut self, key: FunctionKey) {
        let timer = self.timers.insert(self.now.mono_us + RECONCILE_PAUSE_US, Due::Reconcile(key));
        if let Some(function) = self.functions.get_mut(key) {
            function.reconciling = Some(timer);
        }
    }

    fn restore_execution(&mut self, mut stored: StoredExecution, fx: &mut Effects) {
        if self.find_key(stored.id).is_some() {
            return;
        }
        let age_us = self.now.unix_ms.saturating_sub(stored.finished_ms()).saturating_mul(1000);
        if stored.end.is_some() && !stored.dead && age_us >= self.limits.accepted_ttl_us {
            self.write(Record::Forgotten { id: stored.id }, fx);
            return;
        }
        let function_key = self.live_function(&stored.function).map(|(key, _)| key);
        let owner = function_key.filter(|_| !stored.is_removed);
        let end = stored.end.take();
        let key = self.insert_restored(&stored, owner.unwrap_or_default(), end.as_deref());
        let written_us = self.now.mono_us.saturating_sub(if end.is_some() { age_us } else { 0 });
        self.restore_claim(key, &stored, written_us);
        match end {
            Some(end) => self.restore_end(key, stored, *end, written_us, fx),
            None => {
                self.note_start(fx);
                let job_until_ms = stored.job_until_ms.filter(|_| owner.is_some());
                self.restore_live(key, stored);
                let goes_on = job_until_ms.is_some_and(|until_ms| self.adopt(key, until_ms));
                if !goes_on {
                    self.wait_anew(key, job_until_ms.is_some());
                }
                if owner.is_none() {
                    self.end_without_function(key, fx);
                }
            }
        }
        // Not before it is known whether it goes on: then its key stays.
        self.expire_keys(1);
    }

    fn insert_restored(
        &mut self,
        stored: &StoredExecution,
        function_key: FunctionKey,
        end: Option<&StoredEnd>,
    ) -> ExecutionKey {
        let unrecorded = if end.is_none() { stored.unrecorded } else { 0 };
        let mut label = None;
        if let Some(function) = self.functions.get_mut(function_key) {
            function.accounting.admitted += 1;
            match end {
                Some(_) => function.accounting.finished += 1,
                None => function.accounting.queued += 1,
            }
            label = Some(Arc::clone(&function.label));
        }
        let key = self.executions.insert(Execution {
            id: stored.id,
            id_table: TableNumber::default(),
            function: function_key,
            label: label.unwrap_or_else(|| Arc::from(stored.function.as_str())),
            course: Course::Active(Activity::Queued),
            shown: None,
            attempt: stored.attempt + unrecorded,
            accepted: true,
            unwritten: false,
            end_is_safe: false,
            keyed: stored.extra.as_ref().is_some_and(|extra| extra.idempotency.is_some()),
            cold_start: end.is_some_and(|end| end.cold_start),
            init_ms: end.and_then(|end| end.init_ms),
            created_ms: stored.created_ms,
            dispatched_ms: end.map_or(0, |end| end.dispatched_ms),
            finished_ms: end.map_or(0, |end| end.finished_ms),
            finished_us: 0,
            last_failure: stored.last_failure.clone(),
            delivery: stored.callback_url.clone().map(ResultDelivery::new),
            dead: None,
            in_flight: None,
            live: None,
        });
        self.index_id(key);
        key
    }

    /// The key of an asynchronous call is bound to its execution again.
    fn restore_claim(&mut self, key: ExecutionKey, stored: &StoredExecution, written_us: u64) {
        if !stored.has_its_key && !self.sabotaged.by(Sabotage::OldKeyStands) {
            return;
        }
        let idempotency = stored.extra.as_ref().and_then(|extra| extra.idempotency.as_ref());
        let label = self.executions.get(key).map(|execution| Arc::clone(&execution.label));
        if let (Some(idempotency), Some(label)) = (idempotency, label) {
            self.index.keys.put(&label, idempotency, key, written_us);
        }
    }

    /// What had not ended has again what it needs for that. An attempt with a job may go on.
    fn restore_live(&mut self, key: ExecutionKey, stored: StoredExecution) {
        let now = self.now;
        let is_interrupted = stored.is_interrupted && stored.job_until_ms.is_none();
        let uncounted = u32::from(is_interrupted) + stored.unrecorded;
        let before = stored.attempts_before.saturating_add(uncounted);
        let age_us = |since_ms: u64| now.unix_ms.saturating_sub(since_ms).saturating_mul(1000);
        let max_age_ms = stored.extra.as_ref().and_then(|extra| extra.max_age_ms);
        // One that is over by now ends in the next step.
        let expires_us = max_age_ms.map_or(0, |max_age_ms| {
            let left_us = (u64::from(max_age_ms) * 1000).saturating_sub(age_us(stored.queued_ms));
            (now.mono_us + left_us).max(1)
        });
        let live = Live {
            is_tried: stored.attempt > 0,
            attempts_before: before.min(stored.attempt + stored.unrecorded),
            crashes: stored.crashes,
            accepted_us: now.mono_us.saturating_sub(age_us(stored.created_ms)),
            ..Live::new(stored.payload, stored.extra, now.mono_us)
        };
        if let Some(execution) = self.executions.get_mut(key) {
            execution.live = Some(Box::new(live));
        }
        self.retention.accepted += 1;
        self.arm_expiry(key, expires_us);
    }

    /// It waits again: at the tail, for those before it are there already. `had_job`: the job of its last attempt is not gone on
    /// with.
    fn wait_anew(&mut self, key: ExecutionKey, had_job: bool) {
        if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
            live.attempts_before += u32::from(had_job);
        }
        self.enqueue(key);
    }

    /// Its function was removed, and the crash came before its end was written down.
    fn end_without_function(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let name = &execution.label;
        let message = format!("Function '{name}' was removed before the execution could run");
        let failure = Box::new(Failure::new(code::FUNCTION_REMOVED, message));
        self.finish_at_once(key, Ending::Failed(failure), fx);
    }

    /// What had ended is kept for the rest of its time; a result that was not delivered yet is delivered.
    fn restore_end(
        &mut self,
        key: ExecutionKey,
        stored: StoredExecution,
        end: StoredEnd,
        finished_us: u64,
        fx: &mut Effects,
    ) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        execution.finished_us = finished_us;
        execution.end_is_safe = true;
        let ending = match end.result {
            StoredResult::Here(result) => Ending::from(result),
            StoredResult::OnDisk { state, bytes } => Ending::OnDisk { state, bytes },
        };
        let of_removal = ending.is_of_removal();
        execution.course = Course::Ended(ending);
        if stored.dead {
            let bytes = stored.payload.bytes() + execution.retained_bytes();
            let letter = DeadLetter {
                payload: stored.payload,
                extra: stored.extra,
                dead_ms: end.finished_ms,
                bytes,
                order: 0,
                of_removal,
                is_given_up: false,
            };
            execution.dead = Some(Box::new(letter));
        }
        match (&mut execution.delivery, stored.delivery) {
            (Some(delivery), Some(state)) => delivery.state = state,
            (Some(_), None) => self.deliver(key, fx),
            (None, _) => {}
        }
        if stored.dead {
            self.list_dead_letter(key, fx);
        } else {
            self.retain(key, fx);
        }
    }
}

impl StoredExecution {
    /// Milliseconds since the Unix epoch; 0 while it lives.
    fn finished_ms(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| end.finished_ms)
    }
}
