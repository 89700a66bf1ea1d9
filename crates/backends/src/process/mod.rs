//! The `process` backend: functions as local processes, each replica and each job a program under its own watchdog.
//!
//! From the outside in:
//!
//! - here the [`Backend`] and its thread; [`thread`] takes the orders
//! - [`function`] how many replicas there are; [`replica`] keeps one running; [`job`] runs a program once, for a REMOTE
//!   function; [`watchdog`] one process of either;
//!   [`log`] what it wrote
//! - [`binary`] what such a process is started from
//! - pure or nearly so: [`environment`], [`preflight`], [`backoff`], [`stop`], [`ports`]
//!
//! No process survives the server, however it ends: the watchdog ends with its parent, and its programs with the
//! watchdog. No isolation either: programs run as the server's user, which is why this backend is for the
//! machine of a developer or for functions that are trusted.

use std::{
    cell::Cell,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use nanofaas_wire::function::FunctionSpec;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub mod backoff;
pub mod binary;
pub mod environment;
pub mod function;
pub mod job;
pub mod log;
pub mod ports;
pub mod preflight;
pub mod replica;
pub mod stop;
pub mod thread;
pub mod watchdog;

use crate::{
    Backend, Events, FunctionName, Job, JobEvent, JobId, JobListReply, JobReport, JobRunner, ListReply,
    LogRequest, LogStream, Order, ReplicaId,
};
use binary::Binary;
use ports::Ports;
use thread::ThreadMessage;

/// What the process backend is told.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The nanofaas binary, run as the watchdog when there is no smaller one.
    pub binary: PathBuf,
    /// The watchdog's own binary. Not used when it is not there, or is another version's.
    pub small_binary: Option<PathBuf>,
    /// Longest time from the start of a replica until it is ready.
    pub ready_timeout: Duration,
    /// Where programs report results, such as `http://127.0.0.1:8080/v1/internal/executions`.
    pub callback_url: Option<String>,
    /// The server's `PATH`, in which programs are sought whose function has none of its own.
    pub path: Option<OsString>,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        ProcessOptions {
            // The file that runs now, also when it was replaced or deleted since: a new process must not be of
            // another version than the server, and a build in progress must not stop replicas from restarting.
            binary: PathBuf::from("/proc/self/exe"),
            small_binary: std::env::current_exe().ok().map(|own| own.with_file_name("nanofaas-watchdog")),
            ready_timeout: Duration::from_secs(20),
            callback_url: None,
            path: None,
        }
    }
}

/// Why the backend could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ProcessBackendError {
    /// The path of the binary cannot be made absolute.
    #[error("cannot find the nanofaas binary at {path}: {reason}")]
    Binary {
        /// The path that was given.
        path: PathBuf,
        /// The operating system's word for it.
        reason: io::Error,
    },
    /// No thread, or no way to wait for events on it.
    #[error("cannot start the thread of the process backend: {0}")]
    Thread(#[from] io::Error),
}

/// What all replicas share.
pub struct ReplicaContext {
    /// What watchdogs are started from; absolute, as replicas have working directories of their own.
    pub binary: Binary,
    /// See [`ProcessOptions`].
    pub ready_timeout: Duration,
    /// See [`ProcessOptions`].
    pub callback_url: Option<String>,
    /// See [`ProcessOptions`].
    pub path: Option<OsString>,
    /// Where to report.
    pub events: Arc<dyn Events>,
    /// Ports in use.
    pub ports: Ports,
    /// When the backend was started, in nanoseconds since 1970: what tells its replicas from those of another.
    pub started: u128,
    /// Replicas so far.
    pub replicas: Cell<u64>,
}

impl ReplicaContext {
    /// An id that no other replica had.
    fn next_id(&self, function: &FunctionName) -> ReplicaId {
        let number = self.replicas.get() + 1;
        self.replicas.set(number);
        format!("{function}-{:x}-{number}", self.started).into()
    }
}

