//! What runs the replicas of DEPLOYMENT functions and the jobs of REMOTE functions: the language between the server and
//! its backends.
//!
//! A [`Backend`] takes [`Order`]s without ever blocking the caller, does the slow work on threads of its own, and
//! reports through [`Events`]. It knows functions by their names, and replicas by ids that it gives them itself; it
//! knows nothing of shards. A backend that can run a function once for each attempt is a [`JobRunner`] too. [`process`] runs local programs. How to write another one is in
//! `docs/internals/backends.md`.

mod function;
mod job;
mod logs;
pub mod process;
mod replica;
pub mod secrets;

use std::{sync::Arc, time::Duration};

pub use function::{FoundFunction, FunctionName, Labels, Version, Workload};
pub use job::{FoundJob, Job, JobEvent, JobId, JobListReply, JobReport, JobRunner, NotCreated, PrepareReply};
pub use logs::{LogLine, LogRequest, LogSender, LogStream};
use nanofaas_wire::function::FunctionSpec;
pub use replica::{Ensured, ReplicaChange, ReplicaChanges, ReplicaId, ReplicaState, ReplicaStatus, who_goes};

/// Something to do for a function. Orders of one function come one after the other: the next one only after
/// the event that ends the one before.
#[derive(Debug, Clone)]
pub enum Order {
    /// Have the function run as described. What runs already in this version is adopted, what runs in another is
    /// replaced, what is missing is started. Ends with [`Events::ensured`] when `replicas` of them are ready.
    Ensure {
        /// What to run.
        workload: Arc<Workload>,
        /// How many at least: a function that had more before the server started keeps them.
        replicas: u32,
    },
    /// Have this many replicas. Ends with [`Events::scaled`], which does not wait for them to be ready. When there are to
    /// be fewer, [`who_goes`] says which; calls that have begun on them meanwhile may finish.
    Scale {
        /// The function.
        function: FunctionName,
        /// How many.
        replicas: u32,
        /// Those that go before others that are ready, in this order: those with the fewest calls.
        first_to_go: Vec<ReplicaId>,
    },
    /// Stop all replicas and remove what belongs to the function: calls in flight may finish, within their timeout.
    /// Ends with [`Events::torn_down`]. Of a function that is not there, nothing is to do, and that is a success.
    Teardown {
        /// The function.
        function: FunctionName,
    },
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Replicas did not become ready. The text says what they wrote and what to do.
    #[error("{0}")]
    Provisioning(String),
    /// The backend cannot be reached, or is shutting down.
    #[error("{0}")]
    Unavailable(String),
    /// Replicas could not be removed.
    #[error("{0}")]
    Teardown(String),
    /// The image of the function cannot be had.
    #[error("{text}")]
    Image {
        /// Why.
        problem: ImageProblem,
        /// For a person.
        text: String,
    },
    /// Somebody else has what the function would be called.
    #[error("{0}")]
    Conflict(String),
}

/// Why an image cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageProblem {
    /// The registry does not have it.
    NotFound,
    /// The registry wants credentials, or others.
    AuthRequired,
    /// The registry does not answer, or not with an image.
    RegistryUnavailable,
}

/// Where a backend reports. Cheap, never blocks, called from any thread; of one function, one call after the other.
pub trait Events: Send + Sync {
    /// Ends [`Order::Ensure`], with every replica that counts from now on: others that were known have been replaced, and
    /// end without another word. After a failure nothing of the function is left behind.
    fn ensured(&self, function: &FunctionName, result: Result<Ensured, BackendError>);
    /// Ends [`Order::Scale`], with the wanted number.
    fn scaled(&self, function: &FunctionName, result: Result<u32, BackendError>);
    /// Ends [`Order::Teardown`].
    fn torn_down(&self, function: &FunctionName, result: Result<(), BackendError>);
    /// What is different since the last report. Never before the first `ensured` of a function, which is what the
    /// first changes are made to. What changed together comes together.
    fn replicas_changed(&self, function: &FunctionName, changes: ReplicaChanges);
}

/// Takes the answer of [`Backend::list`]. Called once, from any thread.
pub type ListReply = Box<dyn FnOnce(Result<Vec<FoundFunction>, BackendError>) + Send>;

/// Runs replicas.
pub trait Backend: Send + Sync {
    /// The word for it in `deployment.backends` and in FunctionResponse.
    fn id(&self) -> &'static str;
    /// Whether it can run this function; the reason why not, for a person.
    ///
    /// # Errors
    /// The reason.
    fn supports(&self, spec: &FunctionSpec) -> Result<(), String>;
    /// Takes an order. Never blocks.
    fn submit(&self, order: Order);
    /// Lists every function that exists at the backend, also those that this server never ordered: after a crash, those
    /// with its label that nobody has registered are torn down. Never blocks.
    fn list(&self, reply: ListReply);
    /// What runs its jobs, if it can run functions of mode REMOTE.
    fn jobs(&self) -> Option<&dyn JobRunner> {
        None
    }
    /// What replicas write. Of a function that is not there the stream is empty. Never blocks.
    fn logs(&self, request: LogRequest) -> LogStream;
    /// How long ago the system behind it was last heard; none when there is no such system. Never blocks.
    fn silence(&self) -> Option<Duration> {
        None
    }
    /// Ends the backend and leaves replicas and jobs running, for the next server to adopt with [`Order::Ensure`]. A backend
    /// whose replicas cannot outlive the server does what [`Backend::shut_down`] does. Orders that come later are
    /// refused.
    fn detach(&self, grace: Duration);
    /// Ends the backend, stops every replica and job and waits for it, at most `grace`. Orders that come later are refused.
    fn shut_down(&self, grace: Duration);
}
