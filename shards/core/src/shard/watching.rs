//! Reading an execution, at once or when it has ended.

use crate::{
    answer::{Answer, Refusal},
    call::Ticket,
    effect::Effects,
    execution::Watcher,
    id::ExecutionId,
    keys::ExecutionKey,
    sabotage::Sabotage,
    shard::{Shard, chores::Chore, reading::Reader},
    timers::Due,
};

impl Shard {
    /// Reads an execution; one that has not ended is waited for, so long.
    pub(super) fn get_execution(&mut self, ticket: Ticket, id: ExecutionId, wait_ms: u32, fx: &mut Effects) {
        let Some(key) = self.find_key(id) else {
            fx.reply(ticket, Answer::Refused(Refusal::ExecutionNotFound));
            return;
        };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if execution.is_on_disk() {
            return match self.may_read() {
                Ok(()) => self.read_for(key, Reader::View(ticket), fx),
                Err(refusal) => fx.reply(ticket, Answer::Refused(refusal)),
            };
        }
        match execution.live.as_mut() {
            Some(live) if wait_ms > 0 && !self.phase.watches_ended => {
                if live.watchers.len() >= self.limits.waiters_max {
                    let what = "readers that wait for one execution";
                    fx.reply(ticket, Answer::Refused(Refusal::Overloaded { what, retry_after_s: 1 }));
                    return;
                }
                let wait_ms = if self.sabotaged.by(Sabotage::WatchEndsEarly) { wait_ms / 2 } else { wait_ms };
                let at_us = self.now.mono_us + u64::from(wait_ms) * 1000;
                let timer = self.timers.insert(at_us, Due::Watch(key, ticket));
                live.watchers.push(Watcher { ticket, timer });
            }
            _ => fx.reply(ticket, Answer::Execution(Box::new(execution.view()))),
        }
    }

    /// A reader has waited long enough.
    pub(super) fn watch_is_over(&mut self, key: ExecutionKey, ticket: Ticket, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if let Some(live) = execution.live.as_mut() {
            live.watchers.retain(|watcher| watcher.ticket != ticket);
        }
        fx.reply(ticket, Answer::Execution(Box::new(execution.view())));
    }

    /// Answers readers with what there is to read.
    pub(super) fn tell(&mut self, key: ExecutionKey, watchers: Vec<Watcher>, fx: &mut Effects) {
        for Watcher { ticket, timer } in watchers {
            self.timers.remove(timer);
            let answer = match self.executions.get(key) {
                Some(execution) => Answer::Execution(Box::new(execution.view())),
                None => Answer::Refused(Refusal::ExecutionNotFound),
            };
            fx.reply(ticket, answer);
        }
    }

    /// Answers all readers now, and later ones at once: a server that goes away does not keep them.
    pub(super) fn end_watches(&mut self, fx: &mut Effects) {
        self.phase.watches_ended = true;
        self.begin(Chore::Watches(0), fx);
    }
}
