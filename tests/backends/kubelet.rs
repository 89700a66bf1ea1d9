//! A cluster of the tests: a scripted API server, whose Pods are small HTTP servers of this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use nanofaas_backends::{FunctionName, LogRequest, LogStream};
use nanofaas_kubernetes::{KubernetesOptions, WatchLimits, access::Access, names::label_value};
use serde_json::Value;

use crate::{
    api_server::{ApiServer, Kubelet, PodState, become_state},
    server::Server,
};

/// Programs by the id of their Pod, each with the label of its function.
#[derive(Default)]
struct Programs(Mutex<BTreeMap<String, (String, Server)>>);

/// See the module.
#[derive(Clone)]
pub(crate) struct ScriptedCluster {
    server: ApiServer,
    programs: Arc<Programs>,
}

impl Default for ScriptedCluster {
    fn default() -> ScriptedCluster {
        let programs = Arc::<Programs>::default();
        ScriptedCluster { server: ApiServer::start(Arc::<Programs>::clone(&programs)), programs }
    }
}

impl ScriptedCluster {
    /// What a backend has to know of it.
    pub(crate) fn options(&self) -> KubernetesOptions {
        KubernetesOptions {
            access: Access::Plain(self.server.url()),
            namespace: None,
            installation: "tests".to_owned(),
            callback_url: Some("http://127.0.0.1:1/v1/internal/executions".to_owned()),
            image_pull_policy: "Always".to_owned(),
            network_policy: false,
            ready_timeout: Duration::from_secs(20),
            image_check: None,
            limits: WatchLimits::default(),
        }
    }

    /// How many programs of a function run.
    pub(crate) fn count(&self, function: &FunctionName) -> usize {
        let programs = self.programs.0.lock().unwrap();
        let label = label_value(function.as_str());
        programs.values().filter(|(of, program)| *of == label && program.is_alive()).count()
    }

    /// Ends the program of the oldest replica of a function, which is started again in its Pod.
    pub(crate) fn crash(&self, function: &FunctionName) {
        let mut pods = self.server.objects("pods");
        pods.retain(|pod| label_of(pod) == label_value(function.as_str()));
        pods.sort_by_key(|pod| uid_of(pod).trim_start_matches("uid-").parse::<u64>().ok());
        let (name, uid) = (pods[0]["metadata"]["name"].as_str().unwrap(), uid_of(&pods[0]));
        let new = Server::start();
        let state = PodState::Ready(new.port());
        let of = label_value(function.as_str());
        let old = self.programs.0.lock().unwrap().insert(uid, (of, new));
        old.unwrap().1.kill();
        self.server.change_pod(name, |pod| become_state(pod, &PodState::Ended(137)));
        self.server.change_pod(name, |pod| {
            become_state(pod, &state);
            pod["status"]["containerStatuses"][0]["restartCount"] = 1.into();
        });
    }
}

impl Kubelet for Programs {
    fn start(&self, pod: &Value) -> PodState {
        let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let command = environment.iter().find(|variable| variable["name"] == "WATCHDOG_CMD");
        let command = command.and_then(|variable| variable["value"].as_str()).unwrap_or_default();
        if command.contains("exit") {
            return PodState::Ended(3);
        }
        let is_job = pod["spec"]["restartPolicy"] == "Never";
        if command.starts_with("sleep") && !is_job {
            return PodState::Waiting("ContainerCreating", "");
        }
        let program = Server::start();
        let port = program.port();
        self.0.lock().unwrap().insert(uid_of(pod), (label_of(pod), program));
        PodState::Ready(port)
    }

    fn stop(&self, uid: &str, grace: Duration, gone: Box<dyn FnOnce() + Send>) {
        let program = self.0.lock().unwrap().get(uid).map(|(_, program)| program.clone());
        std::thread::spawn(move || {
            if let Some(program) = program {
                program.drain(grace);
            }
            gone();
        });
    }

    fn log(&self, pod: &Value, tail: usize, follow: bool, line: &mut dyn FnMut(&str) -> bool) {
        let program = self.0.lock().unwrap().get(&uid_of(pod)).map(|(_, program)| program.clone());
        let Some(program) = program else {
            line("the reason");
            return;
        };
        let (sender, mut stream) = LogStream::new();
        let request = LogRequest { function: label_of(pod).as_str().into(), replica: None, tail, follow };
        program.read(&uid_of(pod).into(), &request, &sender);
        drop(sender);
        while stream.wait().is_some_and(|written| line(&written.text)) {}
    }
}

fn uid_of(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn label_of(pod: &Value) -> String {
    pod["metadata"]["labels"]["nanofaas.io/function"].as_str().unwrap().to_owned()
}
