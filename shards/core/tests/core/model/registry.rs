//! The model's functions: who holds a name, and what waits for a backend.

use std::collections::VecDeque;

use shard_core::Policy;

use super::{
    oracle::{Oracle, State},
    replicas::Down,
    step::{Provisioning, Registration, Step},
};

/// Requests about one name that may wait.
pub(super) const PENDING_MAX: usize = 3;
/// Replicas that a backend says are wanted when it has started some.
pub(super) const PROVISIONED_REPLICAS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Provisioning,
    Live,
    Removing,
    Gone,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u64,
    pub(super) errors: u64,
    pub(super) retries: u64,
    pub(super) timeouts: u64,
    pub(super) rejections: u64,
    pub(super) orphans: u64,
    pub(super) late: u64,
    /// Retries that found no place; the shard counts them among the rejections.
    pub(super) lost_retries: u64,
    /// Callers that joined an execution, and executions that ended with their function; not counted by the shard.
    pub(super) joins: u64,
    pub(super) removed: u64,
    /// Dead letters made, executions that waited too long.
    pub(super) dead: u64,
    pub(super) expired: u64,
    /// Dead letters tried again, and given up because there were too many; not counted by the shard.
    pub(super) replays: u64,
    pub(super) dropped: u64,
    /// Executions that a crash gave back, to run and ended; functions whose replicas were asked for again because they
    /// had not started. Not counted by the shard.
    pub(super) requeued: u64,
    pub(super) recovered: u64,
    pub(super) reconciled: u64,
    /// Attempts during which a replica ended, and those of them after which there was no other.
    pub(super) crashes: u64,
    pub(super) poisoned: u64,
    /// Attempts that were not run, and retries that waited for another replica. Not counted by the shard.
    pub(super) not_run: u64,
    /// Addresses that were probed, and not reached. Not counted by the shard.
    pub(super) probes: u64,
    pub(super) probes_failed: u64,
    /// Orders to have fewer replicas by which not the newest went first. Not counted by the shard.
    pub(super) idle_first: u64,
    pub(super) cautious: u64,
    /// Jobs created, those that ended without a callback, and those that were ended with their function or because nobody
    /// waited any more; only the first counted by the shard.
    pub(super) jobs: u64,
    pub(super) jobs_failed: u64,
    pub(super) jobs_ended: u64,
    pub(super) jobs_left: u64,
    /// Attempts that went on after a crash, and those of them whose jobs were not there. Not counted by the shard.
    pub(super) adopted: u64,
    pub(super) jobs_lost: u64,
}

impl Counts {
    fn fields(&mut self) -> [&mut u64; 30] {
        let Counts { successes, errors, retries, timeouts, rejections, orphans, late, .. } = self;
        let Counts { lost_retries, joins, removed, dead, expired, replays, dropped, .. } = self;
        let Counts { requeued, recovered, reconciled, crashes, poisoned, not_run, cautious, .. } = self;
        let Counts { probes, probes_failed, idle_first, .. } = self;
        let Counts { jobs, jobs_failed, jobs_ended, jobs_left, adopted, jobs_lost, .. } = self;
        let ended = [successes, errors, retries, timeouts, rejections, orphans, late];
        let left = [lost_retries, joins, removed, dead, expired, replays, dropped];
        let crashed = [requeued, recovered, reconciled, crashes, poisoned, not_run, cautious];
        let probed = [probes, probes_failed, idle_first];
        let jobs = [jobs, jobs_failed, jobs_ended, jobs_left, adopted, jobs_lost];
        let mut all = ended.into_iter().chain(left).chain(crashed).chain(probed).chain(jobs);
        std::array::from_fn(|_| all.next().expect("as many as that"))
    }

    pub(super) fn all(&self) -> [u64; 30] {
        let mut counts = *self;
        counts.fields().map(|count| *count)
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.fields().into_iter().zip(other.all()).for_each(|(sum, count)| *sum += count);
    }
}

/// What is done about the replicas of a function that a crash gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reconcile {
    /// Its backend was asked to start them.
    Asked,
    /// They could not be started: it is asked again then; with the place among timers.
    At(u64, u64),
}

