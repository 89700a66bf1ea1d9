//! A backend at a scripted API server, what it reports, and Pods that are played.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::{Duration, Instant},
};

use nanofaas_backends::{
    Backend, BackendError, Ensured, Events, FoundFunction, FunctionName, Labels, Order, ReplicaChange,
    ReplicaChanges, ReplicaState, ReplicaStatus, Version, Workload,
};
use nanofaas_kubernetes::{KubernetesBackend, KubernetesOptions, WatchLimits, access::Access};
use nanofaas_wire::function::FunctionSpec;
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Kubelet, PodState},
    golden::REGISTRATION,
};

/// Nothing in these tests should take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Plays Pods: what becomes of one is in the name of its image.
struct Player;

impl Kubelet for Player {
    fn start(&self, pod: &Value) -> PodState {
        let container = &pod["spec"]["containers"][0];
        let is_check = container["command"][0] == "/nanofaas-image-check";
        match container["image"].as_str().unwrap() {
            "missing" => {
                PodState::Waiting("ErrImagePull", "rpc error: code = NotFound: missing:latest: not found")
            }
            "secret" => PodState::Waiting("ErrImagePull", "pull access denied, repository does not exist"),
            "away" => {
                PodState::Waiting("ImagePullBackOff", "dial tcp 10.0.0.1:443: connect: connection refused")
            }
            "config" => PodState::Waiting("CreateContainerConfigError", "secret \"keys\" not found"),
            "root" => PodState::Waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root",
            ),
            "crash" => PodState::Ended(3),
            "done" => PodState::Ended(0),
            "large" => PodState::Unschedulable("0/1 nodes are available: 1 Insufficient memory."),
            "slow" => PodState::Waiting("ContainerCreating", ""),
            "late" if is_check => PodState::Waiting(
                "RunContainerError",
                "exec: \"/nanofaas-image-check\": no such file or directory",
            ),
            _ if is_check => PodState::Ended(128),
            _ => PodState::Ready(9),
        }
    }

    fn stop(&self, _: &str, _: Duration, gone: Box<dyn FnOnce() + Send>) {
        gone();
    }

    fn log(&self, pod: &Value, _: usize, _: bool, line: &mut dyn FnMut(&str) -> bool) {
        line(&format!("{} says the reason", pod["metadata"]["name"].as_str().unwrap()));
    }
}

/// A server without anything.
pub(crate) fn start_server() -> ApiServer {
    ApiServer::start(Arc::new(Player))
}

/// What was reported.
#[derive(Default)]
pub(crate) struct Seen {
    ensured: BTreeMap<FunctionName, Result<Ensured, BackendError>>,
    scaled: BTreeMap<FunctionName, Result<u32, BackendError>>,
    torn_down: BTreeMap<FunctionName, Result<(), BackendError>>,
    pub(crate) replicas: Vec<ReplicaStatus>,
    pub(crate) changes: Vec<ReplicaChange>,
    pub(crate) desired: u32,
}

#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    more: Condvar,
}

