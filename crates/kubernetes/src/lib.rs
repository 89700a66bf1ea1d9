//! The `k8s` backend: each replica of a function is a Pod, and each attempt of mode REMOTE a Job.
//!
//! From the outside in:
//!
//! - here the [`Backend`] and its thread; [`access`] finds the API server; `thread` takes orders and news
//! - `functions` carries orders out, [`jobs`] makes the Jobs of mode REMOTE; [`checks`] tries images out; `cluster` makes
//!   requests; `watching` follows what happens;
//!   [`asking`] asks Pods themselves whether they take calls, when calls wait for the first one; [`telling`] makes
//!   Events of what went wrong
//! - pure: [`plan`] makes the objects of a function, [`names`] says what they are called and how they are found again,
//!   `translate` says what Kubernetes tells in the words of the server, `table` what is known, [`probing`] how
//!   much what Pods say themselves counts
//!
//! Beside the backend, [`external_metrics`] is the API by which a HorizontalPodAutoscaler reads metrics.
//!
//! Pods outlive the server, and the next one adopts them. Watches tell everything, of all Pods, all Deployments and, once there
//! is one, all Jobs of the installation; nothing is polled. Not here yet: telling Kubernetes which replicas are idle.

pub mod asking;
pub mod checks;
pub mod cluster;
pub mod external_metrics;
pub mod functions;
pub mod hearing;
pub mod jobs;
pub mod probing;
pub mod restoring;
pub mod table;
pub mod telling;
pub mod thread;
pub mod translate;
pub mod watching;

pub mod access;
pub mod names;
pub mod plan;
pub mod resources;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use nanofaas_backends::{
    Backend, Events, Job, JobId, JobListReply, JobReport, JobRunner, ListReply, LogRequest, LogStream, Order,
    PrepareReply, Workload,
};
use nanofaas_wire::function::{ExecutionMode, FunctionSpec};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use access::{Access, AccessError};
use cluster::Cluster;
use jobs::prepare::Reply;
use plan::PlanSettings;
use thread::{Start, ThreadMessage};
use watching::Hearing;
pub use watching::WatchLimits;

/// What the Kubernetes backend is told.
#[derive(Debug, Clone)]
pub struct KubernetesOptions {
    /// Where the API server is, and who we are to it.
    pub access: Access,
    /// Namespace of the functions; none takes that of the access.
    pub namespace: Option<String>,
    /// Tells servers that share a namespace apart.
    pub installation: String,
    /// Where functions report results.
    pub callback_url: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Only Pods with the labels of the control plane may call a function.
    pub network_policy: bool,
    /// Longest time until the first replicas of a function are ready.
    pub ready_timeout: Duration,
    /// Images are checked before they run, each within this time; none does not check them.
    pub image_check: Option<Duration>,
    /// How long watches take.
    pub limits: WatchLimits,
}

/// Why the backend could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesBackendError {
    /// It is not known where the API server is, or how to talk to it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No thread, or no way to wait for events on it.
    #[error("cannot start the thread of the Kubernetes backend: {0}")]
    Thread(#[from] io::Error),
}

/// When the watches last heard something.
#[derive(Debug, Default)]
pub struct Hearings {
    /// Of Pods.
    pub pods: Hearing,
    /// Of Deployments.
    pub deployments: Hearing,
    /// Of what belongs to them; nobody waits for these.
    pub owned: Hearing,
    /// Of Jobs, since there is one.
    pub jobs: OnceLock<Hearing>,
}