/// An address that a backend reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replica {
    pub(super) bit: u8,
    /// Tells it from one that had the same address before.
    pub(super) number: u64,
    /// It refused a call, or broke off.
    pub(super) down: Option<Down>,
}

/// Time after which replicas that could not be started are tried again.
const RECONCILE_MS: u64 = 5000;

#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) name: u8,
    pub(super) life: Life,
    pub(super) policy: Policy,
    /// A backend has it, or had it until it was degraded.
    pub(super) backend: bool,
    /// Each attempt has a job of its own.
    pub(super) jobs: bool,
    /// Calls go to what the backend reports.
    pub(super) managed: bool,
    /// Addresses that the backend reported, and how many it said are wanted.
    pub(super) replicas: Vec<Replica>,
    pub(super) desired: u32,
    waiting: Option<u64>,
    scaling: bool,
    pending: VecDeque<Step>,
    pub(super) queue: Vec<u64>,
    pub(super) counts: Counts,
    window: (u64, u32),
    pub(super) reconcile: Option<Reconcile>,
    /// What waited when it was given back.
    pub(super) restored: usize,
    /// When its name was removed before its own removal, should that come to nothing.
    removed_before: u64,
}

impl Function {
    pub(super) fn new(
        Registration { name, backend, jobs, policy }: Registration,
        waiting: Option<u64>,
    ) -> Function {
        Function {
            name,
            life: if waiting.is_some() { Life::Provisioning } else { Life::Live },
            policy,
            backend,
            jobs: jobs && !backend,
            managed: false,
            replicas: Vec::new(),
            desired: 0,
            waiting,
            scaling: false,
            pending: VecDeque::new(),
            queue: Vec::new(),
            counts: Counts::default(),
            window: (0, 0),
            reconcile: None,
            restored: 0,
            removed_before: 0,
        }
    }

    /// Retries that may wait.
    pub(super) fn places(&self) -> usize {
        self.restored.max(self.policy.queue_size as usize)
    }

    /// What was asked for.
    pub(super) fn registration(&self) -> Registration {
        Registration { name: self.name, backend: self.backend, jobs: self.jobs, policy: self.policy.clone() }
    }

    /// The window of the newest second seen.
    pub(super) fn admit(&mut self, second: u64) -> bool {
        let Some(limit) = self.policy.rate_limit_per_second else { return true };
        if second > self.window.0 {
            self.window = (second, 0);
        }
        let admitted = self.window.1 < limit;
        self.window.1 += u32::from(admitted);
        admitted
    }

    fn is_busy(&self) -> bool {
        matches!(self.life, Life::Provisioning | Life::Removing)
            || self.life == Life::Live && (self.scaling || self.reconcile == Some(Reconcile::Asked))
    }

    /// Addresses that are open.
    pub(super) fn open_count(&self) -> usize {
        match self.life {
            Life::Gone => 0,
            _ if self.jobs => 0,
            _ if self.managed || self.life == Life::Provisioning => self.replicas.len(),
            _ => 1,
        }
    }

    /// Replicas that take calls.
    pub(super) fn up(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.down.is_none()).count()
    }
}

impl Oracle {
    pub(super) fn registry_step(&mut self, step: &Step) {
        match step {
            Step::Register { ticket, registration } => self.register(*ticket, registration),
            Step::Remove { ticket, name } | Step::Scale { ticket, name, .. } => match self.names.get(name) {
                None => self.reply(*ticket, "refused FunctionNotFound"),
                Some(&at) if self.functions[at].is_busy() => self.push_pending(at, *ticket, step),
                Some(&at) => self.change(at, *ticket, step),
            },
            Step::Provisioned { function, provisioning } => self.provisioned(*function, *provisioning),
            Step::TornDown { function, done } => {
                let waiting =
                    self.functions[*function].waiting.take().expect("a busy function is waited for");
                if *done {
                    self.reply(waiting, "removed");
                    self.drop_function(*function);
                } else {
                    self.functions[*function].life = Life::Live;
                    let Function { name, removed_before, .. } = self.functions[*function];
                    self.removed.insert(name, removed_before);
                    self.reply(waiting, "refused Backend");
                    self.next_pending(*function);
                }
            }
            Step::Scaled { function, replicas } => {
                self.functions[*function].scaling = false;
                self.functions[*function].desired = replicas.unwrap_or(self.functions[*function].desired);
                let waiting =
                    self.functions[*function].waiting.take().expect("a busy function is waited for");
                let answer = replicas.map_or("refused Backend".to_owned(), |count| format!("scaled {count}"));
                self.reply(waiting, &answer);
                self.next_pending(*function);
            }
            Step::Endpoints { function: at, ready, desired } => {
                let function = &mut self.functions[*at];
                if function.life == Life::Provisioning || (function.managed && function.life != Life::Gone) {
                    function.desired = *desired;
                    self.are_ready(*at, *ready);
                }
            }
            _ => unreachable!("the other steps are the oracle's own"),
        }
    }