impl Recorder {
    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.more.notify_all();
    }

    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock().unwrap();
        loop {
            if let Some(found) = look(&mut seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}, known {:?}", seen.replicas);
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Events for Recorder {
    fn ensured(&self, function: &FunctionName, result: Result<Ensured, BackendError>) {
        self.record(|seen| {
            if let Ok(ensured) = &result {
                seen.replicas.clone_from(&ensured.replicas);
                seen.desired = ensured.desired;
            }
            seen.ensured.insert(function.clone(), result);
        });
    }
    fn scaled(&self, function: &FunctionName, result: Result<u32, BackendError>) {
        self.record(|seen| drop(seen.scaled.insert(function.clone(), result)));
    }
    fn torn_down(&self, function: &FunctionName, result: Result<(), BackendError>) {
        self.record(|seen| drop(seen.torn_down.insert(function.clone(), result)));
    }
    fn replicas_changed(&self, _: &FunctionName, changes: ReplicaChanges) {
        self.record(|seen| {
            seen.desired = changes.desired;
            for change in changes.changes {
                match &change {
                    ReplicaChange::Gone(id) => seen.replicas.retain(|old| old.id != *id),
                    ReplicaChange::Now(new) => match seen.replicas.iter_mut().find(|old| old.id == new.id) {
                        Some(old) => {
                            assert_ne!(old.state, ReplicaState::Draining, "no state follows: {new:?}");
                            *old = new.clone();
                        }
                        None => seen.replicas.push(new.clone()),
                    },
                }
                seen.changes.push(change);
            }
        });
    }
}

pub(crate) struct Rig {
    pub(crate) server: ApiServer,
    pub(crate) backend: KubernetesBackend,
    pub(crate) recorder: Arc<Recorder>,
}

impl Rig {
    pub(crate) fn start() -> Rig {
        Rig::at(ApiServer::start(Arc::new(Player)), Duration::from_secs(200))
    }

    /// Checks images, each within this time.
    pub(crate) fn checking(server: Option<ApiServer>, limit: Duration) -> Rig {
        let server = server.unwrap_or_else(|| ApiServer::start(Arc::new(Player)));
        Rig::with(server, PATIENCE, Some(limit))
    }

    /// At a server that may have something already. Watches are not believed after so long a silence.
    pub(crate) fn at(server: ApiServer, silence: Duration) -> Rig {
        Rig::with(server, silence, None)
    }

    /// Nobody knows where functions report results.
    pub(crate) fn mute() -> Rig {
        Rig::reporting(ApiServer::start(Arc::new(Player)), PATIENCE, None, None)
    }

    fn with(server: ApiServer, silence: Duration, image_check: Option<Duration>) -> Rig {
        let callback_url = "http://control-plane:8080/v1/internal/executions".to_owned();
        Rig::reporting(server, silence, image_check, Some(callback_url))
    }

    fn reporting(
        server: ApiServer,
        silence: Duration,
        image_check: Option<Duration>,
        callback_url: Option<String>,
    ) -> Rig {
        let recorder = Arc::<Recorder>::default();
        let options = KubernetesOptions {
            access: Access::Plain(server.url()),
            namespace: None,
            installation: "tests".to_owned(),
            callback_url,
            image_pull_policy: "Always".to_owned(),
            network_policy: false,
            ready_timeout: Duration::from_secs(5),
            image_check,
            limits: WatchLimits { silence, ..WatchLimits::default() },
        };
        let backend = KubernetesBackend::new(options, Arc::<Recorder>::clone(&recorder)).unwrap();
        Rig { server, backend, recorder }
    }

    pub(crate) fn submit(&self, image: &str, replicas: u32) {
        self.submit_with("f", image, json!({}), replicas);
    }

    pub(crate) fn submit_with(&self, name: &str, image: &str, changes: Value, replicas: u32) {
        let mut body = json!({ "name": name, "image": image });
        for (field, value) in changes.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let spec = FunctionSpec::parse(body.to_string().as_bytes(), &REGISTRATION).unwrap();
        let workload = Workload {
            name: name.into(),
            labels: Labels::from([("managed-by".into(), "nanofaas".into())]),
            version: Version::of(&spec),
            spec: Arc::new(spec),
        };
        self.backend.submit(Order::Ensure { workload: Arc::new(workload), replicas });
    }

    pub(crate) fn ensured(&self) -> Result<Ensured, BackendError> {
        self.ensured_as("f")
    }

    pub(crate) fn ensured_as(&self, name: &str) -> Result<Ensured, BackendError> {
        self.recorder.wait("ensured", |seen| seen.ensured.remove(name))
    }

    pub(crate) fn ensure(&self, image: &str, replicas: u32) -> Result<Ensured, BackendError> {
        self.submit(image, replicas);
        self.ensured()
    }

    /// With some fields set.
    pub(crate) fn ensure_with(
        &self,
        image: &str,
        changes: Value,
        replicas: u32,
    ) -> Result<Ensured, BackendError> {
        self.submit_with("f", image, changes, replicas);
        self.ensured()
    }

    pub(crate) fn scale(&self, replicas: u32) -> Result<u32, BackendError> {
        self.backend.submit(Order::Scale { function: "f".into(), replicas, first_to_go: Vec::new() });
        self.recorder.wait("scaled", |seen| seen.scaled.remove("f"))
    }

    pub(crate) fn tear_down(&self) -> Result<(), BackendError> {
        self.backend.submit(Order::Teardown { function: "f".into() });
        self.recorder.wait("torn down", |seen| seen.torn_down.remove("f"))
    }

    pub(crate) fn list(&self) -> Result<Vec<FoundFunction>, BackendError> {
        let (sender, receiver) = mpsc::channel();
        self.backend.list(Box::new(move |found| sender.send(found).unwrap()));
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until so many replicas take calls.
    pub(crate) fn ready(&self, count: usize) -> Vec<ReplicaStatus> {
        self.recorder.wait("so many are ready", |seen| {
            let ready: Vec<_> =
                seen.replicas.iter().filter(|replica| replica.endpoint().is_some()).cloned().collect();
            (ready.len() == count).then_some(ready)
        })
    }

    /// The names of its Pods, oldest first.
    pub(crate) fn pods(&self) -> Vec<String> {
        let pods = self.server.objects("pods").into_iter();
        let mut pods: Vec<String> =
            pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        pods.sort_by_key(|name| name.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()));
        pods
    }

    pub(crate) fn is_empty(&self) -> bool {
        ["deployments", "services", "pods"].iter().all(|kind| self.server.objects(kind).is_empty())
    }
}
