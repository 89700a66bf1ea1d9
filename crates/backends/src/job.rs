//! Jobs: a function of mode REMOTE has no replicas; its program is run once for each attempt, and reports the result by
//! callback.
//!
//! The server gives every job its id, and a place to report to. It orders no more jobs of a function at a time than the
//! function's concurrency, and it keeps the time: a job has a limit of its own only so that nothing stays for ever.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{BackendError, FunctionName, Labels, Workload};

/// Names a job, also over restarts of the server. Given by the server, and to no other job after it. Lower-case letters,
/// digits and hyphens, at most 63 of them: a name that Kubernetes takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for JobId {
    fn from(id: String) -> JobId {
        JobId(id.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// It exists. Its program may not have started.
    Created,
    /// It does not, and nothing of it is left. No other event follows.
    NotCreated(NotCreated),
    /// Nothing of it runs any more. The text, for a person, says how it ended (its exit code, if it had one) and what it
    /// wrote last. Also said of a job that went well: whether its callback came is for the server to know. No other event
    /// follows.
    Ended(String),
}

/// Why a job was not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCreated {
    /// The reason, for a person.
    pub reason: String,
    /// Trying again is of no use.
    pub is_final: bool,
}

impl From<String> for NotCreated {
    /// Another try may go better.
    fn from(reason: String) -> NotCreated {
        NotCreated { reason, is_final: false }
    }
}

/// Where a backend reports on one job. Cheap, never blocks, called from any thread.
pub type JobReport = Box<dyn Fn(JobEvent) + Send + Sync>;

/// A job to create.
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What to run, and what to attach to it.
    pub workload: Arc<Workload>,
    /// The execution that it is for, as its callback names it.
    pub execution: Arc<str>,
    /// Number of the attempt, which the callback repeats: `DISPATCH_ATTEMPT`.
    pub attempt: u32,
    /// Trace of the caller.
    pub trace_id: Option<Box<str>>,
    /// What is left of the attempt's time.
    pub timeout: Duration,
    /// The request object `{"input":…,"metadata":…}`, as JSON.
    pub payload: Bytes,
    /// Takes what becomes of it.
    pub report: JobReport,
}

impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may be secret.
        formatter.debug_struct("Job").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A job that exists at a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundJob {
    /// Its name.
    pub id: JobId,
    /// Whose program it runs.
    pub function: FunctionName,
    /// What was attached to it.
    pub labels: Labels,
}

/// Takes the answer of [`JobRunner::list`]. Called once, from any thread.
pub type JobListReply = Box<dyn FnOnce(Result<Vec<FoundJob>, BackendError>) + Send>;

/// Takes the answer of [`JobRunner::prepare`]. Called once, from any thread.
pub type PrepareReply = Box<dyn FnOnce(Result<(), BackendError>) + Send>;

/// A backend that runs functions as jobs.
pub trait JobRunner: Send + Sync {
    /// Finds out whether jobs of a function could run, before it is registered for the first time: nothing of it runs, and
    /// nothing is left. Never blocks.
    ///
    /// The reply comes once, also when the backend ends meanwhile. By default everything can.
    fn prepare(&self, workload: &Arc<Workload>, reply: PrepareReply) {
        let _ = workload;
        reply(Ok(()));
    }
    /// Creates a job: the one-shot watchdog with the function's program, and in its environment `EXECUTION_ID`,
    /// `DISPATCH_ATTEMPT`, `CALLBACK_URL`, `TIMEOUT_MS`, `TRACE_ID` when it is known, and the payload in
    /// `INVOCATION_PAYLOAD`, or in a file that `INVOCATION_PAYLOAD_FILE` names. A job that fails is not run again. Never
    /// blocks.
    fn create(&self, job: Job);
    /// Ends a job, and removes what belongs to it. From now on nothing is reported of it but what is on its way. Of a job that
    /// is not there, nothing is to do. Never blocks.
    fn end(&self, job: &JobId);
    /// Lists every job that exists at the backend, also those that this server never ordered, and those that have ended as long
    /// as [`JobRunner::adopt`] can say how. A server that starts adopts the jobs of the attempts that go on, ends the others, and
    /// makes an attempt again whose job is missing. Never blocks.
    fn list(&self, reply: JobListReply);
    /// Goes on with a job that `list` has named and that an earlier server ordered, as if this one had: nothing but its
    /// [`JobEvent::Ended`] follows, at once if it has ended or is not there any more. Never blocks.
    fn adopt(&self, job: &JobId, report: JobReport);
}
