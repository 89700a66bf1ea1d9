//! What an execution came to is shown: read, answered to those who wait for it, delivered, listed as a dead letter.
//!
//! Of one that was accepted it is shown when the record of its end is safe. Until then it is *concealed*: it holds no
//! slot and no place any more, and to everybody outside it is what it was before. Were it shown earlier, a crash would
//! run it again, and it might come to something else.
//!
//! While the disk fails, ends wait until it takes records again. They are bounded in bytes: beyond, the oldest are
//! shown all the same, for nobody could keep them.

use crate::{
    answer::{Answer, Refusal},
    effect::Effects,
    execution::{Activity, Ending},
    journal::{Promise, Record},
    keys::ExecutionKey,
    payload::code,
    sabotage::Sabotage,
    shard::Shard,
    timers::TimerKey,
};

/// Keys that one ending takes along: more than one, so that they catch up.
const KEYS_PER_ENDING: usize = 2;

impl Shard {
    /// Writes down how an accepted execution ended. It is shown as what it was `before` until that is safe.
    pub(super) fn conceal_end(&mut self, key: ExecutionKey, before: Activity, fx: &mut Effects) {
        let Some(number) = self.write_ended(key, fx) else { return self.impossible() };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        execution.shown = Some(before);
        self.bytes.concealed += execution.retained_bytes();
        if let Some(live) = execution.live.as_mut() {
            live.record = number;
        }
        self.journal.promise(Promise::End(key));
        if self.sabotaged.by(Sabotage::EndShownBeforeWrite) {
            self.show_end(key, fx);
        }
    }

    /// Shows how an execution ended, and has it written down if it was accepted.
    pub(super) fn write_and_show_end(&mut self, key: ExecutionKey, fx: &mut Effects) {
        if self.executions.get(key).is_some_and(|execution| execution.accepted) {
            self.write_ended(key, fx);
        }
        self.show_end(key, fx);
    }

    /// Writes down how an execution ended. Returns the record's number.
    pub(super) fn write_ended(&mut self, key: ExecutionKey, fx: &mut Effects) -> Option<u64> {
        let id = self.executions.get(key)?.id;
        let (end, dead) = self.end_of(key)?;
        Some(self.write(Record::Ended { id, end: Box::new(end), dead }, fx))
    }

    /// The record of its end is safe: it can be read there.
    pub(super) fn end_is_on_disk(&mut self, key: ExecutionKey, number: u64, fx: &mut Effects) {
        if !self.is_concealed_for(key, number) {
            return;
        }
        if let Some(execution) = self.executions.get_mut(key) {
            execution.end_is_safe = true;
        }
        self.show_end(key, fx);
    }

    /// Nothing has to be waited for before its end is shown.
    pub(super) fn end_may_be_shown(&mut self, key: ExecutionKey, number: u64, fx: &mut Effects) {
        if self.is_concealed_for(key, number) {
            self.show_end(key, fx);
        }
    }

    /// It may have been shown, and be tried again since.
    fn is_concealed_for(&self, key: ExecutionKey, number: u64) -> bool {
        let execution = self.executions.get(key).filter(|execution| execution.shown.is_some());
        execution.and_then(|execution| execution.live.as_ref()).is_some_and(|live| live.record == number)
    }

    /// Everybody who waits for an execution is told how it ended.
    pub(super) fn show_end(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let Some(live) = execution.live.take() else { return self.impossible() };
        if execution.shown.take().is_some() {
            self.bytes.concealed -= execution.retained_bytes();
        }
        let Some(ending) = execution.ending() else { return self.impossible() };
        let lost = self.sabotaged.by(Sabotage::RemovalDropsCalls) && ending.is_of_removal();
        let dead = execution.accepted && ending.is_for_another_try() && !lost;
        if let Some(answer) = execution.answer() {
            // The first caller takes the answer itself; those that joined, if any, a copy.
            for waiter in live.joined {
                self.timers.remove(waiter.timer);
                self.index.joined.remove(&waiter.ticket);
                if !waiter.gone {
                    fx.reply(waiter.ticket, answer.clone());
                }
            }
            if let Some(waiter) = live.waiter {
                self.timers.remove(waiter.timer);
                if !waiter.gone {
                    if self.sabotaged.by(Sabotage::AnsweredTwice) {
                        fx.reply(waiter.ticket, answer.clone());
                    }
                    fx.reply(waiter.ticket, answer);
                }
            }
        }
        self.deliver(key, fx);
        self.tell(key, live.watchers, fx);
        // Keys of what went on had no room to have: there may be too many of them.
        self.expire_keys(KEYS_PER_ENDING);
        if dead {
            self.bury(key, live.payload, live.extra, fx);
        } else {
            self.retain(key, fx);
        }
    }

    /// The commit with the record of its end failed. It is written when the disk can; who cancelled it is told that
    /// nothing is certain.
    pub(super) fn end_is_delayed(&mut self, key: ExecutionKey, number: u64, fx: &mut Effects) {
        if !self.is_concealed_for(key, number) {
            return;
        }
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let Some(live) = execution.live.as_mut() else { return self.impossible() };
        let is_unwritten = execution.unwritten;
        for watcher in live.watchers.extract_if(.., |watcher| watcher.timer == TimerKey::NONE) {
            fx.reply(watcher.ticket, Answer::Refused(Refusal::StoreUnavailable));
        }
        if is_unwritten {
            // Nobody was told that it is accepted: it ends like a synchronous call, which does not wait for the disk.
            self.show_end(key, fx);
        }
    }

    /// Keeps what is concealed while the disk fails within its bound.
    pub(super) fn show_delayed_ends(&mut self, fx: &mut Effects) {
        while self.bytes.concealed > self.limits.concealed_bytes_max {
            let Some((number, key)) = self.journal.pop_delayed_end() else { break };
            self.end_may_be_shown(key, number, fx);
        }
    }
}

impl Ending {
    /// Whether an accepted execution that ended like this is a dead letter.
    pub(crate) fn is_for_another_try(&self) -> bool {
        match self {
            Ending::Output(_) | Ending::OnDisk { .. } => false,
            Ending::Failed(failure) => failure.code != code::CANCELLED,
            Ending::TimedOut { .. } => true,
        }
    }

    /// Whether it ended because its function was removed.
    pub(crate) fn is_of_removal(&self) -> bool {
        matches!(self, Ending::Failed(failure) if failure.code == code::FUNCTION_REMOVED)
    }
}
