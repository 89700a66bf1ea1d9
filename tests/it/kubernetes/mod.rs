//! The server in a real cluster, in whose network this program runs: `tests/k8s/conformance.sh` starts both. Without it these
//! tests do nothing. They break the cluster, so they run one at a time.

mod failures;
mod machines;
mod refusals;
mod remote;
mod resources;

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Client, DataDir, Server, client::encode, eventually, pace};

/// A namespace of a test, and the image of its functions: `tests/k8s/replica.c`.
struct Cluster {
    namespace: String,
    image: String,
}

impl Cluster {
    /// None without a cluster.
    fn for_test(name: &str) -> Option<Cluster> {
        let image = std::env::var("NANOFAAS_TEST_IMAGE").ok()?;
        kubectl(&["create", "namespace", name]);
        Some(Cluster { namespace: name.to_owned(), image })
    }

    /// A server of this namespace.
    fn server(&self, settings: &[&str]) -> Server {
        self.started("true", None, settings)
    }

    /// The same, with what survives it.
    fn durable(&self, data: &DataDir, settings: &[&str]) -> Server {
        self.started("true", Some(data), settings)
    }

    fn started(&self, prelude: &str, data: Option<&DataDir>, settings: &[&str]) -> Server {
        // With the rights that the chart gives; the tests look around as administrator.
        let kubeconfig = std::env::var("NANOFAAS_TEST_ACCOUNT").expect("a kubeconfig");
        let own = [
            "deployment.backends=k8s".to_owned(),
            format!("k8s.kubeconfig={kubeconfig}"),
            format!("k8s.namespace={}", self.namespace),
            "k8s.image-pull-policy=IfNotPresent".to_owned(),
        ];
        let settings: Vec<&str> = own.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        Server::start_up("serve", &settings, prelude, data).ready()
    }

    /// A registration with some fields replaced.
    fn spec(&self, changes: Value) -> Value {
        let mut spec = json!({ "name": "f", "image": self.image, "timeoutMs": 15_000, "concurrency": 16, "maxRetries": 0 });
        for (field, value) in changes.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// Of every Pod that is not asked to go: its name, its UID, how often it was started again, and the id of its container.
    fn pods(&self) -> Vec<[String; 4]> {
        let all: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "-o", "json"])).expect("JSON");
        let live = all["items"].as_array().expect("Pods").iter();
        let live = live.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        live.map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let id = text(&container["containerID"]);
            [
                text(&pod["metadata"]["name"]),
                text(&pod["metadata"]["uid"]),
                container["restartCount"].to_string(),
                id.rsplit('/').next().unwrap_or_default().to_owned(),
            ]
        })
        .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A machine has room for so many Pods.
        self.kubectl(&["delete", "deployments,jobs", "--all", "--wait=false"]);
    }
}

fn kubectl(arguments: &[&str]) -> String {
    output(kubectl_command().args(arguments))
}

fn kubectl_command() -> Command {
    let folder = std::env::var("NANOFAAS_CLUSTER_DIR").expect("the folder of the cluster");
    Command::new(Path::new(&folder).join("bin/kubectl"))
}

/// What people do to a cluster: `tests/k8s/cluster.sh`.
fn cluster(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/k8s/cluster.sh");
    output(Command::new(script).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn scale(server: &Server, replicas: u32) {
    let answer = server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": replicas }));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until so many replicas take calls.
fn ready(server: &Server, replicas: u32) {
    eventually("so many replicas are ready", || {
        server.get("/v1/functions/f/replicas").json()["ready"] == replicas
    });
}

/// Callers that do not stop.
struct Callers {
    threads: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Callers {
    fn start(server: &Server, count: usize) -> Callers {
        let (is_over, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let times = Arc::<Mutex<Vec<Duration>>>::default();
        let caller = |_| {
            let (is_over, answers, failures) =
                (Arc::clone(&is_over), Arc::clone(&answers), Arc::clone(&failures));
            let times = Arc::clone(&times);
            let mut client: Client = server.client();
            std::thread::spawn(move || {
                let headers = [("content-type", "application/json")];
                let call = encode("POST", "/v1/functions/f:invoke", &headers, br#"{"input":null}"#);
                while !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    client.write(&call);
                    let answer = client.read().expect("an answer");
                    if answer.status != 200 {
                        failures.lock().expect("no panic").push(answer.text());
                    }
                    times.lock().expect("no panic").push(begun.elapsed());
                    answers.fetch_add(1, Ordering::Relaxed);
                    // A rate, and not as many as there can be.
                    pace(Duration::from_millis(10));
                }
            })
        };
        let threads = (0..count).map(caller).collect();
        let callers = Callers { threads, is_over: Arc::clone(&is_over), answers, failures, times };
        callers.go_on();
        callers
    }

    /// Waits for more answers.
    fn go_on(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        eventually("callers get answers", || self.answers.load(Ordering::Relaxed) >= before + 50);
    }

    /// How long the answers took so far, shortest first.
    fn times(&self) -> Vec<Duration> {
        let mut times = self.times.lock().expect("no panic").clone();
        times.sort_unstable();
        times
    }

    /// Ends them; what was no success.
    fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a caller");
        }
        std::mem::take(&mut *self.failures.lock().expect("no panic"))
    }
}
