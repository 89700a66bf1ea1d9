//! Accepted executions are written down before anybody is told, and before they run.

use bytes::Bytes;

use crate::{
    answer::{Answer, Refusal},
    call::{Extra, Idempotency, Ticket},
    effect::{Effect, Effects},
    execution::Execution,
    id::ExecutionId,
    input::JournalEvent,
    journal::{Entry, Promise, Record},
    keys::ExecutionKey,
    name::Name,
    partition::Partition,
    payload::{Failure, Payload, code},
    sabotage::Sabotage,
    shard::Shard,
};

impl Shard {
    /// Has something written down. Returns the record's number.
    pub(super) fn write(&mut self, record: Record, fx: &mut Effects) -> u64 {
        // Whatever it is about: no record is of an epoch that is not known to have begun.
        self.note_start(fx);
        let number = self.journal.number();
        let mut partition = record.partition();
        let mut epoch = self.phase.epochs.of(partition);
        if self.sabotaged.by(Sabotage::EpochOfBefore) && !matches!(record, Record::Started { .. }) {
            epoch = epoch.before();
        }
        if self.sabotaged.by(Sabotage::PartitionOfAnother) {
            partition = Partition(partition.0.wrapping_add(1));
        }
        fx.push(Effect::Journal { number, entry: Entry { partition, epoch, record } });
        number
    }

    /// Has a new execution written down. Until it is safe it waits beside its queue, where it has its place.
    pub(super) fn accept(&mut self, key: ExecutionKey, ticket: Ticket, fx: &mut Effects) {
        self.write_accepted(key, fx);
        self.await_record(key, Promise::Accept(key, ticket));
        if self.sabotaged.by(Sabotage::AcceptedBeforeWrite) {
            self.journaled(u64::MAX, fx);
        }
    }

