//! A function as the log keeps it: the body of `Registered` and of `Reinstated`, in JSON.
//!
//! It looks like what clients read and is not that: what goes over the wire may change with a version, this may not. The
//! server turns the one into the other ([`Functions`]).
//!
//! - What an older version wrote opens for ever. A member is never taken out of here and never means something else. One
//!   that comes later is optional, or its default says what a function meant when it was written without it: a constant of
//!   this file, not what the server assumes today.
//! - What a newer version wrote is read whole or not at all. A member that is not known here, or a value that no member
//!   here has, stops the start and is named: without it the function would run as something else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::error::Category;
use shard_core::FunctionSpec;

use super::unreadable::Unreadable;

/// What the server makes of a function on disk, and the other way round. [`FunctionSpec::document`] is the server's own, and
/// no part of the format.
pub trait Functions: Send + Sync {
    /// For the log. `None`: its document does not say what it is.
    fn to_disk(&self, spec: &FunctionSpec) -> Option<Function>;

    /// From the log. `None`: it is no function.
    fn to_core(&self, function: Function) -> Option<FunctionSpec>;
}

/// How calls of a function are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// The server answers with the input.
    Local,
    /// A fixed endpoint.
    Pool,
    /// Replicas started by a backend.
    Deployment,
    /// One job per call.
    Remote,
}

/// How a program takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Program {
    /// It serves HTTP.
    #[default]
    Http,
    /// One process per call, JSON on its standard streams.
    Stdio,
    /// One process per call, JSON in files.
    File,
}

/// Who decides how many replicas run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Strategy {
    /// A Kubernetes HorizontalPodAutoscaler.
    Hpa,
    /// The server's autoscaler.
    Internal,
    /// Nobody but an administrator.
    None,
}

/// How the number of calls in flight follows the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InFlightMode {
    /// Not at all.
    Fixed,
    /// A fixed number per replica.
    StaticPerPod,
    /// A number per replica that adapts to the load.
    AdaptivePerPod,
}

/// CPU and memory, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// For example `250m`.
    pub cpu: Option<String>,
    /// For example `128Mi`.
    pub memory: Option<String>,
    /// What a node must have left, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What a replica may use, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Some of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Amounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// How the Pods of a function are. What is not there was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Pod {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<Spread>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// A taint that does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Toleration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<u32>,
}

/// How replicas spread over nodes and zones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Spread {
    pub max_skew: u32,
    pub topology_key: String,
    pub when_unsatisfiable: String,
}

/// Something that is mounted into every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Volume {
    pub name: String,
    pub mount_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    pub read_only: bool,
    pub source: Source,
}

/// What a volume shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub enum Source {
    ConfigMap {
        name: String,
    },
    Secret {
        secret_name: String,
    },
    EmptyDir {
        #[serde(skip_serializing_if = "Option::is_none")]
        medium: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        size_limit: Option<String>,
    },
    PersistentVolumeClaim {
        claim_name: String,
    },
}

/// One metric that scaling looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value per replica, as text.
    pub target: Option<String>,
    /// The query of a metric that is asked for by one.
    pub query: Option<String>,
}

/// Calls in flight per replica; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct InFlight {
    pub mode: InFlightMode,
    pub target_in_flight_per_pod: Option<u32>,
    pub min_target_in_flight_per_pod: Option<u32>,
    pub max_target_in_flight_per_pod: Option<u32>,
    pub upscale_cooldown_ms: Option<u64>,
    pub downscale_cooldown_ms: Option<u64>,
    pub high_load_threshold: Option<f64>,
    pub low_load_threshold: Option<f64>,
}

/// How replicas are scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Scaling {
    pub strategy: Strategy,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub metrics: Vec<Metric>,
    pub concurrency_control: InFlight,
}

/// Attempts of accepted calls of a function that says nothing about them, and whose record does not either.
pub const DEFAULT_MAX_RETRIES: u32 = 3;

/// A function with every default filled in. The order of the members is that on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "named like what clients write, and explained there")]
pub struct Function {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    pub timeout_ms: u32,
    pub concurrency: u32,
    pub queue_size: u32,
    /// What the registration said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    pub retry_backoff_ms: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    pub execution_mode: Mode,
    pub requested_execution_mode: Mode,
    pub effective_execution_mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degradation_reason: Option<String>,
    #[serde(default)]
    pub runtime_mode: Program,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_config: Option<Scaling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<String>>,
    /// What the server assumed when the registration said nothing.
    #[serde(default = "default_max_retries", skip_serializing_if = "is_default_max_retries")]
    pub default_max_retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Box<Pod>>,
}

fn default_max_retries() -> u32 {
    DEFAULT_MAX_RETRIES
}

fn is_default_max_retries(retries: &u32) -> bool {
    *retries == DEFAULT_MAX_RETRIES
}

impl Function {
    /// As it is on disk.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Writing to memory cannot fail, and all keys are strings.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The other way round.
    ///
    /// # Errors
    /// When it is no JSON, or says what this version does not know.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Function, Unreadable> {
        serde_json::from_slice(bytes).map_err(|error| {
            let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
            match error.classify() {
                // A frame is what was written, by its checksum. So is this, then, and not by a version that we know.
                Category::Data if is_json => {
                    Unreadable::Newer(format!("a function with {}", first_words(&error.to_string())))
                }
                _ => Unreadable::Broken,
            }
        })
    }
}

/// Without the list of all that would have been right, and without a line and a column of what nobody sees.
fn first_words(error: &str) -> &str {
    let end = [", expected", " at line "].iter().filter_map(|end| error.find(end)).min();
    &error[..end.unwrap_or(error.len())]
}
