//! The auditor: knows every request, and what has to be true of the answers. It sees what goes into shards and what comes
//! out of them, and nothing of their state: its accounts are its own.
//!
//! One file per account: `callers` (one answer each, in time), `promptness` (nothing before its time), `refusals` (a reason for
//! each), `executions` and `run` (one end each, attempts in sequence, results of their own), `status` (every field of what
//! is read), `endpoints`, `probes` and `caution` (where attempts go), `fairness` (every function has its turn), `crash` (what is left of them), `recorded` and `records` (nothing is promised before it is safe), `registrations`, `slots`, `queues` (bounds, order), `scales` (who goes first),
//! `rates`, `keys`, `rooms`, `specs`, `reads` (what is read back from disk), `partitions` (whose records are whose). What it cannot know for sure, such as whether a call with a key joined another one before either is
//! answered, it does not judge.

mod callers;
mod caution;
mod crash;
mod crashes;
mod effects;
mod endpoints;
mod executions;
mod fairness;
mod jobs;
mod keys;
mod partitions;
mod probes;
mod promptness;
mod queues;
mod rates;
mod reads;
mod recorded;
mod records;
mod refusals;
mod registrations;
mod rooms;
mod run;
mod scales;
mod slots;
mod specs;
mod stats;
mod status;

use std::collections::BTreeSet;

use shard_core::{
    Control, DispatchEvent, ExecutionId, Input, Invoke, JournalEvent, Name, Now, Outcome, Request, Stored,
    Ticket,
};

use crate::{disk::Told, swarm::Swarm};

use callers::{Asked, Callers};
use caution::Caution;
use crashes::Crashes;
use endpoints::Endpoints;
use executions::Executions;
use fairness::Fairness;
use keys::Keys;
use partitions::Partitions;
use promptness::Promptness;
use queues::Queues;
use rates::Rates;
use reads::Reads;
use records::Records;
use refusals::Refusals;
use registrations::Registrations;
use run::Run;
use scales::Scales;
use slots::Slots;
use specs::Specs;

pub use stats::Stats;

/// What does not hold, in words.
type Verdict = Result<(), String>;

/// What a step was given.
#[derive(Debug)]
enum Cause {
    Call {
        ticket: Ticket,
        id: ExecutionId,
        name: Name,
        accepted: bool,
    },
    Replay(Ticket),
    DrainOnce,
    Purge(Ticket),
    /// An attempt of a managed function was not run.
    NotRun(ExecutionId),
    /// The job of this execution ended, and no callback had decided its attempt.
    JobEnded(ExecutionId),
    /// The same when it was not there.
    JobLost(ExecutionId),
    Other,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Auditor {
    callers: Callers,
    caution: Caution,
    endpoints: Endpoints,
    executions: Executions,
    fairness: Fairness,
    keys: Keys,
    partitions: Partitions,
    promptness: Promptness,
    queues: Queues,
    rates: Rates,
    reads: Reads,
    records: Records,
    refusals: Refusals,
    registrations: Registrations,
    scales: Scales,
    slots: Slots,
    specs: Specs,
    crashes: Crashes,
    pub(crate) stats: Stats,
    cause: Cause,
    /// Who asks for something in this step.
    asker: Option<Ticket>,
    /// Shards that are being given back what was there before.
    restoring: BTreeSet<u16>,
    /// The one that goes on with attempts of before in this step.
    adopting: Option<u16>,
}

impl Auditor {
    pub(crate) fn new(swarm: &Swarm) -> Auditor {
        Auditor {
            callers: Callers::new(swarm),
            caution: Caution::default(),
            endpoints: Endpoints::default(),
            executions: Executions::new(swarm),
            fairness: Fairness::new(swarm),
            keys: Keys::new(swarm),
            partitions: Partitions::new(swarm.shards, !swarm.disk.ephemeral),
            promptness: Promptness::default(),
            queues: Queues::new(swarm),
            rates: Rates::new(swarm),
            reads: Reads::default(),
            records: Records::new(swarm.shards),
            refusals: Refusals::new(swarm),
            registrations: Registrations::default(),
            scales: Scales::default(),
            slots: Slots::new(swarm),
            specs: Specs::new(swarm),
            crashes: Crashes::default(),
            stats: Stats::default(),
            cause: Cause::Other,
            asker: None,
            restoring: BTreeSet::new(),
            adopting: None,
        }
    }

