//! What a thread does about calls that take too long, and about those left at the end.

use std::mem;

use super::Worker;
use crate::run::connection::State;

impl Worker {
    /// Gives up calls that were sent, or should have been, longer ago than the timeout.
    pub(super) fn scan(&mut self, now_ns: u64) {
        let Some(oldest_ns) = now_ns.checked_sub(self.timeout_ns) else { return };
        for index in 0..self.connections.len() {
            let is_late = match &self.connections[index].state {
                State::Busy(exchange) => exchange.call.sent_ns < oldest_ns,
                _ => false,
            };
            if is_late {
                self.break_off(index, "client_timeout");
            }
        }
        for waiting in self.pending.take_older(oldest_ns) {
            self.recorder.unanswered(waiting.call.times(), now_ns, "callback_timeout");
            if let Some(index) = waiting.connection {
                self.release(index, now_ns);
            }
        }
        if now_ns < self.end_ns {
            self.drop_overdue(now_ns, oldest_ns);
        }
    }

    /// Counts everything that has not come to an end as not answered.
    pub(super) fn give_up(&mut self) {
        let now_ns = self.now_ns();
        for index in 0..self.connections.len() {
            let state = mem::replace(&mut self.connections[index].state, State::Closed);
            if let State::Busy(exchange) = state {
                if let Some(token) = exchange.token {
                    self.pending.remove(token);
                }
                self.recorder.unanswered(exchange.call.times(), now_ns, "client_timeout");
            }
        }
        for waiting in self.pending.take_older(u64::MAX) {
            self.recorder.unanswered(waiting.call.times(), now_ns, "callback_timeout");
        }
        self.drop_overdue(now_ns, self.end_ns);
        for stream in &mut self.streams {
            for call in mem::take(&mut stream.again) {
                self.recorder.unanswered(call.times_unsent(), now_ns, "not_sent");
            }
        }
    }

    /// Calls that were due before `oldest_ns` and could not be sent.
    fn drop_overdue(&mut self, now_ns: u64, oldest_ns: u64) {
        for stream in &mut self.streams {
            while let Some(call) = stream.due(oldest_ns) {
                self.recorder.tally(call.target, call.phase).counts.intended += 1;
                self.recorder.unanswered(call.times_unsent(), now_ns, "not_sent");
            }
        }
    }
}
