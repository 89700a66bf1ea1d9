//! A backend under test, what it reports, and a look at what runs for a function.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use nanofaas_backends::{
    Backend, BackendError, Ensured, Events, FoundFunction, FunctionName, Labels, Order, ReplicaChange,
    ReplicaId, ReplicaState, Version, Workload,
    process::{ProcessBackend, ProcessOptions},
};
use nanofaas_kubernetes::KubernetesBackend;
use nanofaas_wire::function::FunctionSpec;
use serde_json::{Value, json};

use crate::{
    cluster::RealCluster,
    kubelet::ScriptedCluster,
    memory::{Cluster, MemoryBackend},
    recorder::{Recorder, View},
    support::{self, Folder, PATIENCE, eventually, kill},
};

/// A program of mode HTTP. `{"sleep": s}` takes a while, `{"print": text}` writes, `"die"` ends it; a file `slow` delays its start.
const SERVER: &str = r#"
import http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.reply({})
    def do_POST(self):
        input = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        if input == "die":
            os._exit(1)
        if input and "print" in input:
            print(input["print"], file=sys.stderr, flush=True)
        if input and "sleep" in input:
            time.sleep(input["sleep"])
        self.reply({"pid": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ)})
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
if os.path.exists("slow"):
    time.sleep(2.5)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A backend under test.
pub(crate) struct Rig {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) folder: Folder,
    pub(crate) recorder: Arc<Recorder>,
    place: Place,
    name: String,
}

/// Where replicas are.
enum Place {
    Processes,
    Memory(Cluster),
    Kubernetes(ScriptedCluster),
    Cluster(RealCluster),
}

/// A function of a rig.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) name: FunctionName,
}

impl Rig {
    /// Local processes. `name` is that of the test.
    pub(crate) fn process(name: &str) -> Rig {
        Rig::with_ready_timeout(name, Duration::from_secs(20))
    }

    pub(crate) fn with_ready_timeout(name: &str, ready_timeout: Duration) -> Rig {
        Rig::of_processes(name, ready_timeout, "http://127.0.0.1:1/v1/internal/executions")
    }

    /// Local processes that report there.
    pub(crate) fn process_reporting(name: &str, callback_url: &str) -> Rig {
        Rig::of_processes(name, Duration::from_secs(20), callback_url)
    }

    fn of_processes(name: &str, ready_timeout: Duration, callback_url: &str) -> Rig {
        let options = ProcessOptions {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_nanofaas")),
            small_binary: None,
            ready_timeout,
            callback_url: Some(callback_url.to_owned()),
            path: std::env::var_os("PATH"),
        };
        let make = |events| Box::new(ProcessBackend::new(options, events).unwrap()) as Box<dyn Backend>;
        Rig::new(&format!("process-{name}"), Place::Processes, make)
    }

    /// Replicas in a cluster, which may have some already.
    pub(crate) fn memory(name: &str, cluster: Cluster) -> Rig {
        let kept = Place::Memory(cluster.clone());
        Rig::new(&format!("memory-{name}"), kept, |events| Box::new(MemoryBackend::new(cluster, events)))
    }

    /// Pods in a cluster, which may have some already.
    pub(crate) fn kubernetes(name: &str, cluster: ScriptedCluster) -> Rig {
        let options = cluster.options();
        let make = |events| Box::new(KubernetesBackend::new(options, events).unwrap()) as Box<dyn Backend>;
        Rig::new(&format!("k8s-{name}"), Place::Kubernetes(cluster), make)
    }

    /// Pods in a real cluster.
    pub(crate) fn cluster(name: &str, cluster: RealCluster) -> Rig {
        let options = cluster.options();
        let make = |events| Box::new(KubernetesBackend::new(options, events).unwrap()) as Box<dyn Backend>;
        Rig::new(&format!("cluster-{name}"), Place::Cluster(cluster), make)
    }

