//! Accepted executions that ended badly are kept, listed, tried again or given up.

use crate::{
    answer::{Answer, DeadLetterView, DeliveryStatus, Refusal},
    call::{Extra, Ticket},
    dead_letters::DeadLetter,
    effect::{Effect, Effects, Note},
    execution::{Activity, Course, Death, Ending, Execution, Live},
    function::Accounting,
    id::ExecutionId,
    journal::{Promise, Record},
    keys::{ExecutionKey, FunctionKey},
    limits::Limits,
    name::Name,
    payload::{Failure, Payload, code},
    sabotage::Sabotage,
    shard::{Shard, state::Drain},
};

impl Shard {
    /// Keeps an execution that just ended as a dead letter.
    pub(super) fn bury(
        &mut self,
        key: ExecutionKey,
        payload: Payload,
        extra: Option<Box<Extra>>,
        fx: &mut Effects,
    ) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let bytes = payload.bytes() + execution.retained_bytes();
        let dead_ms = execution.finished_ms;
        let of_removal = execution.ending().is_some_and(Ending::is_of_removal);
        execution.dead = Some(Box::new(DeadLetter {
            payload,
            extra,
            dead_ms,
            bytes,
            order: 0,
            of_removal,
            is_given_up: false,
        }));
        if let Some(function) = self.functions.get_mut(execution.function) {
            function.counters.dead_letters += 1;
        }
        self.list_dead_letter(key, fx);
    }

    /// Puts a dead letter on its function's list, behind the others, and keeps that within its bounds.
    pub(super) fn list_dead_letter(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let (Some(letter), Some(name)) = (execution.dead.as_mut(), Name::new(&execution.label)) else {
            return self.impossible();
        };
        let of_removal = letter.of_removal;
        if of_removal && self.phase.restoring {
            self.dead_letters.expect_restored(name);
        }
        letter.order = self.dead_letters.push(name, key, of_removal, letter.bytes);
        // A function makes room at its own expense: it cannot push out what others may still want back.
        while let Some(oldest) = self.dead_letters.excess(&name, of_removal, &self.limits) {
            self.drop_dead_letter(oldest, fx);
        }
    }

    /// Lists the dead letters of a function, newest first.
    pub(super) fn list_dead_letters(&self, ticket: Ticket, name: &Name, limit: usize, fx: &mut Effects) {
        if self.live_function(name).is_none() {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        }
        let letters = self.dead_letters.of(name).take(limit).filter_map(|key| {
            let execution = self.executions.get(key)?;
            let letter = execution.dead.as_ref()?;
            let payload_bytes = letter.payload.bytes();
            Some(DeadLetterView { execution: execution.view(), dead_ms: letter.dead_ms, payload_bytes })
        });
        fx.reply(ticket, Answer::DeadLetters(letters.collect()));
    }

    /// Gives a dead letter up, when that is safe. Its record stays for as long as those of other finished executions.
    pub(super) fn purge(&mut self, ticket: Ticket, name: &Name, id: ExecutionId, fx: &mut Effects) {
        let key = match self.dead_letter(name, id) {
            Ok(key) => key,
            Err(refusal) => return fx.reply(ticket, Answer::Refused(refusal)),
        };
        // Who gives it up as well writes that once more, and hears of its own record.
        if let Some(letter) = self.executions.get_mut(key).and_then(|execution| execution.dead.as_mut()) {
            letter.is_given_up = true;
        }
        self.write(Record::Purged { id }, fx);
        self.journal.promise(Promise::Purge(key, ticket));
        if self.sabotaged.by(Sabotage::GivenUpBeforeWrite) {
            self.journaled(u64::MAX, fx);
        }
    }

    /// A purge that could not be written down: the dead letter is one as before. The disk may say otherwise.
    pub(super) fn purge_failed(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let again = |promise: &Promise| matches!(promise, Promise::Purge(of, _) if *of == key);
        if self.journal.promises().any(again) {
            // Somebody else gives it up as well, and that decides.
            return;
        }
        // Stale when it was dropped meanwhile, as one too many, and perhaps forgotten since.
        let Some(execution) = self.executions.get_mut(key) else { return };
        // Stale as well: dropped and still kept.
        let Some(letter) = execution.dead.as_mut() else { return };
        letter.is_given_up = false;
        let delivery = execution.delivery.as_ref().map(|delivery| delivery.state.clone());
        let id = execution.id;
        self.write_ended(key, fx);
        if let Some(delivery) = delivery.filter(|delivery| delivery.status != DeliveryStatus::Pending) {
            self.write(Record::Delivered { id, delivery }, fx);
        }
    }

    /// A dead letter is one too many.
    fn drop_dead_letter(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(id) = self.executions.get(key).map(|execution| execution.id) else {
            return self.impossible();
        };
        fx.push(Effect::Note(Note::DeadLetterDropped { id }));
        self.write(Record::Purged { id }, fx);
        self.give_up(key, fx);
    }

    /// A dead letter is none any more.
    pub(super) fn give_up(&mut self, key: ExecutionKey, fx: &mut Effects) {
        if self.exhume(key).is_none() {
            return;
        }
        if let Some(execution) = self.executions.get_mut(key) {
            // The oldest records go first: its time starts now.
            execution.finished_us = self.now.mono_us;
        }
        self.retain(key, fx);
    }

    /// Queues a dead letter again: same id, attempts go on counting, with a fresh number of them.
    pub(super) fn replay(&mut self, ticket: Ticket, name: &Name, id: ExecutionId, fx: &mut Effects) {
        match self.revive(name, id, fx) {
            Ok(key) => {
                self.write(Record::Replayed { id, at_ms: self.now.unix_ms }, fx);
                self.await_record(key, Promise::Replay(key, ticket));
            }
            Err(refusal) => fx.reply(ticket, Answer::Refused(refusal)),
        }
    }

    /// Checks what a new call would be checked for, then brings a dead letter back to life.
    fn revive(&mut self, name: &Name, id: ExecutionId, fx: &mut Effects) -> Result<ExecutionKey, Refusal> {
        if self.phase.drain != Drain::Open {
            return Err(Refusal::ShuttingDown);
        }
        let key = self.dead_letter(name, id)?;
        let letter = self.executions.get(key).and_then(|execution| execution.dead.as_ref());
        if letter.is_some_and(|letter| letter.is_given_up) {
            return Err(Refusal::DeadLetterNotFound);
        }
        let (function_key, function) = self.live_function(name).ok_or(Refusal::FunctionNotFound)?;
        if let Some(refusal) = super::admission::queue_refusal(function) {
            return Err(refusal);
        }
        let payload_bytes = self
            .executions
            .get(key)
            .and_then(|execution| execution.dead.as_ref())
            .map_or(0, |letter| letter.payload.bytes());
        if !self.bytes.have_room_for(payload_bytes) {
            let retry_after_s = Limits::retry_after_s(function.estimated_wait_us(1));
            return Err(Refusal::Overloaded { what: "limits.queued-bytes", retry_after_s });
        }
        self.claim_key_again(key)?;
        if self.executions.get(key).is_some_and(|execution| execution.unwritten) {
            // It died of a call whose own record could not be written: what is tried again must be there at all.
            self.write_kept(key, None, fx);
        }
        let (_, letter) = self.exhume(key).ok_or(Refusal::DeadLetterNotFound)?;
        // It may wait as long again.
        let expires_us = self.expiry_of(letter.extra.as_deref());
        let Some(execution) = self.executions.get_mut(key) else {
            self.impossible();
            return Err(Refusal::DeadLetterNotFound);
        };
        let course = std::mem::replace(&mut execution.course, Course::Active(Activity::Queued));
        let Course::Ended(ending) = course else {
            self.impossible();
            return Err(Refusal::DeadLetterNotFound);
        };
        let died = Death {
            ending,
            last_failure: execution.last_failure.take(),
            dispatched_ms: std::mem::take(&mut execution.dispatched_ms),
            cold_start: std::mem::take(&mut execution.cold_start),
            init_ms: execution.init_ms.take(),
        };
        execution.last_failure = died.shown();
        execution.finished_ms = 0;
        execution.finished_us = 0;
        execution.end_is_safe = false;
        if let Some(delivery) = execution.delivery.as_mut()
            && !self.sabotaged.by(Sabotage::DeliveryStays)
        {
            delivery.starts_anew();
        }
        let old_function = std::mem::replace(&mut execution.function, function_key);
        let live = Live {
            is_tried: execution.attempt > 0,
            attempts_before: execution.attempt,
            died: Some(Box::new(died)),
            ..Live::new(letter.payload, letter.extra, self.now.mono_us)
        };
        execution.live = Some(Box::new(live));
        self.retention.accepted += 1;
        if let Some(function) = self.functions.get_mut(function_key) {
            function.queue.forget_stale(key);
            function.backlog.forget_stale(key);
        }
        self.arm_expiry(key, expires_us);
        self.move_accounts(old_function, function_key);
        // Not before it lives again: the key of what has ended might go.
        self.expire_keys(1);
        Ok(key)
    }

    /// Binds the idempotency key of a dead letter to it again: whoever repeats it joins the replay. What it is bound to now
    /// must not run: two executions of one key never run together.
    fn claim_key_again(&mut self, key: ExecutionKey) -> Result<(), Refusal> {
        let Some(execution) = self.executions.get(key) else {
            self.impossible();
            return Ok(());
        };
        let extra = execution.dead.as_ref().and_then(|letter| letter.extra.as_ref());
        let Some(idempotency) = extra.and_then(|extra| extra.idempotency.as_ref()) else { return Ok(()) };
        let claim = self.index.keys.get(&execution.label, &idempotency.key);
        let holder = claim.filter(|claim| claim.execution != key);
        let holder = holder.and_then(|claim| self.executions.get(claim.execution));
        if let Some(holder) = holder.filter(|holder| holder.live.is_some())
            && !self.sabotaged.by(Sabotage::KeyInUseIgnored)
        {
            return Err(Refusal::KeyInUse { id: holder.id });
        }
        if self.sabotaged.by(Sabotage::ReplayLeavesKey) {
            return Ok(());
        }
        let label = execution.label.clone();
        self.index.keys.put(&label, idempotency, key, self.now.mono_us);
        self.arm_sweep();
        Ok(())
    }

    /// The function may have been registered again since: the execution counts with the one that runs it.
    fn move_accounts(&mut self, from: FunctionKey, to: FunctionKey) {
        if from != to
            && let Some(function) = self.functions.get_mut(from)
        {
            function.accounting.finished -= 1;
            function.accounting.evicted += 1;
        }
        if let Some(function) = self.functions.get_mut(to) {
            let Accounting { admitted, queued, finished, .. } = &mut function.accounting;
            *queued += 1;
            if from == to {
                *finished -= 1;
            } else {
                *admitted += 1;
            }
        }
    }

    /// A replay that could not be written down: the dead letter is one again, of what it had died of.
    pub(super) fn bury_again(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let waits = |execution: &&mut Execution| execution.is_queued();
        let Some(execution) = self.executions.get_mut(key).filter(waits) else { return self.impossible() };
        let Some(died) = execution.live.as_mut().and_then(|live| live.died.take()) else {
            return self.impossible();
        };
        execution.last_failure = died.last_failure;
        execution.dispatched_ms = died.dispatched_ms;
        execution.cold_start = died.cold_start;
        execution.init_ms = died.init_ms;
        // Shown at once: that it died of this was safe before.
        self.finish_at_once(key, died.ending, fx);
    }

    fn dead_letter(&self, name: &Name, id: ExecutionId) -> Result<ExecutionKey, Refusal> {
        if self.live_function(name).is_none() {
            return Err(Refusal::FunctionNotFound);
        }
        let key = self.find_key(id).ok_or(Refusal::DeadLetterNotFound)?;
        let execution = self.executions.get(key).filter(|execution| *execution.label == *name.as_str());
        match execution.is_some_and(|execution| execution.dead.is_some()) {
            true => Ok(key),
            false => Err(Refusal::DeadLetterNotFound),
        }
    }

    /// Takes a dead letter off the list.
    fn exhume(&mut self, key: ExecutionKey) -> Option<(ExecutionId, DeadLetter)> {
        let execution = self.executions.get_mut(key)?;
        let letter = execution.dead.take()?;
        let name = Name::new(&execution.label)?;
        self.dead_letters.remove(&name, &letter);
        Some((execution.id, *letter))
    }
}

impl Death {
    /// What stays visible of it while the execution is tried again.
    fn shown(&self) -> Option<Box<Failure>> {
        match &self.ending {
            Ending::Failed(failure) => {
                let Failure { code, message, .. } = &**failure;
                Some(Box::new(Failure { code: code.clone(), message: message.clone(), body: None }))
            }
            Ending::TimedOut { stage, limit_ms } => {
                Some(Box::new(Failure::new(code::TIMEOUT, stage.timeout_message(*limit_ms))))
            }
            Ending::Output(_) | Ending::OnDisk { .. } => self.last_failure.clone(),
        }
    }
}