    /// A shard is about to be given this.
    pub(crate) fn input(&mut self, shard: u16, now: Now, input: &Input) -> Verdict {
        self.cause = Cause::Other;
        self.asker = match input {
            Input::Ask(ticket, _) => Some(*ticket),
            _ => None,
        };
        self.endpoints.input(shard, input);
        self.refusals.input(shard, input);
        self.caution.input(shard, input);
        self.crashes.probes.input(input);
        self.scales.input(shard, input);
        match input {
            Input::Ask(ticket, Request::Invoke(call)) => self.called(now, *ticket, call, false)?,
            Input::Ask(ticket, Request::Enqueue(call)) => self.called(now, *ticket, call, true)?,
            Input::Ask(ticket, Request::Register(spec)) => {
                self.callers.asked(*ticket, Asked::Register)?;
                self.registrations.asked(*ticket, spec);
                self.specs.asked(*ticket, spec);
            }
            Input::Ask(ticket, Request::Remove(name)) => {
                self.registrations.removes(*name);
                self.callers.asked(*ticket, Asked::Remove(*name))?;
            }
            Input::Ask(ticket, Request::GetExecution { id, wait_ms }) => {
                let due_us = now.mono_us + u64::from(*wait_ms) * 1000;
                self.callers.asked(*ticket, Asked::Read { id: *id, due_us })?;
            }
            Input::Ask(ticket, Request::Cancel(_)) => self.callers.asked(*ticket, Asked::Cancel)?,
            Input::Ask(ticket, Request::Purge { id, .. }) => {
                self.cause = Cause::Purge(*ticket);
                self.callers.asked(*ticket, Asked::Purge(*id))?;
            }
            Input::Ask(ticket, Request::Replay { id, .. }) => {
                self.cause = Cause::Replay(*ticket);
                self.callers.asked(*ticket, Asked::Replay(*id))?;
            }
            Input::Ask(ticket, Request::DrainOnce(_)) => {
                self.cause = Cause::DrainOnce;
                self.callers.asked(*ticket, Asked::Other)?;
            }
            Input::Ask(ticket, Request::Complete { id, attempt, outcome }) => {
                self.callers.asked(*ticket, Asked::Other)?;
                if *outcome != Outcome::Deferred {
                    self.slots.calls_back(*id, *attempt);
                }
                self.executions.reported(now, *id, *attempt, outcome);
            }
            Input::Dispatch(attempt, DispatchEvent::Finished(report)) => {
                let deferred = report.outcome == Outcome::Deferred;
                self.heard_of(shard, *attempt, &report.outcome);
                if let Some((id, number)) = self.slots.reported((shard, *attempt), now, deferred)? {
                    self.executions.reported(now, id, number, &report.outcome);
                    self.executions.reported_cold(id, number, report);
                }
            }
            Input::Dispatch(_, DispatchEvent::JobCreated) => self.stats.jobs_created += 1,
            Input::Dispatch(attempt, DispatchEvent::JobEnded(failure)) => {
                if let Some((id, number)) = self.slots.reported((shard, *attempt), now, false)? {
                    self.stats.jobs_failed += 1;
                    self.cause = Cause::JobEnded(id);
                    let failure = failure.clone();
                    let outcome = Outcome::Failure { failure, retryable: true, retry_after_ms: None };
                    self.executions.reported(now, id, number, &outcome);
                }
            }
            Input::Dispatch(attempt, DispatchEvent::JobLost) => {
                if let Some((id, _)) = self.slots.reported((shard, *attempt), now, false)? {
                    self.cause = Cause::JobLost(id);
                }
            }
            Input::Abandon { ticket, .. } => self.left(now, *ticket),
            Input::Delivered { id, number, delivery } => {
                self.executions.is_delivered(*id, *number, delivery.status);
            }
            Input::Control(Control::EndWatches) => self.promptness.watches_end(shard),
            Input::Control(Control::Restore(stored)) => {
                self.restoring.insert(shard);
                if let Stored::Execution(stored) = stored {
                    self.executions.given_back(now, stored.id);
                }
            }
            Input::Journal(JournalEvent::Read { .. }) => self.has_read(shard, input)?,
            Input::Control(Control::Restored) => {
                self.restoring.remove(&shard);
                self.adopting = Some(shard);
            }
            Input::Ask(ticket, _) => self.callers.asked(*ticket, Asked::Other)?,
            _ => {}
        }
        Ok(())
    }

    /// A disk is done with some records.
    pub(crate) fn told(&mut self, shard: u16, told: Told) {
        self.stats.commits_failed += u64::from(!matches!(told, Told::Written(_)));
        self.records.told(shard, told);
        self.partitions.told(shard, told);
    }

    /// The server admits so many calls per second from now on.
    pub(crate) fn configured(&mut self, calls_per_second: u32) {
        self.rates.configured(calls_per_second);
    }

    /// Everything has come home.
    pub(crate) fn drained(&self, now_us: u64) -> Verdict {
        self.callers.none_waits()?;
        self.executions.all_ended()?;
        self.slots.all_free(now_us)?;
        self.queues.all_empty()
    }

    /// Shards have so many functions.
    pub(crate) fn functions_left(&self, count: usize) -> Verdict {
        self.registrations.are(count)
    }

    fn called(&mut self, now: Now, ticket: Ticket, call: &Invoke, accepted: bool) -> Verdict {
        let (id, name) = (call.id, call.name);
        let key = call.extra.as_ref().and_then(|extra| extra.idempotency.as_ref());
        let digest = key.map(|idempotency| idempotency.digest);
        let key = key.map(|idempotency| idempotency.key.clone());
        let registration = self.registrations.current(&name);
        let timeout_ms = registration.map_or(0, |registration| registration.policy.timeout_ms);
        // Who joins another call without a deadline of its own takes that of the function as it was then.
        let limit_ms = call.timeout_ms.or((key.is_none() && registration.is_some()).then_some(timeout_ms));
        let due_us = limit_ms.filter(|_| !accepted).map(|ms| now.mono_us + u64::from(ms) * 1000);
        self.callers.asked(ticket, Asked::Call { id, due_us, keyed: key.is_some() })?;
        self.rates.arrived(now);
        let epoch = registration.map_or(0, |registration| registration.epoch);
        if key.is_some() {
            self.queues.is_unsure(epoch);
        }
        self.executions.offered(id, Run { digest, ..Run::new(call, key, epoch, now) })?;
        self.cause = Cause::Call { ticket, id, name, accepted };
        Ok(())
    }

    fn left(&mut self, now: Now, ticket: Ticket) {
        let left = self.callers.left(ticket, now.mono_us);
        let Some(Asked::Call { id, keyed, .. }) = left else { return };
        if keyed || self.executions.get(id).is_some_and(|run| !run.accepted) {
            let epoch = self.executions.get(id).map(|run| run.epoch);
            epoch.into_iter().for_each(|epoch| self.queues.is_unsure(epoch));
            self.executions.muddy(id);
            self.queues.leave(id);
        }
    }
}
