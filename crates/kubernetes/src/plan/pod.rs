//! The Pods of a function: one container, as little as it needs and as few rights as possible.

use nanofaas_wire::function::{Amounts, FunctionSpec, Resources, RuntimeMode, Volume, VolumeSource};
use serde_json::{Map, Value, json};

use super::Parts;

/// The container that runs the program.
pub const CONTAINER: &str = "function";
/// From the order to end a replica until its program hears of it: those who call it have to hear first.
const PRE_STOP_S: u64 = 5;
/// From the end of the longest call until what still runs is killed.
const STOP_GRACE_S: u64 = 5;
/// The watchdog takes no larger `WATCHDOG_CONCURRENCY`.
const CONCURRENCY_MAX: u32 = 10_000;
/// What the server sets, and no function.
pub(super) const RESERVED: [&str; 7] = [
    "FUNCTION_NAME",
    "WARM",
    "TIMEOUT_MS",
    "EXECUTION_MODE",
    "WATCHDOG_CMD",
    "WATCHDOG_CHECK_FUNCTION",
    "CALLBACK_URL",
];

impl Parts<'_> {
    pub(super) fn template(&self) -> Value {
        let spec = &self.workload.spec;
        let mut labels: Map<String, Value> = texts(&spec.pod.labels);
        labels.extend(self.labels());
        let mut annotations: Map<String, Value> = texts(&spec.pod.annotations);
        annotations.extend(self.annotations());
        for (key, value) in [
            ("scrape", "true".to_owned()),
            ("path", "/metrics".to_owned()),
            ("port", self.port().to_string()),
        ] {
            annotations.entry(format!("prometheus.io/{key}")).or_insert_with(|| value.into());
        }
        let grace_s = PRE_STOP_S + u64::from(spec.timeout_ms).div_ceil(1000) + STOP_GRACE_S;
        let pod = self.pod(self.container(), "Always", grace_s);
        json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": pod })
    }

    /// A Pod with that container, of a replica or of a job.
    pub(super) fn pod(&self, container: Value, restart_policy: &str, grace_s: u64) -> Value {
        let spec = &self.workload.spec;
        let mut pod = json!({
            "automountServiceAccountToken": false,
            "containers": [container],
            "enableServiceLinks": false,
            "restartPolicy": restart_policy,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "terminationGracePeriodSeconds": grace_s,
            "volumes": volumes(spec),
        });
        place(spec, &mut pod);
        if !spec.pod.topology_spread_constraints.is_empty() {
            let spread = spec.pod.topology_spread_constraints.iter().map(|spread| {
                json!({
                    "maxSkew": spread.max_skew,
                    "topologyKey": spread.topology_key,
                    "whenUnsatisfiable": spread.when_unsatisfiable,
                    "labelSelector": { "matchLabels": self.selector() },
                })
            });
            pod["topologySpreadConstraints"] = spread.collect();
        }
        pod
    }

    fn container(&self) -> Value {
        let serving = json!({
            "ports": [{ "name": "http", "containerPort": self.port(), "protocol": "TCP" }],
            // Until it answers for the first time; only then the other one begins.
            "startupProbe": self.probe(self.settings.startup_s.max(1)),
            "readinessProbe": self.probe(3),
            "lifecycle": { "preStop": { "sleep": { "seconds": PRE_STOP_S } } },
        });
        self.program(self.environment(), serving)
    }

    /// The container that runs the program, with these variables and whatever else only some have.
    pub(super) fn program(&self, environment: Vec<Value>, more: Value) -> Value {
        let spec = &self.workload.spec;
        let mut container = json!({
            "name": CONTAINER,
            "image": spec.image,
            "imagePullPolicy": self.settings.image_pull_policy,
            "env": environment,
        });
        for (member, value) in more.as_object().into_iter().flatten() {
            container[member] = value.clone();
        }
        container["securityContext"] = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": spec.pod.read_only_root_filesystem.unwrap_or(true),
            "runAsNonRoot": true,
        });
        container["volumeMounts"] = mounts(spec).into();
        if !spec.command.is_empty() {
            container["command"] = spec.command.as_slice().into();
        }
        if let Some(directory) = &spec.working_dir {
            container["workingDir"] = directory.as_str().into();
        }
        if let Some(resources) = spec.resources.as_ref().and_then(resources) {
            container["resources"] = resources;
        }
        container
    }

    fn probe(&self, failures: u32) -> Value {
        let port = self.port();
        let path = self.workload.spec.pod.health_path.as_deref().unwrap_or("/health");
        let mut probe = json!({ "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": failures });
        match path.is_empty() {
            true => probe["tcpSocket"] = json!({ "port": port }),
            false => probe["httpGet"] = json!({ "path": path, "port": port }),
        }
        probe
    }

    /// What every watchdog is told, of a replica or of a job: whether it goes on after a call, and how long that may take.
    pub(super) fn told(&self, is_warm: bool, timeout_ms: u64) -> Vec<(&'static str, String)> {
        let spec = &self.workload.spec;
        let command = spec.runtime_command.clone().filter(|command| !command.trim().is_empty());
        let mode = match spec.runtime_mode {
            RuntimeMode::Http => "HTTP",
            RuntimeMode::Stdio => "STDIO",
            RuntimeMode::File => "FILE",
        };
        let told = [
            ("FUNCTION_NAME", Some(spec.name.clone())),
            ("WARM", Some(is_warm.to_string())),
            ("TIMEOUT_MS", Some(timeout_ms.to_string())),
            ("EXECUTION_MODE", Some(mode.to_owned())),
            ("WATCHDOG_CMD", command),
            // A job is called by nobody.
            ("WATCHDOG_CHECK_FUNCTION", is_warm.then(|| "true".to_owned())),
            ("CALLBACK_URL", self.settings.callback_url.clone()),
        ];
        told.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// What the server sets comes first, and wins.
    fn environment(&self) -> Vec<Value> {
        let spec = &self.workload.spec;
        let port = self.port().to_string();
        // What an image may know better: it may have a watchdog or none.
        let suggested = [
            ("PORT", port.clone()),
            ("WARM_PORT", port),
            ("WATCHDOG_CONCURRENCY", spec.concurrency.clamp(1, CONCURRENCY_MAX).to_string()),
        ];
        let told = self.told(true, spec.timeout_ms.into()).into_iter();
        let suggested = suggested.into_iter().filter(|(name, _)| !spec.env.contains_key(*name));
        let own = spec.env.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let own = own.filter(|(name, _)| !RESERVED.contains(name));
        told.chain(suggested)
            .chain(own)
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect()
    }
}