    /// Keeps an execution beside its queue until the newest record is safe.
    pub(super) fn await_record(&mut self, key: ExecutionKey, promise: Promise) {
        self.park(key);
        let record = self.journal.promise(promise);
        if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut()) {
            live.record = record;
        }
    }

    /// Whether an execution is beside its queue for this record. It may have ended and be tried again since, and wait
    /// for a later one.
    fn awaits_record(&self, key: ExecutionKey, record: u64) -> bool {
        let live = self.executions.get(key).and_then(|execution| execution.live.as_ref());
        live.is_some_and(|live| live.record == record)
    }

    /// Makes an execution that others wait for one that is accepted, and answers when that is safe.
    pub(super) fn accept_running(
        &mut self,
        key: ExecutionKey,
        id: ExecutionId,
        ticket: Ticket,
        fx: &mut Effects,
    ) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if execution.accepted && !execution.unwritten {
            if !self.journal.join(key, id, ticket) {
                fx.reply(ticket, Answer::Accepted { id });
            }
            return;
        }
        // At once, not when the record is safe: from now on no waiter may end it. Should the record fail, it runs on
        // to its end as if it had been accepted, which harms nobody.
        execution.accepted = true;
        execution.unwritten = false;
        let in_flight = execution.in_flight;
        let job_until_ms = in_flight.and_then(|attempt| self.job_until_ms(attempt));
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        for record in attempts_before_acceptance(execution, job_until_ms) {
            self.write(record, fx);
        }
        self.write_accepted(key, fx);
        self.journal.promise(Promise::Answer(id, ticket));
        self.end_sync_wait(key);
    }

    /// Writes an accepted execution down once more, now that its result goes somewhere, and answers when that is safe.
    pub(super) fn accept_addressed(
        &mut self,
        key: ExecutionKey,
        id: ExecutionId,
        ticket: Ticket,
        fx: &mut Effects,
    ) {
        self.write_accepted(key, fx);
        self.journal.promise(Promise::Address(id, ticket));
    }

    /// Accepts an execution that has ended without a record, and answers when there is one. One record says all of it:
    /// were its acceptance and its end two, a crash between them would run it again.
    pub(super) fn accept_ended(
        &mut self,
        key: ExecutionKey,
        idempotency: Idempotency,
        ticket: Ticket,
        fx: &mut Effects,
    ) {
        let Some(id) = self.write_kept(key, Some(idempotency), fx) else { return self.impossible() };
        self.journal.promise(Promise::Answer(id, ticket));
    }

    /// Writes down that an execution that has ended is there.
    pub(super) fn write_kept(
        &mut self,
        key: ExecutionKey,
        idempotency: Option<Idempotency>,
        fx: &mut Effects,
    ) -> Option<ExecutionId> {
        let (end, _) = self.end_of(key)?;
        self.retain_as_accepted(key);
        let execution = self.executions.get_mut(key)?;
        let function = Name::new(&execution.label)?;
        execution.unwritten = false;
        let id = execution.id;
        let letter = execution.dead.as_ref();
        let extra = Extra { idempotency, ..Extra::default() };
        let record = Record::Kept {
            id,
            function,
            created_ms: execution.created_ms,
            attempt: execution.attempt,
            payload: letter.map_or_else(|| Payload::json(Bytes::new()), |letter| letter.payload.clone()),
            extra: letter.map_or_else(|| Some(Box::new(extra)), |letter| letter.extra.clone()),
            last_failure: execution.last_failure.clone(),
            end: Box::new(end),
            // Behind the record that gives it up, it is none. Should that one fail, another end follows, and it is one as before.
            dead: letter.is_some_and(|letter| !letter.is_given_up),
        };
        self.write(record, fx);
        Some(id)
    }

    fn write_accepted(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let Some(function) = self.functions.get(execution.function) else { return self.impossible() };
        let Some(live) = execution.live.as_ref() else { return self.impossible() };
        let record = Record::Accepted {
            id: execution.id,
            function: function.name,
            created_ms: execution.created_ms,
            payload: live.payload.clone(),
            extra: live.extra.clone(),
            callback_url: execution.delivery.as_ref().map(|delivery| delivery.url.clone()),
        };
        self.write(record, fx);
    }

    /// The journal says something about records, or brings what was to be read.
    pub(super) fn journal_event(&mut self, event: JournalEvent, fx: &mut Effects) {
        match event {
            JournalEvent::Safe { through } => self.journaled(through, fx),
            JournalEvent::Failed { through } => self.journal_failed(through, fx),
            JournalEvent::NotTaken { number } => self.record_not_taken(number, fx),
            JournalEvent::Read { ticket, id, result } => self.result_read(ticket, id, result, fx),
        }
    }

    /// Everything up to this record is safe: what was promised with it happens.
    pub(super) fn journaled(&mut self, through: u64, fx: &mut Effects) {
        self.journal.is_safe_through(through);
        while let Some((number, promise)) = self.journal.pop_kept() {
            match promise {
                Promise::Accept(key, ticket) | Promise::Replay(key, ticket) => {
                    // It may have been cancelled in the meantime, and forgotten: it was accepted all the same.
                    let Some(execution) = self.executions.get(key) else {
                        fx.reply(ticket, Answer::Refused(Refusal::ExecutionNotFound));
                        continue;
                    };
                    fx.reply(ticket, Answer::Accepted { id: execution.id });
                    if matches!(promise, Promise::Accept(..))
                        && let Some(function) = self.functions.get_mut(execution.function)
                    {
                        function.counters.enqueued += 1;
                    }
                    if self.awaits_record(key, number) && self.unpark(key) {
                        self.dispatch_or_enqueue(key, fx);
                    }
                }
                Promise::Answer(id, ticket) | Promise::Address(id, ticket) => {
                    // Its own record may have failed since.
                    let answer = match self.find(id) {
                        Some(execution) if execution.unwritten => Answer::Refused(Refusal::StoreUnavailable),
                        Some(_) => Answer::Accepted { id },
                        // It was pushed out in the meantime.
                        None => Answer::Refused(Refusal::ExecutionNotFound),
                    };
                    match answer {
                        Answer::Accepted { .. } => self.address_is_safe(id, ticket, fx),
                        _ => self.take_address_back(id, ticket),
                    }
                    fx.reply(ticket, answer);
                }
                Promise::Register(key) => self.registration_is_safe(key, fx),
                Promise::Remove(key) => self.removal_is_safe(key, fx),
                Promise::Purge(key, ticket) => {
                    fx.reply(ticket, Answer::Removed);
                    self.give_up(key, fx);
                }
                Promise::Drain(ticket) => fx.reply(ticket, Answer::Drained { dispatched: true }),
                Promise::End(key) => self.end_is_on_disk(key, number, fx),
                Promise::Retry(key) => self.retry_is_due(key, number, fx),
                Promise::Job(key) => self.order_job(key, fx),
                Promise::Start => self.release_restored(),
            }
        }
    }

    /// Records up to this one cannot be written: nothing may be promised.
    fn journal_failed(&mut self, through: u64, fx: &mut Effects) {
        while let Some((number, promise)) = self.journal.pop_broken(through) {
            if let Promise::End(key) = promise {
                self.end_is_delayed(key, number, fx);
            }
            if let Some(promise) = self.journal.delay(number, promise) {
                self.break_promise(number, promise, fx);
            }
        }
        self.show_delayed_ends(fx);
    }

    /// One record was not taken.
    fn record_not_taken(&mut self, number: u64, fx: &mut Effects) {
        while let Some((number, promise)) = self.journal.take(number) {
            // Nothing of it will ever turn up, so nothing has to be taken back: while the disk is full, a record for
            // every refusal would push out those that count.
            if let Promise::Accept(key, _) = promise
                && let Some(execution) = self.executions.get_mut(key)
                && execution.is_queued()
            {
                execution.accepted = false;
                self.retention.accepted -= 1;
            }
            match promise {
                // A fact that a store had no room for: it will never be written, and nothing more can be waited for.
                Promise::End(key) => self.end_may_be_shown(key, number, fx),
                Promise::Retry(key) => self.retry_is_due(key, number, fx),
                Promise::Job(key) => self.order_job(key, fx),
                Promise::Start => self.release_restored(),
                promise => self.break_promise(number, promise, fx),
            }
        }
    }

    /// Another attempt may be made, unless its pause lasts.
    fn retry_is_due(&mut self, key: ExecutionKey, number: u64, fx: &mut Effects) {
        let live = self.executions.get(key).and_then(|execution| execution.live.as_ref());
        let is_due = live.is_some_and(|live| live.backoff.is_none());
        if is_due && self.awaits_record(key, number) && self.unpark(key) {
            self.dispatch_or_enqueue(key, fx);
        }
    }

    fn break_promise(&mut self, number: u64, promise: Promise, fx: &mut Effects) {
        let refused = Answer::Refused(Refusal::StoreUnavailable);
        match promise {
            Promise::Accept(key, ticket) => {
                fx.reply(ticket, refused);
                self.refuse_parked(key, number, fx);
            }
            Promise::Replay(key, ticket) => {
                fx.reply(ticket, refused);
                if let Some(execution) = self.executions.get_mut(key) {
                    // Its acceptance may have been written with the same group.
                    execution.unwritten = true;
                }
                if self.awaits_record(key, number) {
                    self.bury_again(key, fx);
                }
            }
            // The execution was accepted without it.
            Promise::Address(id, ticket) => {
                fx.reply(ticket, refused);
                self.take_address_back(id, ticket);
            }
            Promise::Answer(id, ticket) => {
                fx.reply(ticket, refused);
                self.take_address_back(id, ticket);
                let relies = self.journal.rely_on_addresses(id, number);
                let key = self.find_key(id);
                if let Some(execution) = key.and_then(|key| self.executions.get_mut(key)) {
                    execution.unwritten = !relies;
                }
            }
            Promise::Register(key) => self.registration_failed(key, fx),
            Promise::Remove(key) => self.removal_failed(key, fx),
            Promise::Purge(key, ticket) => {
                self.purge_failed(key, fx);
                fx.reply(ticket, refused);
            }
            Promise::Drain(ticket) => fx.reply(ticket, refused),
            // They wait on.
            Promise::End(_) | Promise::Retry(_) | Promise::Job(_) | Promise::Start => {}
        }
    }

    /// An execution that was not accepted after all leaves nothing behind; whoever joined it is told.
    fn refuse_parked(&mut self, key: ExecutionKey, broken: u64, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if !execution.is_queued() {
            // It was cancelled in the meantime. Who repeats its key must not be told that there is a record.
            execution.unwritten = !self.journal.rely_on_addresses(execution.id, broken);
            return;
        }
        let id = execution.id;
        for ticket in self.take_waiters(key) {
            fx.reply(ticket, Answer::Refused(Refusal::StoreUnavailable));
        }
        // Also those whose own record may yet be written: what follows it says that the execution is forgotten.
        for ticket in self.journal.take_answers(id) {
            fx.reply(ticket, Answer::Refused(Refusal::StoreUnavailable));
        }
        self.discard(key, fx);
    }

    /// Puts an execution beside its queue: it waits, but not for a slot.
    pub(super) fn park(&mut self, key: ExecutionKey) {
        let Some(function) = self.start_waiting(key) else { return self.impossible() };
        if let Some(function) = self.functions.get_mut(function) {
            function.parked.insert(key);
        }
    }

    /// Takes it out again. `false`: it is no longer there.
    pub(super) fn unpark(&mut self, key: ExecutionKey) -> bool {
        let Some(execution) = self.executions.get(key) else { return false };
        let function = self.functions.get_mut(execution.function);
        function.is_some_and(|function| function.parked.remove(&key))
    }
}

