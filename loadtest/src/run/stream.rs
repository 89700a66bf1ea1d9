//! A load's share on one thread: which function is next, when, and on which connection.

use std::{collections::VecDeque, ops::Range, rc::Rc};

use super::call::Call;
use crate::{
    client::request::Request,
    plan::{
        Mode, Plan,
        payload::Order,
        rate::{Schedule, Stages},
    },
};

/// The share.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) load: usize,
    pub(super) mode: Mode,
    pub(super) obeys: bool,
    /// Indices of its connections.
    pub(super) connections: Range<usize>,
    /// Connections that wait for a call, the one that waits longest first: so all of them are used, and a server that
    /// spreads connections over threads is loaded as a whole.
    pub(super) idle: VecDeque<usize>,
    /// Calls of an open loop that were told to wait and are due again.
    pub(super) again: VecDeque<Call>,
    /// `None`: a closed loop.
    pub(super) schedule: Option<Schedule>,
    stages: Option<Stages>,
    warm_up_ns: u64,
    callees: Vec<Callee>,
    random: fastrand::Rng,
}

/// A function and its requests.
#[derive(Debug)]
struct Callee {
    target: usize,
    /// Weights up to and including it.
    weights: u32,
    requests: Vec<Rc<Request>>,
    order: Order,
    next: usize,
}

impl Stream {
    /// The share of thread `thread`; `first` is the index of its first connection.
    pub(super) fn new(plan: &Plan, load_index: usize, thread: usize, first: usize) -> Option<Stream> {
        let load = &plan.loads[load_index];
        let count = load.connections / plan.threads + usize::from(thread < load.connections % plan.threads);
        if count == 0 {
            return None;
        }
        let seed = (load_index as u64) << 32 | thread as u64;
        let sharing = plan.threads.min(load.connections);
        let callees = load.targets.iter().map(|(target, weights)| Callee {
            target: *target,
            weights: *weights,
            requests: plan.targets[*target].requests.iter().cloned().map(Rc::new).collect(),
            order: plan.targets[*target].order,
            next: 0,
        });
        Some(Stream {
            load: load_index,
            mode: load.mode,
            obeys: load.obey_retry_after,
            connections: first..first + count,
            idle: VecDeque::with_capacity(count),
            again: VecDeque::new(),
            schedule: load
                .stages
                .as_ref()
                .map(|stages| Schedule::new(stages, load.arrivals, thread, sharing, seed)),
            stages: load.stages.clone(),
            warm_up_ns: plan.warm_up.as_nanos() as u64,
            callees: callees.collect(),
            random: fastrand::Rng::with_seed(!seed),
        })
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.schedule.is_some()
    }

    /// The phase of a call that should begin at this time.
    pub(super) fn phase_at(&self, time_ns: u64) -> usize {
        match &self.stages {
            Some(stages) => stages.phase_at(time_ns),
            None => usize::from(time_ns >= self.warm_up_ns),
        }
    }

    /// A new call that should begin at this time.
    #[inline]
    pub(super) fn call(&mut self, intended_ns: u64) -> Call {
        let phase = self.phase_at(intended_ns);
        let callee = if self.callees.len() == 1 {
            &mut self.callees[0]
        } else {
            let sum = self.callees.last().map_or(1, |callee| callee.weights);
            let pick = self.random.u32(..sum.max(1));
            let at = self.callees.iter().position(|callee| pick < callee.weights).unwrap_or_default();
            &mut self.callees[at]
        };
        let count = callee.requests.len();
        let at = match callee.order {
            Order::Sequential => callee.next,
            Order::Random => self.random.usize(..count),
        };
        callee.next = if callee.next + 1 == count { 0 } else { callee.next + 1 };
        let request = Rc::clone(&callee.requests[at]);
        Call { target: callee.target, phase, told_phase: phase, request, intended_ns, sent_ns: 0, retries: 0 }
    }

    /// Whether the schedule has calls left, which is when it is over: they should have been sent.
    pub(super) fn is_due(&self) -> bool {
        self.schedule.as_ref().is_some_and(|schedule| schedule.next_ns().is_some())
    }

    /// The next call of the schedule, if it is due before `now_ns`.
    #[inline]
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Call> {
        let schedule = self.schedule.as_mut()?;
        let intended_ns = schedule.next_ns().filter(|due_ns| *due_ns <= now_ns)?;
        schedule.advance();
        Some(self.call(intended_ns))
    }
}
