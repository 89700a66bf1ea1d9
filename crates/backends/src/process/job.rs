//! Jobs: a program under a one-shot watchdog, which runs it once and posts the result.
//!
//! A job ends with the server like a replica, because its guard does; so an earlier server leaves none behind.

use std::{
    cell::RefCell, collections::BTreeMap, fs::File, io::Write, process::Stdio, rc::Rc, time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::watch;

use super::{
    ReplicaContext,
    environment::{OneShot, path_of},
    log::ReplicaLog,
    preflight,
    stop::Stop,
    watchdog::Watchdog,
};
use crate::{FoundJob, Job, JobEvent, JobId, NotCreated};

/// Longest request that is handed over in the environment, in bytes. Linux takes 128 KiB for a variable, and everybody who
/// may see the process sees it.
const ENVIRONMENT_PAYLOAD_MAX: usize = 64 << 10;

/// The jobs that run.
#[derive(Default)]
pub struct JobTable(RefCell<BTreeMap<JobId, Running>>);

struct Running {
    found: FoundJob,
    stop: watch::Sender<Option<Stop>>,
}

/// The place of a job in the table, until it is dropped.
pub struct JobEntry {
    table: Rc<JobTable>,
    id: JobId,
    stop: watch::Receiver<Option<Stop>>,
}

impl JobTable {
    /// A job is about to be created.
    pub fn enter(self: &Rc<Self>, job: &Job) -> JobEntry {
        let (sender, stop) = watch::channel(None);
        let (function, labels) = (job.workload.name.clone(), job.workload.labels.clone());
        let found = FoundJob { id: job.id.clone(), function, labels };
        self.0.borrow_mut().insert(job.id.clone(), Running { found, stop: sender });
        JobEntry { table: Rc::clone(self), id: job.id.clone(), stop }
    }

    /// Ends a job at once.
    pub fn end(&self, job: &JobId) {
        if let Some(running) = self.0.borrow().get(job) {
            running.stop.send_replace(Some(Stop::within(Duration::ZERO)));
        }
    }

    /// Asks all jobs to end.
    pub fn end_all(&self, stop: Stop) {
        for running in self.0.borrow().values() {
            // One that is to end at once does.
            running.stop.send_if_modified(|old| old.is_none() && old.replace(stop).is_none());
        }
    }

    /// All of them.
    pub fn list(&self) -> Vec<FoundJob> {
        self.0.borrow().values().map(|running| running.found.clone()).collect()
    }
}

impl Drop for JobEntry {
    fn drop(&mut self) {
        self.table.0.borrow_mut().remove(&self.id);
    }
}

/// Runs a job to its end, or until it is told to end.
pub async fn run_job(job: &Job, context: &ReplicaContext, mut entry: JobEntry) {
    if entry.stop.borrow().is_some() {
        return;
    }
    let mut watchdog = match start(job, context) {
        Ok(watchdog) => watchdog,
        Err(reason) => {
            // Whoever reacts to it may give the next order.
            drop(entry);
            return (job.report)(JobEvent::NotCreated(reason));
        }
    };
    (job.report)(JobEvent::Created);
    let mut stop = entry.stop.clone();
    let reason = tokio::select! {
        status = watchdog.ended() => watchdog.epitaph(status).await,
        _ = entry.stop.wait_for(Option::is_some) => return watchdog.stop(&mut stop).await,
    };
    watchdog.vanished().await;
    drop(entry);
    (job.report)(JobEvent::Ended(reason.text));
}

fn start(job: &Job, context: &ReplicaContext) -> Result<Watchdog, NotCreated> {
    let spec = &job.workload.spec;
    if context.callback_url.is_none() {
        let reason = "the server does not know the address that a job reports to".to_owned();
        return Err(NotCreated { reason, is_final: true });
    }
    preflight::check(spec, path_of(spec, context.path.as_ref()).as_ref())?;
    let payload = Some(&job.payload).filter(|payload| payload.len() <= ENVIRONMENT_PAYLOAD_MAX);
    // A variable cannot hold a zero byte, and no JSON has one.
    let payload =
        payload.and_then(|payload| str::from_utf8(payload).ok()).filter(|text| !text.contains('\0'));
    let stdin = match payload {
        Some(_) => Stdio::null(),
        None => file_of(&job.payload)
            .map(Stdio::from)
            .map_err(|error| format!("there is no room for the request: {error}"))?,
    };
    let one_shot = OneShot {
        execution: &job.execution,
        attempt: job.attempt,
        trace_id: job.trace_id.as_deref(),
        timeout: job.timeout,
        payload,
    };
    let log = Rc::new(ReplicaLog::new(job.id.as_str().to_owned().into()));
    Ok(Watchdog::start_job(spec, context, &log, &one_shot, stdin)?)
}

/// A file in memory, which has no name and goes with the last process that has it open: whoever is killed leaves nothing.
fn file_of(payload: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("nanofaas-payload", MemfdFlags::CLOEXEC)?);
    file.write_all(payload)?;
    Ok(file)
}