/// What an execution did before it was accepted. It comes before the acceptance: a crash between them must not have a
/// number used again.
fn attempts_before_acceptance(
    execution: &Execution,
    job_until_ms: Option<u64>,
) -> impl Iterator<Item = Record> + use<> {
    let (id, attempt) = (execution.id, execution.attempt);
    // Of a replay all of it is on record, and before that how it had died. Some of its numbers were perhaps left out:
    // written down once more they would count.
    let is_replay = execution.live.as_ref().is_some_and(|live| live.died.is_some());
    let crashed = crash_before_the_last(execution).map(|failure| Record::Requeued { id, failure });
    let failed = execution.last_failure.as_deref().cloned().map(|failure| Record::Requeued { id, failure });
    let attempted = (attempt > 0).then_some(match job_until_ms {
        Some(until_ms) => Record::JobOrdered { id, attempt, until_ms },
        None => Record::Attempted { id, attempt },
    });
    // Of what waits for another attempt, the last one has failed.
    let (before, after) = if execution.is_queued() { (None, failed) } else { (failed, None) };
    let records = crashed.into_iter().chain(before).chain(attempted).chain(after);
    records.filter(move |_| !is_replay)
}

/// A replica ended with an earlier attempt, and another one has failed since: that counts, whatever failed last.
fn crash_before_the_last(execution: &Execution) -> Option<Failure> {
    let crashes = execution.live.as_ref().map_or(0, |live| live.crashes);
    let last = execution.last_failure.as_ref().filter(|last| last.code == code::FUNCTION_CRASHED);
    (crashes > 0 && last.is_none())
        .then(|| Failure::new(code::FUNCTION_CRASHED, "A replica ended with an earlier attempt"))
}