/// Runs functions as Deployments of a namespace.
pub struct KubernetesBackend {
    /// Not bounded by itself: a function has one order under way, so there are never more than functions.
    commands: mpsc::UnboundedSender<ThreadMessage>,
    events: Arc<dyn Events>,
    hearings: Arc<Hearings>,
    /// It is known where functions report results.
    has_callbacks: bool,
    /// Until it was waited for.
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// For the check of an image.
pub const IMAGE_CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// A Pod that is not ready for the first time after so long is started again by Kubernetes: not before we gave it up.
const STARTUP_MIN: Duration = Duration::from_secs(60);

impl KubernetesBackend {
    /// Starts the backend's thread. Whether the API server answers shows later: it may be away when this server starts.
    ///
    /// # Errors
    /// See [`KubernetesBackendError`].
    pub fn new(
        options: KubernetesOptions,
        events: Arc<dyn Events>,
    ) -> Result<KubernetesBackend, KubernetesBackendError> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, is_started) = std::sync::mpsc::sync_channel::<Result<(), KubernetesBackendError>>(1);
        let (thread_events, hearings) = (Arc::clone(&events), Arc::<Hearings>::default());
        let (thread_hearings, has_callbacks) = (Arc::clone(&hearings), options.callback_url.is_some());
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.into()))),
            };
            runtime.block_on(async {
                let client = match options.access.client().await {
                    Ok(client) => client,
                    Err(error) => return drop(started.send(Err(error.into()))),
                };
                let _ = started.send(Ok(()));
                let namespace = options.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
                let settings = PlanSettings {
                    installation: options.installation.clone(),
                    callback_url: options.callback_url,
                    image_pull_policy: options.image_pull_policy,
                    network_policy: options.network_policy,
                    control_plane: BTreeMap::from([("app".to_owned(), "nanofaas-control-plane".to_owned())]),
                    startup_s: u32::try_from(options.ready_timeout.max(STARTUP_MIN).as_secs())
                        .unwrap_or(u32::MAX),
                };
                let start = Start {
                    cluster: Cluster::new(client, namespace, options.installation),
                    settings,
                    ready_timeout: options.ready_timeout,
                    image_check: options.image_check,
                    limits: options.limits,
                    hearings: thread_hearings,
                    events: thread_events,
                };
                thread::run(start, receiver).await;
            });
        };
        let thread = std::thread::Builder::new().name("kubernetes".to_owned()).spawn(body)?;
        // Nothing was sent when the thread ended before, which it does only by a panic.
        is_started.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once").into()))?;
        Ok(KubernetesBackend { commands, events, hearings, has_callbacks, thread: Mutex::new(Some(thread)) })
    }

    fn end(&self, message: ThreadMessage) {
        let _ = self.commands.send(message);
        // A second caller waits here until the first is done.
        let mut thread = self.thread.lock();
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the Kubernetes backend ended by a panic");
        }
    }
}

impl Backend for KubernetesBackend {
    fn id(&self) -> &'static str {
        "k8s"
    }

    fn supports(&self, spec: &FunctionSpec) -> Result<(), String> {
        if spec.execution_mode == ExecutionMode::Remote && !self.has_callbacks {
            return Err(
                "a job reports its result, and the server does not know an address that Pods reach; set \
                        k8s.callback-url"
                    .to_owned(),
            );
        }
        if spec.image.is_none() {
            return Err("the Kubernetes backend runs images, and the function names none".to_owned());
        }
        Ok(())
    }

    fn submit(&self, order: Order) {
        if let Err(mpsc::error::SendError(ThreadMessage::Order(order))) =
            self.commands.send(ThreadMessage::Order(order))
        {
            thread::refuse(&*self.events, order);
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
        // Without a thread nobody reads: the stream ends.
        let _ = self.commands.send(ThreadMessage::Logs(request, sender));
        stream
    }

    fn silence(&self) -> Option<Duration> {
        let always = self.hearings.pods.age().max(self.hearings.deployments.age());
        Some(self.hearings.jobs.get().map_or(always, |jobs| jobs.age().max(always)))
    }

    /// Must not be called by [`Events`]: the thread that reports is the one that is waited for. No grace is needed: it takes
    /// time, and at most two seconds, only when an image is being checked.
    fn detach(&self, _: Duration) {
        self.end(ThreadMessage::Detach);
    }

    /// The same holds here.
    fn shut_down(&self, grace: Duration) {
        self.end(ThreadMessage::ShutDown(grace));
    }
}

impl JobRunner for KubernetesBackend {
    fn prepare(&self, workload: &Arc<Workload>, reply: PrepareReply) {
        // One that is dropped says that it came too late.
        let _ = self.commands.send(ThreadMessage::Prepare(Arc::clone(workload), Reply::new(reply)));
    }

    fn create(&self, job: Job) {
        if let Err(mpsc::error::SendError(ThreadMessage::CreateJob(job))) =
            self.commands.send(ThreadMessage::CreateJob(job))
        {
            thread::refuse_job(&job);
        }
    }

    fn end(&self, job: &JobId) {
        // Without a thread it is left to the next server.
        let _ = self.commands.send(ThreadMessage::EndJob(job.clone()));
    }

    fn list(&self, reply: JobListReply) {
        if let Err(mpsc::error::SendError(ThreadMessage::ListJobs(reply))) =
            self.commands.send(ThreadMessage::ListJobs(reply))
        {
            reply(Err(thread::too_late()));
        }
    }

    fn adopt(&self, job: &JobId, report: JobReport) {
        // Without a thread it is left to the next server.
        let _ = self.commands.send(ThreadMessage::AdoptJob(job.clone(), report));
    }
}
