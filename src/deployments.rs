//! Which backend runs which function: orders go out from here, events come back as inputs of the owner shard.

use std::{io, sync::Arc, time::Duration};

use nanofaas_backends::{Backend, Events, Labels, Order, Version, Workload};
use nanofaas_wire::function::{ExecutionMode, FunctionSpec};
use shard_core::{
    BackendEvent, FunctionKey, Input, Provisioned, Target,
    answer::{BackendFailure, BackendFailureKind},
};
use shard_runtime::Inbox;

mod endpoints;
mod events;
mod jobs;
mod orphans;

use events::ShardEvents;
use jobs::Jobs;
pub use jobs::{AdoptionOrder, JobHandle, JobOrder};

/// What backends attach to what they make: it is ours.
const MANAGED_BY: (&str, &str) = ("managed-by", "nanofaas");

/// Names a function of this process: a shard and a key there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionRef {
    /// Its owner.
    pub shard: u16,
    /// Its key there.
    pub key: FunctionKey,
}

/// See the module.
pub struct Deployments {
    backends: Vec<Arc<dyn Backend>>,
    /// The backend to use when several could, and the only one to use when it is named.
    default_backend: Option<String>,
    events: Arc<ShardEvents>,
    jobs: Arc<Jobs>,
}

impl Drop for Deployments {
    fn drop(&mut self) {
        // Not waited for: its thread may be the one that drops this.
        self.events.close();
        self.jobs.close();
    }
}

impl Deployments {
    /// Backends and the name of the preferred one. `make_backends` is given where they report.
    ///
    /// # Errors
    /// That of `make_backends`, or the system has no thread.
    pub fn new<E: From<io::Error>>(
        inbox: Inbox,
        default_backend: Option<String>,
        make_backends: impl FnOnce(Arc<dyn Events>) -> Result<Vec<Arc<dyn Backend>>, E>,
    ) -> Result<Deployments, E> {
        let jobs = Arc::new(Jobs::new(inbox.clone()));
        let events = Arc::new(ShardEvents::new(inbox));
        let backends = make_backends(Arc::<ShardEvents>::clone(&events))?;
        // Without backends nobody reports.
        if !backends.is_empty() {
            let reporting = Arc::clone(&events);
            let thread = std::thread::Builder::new().name("replicas".to_owned());
            thread.spawn(move || reporting.post_lists())?;
        }
        Ok(Deployments { backends, default_backend, events, jobs })
    }

    /// Starts the function of a [`FunctionSpec::document`], or says at once what becomes of it.
    pub fn provision(&self, function: FunctionRef, document: &[u8]) -> Option<Input> {
        let spec = match FunctionSpec::from_document(document) {
            Ok(spec) => spec,
            // We wrote it ourselves. The shard waits for an end all the same: without one the name is busy for ever.
            Err(error) => {
                tracing::error!(%error, shard = function.shard, "the document of a function cannot be read");
                let reason = format!("The function's document cannot be read: {error}");
                let result = Err(failure(BackendFailureKind::Provisioning, reason));
                return Some(Input::Backend(function.key, BackendEvent::Provisioned(result)));
            }
        };
        self.events.want(&spec.name);
        match self.choose(&spec) {
            Ok(backend) if spec.execution_mode == ExecutionMode::Remote => {
                Arc::clone(&self.jobs).provision(function, spec, backend)
            }
            Ok(backend) => {
                let order = ensure(&spec);
                if let Some(order) = self.events.add(function, spec, Arc::clone(&backend), order) {
                    backend.submit(order);
                }
                None
            }
            Err(reason) => {
                Some(Input::Backend(function.key, BackendEvent::Provisioned(degrade(spec, reason))))
            }
        }
    }

    /// Orders the job of an attempt, or says at once how that failed.
    ///
    /// # Errors
    /// What the shard is to hear of the attempt.
    pub fn create_job(&self, order: JobOrder) -> Result<JobHandle, Box<Input>> {
        self.jobs.create(order)
    }

    /// Goes on with the job of an attempt that an earlier server made, once it is found.
    pub fn adopt_job(&self, order: AdoptionOrder) -> JobHandle {
        self.jobs.adopt(order)
    }

    /// Stops a function.
    pub fn tear_down(&self, function: FunctionRef) -> Option<Input> {
        // The shard has ended its jobs.
        if self.jobs.remove(function) {
            return Some(Input::Backend(function.key, BackendEvent::TornDown(Ok(()))));
        }
        match self.events.find(function) {
            Some((function, backend)) => {
                backend.submit(Order::Teardown { function });
                None
            }
            None => Some(Input::Backend(function.key, BackendEvent::TornDown(Ok(())))),
        }
    }

    /// Changes the number of replicas. Those that go first are named by the numbers that the shard was given.
    pub fn scale(&self, function: FunctionRef, replicas: u32, first_to_go: &[u64]) -> Option<Input> {
        match self.events.find(function) {
            Some((name, backend)) => {
                let first_to_go = self.events.replicas(function, first_to_go);
                backend.submit(Order::Scale { function: name, replicas, first_to_go });
                None
            }
            None => {
                let failure =
                    failure(BackendFailureKind::Unavailable, "The function's backend is gone".into());
                Some(Input::Backend(function.key, BackendEvent::Scaled(Err(failure))))
            }
        }
    }

    /// A function is going to be registered: what runs of it already is not nobody's.
    pub fn announce(&self, function: &str) {
        self.events.want(function);
    }

