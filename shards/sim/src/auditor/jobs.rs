//! Jobs outlive the server: their attempts are on record before they are ordered, and go on after a crash.

use shard_core::{ExecutionId, Now, Target};

use super::{Auditor, Cause, Verdict};
use crate::functions::ExchangeKey;

impl Auditor {
    /// It is written down that an attempt gets a job: it is made then, or goes on and somebody has it accepted.
    pub(super) fn ordered(
        &mut self,
        shard: u16,
        now: Now,
        number: u64,
        (id, attempt): (ExecutionId, u32),
    ) -> Verdict {
        let run = self.executions.get_mut(id)?;
        if run.running && run.attempts == attempt {
            return Ok(());
        }
        self.attempted(now, id, attempt)?;
        self.records.orders(shard, number, id);
        let Some(run) = self.executions.get(id) else { return Ok(()) };
        if let Some(registration) = self.registrations.current(&run.name) {
            self.slots.reserve((id, attempt), (registration.epoch, &registration.policy), now.mono_us);
        }
        Ok(())
    }

    /// An attempt of before a crash goes on.
    pub(super) fn goes_on(
        &mut self,
        attempt: ExchangeKey,
        now: Now,
        id: ExecutionId,
        number: u32,
    ) -> Verdict {
        self.stats.jobs_adopted += 1;
        let run = self.executions.get_mut(id)?;
        let Some(registration) = self.registrations.current(&run.name) else {
            return Err(format!("an attempt of {id} goes on, and {} is not registered", run.name));
        };
        self.queues.leave(id);
        let until_us = self.executions.goes_on(now, id, number, &registration.policy)?;
        let to = (registration.epoch, &registration.policy);
        self.slots.goes_on(attempt, (id, number), to, until_us);
        self.refusals.starts(registration.epoch);
        Ok(())
    }

    /// Checks that a shard that was given back everything goes on with every attempt that has a job.
    pub(super) fn all_go_on(&self, shard: u16) -> Verdict {
        let seating = self.partitions.seating();
        self.executions.all_go_on(|run, id| {
            let registration = self.registrations.current(&run.name);
            let has_jobs = registration.is_some_and(|registration| registration.target == Target::Jobs);
            has_jobs && seating.owner_of(id.owner_hash()) == shard
        })
    }

    /// An attempt is said to have lost its job.
    pub(super) fn job_is_lost(&mut self, id: ExecutionId, number: u32) -> Verdict {
        if !matches!(self.cause, Cause::JobLost(of) if of == id) {
            return Err(format!("attempt {number} of {id} is said to have no job, and nobody said so"));
        }
        self.stats.jobs_lost += 1;
        self.executions.lost_job(id, number)?;
        let name = self.executions.get_mut(id)?.name;
        let Some(function) = self.registrations.current(&name) else {
            return Err(format!("{id} waits again, and {name} is not registered"));
        };
        // It was admitted once, and what came since may have its place.
        let policy = &function.policy;
        let places = policy.queue_size.max(function.restored) + policy.concurrency;
        self.queues.again(id, (function.epoch, places))
    }
}
