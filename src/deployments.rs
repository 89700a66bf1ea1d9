//! Which backend runs which function: orders go out from here, events come back as inputs of the owner shard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nanofaas_wire::function::{ExecutionMode, FunctionSpec};
use parking_lot::Mutex;
use shard_core::{
    Input, Provisioned, Target,
    answer::{BackendFailure, BackendFailureKind},
};
use shard_runtime::Inbox;

use nanofaas_backends::{Backend, BackendError, Events, FunctionRef, Order, Replicas};

/// A function that a backend runs, or is about to.
struct Deployed {
    spec: FunctionSpec,
    backend: Arc<dyn Backend>,
}

/// See the module.
pub struct Deployments {
    backends: Vec<Arc<dyn Backend>>,
    /// The backend to use when several could, and the only one to use when it is named.
    default_backend: Option<String>,
    deployed: Arc<Mutex<BTreeMap<FunctionRef, Deployed>>>,
}

impl Deployments {
    /// Backends and the name of the preferred one. `make_backends` is given where they report.
    pub fn new<E>(
        inbox: Inbox,
        default_backend: Option<String>,
        make_backends: impl FnOnce(Arc<dyn Events>) -> Result<Vec<Arc<dyn Backend>>, E>,
    ) -> Result<Deployments, E> {
        let deployed = Arc::new(Mutex::new(BTreeMap::new()));
        let events = Arc::new(ShardEvents { inbox, deployed: Arc::clone(&deployed) });
        Ok(Deployments { backends: make_backends(events)?, default_backend, deployed })
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
                return Some(Input::Provisioned { function: function.key, result });
            }
        };
        match self.choose(&spec) {
            Ok(backend) => {
                let order = Order::Provision { function, spec: Arc::new(spec.clone()) };
                let deployed = Deployed { spec, backend: Arc::clone(&backend) };
                self.deployed.lock().insert(function, deployed);
                backend.submit(order);
                None
            }
            Err(reason) => Some(Input::Provisioned { function: function.key, result: degrade(spec, reason) }),
        }
    }

    /// Stops a function.
    pub fn tear_down(&self, function: FunctionRef) -> Option<Input> {
        match self.backend_of(function) {
            Some(backend) => {
                backend.submit(Order::Teardown { function });
                None
            }
            None => Some(Input::TornDown { function: function.key, result: Ok(()) }),
        }
    }

    /// Changes the number of replicas.
    pub fn scale(&self, function: FunctionRef, replicas: u32) -> Option<Input> {
        match self.backend_of(function) {
            Some(backend) => {
                backend.submit(Order::Scale { function, replicas });
                None
            }
            None => {
                let failure =
                    failure(BackendFailureKind::Unavailable, "The function's backend is gone".into());
                Some(Input::Scaled { function: function.key, result: Err(failure) })
            }
        }
    }

    /// Ids of all backends that are on.
    pub fn ids(&self) -> Vec<&'static str> {
        self.backends.iter().map(|backend| backend.id()).collect()
    }

    /// Stops every replica of every backend.
    pub fn shut_down(&self, grace: Duration) {
        std::thread::scope(|scope| {
            for backend in &self.backends {
                scope.spawn(|| backend.shut_down(grace));
            }
        });
    }

    fn backend_of(&self, function: FunctionRef) -> Option<Arc<dyn Backend>> {
        self.deployed.lock().get(&function).map(|deployed| Arc::clone(&deployed.backend))
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
            return match backend.supports(spec) {
                Ok(()) => Ok(Arc::clone(backend)),
                Err(reason) => Err(format!("Backend '{id}' cannot run function '{name}': {reason}")),
            };
        }
        let mut candidates = Vec::new();
        let mut reasons = Vec::new();
        for backend in &self.backends {
            match backend.supports(spec) {
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

fn failure_of(error: BackendError) -> BackendFailure {
    let kind = match &error {
        BackendError::Provisioning(_) => BackendFailureKind::Provisioning,
        BackendError::Unavailable(_) => BackendFailureKind::Unavailable,
        BackendError::Teardown(_) => BackendFailureKind::Teardown,
    };
    failure(kind, error.to_string())
}

/// Turns what backends report into inputs.
struct ShardEvents {
    inbox: Inbox,
    deployed: Arc<Mutex<BTreeMap<FunctionRef, Deployed>>>,
}

impl ShardEvents {
    fn post(&self, function: FunctionRef, input: Input) {
        self.inbox.post(function.shard, input);
    }
}

impl Events for ShardEvents {
    fn provisioned(&self, function: FunctionRef, result: Result<Replicas, BackendError>) {
        let result = match result {
            Ok(replicas) => self.deployed.lock().get_mut(&function).map_or_else(
                || Err(failure(BackendFailureKind::Unavailable, "The registration was given up".into())),
                |deployed| {
                    let spec = &mut deployed.spec;
                    spec.deployment_backend = Some(deployed.backend.id().to_owned());
                    spec.effective_execution_mode = spec.execution_mode;
                    spec.endpoint_url = replicas.endpoints.first().map(|address| address.to_string());
                    Ok(Provisioned {
                        document: spec.document(),
                        target: Target::Backend,
                        endpoints: replicas.endpoints,
                        desired: replicas.desired,
                    })
                },
            ),
            Err(error) => {
                self.deployed.lock().remove(&function);
                Err(failure_of(error))
            }
        };
        self.post(function, Input::Provisioned { function: function.key, result });
    }

    fn scaled(&self, function: FunctionRef, result: Result<u32, BackendError>) {
        let result = result.map_err(failure_of);
        self.post(function, Input::Scaled { function: function.key, result });
    }

    fn torn_down(&self, function: FunctionRef, result: Result<(), BackendError>) {
        if result.is_ok() {
            self.deployed.lock().remove(&function);
        }
        let result = result.map_err(failure_of);
        self.post(function, Input::TornDown { function: function.key, result });
    }

    fn replicas_changed(&self, function: FunctionRef, replicas: Replicas) {
        let Replicas { endpoints, desired } = replicas;
        self.post(function, Input::EndpointsChanged { function: function.key, endpoints, desired });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use shard_core::FunctionKey;

    use super::*;

    #[test]
    fn a_document_that_cannot_be_read_ends_the_provisioning() {
        let inbox = Inbox::new(|_, input| panic!("{input:?}"));
        let deployments = Deployments::new(inbox, None, |_| Ok::<_, Infallible>(Vec::new()));
        let deployments = deployments.unwrap_or_else(|never| match never {});
        let function = FunctionRef { shard: 0, key: FunctionKey::default() };
        let Some(Input::Provisioned { result: Err(failure), .. }) = deployments.provision(function, b"{")
        else {
            panic!("it goes on for ever");
        };
        assert_eq!(failure.kind, BackendFailureKind::Provisioning);
        assert!(failure.message.contains("document cannot be read"), "{}", failure.message);
    }
}
