//! The model of replicas that end, with the calls that are on their way to them or run in them.

use super::{
    oracle::{Oracle, State},
    registry::{Life, Replica},
    step::Result,
};

/// Time for which an address that refused a call, or broke off, gets none; the longest that this becomes.
const PAUSE_MS: u64 = 100;
const PAUSE_MS_MAX: u64 = 10_000;
/// Least time until a call during which a replica ended is tried again.
pub(super) const CRASH_WAIT_MS: u64 = 1000;
/// Time for which it does not go to the last replica while another one is wanted.
const CAUTION_MS_MAX: u64 = 60_000;

/// What is known of an address that takes no calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    /// When it is looked at again, and its order among timers. `None`: it is being probed.
    pub(super) due: Option<(u64, u64)>,
    failed_probes: u32,
}

impl Oracle {
    pub(super) fn replica_is_down(&mut self, at: usize, number: Option<u64>) {
        let function = &mut self.functions[at];
        if !function.managed {
            return;
        }
        // One that was closed since is not there.
        let place = function.replicas.iter().position(|replica| Some(replica.number) == number);
        let Some(place) = place.filter(|place| function.replicas[*place].down.is_none()) else { return };
        function.replicas[place].down = Some(Down { due: None, failed_probes: 0 });
        self.pause(at, place);
        self.keep_one_in_reach(at);
    }

    fn pause(&mut self, at: usize, place: usize) {
        let order = self.next_order();
        let alone = self.functions[at].up() == 0;
        let down = self.functions[at].replicas[place].down.as_mut().expect("it is down");
        let pause_ms = match alone {
            true => PAUSE_MS,
            false => (0..down.failed_probes).fold(PAUSE_MS, |pause_ms, _| (2 * pause_ms).min(PAUSE_MS_MAX)),
        };
        down.due = Some((self.now_ms + pause_ms, order));
    }

    /// Without an address that takes calls, all are looked at soon.
    pub(super) fn keep_one_in_reach(&mut self, at: usize) {
        if self.functions[at].up() > 0 {
            return;
        }
        let soon_ms = self.now_ms + PAUSE_MS;
        for place in 0..self.functions[at].replicas.len() {
            let order = self.next_order();
            let due = self.functions[at].replicas[place].down.as_mut().and_then(|down| down.due.as_mut());
            if let Some(due) = due.filter(|(due_ms, _)| *due_ms > soon_ms) {
                *due = (soon_ms, order);
            }
        }
    }

    /// The pause of an address is over: it is probed, unless no other one takes calls.
    pub(super) fn replica_is_due(&mut self, at: usize, number: u64) {
        let alone = self.functions[at].up() == 0;
        let name = self.functions[at].name;
        let replica = self.functions[at].replicas.iter_mut().find(|replica| replica.number == number);
        let replica = replica.expect("a closed replica has no timer");
        if alone {
            replica.down = None;
            return;
        }
        replica.down.as_mut().expect("it is down").due = None;
        self.functions[at].counts.probes += 1;
        let replica = self.functions[at].replicas.iter().find(|replica| replica.number == number);
        let bit = replica.expect("it is there").bit;
        self.out.push(format!("probe f{name} {bit}"));
    }

    /// Addresses that are being probed: of which function, and which.
    pub(super) fn probes(&self) -> Vec<(usize, u8)> {
        let functions = self.functions.iter().enumerate();
        let of =
            functions.flat_map(|(at, function)| function.replicas.iter().map(move |replica| (at, replica)));
        let probed = of.filter(|(_, replica)| replica.down.as_ref().is_some_and(|down| down.due.is_none()));
        probed.map(|(at, replica)| (at, replica.bit)).collect()
    }

    pub(super) fn probed(&mut self, at: usize, bit: u8, reachable: bool) {
        let place = self.functions[at].replicas.iter().position(|replica| replica.bit == bit);
        let place = place.expect("it is being probed");
        let function = &mut self.functions[at];
        if reachable {
            function.replicas[place].down = None;
            return;
        }
        function.replicas[place].down.as_mut().expect("it is down").failed_probes += 1;
        function.counts.probes_failed += 1;
        self.pause(at, place);
    }

    /// Which replicas go first when there are to be fewer, but some.
    pub(super) fn first_to_go(&mut self, at: usize, wanted: usize) -> Vec<u8> {
        let calls = |number: u64| {
            let attempts = self.attempts.iter().filter(|attempt| attempt.function == at && attempt.holds);
            attempts.filter(|attempt| attempt.replica == Some(number)).count()
        };
        let mut left = self.functions[at].replicas.clone();
        let mut gone = Vec::new();
        while left.len() > wanted && wanted > 0 {
            let cost = |replica: &&Replica| (replica.down.is_none(), calls(replica.number), 3 - replica.bit);
            let first = left.iter().min_by_key(cost).expect("there are some").bit;
            left.retain(|replica| replica.bit != first);
            gone.push(first);
        }
        let newest_stays = gone.iter().any(|bit| left.iter().any(|stays| stays.bit > *bit));
        self.functions[at].counts.idle_first += u64::from(newest_stays);
        gone
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
        let number = execution.attempt;
        execution.attempt -= 1;
        execution.tried = execution.was_tried;
        self.unused.push((ticket, number));
        self.wait_at_its_place(ticket);
    }

    /// What ran waits again at its place, if it is not too old.
    pub(super) fn wait_at_its_place(&mut self, ticket: u64) {
        if self.executions[&ticket].expires_ms.is_some_and(|expires_ms| expires_ms <= self.now_ms) {
            return self.expire(ticket);
        }
        let execution = self.get(ticket);
        let (at, place) = (execution.function, execution.place);
        execution.state = State::Queued;
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
        !(function.managed || function.jobs) || self.waiting(at).len() + self.in_flight(at) < admitted
    }
}
