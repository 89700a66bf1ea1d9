//! The objects of a function, from its description and the settings. Pure: the same input gives the same bytes.
//!
//! They are applied server-side, so members that are not here are left to the cluster and to others who manage them.
//! `spec.replicas` is one of these: it belongs to whoever scales, a HorizontalPodAutoscaler or the backend. Everything but the
//! Deployment is owned by it and goes with it; nobody owns the Deployment, and nothing has a finalizer.

mod image_check;
mod job;
mod pod;

pub use image_check::image_check;
pub use job::{JobObjects, REQUEST_BYTES_MAX, job};
pub use pod::CONTAINER;

use std::collections::BTreeMap;

use nanofaas_backends::Workload;
use nanofaas_wire::function::{ScalingConfig, ScalingMetric, ScalingStrategy};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::names::{
    DIGEST, FUNCTION, INSTALLATION, MANAGED_BY, NAME, ORIGINAL, ORIGINAL_FUNCTION, VERSION, attached,
    label_value, object_name,
};

/// The port that a program listens on when its function does not say.
pub const PORT_DEFAULT: u16 = 8080;
/// Targets of metrics that cannot be read, as in the Java original.
const TARGET_DEFAULT: f64 = 50.0;

/// What is the same for all functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// Tells servers that share a namespace apart.
    pub installation: String,
    /// Where functions report results, if they can reach it.
    pub callback_url: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Only Pods of the control plane may call a function.
    pub network_policy: bool,
    /// Labels of these Pods.
    pub control_plane: BTreeMap<String, String>,
    /// How long a replica may take until it is ready for the first time, in seconds.
    pub startup_s: u32,
}

/// A kind of object that a function may have beside its Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// For people and other workloads; calls of the server go to Pods.
    Service,
    /// With strategy HPA.
    HorizontalPodAutoscaler,
    /// With more than one replica at least.
    PodDisruptionBudget,
    /// If the settings say so.
    NetworkPolicy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] =
        [Kind::Service, Kind::HorizontalPodAutoscaler, Kind::PodDisruptionBudget, Kind::NetworkPolicy];
}

/// The objects of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// What all of them are called.
    pub name: String,
    /// Without `spec.replicas`.
    pub deployment: Value,
    /// What belongs to it.
    pub owned: BTreeMap<Kind, Value>,
    /// Changes with every change of these objects.
    pub digest: String,
    /// A HorizontalPodAutoscaler decides how many replicas there are.
    pub is_autoscaled: bool,
}

impl Objects {
    /// The Deployment as it is made at first, with so many replicas.
    pub fn deployment_with(&self, replicas: u32) -> Value {
        let mut deployment = self.deployment.clone();
        deployment["spec"]["replicas"] = replicas.into();
        deployment
    }

    /// What belongs to the Deployment, now that it has an id.
    pub fn owned_by(&self, uid: &str) -> impl Iterator<Item = (Kind, Value)> {
        let owner = json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name, "uid": uid,
            // Who waits for the end of the Deployment waits for these, too.
            "blockOwnerDeletion": true, "controller": true,
        }]);
        self.owned.iter().map(move |(kind, object)| {
            let mut object = object.clone();
            object["metadata"]["ownerReferences"] = owner.clone();
            (*kind, object)
        })
    }
}

/// What a function has beside its Deployment.
pub fn owned_kinds(workload: &Workload, settings: &PlanSettings) -> impl Iterator<Item = Kind> + use<> {
    let scaling = workload.spec.scaling_config.as_ref();
    let has_autoscaler = scaling.is_some_and(|scaling| scaling.strategy == ScalingStrategy::Hpa);
    // Without a configuration there is its default.
    let min_replicas =
        scaling.map_or_else(|| ScalingConfig::default().min_replicas, |scaling| scaling.min_replicas);
    let has_policy = settings.network_policy;
    Kind::ALL.into_iter().filter(move |kind| match kind {
        Kind::Service => true,
        Kind::HorizontalPodAutoscaler => has_autoscaler,
        Kind::PodDisruptionBudget => min_replicas > 1,
        Kind::NetworkPolicy => has_policy,
    })
}

/// The objects of a function.
pub fn plan(workload: &Workload, settings: &PlanSettings) -> Objects {
    let name = object_name(workload.name.as_str());
    let of = Parts { workload, settings, name: &name };
    let scaling = workload.spec.scaling_config.clone().unwrap_or_default();
    let is_autoscaled = scaling.strategy == ScalingStrategy::Hpa;
    let owned = owned_kinds(workload, settings).map(|kind| {
        let object = match kind {
            Kind::Service => of.service(),
            Kind::HorizontalPodAutoscaler => of.autoscaler(&scaling),
            Kind::PodDisruptionBudget => of.disruption_budget(),
            Kind::NetworkPolicy => of.network_policy(),
        };
        (kind, object)
    });
    let owned: BTreeMap<Kind, Value> = owned.collect();
    let mut deployment = of.deployment();
    let mut digest = Sha256::new();
    digest.update(deployment.to_string());
    owned.values().for_each(|object| digest.update(object.to_string()));
    let digest: String = digest.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    deployment["metadata"]["annotations"][DIGEST] = digest.as_str().into();
    Objects { name, deployment, owned, digest, is_autoscaled }
}

