//! The model of replicas that end, with the calls that are on their way to them or run in them.

use super::{
    oracle::{Oracle, State},
    registry::Life,
    step::Result,
};

/// Time for which an address that refused a call, or broke off, gets none.
const DOWN_MS: u64 = 100;
/// Least time until a call during which a replica ended is tried again.
pub(super) const CRASH_WAIT_MS: u64 = 1000;
/// Time for which it does not go to the last replica while another one is wanted.
const CAUTION_MS_MAX: u64 = 60_000;

impl Oracle {
    pub(super) fn replica_is_down(&mut self, at: usize, number: Option<u64>) {
        let until = (self.now_ms + DOWN_MS, self.next_order());
        let function = &mut self.functions[at];
        if !function.managed {
            return;
        }
        // One that was closed since is not there.
        let replica = function.replicas.iter_mut().find(|replica| Some(replica.number) == number);
        if let Some(replica) = replica.filter(|replica| replica.down.is_none()) {
            replica.down = Some(until);
        }
    }

    pub(super) fn replica_may_be_back(&mut self, at: usize, number: u64) {
        let replica = self.functions[at].replicas.iter_mut().find(|replica| replica.number == number);
        replica.expect("a closed replica has no timer").down = None;
    }

    /// A call that was not run waits again at its place, if there is something to wait for.
    pub(super) fn was_not_run(&mut self, ticket: u64) {
        let at = self.executions[&ticket].function;
        let function = &self.functions[at];
        if !function.managed || function.life != Life::Live || !self.is_awaited(ticket) {
            return self.conclude(ticket, Result::Fail(0), "FAILED");
        }
        if self.executions[&ticket].expires_ms.is_some_and(|expires_ms| expires_ms <= self.now_ms) {
            return self.expire(ticket);
        }
        self.functions[at].counts.not_run += 1;
        let execution = self.get(ticket);
        let (place, number) = (execution.place, execution.attempt);
        execution.state = State::Queued;
        execution.attempt -= 1;
        execution.tried = execution.was_tried;
        self.unused.push((ticket, number));
        let queue = &self.functions[at].queue;
        let behind = queue.iter().position(|other| self.executions[other].place > place);
        let behind = behind.unwrap_or(queue.len());
        self.functions[at].queue.insert(behind, ticket);
    }

    /// A replica ended with a call. Of a fixed address that broke off nobody knows why.
    pub(super) fn crashed(&mut self, ticket: u64) {
        let at = self.executions[&ticket].function;
        if !self.functions[at].managed {
            return self.conclude(ticket, Result::Fail(0), "FAILED");
        }
        let careful_until_ms = self.now_ms + CAUTION_MS_MAX;
        let execution = self.get(ticket);
        execution.careful_until_ms = careful_until_ms;
        execution.crashes += 1;
        let again = execution.crashes < 2;
        let counts = &mut self.functions[at].counts;
        counts.crashes += 1;
        counts.poisoned += u64::from(!again);
        self.conclude(ticket, if again { Result::Fail(0) } else { Result::Refuse }, "FUNCTION_CRASHED");
    }

    /// Whether it has ended a replica, and would go to the last one while another is wanted.
    pub(super) fn would_risk_the_last(&self, ticket: u64) -> bool {
        let execution = &self.executions[&ticket];
        let function = &self.functions[execution.function];
        let is_last = function.managed && function.up() == 1 && function.desired > 1;
        execution.careful_until_ms > self.now_ms && is_last
    }

    pub(super) fn wait_for_another(&mut self, ticket: u64) {
        let backoff = (self.now_ms + CRASH_WAIT_MS, self.next_order());
        let execution = self.get(ticket);
        execution.backoff = Some(backoff);
        let at = execution.function;
        self.functions[at].counts.cautious += 1;
    }

    /// Whether what goes out without a place has one to come back to, should it not be run.
    pub(super) fn has_room_to_come_back(&self, at: usize) -> bool {
        let function = &self.functions[at];
        let admitted = function.places() + function.policy.concurrency as usize;
        !function.managed || self.waiting(at).len() + self.in_flight(at) < admitted
    }
}
