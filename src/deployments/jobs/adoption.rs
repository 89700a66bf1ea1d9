//! Jobs of earlier servers. Those of attempts that go on are watched as if this server had ordered them, the others are ended, and an
//! attempt whose job is missing is told to its shard.
//!
//! A backend that cannot list its jobs is asked again for as long as the server runs: until then attempts wait for their callbacks,
//! and for the end of their time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nanofaas_backends::{Backend, BackendError, FoundJob, JobEvent, JobReport};
use parking_lot::{Condvar, Mutex};
use shard_core::{DispatchEvent, ExecutionId, Input};

use super::{AdoptionOrder, Handle, JobHandle, Jobs, PlacedJob};

/// Names a job over restarts: the execution, and the number of its attempt.
pub(super) type JobKey = (ExecutionId, u32);

/// First and longest pause before a backend is asked again.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// An attempt that goes on.
struct Adoption {
    order: AdoptionOrder,
    /// Where its job is, once that was found.
    job: Option<PlacedJob>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Adoptions {
    table: Mutex<Table>,
    closed: Condvar,
}

#[derive(Default)]
struct Table {
    adoptions: BTreeMap<JobKey, Adoption>,
    is_closed: bool,
}

impl Jobs {
    /// The job of an attempt will be looked for.
    pub(in super::super) fn adopt(self: &Arc<Self>, order: AdoptionOrder) -> JobHandle {
        let key = (order.id, order.number);
        self.adoptions.table.lock().adoptions.insert(key, Adoption { order, job: None });
        JobHandle(Handle::Adopted(Arc::clone(self), key))
    }

    /// Nobody waits for a job any more: it is ended, or will be when it is found.
    pub(super) fn give_up(&self, key: JobKey) {
        let adoption = self.adoptions.table.lock().adoptions.remove(&key);
        if let Some(job) = adoption.and_then(|adoption| adoption.job) {
            job.end();
        }
    }

    /// Looks at every backend for the jobs that earlier servers left. Call it when every shard has named the attempts that go on.
    pub(in super::super) fn find_all(self: &Arc<Self>, mut backends: Vec<Arc<dyn Backend>>) {
        let [mut pause, pause_max] = RETRY_PAUSES;
        backends.retain(|backend| backend.jobs().is_some());
        loop {
            backends.retain(|backend| {
                let found = self.find_at(backend);
                if let Err(error) = &found {
                    tracing::warn!(backend = backend.id(), %error, "cannot look for jobs of an earlier server");
                }
                found.is_err()
            });
            if backends.is_empty() {
                // Of functions that no backend runs any more.
                return self.lose(|_| true);
            }
            if !self.rest(pause) {
                return;
            }
            pause = (pause * 2).min(pause_max);
        }
    }

    /// Ends [`Jobs::find_all`].
    pub(in super::super) fn close(&self) {
        self.adoptions.table.lock().is_closed = true;
        self.adoptions.closed.notify_all();
    }

    /// Waits before a backend is asked again; false when the server ends.
    fn rest(&self, pause: Duration) -> bool {
        let mut table = self.adoptions.table.lock();
        self.adoptions.closed.wait_while_for(&mut table, |table| !table.is_closed, pause).timed_out()
    }

    fn find_at(self: &Arc<Self>, backend: &Arc<dyn Backend>) -> Result<(), BackendError> {
        let Some(jobs) = backend.jobs() else { return Ok(()) };
        for (key, FoundJob { id, function, .. }) in self.list(&**backend)? {
            // Asked for the second time, it is watched already.
            if self.is_own(&id) || self.is_placed(key) {
                continue;
            }
            let job = PlacedJob { backend: Arc::clone(backend), id };
            match self.place(key, &job) {
                Some(AdoptionOrder { function: owner, attempt, .. }) => {
                    tracing::info!(%function, job = %job.id, backend = backend.id(), "going on with a job of an earlier server");
                    let told = self.report(owner.shard, attempt, &job.id, function);
                    jobs.adopt(&job.id, self.until_end(key, told));
                }
                None => {
                    tracing::info!(%function, job = %job.id, backend = backend.id(), "ending a job of an earlier server");
                    job.end();
                }
            }
        }
        let functions = self.functions.lock().clone();
        let runs_here = |order: &AdoptionOrder| {
            functions.get(&order.function).is_some_and(|function| Arc::ptr_eq(&function.backend, backend))
        };
        self.lose(runs_here);
        Ok(())
    }

    fn is_placed(&self, key: JobKey) -> bool {
        self.adoptions.table.lock().adoptions.get(&key).is_some_and(|adoption| adoption.job.is_some())
    }

    /// Takes note of where a job is. `None`: nobody waits for it.
    fn place(&self, key: JobKey, job: &PlacedJob) -> Option<AdoptionOrder> {
        let mut table = self.adoptions.table.lock();
        let adoption = table.adoptions.get_mut(&key).filter(|adoption| adoption.job.is_none())?;
        adoption.job = Some(job.clone());
        Some(adoption.order)
    }

    /// Forgets a job with its end.
    fn until_end(self: &Arc<Self>, key: JobKey, told: JobReport) -> JobReport {
        let jobs = Arc::clone(self);
        Box::new(move |event| {
            if matches!(event, JobEvent::Ended(_)) {
                jobs.adoptions.table.lock().adoptions.remove(&key);
            }
            told(event);
        })
    }

    /// Jobs that were not found, of these attempts, are not there.
    fn lose(&self, of: impl Fn(&AdoptionOrder) -> bool) {
        let mut table = self.adoptions.table.lock();
        for (_, adoption) in
            table.adoptions.extract_if(.., |_, adoption| adoption.job.is_none() && of(&adoption.order))
        {
            let AdoptionOrder { function, attempt, id, number } = adoption.order;
            tracing::warn!(execution = %id, attempt = number, "the job of an attempt is not there; it is made again");
            self.inbox.post(function.shard, Input::Dispatch(attempt, DispatchEvent::JobLost));
        }
    }
}