/// What the parts are made of.
struct Parts<'a> {
    workload: &'a Workload,
    settings: &'a PlanSettings,
    name: &'a str,
}

impl Parts<'_> {
    fn port(&self) -> u16 {
        self.workload.spec.pod.container_port.unwrap_or(PORT_DEFAULT)
    }

    fn label(&self) -> String {
        label_value(self.workload.name.as_str())
    }

    /// What finds the Pods of the function. It can never be changed.
    fn selector(&self) -> Value {
        json!({ INSTALLATION: self.settings.installation, FUNCTION: self.label() })
    }

    fn labels(&self) -> Map<String, Value> {
        let labels = [
            (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
            (INSTALLATION, self.settings.installation.clone()),
            (FUNCTION, self.label()),
            (VERSION, self.workload.version.as_str().to_owned()),
            (ORIGINAL.0, ORIGINAL.1.to_owned()),
            (ORIGINAL_FUNCTION, self.label()),
        ];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
    }

    fn annotations(&self) -> Map<String, Value> {
        let mut annotations = Map::from_iter([(NAME.to_owned(), self.workload.name.as_str().into())]);
        annotations.extend(attached(&self.workload.labels).map(|(key, value)| (key, value.into())));
        annotations
    }

    fn object(&self, api_version: &str, kind: &str, spec: Value) -> Value {
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": self.name, "labels": self.labels(), "annotations": self.annotations() },
            "spec": spec,
        })
    }

    fn deployment(&self) -> Value {
        let spec = json!({
            "selector": { "matchLabels": self.selector() },
            // A replica goes when another is ready in its place.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "revisionHistoryLimit": 1,
            "template": self.template(),
        });
        self.object("apps/v1", "Deployment", spec)
    }

    fn service(&self) -> Value {
        let spec = json!({
            "type": "ClusterIP",
            "selector": self.selector(),
            "ports": [{ "name": "http", "protocol": "TCP", "port": PORT_DEFAULT, "targetPort": self.port() }],
        });
        self.object("v1", "Service", spec)
    }

    fn autoscaler(&self, scaling: &ScalingConfig) -> Value {
        let metrics: Vec<Value> = scaling.metrics.iter().filter_map(|metric| self.metric(metric)).collect();
        let spec = json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name },
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": metrics,
        });
        self.object("autoscaling/v2", "HorizontalPodAutoscaler", spec)
    }

    fn metric(&self, metric: &ScalingMetric) -> Option<Value> {
        let target = metric.target.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
        let target = target.filter(|target| target.is_finite() && *target > 0.0).unwrap_or(TARGET_DEFAULT);
        let external = |name: String| {
            // The total over so much for each replica, as the server's own scaler counts.
            json!({ "type": "External", "external": {
                "metric": { "name": name, "selector": { "matchLabels": { ORIGINAL_FUNCTION: self.label() } } },
                "target": { "type": "AverageValue", "averageValue": quantity(target) },
            } })
        };
        match metric.kind.as_str() {
            kind @ ("cpu" | "memory") => Some(json!({ "type": "Resource", "resource": {
                "name": kind,
                "target": { "type": "Utilization", "averageUtilization": (target.round() as i32).max(1) },
            } })),
            kind @ ("queue_depth" | "in_flight" | "rps") => Some(external(format!("nanofaas_{kind}"))),
            "prometheus" => Some(external(format!("nanofaas_custom_{}", self.workload.name))),
            _ => None,
        }
    }

    fn disruption_budget(&self) -> Value {
        let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": self.selector() } });
        self.object("policy/v1", "PodDisruptionBudget", spec)
    }

    fn network_policy(&self) -> Value {
        let spec = json!({
            "podSelector": { "matchLabels": self.selector() },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{ "podSelector": { "matchLabels": self.settings.control_plane } }],
                "ports": [{ "protocol": "TCP", "port": self.port() }],
            }],
        });
        self.object("networking.k8s.io/v1", "NetworkPolicy", spec)
    }
}

/// A number as the API server writes it itself, in thousandths when it is not whole.
fn quantity(number: f64) -> String {
    match number.fract() == 0.0 {
        true => format!("{number:.0}"),
        false => format!("{:.0}m", (number * 1000.0).max(1.0)),
    }
}
