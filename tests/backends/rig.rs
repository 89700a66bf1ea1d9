//! A backend, a recorder of what it reports, and a look at the processes of a function.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use nanofaas_backends::{
    Backend, BackendError, Events, FunctionRef, Order, Replicas,
    process::{ProcessBackend, ProcessOptions},
};
use nanofaas_wire::function::FunctionSpec;
use serde_json::{Value, json};
use shard_core::{Effect, Effects, FunctionKey, Input, Limits, Name, Now, Policy, Shard, Target, Ticket};

use crate::support::{self, Folder, PATIENCE, eventually};

/// A program of mode HTTP. `{"sleep": s}` takes a while, `"die"` ends it; a file `slow` delays its start.
const SERVER: &str = r#"
import http.server, json, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.reply({})
    def do_POST(self):
        input = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        if input == "die":
            os._exit(1)
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

/// Everything a backend has reported.
#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Default)]
struct Seen {
    provisioned: BTreeMap<FunctionRef, Result<Replicas, BackendError>>,
    scaled: BTreeMap<FunctionRef, Result<u32, BackendError>>,
    torn_down: BTreeMap<FunctionRef, Result<(), BackendError>>,
    /// What the shard would know.
    table: BTreeMap<FunctionRef, Replicas>,
    changes: BTreeMap<FunctionRef, usize>,
}

impl Recorder {
    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.more.notify_all();
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock().unwrap();
        loop {
            if let Some(found) = look(&mut seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}, table {:?}", seen.table);
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Events for Recorder {
    fn provisioned(&self, function: FunctionRef, result: Result<Replicas, BackendError>) {
        self.record(|seen| {
            if let Ok(replicas) = &result {
                seen.table.insert(function, replicas.clone());
            }
            assert!(seen.provisioned.insert(function, result).is_none(), "provisioned twice");
        });
    }
    fn scaled(&self, function: FunctionRef, result: Result<u32, BackendError>) {
        self.record(|seen| drop(seen.scaled.insert(function, result)));
    }
    fn torn_down(&self, function: FunctionRef, result: Result<(), BackendError>) {
        self.record(|seen| drop(seen.torn_down.insert(function, result)));
    }
    fn replicas_changed(&self, function: FunctionRef, replicas: Replicas) {
        self.record(|seen| {
            *seen.changes.entry(function).or_default() += 1;
            let old = seen.table.insert(function, replicas);
            // Caught when a test next looks: the lock is poisoned.
            assert!(old.is_some(), "a change before provisioned");
        });
    }
}

/// A backend under test.
pub(crate) struct Rig {
    pub(crate) backend: ProcessBackend,
    pub(crate) folder: Folder,
    recorder: Arc<Recorder>,
    name: String,
}

/// A function of a rig.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) reference: FunctionRef,
    pub(crate) name: String,
}

impl Rig {
    /// `name` is that of the test.
    pub(crate) fn new(name: &str) -> Rig {
        Rig::with_ready_timeout(name, Duration::from_secs(20))
    }

    pub(crate) fn with_ready_timeout(name: &str, ready_timeout: Duration) -> Rig {
        let options = ProcessOptions {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_nanofaas")),
            small_binary: None,
            ready_timeout,
            callback_url: Some("http://127.0.0.1:1/v1/internal/executions".to_owned()),
            path: std::env::var_os("PATH"),
        };
        let recorder = Arc::new(Recorder::default());
        let events: Arc<dyn Events> = Arc::<Recorder>::clone(&recorder);
        let folder = Folder::new(&format!("backends-{name}"));
        std::fs::write(folder.path("server.py"), SERVER).unwrap();
        let backend = ProcessBackend::new(options, events).unwrap();
        Rig { backend, folder, recorder, name: format!("{name}-{}", std::process::id()) }
    }

    /// A function; `number` tells those of one rig apart.
    pub(crate) fn function(&self, number: u16) -> Function {
        let reference = FunctionRef { shard: number, key: key() };
        Function { reference, name: format!("{}-{number}", self.name) }
    }

    /// The description of a function that serves HTTP in the rig's folder, with some fields replaced.
    pub(crate) fn spec(&self, function: &Function, changes: Value) -> FunctionSpec {
        let mut spec = json!({
            "name": function.name,
            "timeoutMs": 10_000, "concurrency": 4, "queueSize": 100, "maxRetries": 3, "retryBackoffMs": 0,
            "executionMode": "DEPLOYMENT",
            "requestedExecutionMode": "DEPLOYMENT",
            "effectiveExecutionMode": "DEPLOYMENT",
            "runtimeCommand": "python3 server.py",
            "workingDir": self.folder.path(""),
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    pub(crate) fn submit_provision(&self, function: &Function, changes: Value) {
        let spec = Arc::new(self.spec(function, changes));
        self.backend.submit(Order::Provision { function: function.reference, spec });
    }

    pub(crate) fn provision(&self, function: &Function, changes: Value) -> Result<Replicas, BackendError> {
        self.submit_provision(function, changes);
        self.provisioned(function)
    }

    pub(crate) fn provisioned(&self, function: &Function) -> Result<Replicas, BackendError> {
        self.recorder.wait("provisioned", |seen| seen.provisioned.get(&function.reference).cloned())
    }

    pub(crate) fn scale(&self, function: &Function, replicas: u32) -> Result<u32, BackendError> {
        self.backend.submit(Order::Scale { function: function.reference, replicas });
        self.recorder.wait("scaled", |seen| seen.scaled.remove(&function.reference))
    }

    pub(crate) fn tear_down(&self, function: &Function) -> Result<(), BackendError> {
        self.backend.submit(Order::Teardown { function: function.reference });
        self.recorder.wait("torn down", |seen| seen.torn_down.remove(&function.reference))
    }

    /// Waits until the table has so many endpoints, and gives them.
    pub(crate) fn endpoints(&self, function: &Function, count: usize) -> Vec<Arc<str>> {
        self.table(function, |endpoints| endpoints.len() == count)
    }

    /// Waits until the table is as wanted.
    pub(crate) fn table(&self, function: &Function, wanted: impl Fn(&[Arc<str>]) -> bool) -> Vec<Arc<str>> {
        self.recorder.wait("the table is as wanted", |seen| {
            let replicas = seen.table.get(&function.reference)?;
            wanted(&replicas.endpoints).then(|| replicas.endpoints.clone())
        })
    }

    pub(crate) fn desired(&self, function: &Function) -> Option<u32> {
        Some(self.recorder.seen.lock().unwrap().table.get(&function.reference)?.desired)
    }

    /// How often the replicas changed.
    pub(crate) fn changes(&self, function: &Function) -> usize {
        self.recorder.seen.lock().unwrap().changes.get(&function.reference).copied().unwrap_or_default()
    }
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

    /// Waits until nothing is left.
    pub(crate) fn gone(&self) {
        eventually("no process is left", || self.processes().is_empty().then_some(()));
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

/// Only a shard makes keys.
fn key() -> FunctionKey {
    let mut shard = Shard::new(Limits::default(), 1, shard_core::Settings::default());
    let mut effects = Effects::default();
    let spec = shard_core::FunctionSpec {
        name: Name::new("echo").unwrap(),
        policy: Policy::default(),
        target: Target::Backend,
        scaling: None,
        document: "{}".into(),
    };
    let register = Input::Register { ticket: Ticket(1), spec: Box::new(spec) };
    shard.handle(Now::default(), register, &mut effects);
    let key = effects.drain().find_map(|effect| match effect {
        Effect::Provision { function, .. } => Some(function),
        _ => None,
    });
    key.expect("a function of a backend is provisioned")
}