    fn new(name: &str, place: Place, make: impl FnOnce(Arc<dyn Events>) -> Box<dyn Backend>) -> Rig {
        let recorder = Arc::new(Recorder::default());
        let folder = Folder::new(&format!("backends-{name}"));
        std::fs::write(folder.path("server.py"), SERVER).unwrap();
        let backend = make(Arc::<Recorder>::clone(&recorder));
        // Names of functions have a limit, those of tests have none.
        let name = format!("{}-{}", name.get(..40).unwrap_or(name), std::process::id());
        Rig { backend, folder, recorder, place, name }
    }

    /// A function; `number` tells those of one rig apart.
    pub(crate) fn function(&self, number: u16) -> Function {
        Function { name: format!("{}-{number}", self.name).as_str().into() }
    }

    /// The description of a function that serves HTTP in the rig's folder, with some fields replaced.
    pub(crate) fn spec(&self, function: &Function, changes: Value) -> FunctionSpec {
        let mut spec = json!({
            "name": function.name.as_str(),
            "timeoutMs": 10_000, "concurrency": 4, "queueSize": 100, "maxRetries": 3, "retryBackoffMs": 0,
            "executionMode": "DEPLOYMENT",
            "requestedExecutionMode": "DEPLOYMENT",
            "effectiveExecutionMode": "DEPLOYMENT",
            "image": match &self.place {
                Place::Cluster(_) if changes["executionMode"] == "REMOTE" => RealCluster::job_image(),
                Place::Cluster(cluster) => cluster.image().to_owned(),
                _ => "tests".to_owned(),
            },
            "runtimeCommand": "python3 server.py",
            "workingDir": self.folder.path(""),
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    pub(crate) fn submit_ensure(&self, function: &Function, changes: Value, replicas: u32) {
        let spec = self.spec(function, changes);
        let workload = Workload {
            name: function.name.clone(),
            labels: labels(),
            version: Version::of(&spec),
            spec: Arc::new(spec),
        };
        self.backend.submit(Order::Ensure { workload: Arc::new(workload), replicas });
    }

    pub(crate) fn ensure(
        &self,
        function: &Function,
        changes: Value,
        replicas: u32,
    ) -> Result<View, BackendError> {
        self.submit_ensure(function, changes, replicas);
        self.ensured(function)
    }

    pub(crate) fn ensured(&self, function: &Function) -> Result<View, BackendError> {
        let ensured = self.recorder.wait("ensured", |seen| seen.ensured.remove(&function.name));
        ensured.map(|Ensured { replicas, desired }| View { replicas, desired })
    }

    pub(crate) fn scale(&self, function: &Function, replicas: u32) -> Result<u32, BackendError> {
        self.scale_down(function, replicas, Vec::new())
    }

    /// The same, when these are to go first.
    pub(crate) fn scale_down(
        &self,
        function: &Function,
        replicas: u32,
        first_to_go: Vec<ReplicaId>,
    ) -> Result<u32, BackendError> {
        self.backend.submit(Order::Scale { function: function.name.clone(), replicas, first_to_go });
        self.recorder.wait("scaled", |seen| seen.scaled.remove(&function.name))
    }

    pub(crate) fn tear_down(&self, function: &Function) -> Result<(), BackendError> {
        self.backend.submit(Order::Teardown { function: function.name.clone() });
        self.recorder.wait("torn down", |seen| seen.torn_down.remove(&function.name))
    }

    pub(crate) fn list(&self) -> Result<Vec<FoundFunction>, BackendError> {
        let (sender, receiver) = mpsc::channel();
        self.backend.list(Box::new(move |found| sender.send(found).unwrap()));
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until so many replicas are ready, and gives their endpoints.
    pub(crate) fn endpoints(&self, function: &Function, count: usize) -> Vec<Arc<str>> {
        self.view(function, |view| view.endpoints().len() == count).endpoints()
    }

    /// Waits until the replicas are as wanted.
    pub(crate) fn view(&self, function: &Function, wanted: impl Fn(&View) -> bool) -> View {
        self.recorder.wait("the replicas are as wanted", |seen| {
            seen.views.get(&function.name).filter(|view| wanted(view)).cloned()
        })
    }

    fn endpoints_of(&self, function: &Function) -> Vec<Arc<str>> {
        self.recorder.look(|seen| seen.views[&function.name].endpoints())
    }

    pub(crate) fn desired(&self, function: &Function) -> Option<u32> {
        self.recorder.look(|seen| Some(seen.views.get(&function.name)?.desired))
    }

    /// What was reported of its replicas since it was ensured.
    pub(crate) fn changes(&self, function: &Function) -> Vec<ReplicaChange> {
        self.recorder.look(|seen| {
            let changes = seen.changes.iter().filter(|(name, _)| *name == function.name);
            changes.map(|(_, change)| change.clone()).collect()
        })
    }

    /// Waits until it was reported that a replica of a function failed.
    pub(crate) fn failed(&self, function: &Function) {
        let is_failure = |change: &ReplicaChange| match change {
            ReplicaChange::Now(replica) => matches!(replica.state, ReplicaState::Failed(_)),
            ReplicaChange::Gone(_) => false,
        };
        self.recorder.wait("a replica failed", |seen| {
            let mut changes = seen.changes.iter().filter(|(name, _)| *name == function.name);
            changes.any(|(_, change)| is_failure(change)).then_some(())
        });
    }

    /// How much of a function runs: processes, or servers.
    pub(crate) fn running(&self, function: &Function) -> usize {
        match &self.place {
            Place::Memory(cluster) => cluster.count(&function.name),
            Place::Kubernetes(cluster) => cluster.count(&function.name),
            Place::Cluster(cluster) => cluster.count(&function.name),
            Place::Processes => function.processes().len(),
        }
    }

    /// Waits until nothing of a function runs.
    pub(crate) fn gone(&self, function: &Function) {
        eventually("nothing runs", || (self.running(function) == 0).then_some(()));
    }

    /// Ends one replica.
    pub(crate) fn crash(&self, function: &Function) {
        match &self.place {
            Place::Memory(cluster) => cluster.crash(&function.name),
            Place::Kubernetes(cluster) => cluster.crash(&function.name),
            Place::Cluster(_) => drop(try_call(&self.endpoints_of(function)[0], &json!("die"))),
            Place::Processes => kill(function.guards()[0], "KILL"),
        }
    }
}

/// What is attached to every function of a rig.
pub(crate) fn labels() -> Labels {
    Labels::from([("managed-by".into(), "tests".into())])
}

impl Function {
    /// Processes that run for it, whoever their parent is.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("FUNCTION_NAME={}", self.name);
        let is_marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_marked).collect()
    }

    /// Outermost process of each of its replicas.
    pub(crate) fn guards(&self) -> Vec<u32> {
        let is_ours = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&format!("\nPPid:\t{}\n", std::process::id()))
        };
        self.processes().into_iter().filter(is_ours).collect()
    }
}

/// Sends a call to an endpoint.
pub(crate) fn call(endpoint: &str, input: &Value) -> support::Answer {
    try_call(endpoint, input).unwrap()
}

/// Sends a call to an endpoint that may go away meanwhile.
pub(crate) fn try_call(endpoint: &str, input: &Value) -> std::io::Result<support::Answer> {
    let headers = [("X-Execution-Id", "e1"), ("Content-Type", "application/json")];
    let body = json!({ "input": input, "metadata": {} }).to_string();
    support::send(address_of(endpoint), "POST", "/invoke", &headers, body.as_bytes())
}

/// Waits until a call is in flight at an endpoint.
pub(crate) fn await_call(endpoint: &str) {
    eventually("a call is in flight", || {
        let metrics = support::send(address_of(endpoint), "GET", "/metrics", &[], b"").ok()?.text();
        metrics.lines().any(|line| line.contains("in_flight") && line.ends_with(" 1")).then_some(())
    });
}

fn address_of(endpoint: &str) -> SocketAddr {
    let address = endpoint.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/invoke"));
    address.unwrap().parse().unwrap()
}

/// Sends a call that must succeed, and gives the output.
pub(crate) fn output(endpoint: &str, input: &Value) -> Value {
    let answer = call(endpoint, input);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}