/// Where a Pod may run, and as whom images are pulled: an account may have secrets for that, too.
pub(super) fn place(spec: &FunctionSpec, pod: &mut Value) {
    let mut set = |member: &str, value: Value| pod[member] = value;
    let secrets = spec.image_pull_secrets.iter().flatten().map(|secret| secret.trim());
    let secrets: Vec<Value> =
        secrets.filter(|secret| !secret.is_empty()).map(|secret| json!({ "name": secret })).collect();
    if !secrets.is_empty() {
        set("imagePullSecrets", secrets.into());
    }
    if let Some(account) = &spec.pod.service_account_name {
        set("serviceAccountName", account.as_str().into());
    }
    if !spec.pod.node_selector.is_empty() {
        set("nodeSelector", texts(&spec.pod.node_selector).into());
    }
    if !spec.pod.tolerations.is_empty() {
        set("tolerations", spec.pod.tolerations.iter().map(toleration).collect());
    }
}

pub(super) fn texts(map: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect()
}

fn toleration(toleration: &nanofaas_wire::function::Toleration) -> Value {
    let members = [
        ("key", toleration.key.as_deref().map(Value::from)),
        ("operator", toleration.operator.as_deref().map(Value::from)),
        ("value", toleration.value.as_deref().map(Value::from)),
        ("effect", toleration.effect.as_deref().map(Value::from)),
        ("tolerationSeconds", toleration.toleration_seconds.map(Value::from)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// One amount is both what a node must have left and what may be used.
fn resources(resources: &Resources) -> Option<Value> {
    let Resources { cpu, memory, requests, limits } = resources;
    let side = |amounts: &Option<Amounts>| {
        let (own_cpu, own_memory) =
            amounts.as_ref().map_or((None, None), |amounts| (amounts.cpu.as_ref(), amounts.memory.as_ref()));
        let both = [("cpu", own_cpu.or(cpu.as_ref())), ("memory", own_memory.or(memory.as_ref()))];
        let both = both
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), Value::from(amount?.as_str()))));
        both.collect::<Map<String, Value>>()
    };
    let sides = [("requests", side(requests)), ("limits", side(limits))];
    let sides: Map<String, Value> = sides
        .into_iter()
        .filter(|(_, amounts)| !amounts.is_empty())
        .map(|(name, amounts)| (name.to_owned(), amounts.into()))
        .collect();
    (!sides.is_empty()).then(|| sides.into())
}

fn volumes(spec: &FunctionSpec) -> Vec<Value> {
    let tmp = json!({ "name": "tmp", "emptyDir": {} });
    let own = spec.pod.volumes.iter().map(|Volume { name, source, .. }| match source {
        VolumeSource::ConfigMap { name: map } => json!({ "name": name, "configMap": { "name": map } }),
        VolumeSource::Secret { secret_name } => {
            json!({ "name": name, "secret": { "secretName": secret_name } })
        }
        VolumeSource::PersistentVolumeClaim { claim_name } => {
            json!({ "name": name, "persistentVolumeClaim": { "claimName": claim_name } })
        }
        VolumeSource::EmptyDir { medium, size_limit } => {
            let members = [("medium", medium), ("sizeLimit", size_limit)];
            let members = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.as_deref()?))));
            json!({ "name": name, "emptyDir": members.collect::<Map<_, _>>() })
        }
    });
    std::iter::once(tmp).chain(own).collect()
}

fn mounts(spec: &FunctionSpec) -> Vec<Value> {
    let tmp = json!({ "name": "tmp", "mountPath": "/tmp" });
    let own = spec.pod.volumes.iter().map(|volume| {
        let mut mount = json!({ "name": volume.name, "mountPath": volume.mount_path });
        if volume.read_only {
            mount["readOnly"] = true.into();
        }
        if let Some(path) = &volume.sub_path {
            mount["subPath"] = path.as_str().into();
        }
        mount
    });
    std::iter::once(tmp).chain(own).collect()
}
