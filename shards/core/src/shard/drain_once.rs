//! One queued execution is dispatched on request, and the request answered when its attempt has been recorded.
//! This is how accepted executions run when the background scheduler is off.

use crate::{
    answer::{Answer, Refusal},
    call::Ticket,
    effect::Effects,
    journal::Promise,
    keys::AttemptKey,
    name::Name,
    shard::Shard,
};

impl Shard {
    /// Dispatches the execution that has waited longest, if a slot is free.
    pub(super) fn drain_once(&mut self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let Some((key, _)) = self.live_function(name) else {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        };
        let attempt =
            if self.phase.start.is_being_written() { None } else { self.dispatch_from_backlog(key, fx) };
        match attempt.and_then(|attempt| self.attempts.get_mut(attempt)) {
            Some(attempt) => attempt.drainer = Some(ticket),
            None => fx.reply(ticket, Answer::Drained { dispatched: false }),
        }
    }

    /// Who asked for this attempt, and the newest record from before what it causes.
    pub(super) fn take_drainer(&mut self, key: AttemptKey) -> Option<(Ticket, u64)> {
        let ticket = self.attempts.get_mut(key)?.drainer.take()?;
        Some((ticket, self.journal.written()))
    }

    /// Tells who asked for an attempt that it is over, when all that it caused is safe.
    pub(super) fn tell_drainer(&mut self, drainer: Option<(Ticket, u64)>, fx: &mut Effects) {
        // Most attempts are sent without being asked for.
        let Some((ticket, before)) = drainer else { return };
        if self.journal.written() == before {
            fx.reply(ticket, Answer::Drained { dispatched: true });
        } else {
            self.journal.promise(Promise::Drain(ticket));
        }
    }

    /// Accepted executions wait from now on without being dispatched.
    pub(super) fn hold(&mut self) {
        self.phase.held = true;
        let executions = &mut self.executions;
        let functions: Vec<_> = self.functions.iter().map(|(key, _)| key).collect();
        for key in functions {
            let Some(function) = self.functions.get_mut(key) else { continue };
            let held = function.queue.take_if(|key| {
                let waits = executions.get_mut(key).filter(|execution| execution.is_queued());
                let Some(live) = waits
                    .filter(|execution| execution.accepted)
                    .and_then(|execution| execution.live.as_mut())
                else {
                    return false;
                };
                live.in_backlog = true;
                true
            });
            held.into_iter().for_each(|key| function.backlog.push(key));
        }
    }

    /// What waited to be drained waits for slots.
    pub(super) fn release_backlogs(&mut self) {
        let functions: Vec<_> = self.functions.iter().map(|(key, _)| key).collect();
        for key in functions {
            let Some(function) = self.functions.get_mut(key) else { continue };
            for key in function.backlog.iter() {
                if let Some(live) = self.executions.get_mut(key).and_then(|execution| execution.live.as_mut())
                {
                    live.in_backlog = false;
                }
            }
            function.queue.append(&mut function.backlog);
            self.ring(key);
        }
    }
}