/// Runs functions as processes of this machine.
pub struct ProcessBackend {
    /// Not bounded by itself: a function has one order under way, and no more jobs than slots.
    commands: mpsc::UnboundedSender<ThreadMessage>,
    events: Arc<dyn Events>,
    /// Until it was waited for.
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl ProcessBackend {
    /// Starts the backend's thread. Dropping the backend without [`Backend::shut_down`] ends the replicas too,
    /// but nobody waits for it.
    ///
    /// # Errors
    /// See [`ProcessBackendError`].
    pub fn new(
        options: ProcessOptions,
        events: Arc<dyn Events>,
    ) -> Result<ProcessBackend, ProcessBackendError> {
        let binary = std::path::absolute(&options.binary)
            .map_err(|reason| ProcessBackendError::Binary { path: options.binary.clone(), reason })?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, is_started) = crossbeam_channel::bounded(1);
        let thread_events = Arc::clone(&events);
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                let binary = Binary::choose(binary, options.small_binary.as_deref()).await;
                let _ = started.send(Ok(()));
                let context = ReplicaContext {
                    binary,
                    ready_timeout: options.ready_timeout,
                    callback_url: options.callback_url,
                    path: options.path,
                    events: thread_events,
                    ports: Ports::default(),
                    started: UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos()),
                    replicas: Cell::default(),
                };
                thread::run(context, receiver).await;
            });
        };
        let thread = std::thread::Builder::new().name("processes".to_owned()).spawn(body)?;
        // Nothing was sent when the thread ended before, which it does only by a panic.
        is_started.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once")))?;
        Ok(ProcessBackend { commands, events, thread: Mutex::new(Some(thread)) })
    }
}

impl Backend for ProcessBackend {
    fn id(&self) -> &'static str {
        "process"
    }

    fn supports(&self, spec: &FunctionSpec) -> Result<(), String> {
        if spec.runtime_command.as_ref().is_none_or(|command| command.trim().is_empty()) {
            return Err("the process backend runs programs of this machine and needs a runtimeCommand; \
                        it cannot run an image"
                .to_owned());
        }
        Ok(())
    }

    fn submit(&self, order: Order) {
        if let Err(mpsc::error::SendError(ThreadMessage::Order(order))) =
            self.commands.send(ThreadMessage::Order(order))
        {
            thread::refuse(&self.events, order);
        }
    }

    fn list(&self, reply: ListReply) {
        if let Err(mpsc::error::SendError(ThreadMessage::List(reply))) =
            self.commands.send(ThreadMessage::List(reply))
        {
            reply(Err(thread::too_late()));
        }
    }

    fn jobs(&self) -> Option<&dyn JobRunner> {
        Some(self)
    }

    fn logs(&self, request: LogRequest) -> LogStream {
        let (sender, stream) = LogStream::new();
        // Without a thread nothing is left that could write: the stream ends.
        let _ = self.commands.send(ThreadMessage::Logs(request, sender));
        stream
    }

    /// Processes end with the server that started them, so nothing is left running.
    fn detach(&self, grace: Duration) {
        self.shut_down(grace);
    }

    /// Must not be called by [`Events`]: the thread that reports is the one that is waited for.
    fn shut_down(&self, grace: Duration) {
        let _ = self.commands.send(ThreadMessage::ShutDown(grace));
        // A second caller waits here until the first is done.
        let mut thread = self.thread.lock();
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the process backend ended by a panic");
        }
    }
}

impl JobRunner for ProcessBackend {
    fn create(&self, job: Job) {
        if let Err(mpsc::error::SendError(ThreadMessage::CreateJob(job))) =
            self.commands.send(ThreadMessage::CreateJob(Box::new(job)))
        {
            thread::refuse_job(&job);
        }
    }

    fn end(&self, job: &JobId) {
        // Without a thread no job is left.
        let _ = self.commands.send(ThreadMessage::EndJob(job.clone()));
    }

    fn list(&self, reply: JobListReply) {
        if let Err(mpsc::error::SendError(ThreadMessage::ListJobs(reply))) =
            self.commands.send(ThreadMessage::ListJobs(reply))
        {
            reply(Err(thread::too_late()));
        }
    }

    fn adopt(&self, _: &JobId, report: JobReport) {
        report(JobEvent::Ended("it ended with the server that had started it".to_owned()));
    }
}

#[cfg(test)]
pub(crate) fn test_spec(name: &str) -> FunctionSpec {
    serde_json::from_value(serde_json::json!({
        "name": name,
        "timeoutMs": 30_000, "concurrency": 4, "queueSize": 100, "maxRetries": 3, "retryBackoffMs": 0,
        "executionMode": "DEPLOYMENT",
        "requestedExecutionMode": "DEPLOYMENT",
        "effectiveExecutionMode": "DEPLOYMENT",
        "runtimeMode": "STDIO",
        "runtimeCommand": "cat -",
    }))
    .expect("a spec")
}