    /// Functions whose backend owes an answer.
    pub(super) fn busy_functions(&self) -> Vec<usize> {
        (0..self.functions.len()).filter(|at| self.functions[*at].is_busy()).collect()
    }

    /// Functions that a backend has or had.
    pub(super) fn provisioned_functions(&self) -> Vec<usize> {
        (0..self.functions.len()).filter(|at| self.functions[*at].backend).collect()
    }

    /// The answer that a backend owes.
    pub(super) fn backend_step(&self, function: usize, good: bool, ready: u8) -> Step {
        match self.functions[function].life {
            Life::Provisioning if good => {
                Step::Provisioned { function, provisioning: Provisioning::Endpoints(ready & 7) }
            }
            Life::Provisioning if ready < 128 => {
                Step::Provisioned { function, provisioning: Provisioning::Degraded }
            }
            Life::Provisioning => Step::Provisioned { function, provisioning: Provisioning::Failed },
            Life::Removing => Step::TornDown { function, done: good },
            Life::Live if self.functions[function].reconcile == Some(Reconcile::Asked) => {
                let provisioning = match good {
                    true => Provisioning::Endpoints(ready & 7),
                    false if ready < 128 => Provisioning::Degraded,
                    false => Provisioning::Failed,
                };
                Step::Provisioned { function, provisioning }
            }
            _ => Step::Scaled { function, replicas: good.then_some(u32::from(ready)) },
        }
    }

    fn register(&mut self, ticket: u64, registration: &Registration) {
        if let Some(&at) = self.names.get(&registration.name) {
            if self.functions[at].life == Life::Removing {
                let step = Step::Register { ticket, registration: registration.clone() };
                return self.push_pending(at, ticket, &step);
            }
            return self.reply(ticket, "refused FunctionExists");
        }
        let Registration { name, backend, .. } = *registration;
        self.functions.push(Function::new(registration.clone(), backend.then_some(ticket)));
        self.names.insert(name, self.functions.len() - 1);
        if backend {
            self.out.push(format!("provision f{name}"));
        } else {
            self.reply(ticket, "registered");
        }
    }

    fn provisioned(&mut self, at: usize, provisioning: Provisioning) {
        if self.functions[at].reconcile == Some(Reconcile::Asked) {
            return self.reconciled(at, provisioning);
        }
        let function = &mut self.functions[at];
        let waiting = function.waiting.take().expect("a busy function is waited for");
        match provisioning {
            Provisioning::Failed => {
                self.reply(waiting, "refused Backend");
                return self.drop_function(at);
            }
            Provisioning::Degraded => function.replicas.clear(),
            Provisioning::Endpoints(ready) => {
                function.managed = true;
                self.are_there(at, ready);
            }
        }
        self.functions[at].life = Life::Live;
        self.reply(waiting, "registered");
        self.next_pending(at);
    }

    /// A backend has an answer about a function that a crash gave back.
    fn reconciled(&mut self, at: usize, provisioning: Provisioning) {
        let again = Reconcile::At(self.now_ms + RECONCILE_MS, self.next_order());
        let function = &mut self.functions[at];
        function.reconcile = None;
        match provisioning {
            Provisioning::Failed => function.reconcile = Some(again),
            Provisioning::Degraded => {
                function.managed = false;
                function.replicas.clear();
            }
            Provisioning::Endpoints(ready) => self.are_there(at, ready),
        }
        self.next_pending(at);
    }