    /// Removes what backends run and nobody has registered, and looks for the jobs of earlier servers, each on a thread of its own.
    /// Call it when every shard has asked for the functions that were kept, and named the attempts that go on: what they have not
    /// asked for is removed.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn look_for_leftovers(&self) -> io::Result<()> {
        let (jobs, backends) = (Arc::clone(&self.jobs), self.backends.clone());
        let thread = std::thread::Builder::new().name("jobs".to_owned());
        thread.spawn(move || jobs.find_all(backends))?;
        if self.backends.is_empty() {
            return Ok(());
        }
        let (events, backends) = (Arc::clone(&self.events), self.backends.clone());
        let thread = std::thread::Builder::new().name("orphans".to_owned());
        thread.spawn(move || orphans::remove(&events, backends)).map(drop)
    }

    /// Ids of all backends that are on.
    pub fn ids(&self) -> Vec<&'static str> {
        self.backends.iter().map(|backend| backend.id()).collect()
    }

    /// How long ago each backend last heard of the system that runs its replicas, where there is one.
    pub fn silences(&self) -> Vec<(&'static str, Duration)> {
        let silences = self.backends.iter().map(|backend| Some((backend.id(), backend.silence()?)));
        silences.flatten().collect()
    }

    /// Ends every backend; replicas that cannot outlive the server are stopped.
    pub fn shut_down(&self, grace: Duration) {
        self.events.end_orphans();
        self.jobs.close();
        std::thread::scope(|scope| {
            for backend in &self.backends {
                scope.spawn(|| backend.detach(grace));
            }
        });
    }

    fn choose(&self, spec: &FunctionSpec) -> Result<Arc<dyn Backend>, String> {
        let name = &spec.name;
        if self.backends.is_empty() {
            return Err(format!(
                "No deployment backend is on, so function '{name}' cannot be started; start the server with \
                 `nanofaas dev` or deployment.backends=process, or register it with executionMode POOL and an endpointUrl"
            ));
        }
        if let Some(id) = &self.default_backend {
            let backend = self.backends.iter().find(|backend| backend.id() == id);
            let backend = backend.ok_or_else(|| format!("The deployment backend '{id}' is not available"))?;
            return match supports(&**backend, spec) {
                Ok(()) => Ok(Arc::clone(backend)),
                Err(reason) => Err(format!("Backend '{id}' cannot run function '{name}': {reason}")),
            };
        }
        let mut candidates = Vec::new();
        let mut reasons = Vec::new();
        for backend in &self.backends {
            match supports(&**backend, spec) {
                Ok(()) => candidates.push(backend),
                Err(reason) => reasons.push(format!("{}: {reason}", backend.id())),
            }
        }
        match candidates.as_slice() {
            [only] => Ok(Arc::clone(only)),
            [] => Err(format!("No deployment backend can run function '{name}' ({})", reasons.join("; "))),
            several => {
                let ids: Vec<_> = several.iter().map(|backend| backend.id()).collect();
                Err(format!(
                    "Several deployment backends could run function '{name}': {}; name one in deployment.default-backend",
                    ids.join(", ")
                ))
            }
        }
    }
}

/// Whether a backend can run a function, as replicas or as jobs.
fn supports(backend: &dyn Backend, spec: &FunctionSpec) -> Result<(), String> {
    if spec.execution_mode == ExecutionMode::Remote && backend.jobs().is_none() {
        return Err("it has no jobs, which executionMode REMOTE needs".to_owned());
    }
    backend.supports(spec)
}

/// What a backend is told to run.
fn ensure(spec: &FunctionSpec) -> Order {
    let replicas = spec.scaling_config.as_ref().map_or(1, |scaling| scaling.min_replicas);
    Order::Ensure { workload: Arc::new(workload(spec)), replicas }
}

fn workload(spec: &FunctionSpec) -> Workload {
    let (label, value) = MANAGED_BY;
    Workload {
        name: spec.name.as_str().into(),
        labels: Labels::from([(label.into(), value.into())]),
        version: Version::of(spec),
        spec: Arc::new(spec.clone()),
    }
}

/// Without a usable backend a function with an address of its own becomes a POOL function.
fn degrade(mut spec: FunctionSpec, reason: String) -> Result<Provisioned, BackendFailure> {
    let address = spec.endpoint_url.as_deref().filter(|_| spec.execution_mode == ExecutionMode::Deployment);
    let Some(target) = address.map(|address| Target::Endpoint(address.into())) else {
        return Err(failure(BackendFailureKind::NoBackend, reason));
    };
    spec.effective_execution_mode = ExecutionMode::Pool;
    spec.degradation_reason = Some(reason);
    Ok(Provisioned { document: spec.document(), target, endpoints: Vec::new(), desired: 0 })
}

fn failure(kind: BackendFailureKind, message: String) -> BackendFailure {
    BackendFailure { kind, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_cannot_be_read_ends_the_provisioning() {
        let inbox = Inbox::new(|_, input| panic!("{input:?}"));
        let deployments = Deployments::new(inbox, None, |_| Ok::<_, io::Error>(Vec::new())).unwrap();
        let function = FunctionRef { shard: 0, key: FunctionKey::default() };
        let Some(Input::Backend(_, BackendEvent::Provisioned(Err(failure)))) =
            deployments.provision(function, b"{")
        else {
            panic!("it goes on for ever");
        };
        assert_eq!(failure.kind, BackendFailureKind::Provisioning);
        assert!(failure.message.contains("document cannot be read"), "{}", failure.message);
    }
}