    /// A backend has started replicas. What it reported meanwhile is newer.
    fn are_there(&mut self, at: usize, ready: u8) {
        self.functions[at].desired = PROVISIONED_REPLICAS;
        if self.functions[at].replicas.is_empty() {
            self.are_ready(at, ready);
        }
    }

    /// These replicas are ready, and no others. Those that stay are as they were.
    fn are_ready(&mut self, at: usize, ready: u8) {
        self.functions[at].replicas.retain(|replica| ready & (1 << replica.bit) != 0);
        for bit in (0..3).filter(|bit| ready & (1 << bit) != 0) {
            let number = self.next_order();
            let replicas = &mut self.functions[at].replicas;
            if replicas.iter().all(|replica| replica.bit != bit) {
                replicas.push(Replica { bit, number, down: None });
            }
        }
        self.keep_one_in_reach(at);
    }

    /// Replicas that could not be started are tried again, unless the backend is at work on the function.
    pub(super) fn reconcile(&mut self, at: usize) {
        let again = Reconcile::At(self.now_ms + RECONCILE_MS, self.next_order());
        let function = &mut self.functions[at];
        if function.is_busy() {
            function.reconcile = Some(again);
            return;
        }
        function.reconcile = Some(Reconcile::Asked);
        function.counts.reconciled += 1;
        let name = function.name;
        self.out.push(format!("provision f{name}"));
    }

    /// Removes or scales a function that no backend is working on.
    fn change(&mut self, at: usize, ticket: u64, step: &Step) {
        let function = &mut self.functions[at];
        let (name, managed) = (function.name, function.managed);
        if let Step::Scale { replicas, .. } = step {
            if !managed {
                return self.reply(ticket, "refused NotScalable");
            }
            function.scaling = true;
            function.waiting = Some(ticket);
            let first_to_go = self.first_to_go(at, *replicas as usize);
            return self.out.push(format!("scale f{name} {replicas} {first_to_go:?}"));
        }
        function.life = Life::Removing;
        let removed = self.next_order();
        let before = self.removed.insert(name, removed);
        let function = &mut self.functions[at];
        function.removed_before = before.unwrap_or_default();
        let queued = function.queue.clone();
        let parked = self.waiting(at).into_iter().filter(|ticket| !queued.contains(ticket));
        let waiting: Vec<u64> = queued.iter().copied().chain(parked).collect();
        let of_removals = self.dead.get(&name).into_iter().flatten();
        let kept = of_removals.filter(|letter| self.executions[letter].code == "FUNCTION_REMOVED").count();
        let running = self.running_jobs(at);
        self.rooms.insert(name, kept.max(waiting.len() + running.len()));
        self.functions[at].counts.jobs_ended += running.len() as u64;
        for execution in running {
            self.finish(execution, State::Error, "FUNCTION_REMOVED");
            self.end_job(execution, false);
        }
        for execution in waiting {
            self.finish(execution, State::Error, "FUNCTION_REMOVED");
            self.functions[at].counts.removed += 1;
        }
        if managed {
            self.functions[at].waiting = Some(ticket);
            self.out.push(format!("teardown f{name}"));
        } else {
            self.reply(ticket, "removed");
            self.drop_function(at);
        }
    }

    fn push_pending(&mut self, at: usize, ticket: u64, step: &Step) {
        if self.functions[at].pending.len() < PENDING_MAX {
            self.functions[at].pending.push_back(step.clone());
        } else {
            self.reply(ticket, "refused Overloaded");
        }
    }

    fn next_pending(&mut self, at: usize) {
        while !self.functions[at].is_busy() {
            let Some(step) = self.functions[at].pending.pop_front() else { break };
            self.registry_step(&step);
        }
    }

    fn drop_function(&mut self, at: usize) {
        let function = &mut self.functions[at];
        function.life = Life::Gone;
        function.replicas.clear();
        let mut pending = std::mem::take(&mut function.pending);
        let name = function.name;
        self.names.remove(&name);
        while let Some(step) = pending.pop_front() {
            self.registry_step(&step);
            if let Some(&holder) = self.names.get(&name).filter(|holder| self.functions[**holder].is_busy()) {
                self.functions[holder].pending = pending;
                return;
            }
        }
    }
}
