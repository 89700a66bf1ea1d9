//! The description of a function, resolved: what a registration becomes, what clients read back, what backends run. What is
//! kept of it on disk is a type of the store (`durable::functions`).
//!
//! [`parse`] turns a request body into it, with every violation reported at once; `resolved` turns it into what
//! the core has to know, and `warnings` tells what a registration says in vain. Beside them one file per kind of value
//! that has rules of its own: `endpoint` (addresses), `pod` (how Pods are), `quantity` (CPU and memory), `scaling`
//! (scalingConfig), all on top of `fields` (reading JSON members).
//!
//! Not here: anything that needs I/O (does the image exist, is there a backend), and the backends' own limits.

mod endpoint;
mod fields;
pub mod parse;
mod pod;
pub mod quantity;
mod resolved;
mod resource;
mod scaling;
mod warnings;

pub use parse::{QUEUE_SIZE_MAX, Registration, SpecError};
pub use pod::{PodOptions, Toleration, TopologySpread, Volume, VolumeSource};
pub use warnings::{KNOWN, with_warnings};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How calls of a function are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExecutionMode {
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
pub enum RuntimeMode {
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
pub enum ScalingStrategy {
    /// A Kubernetes HorizontalPodAutoscaler.
    Hpa,
    /// The server's autoscaler.
    Internal,
    /// Nobody but `PUT …/replicas`.
    None,
}

/// How the number of calls in flight follows the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConcurrencyMode {
    /// Not at all.
    Fixed,
    /// A fixed number per replica.
    StaticPerPod,
    /// A number per replica that adapts to the load.
    AdaptivePerPod,
}

/// CPU and memory, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// For example `250m`.
    pub cpu: Option<String>,
    /// For example `128Mi`.
    pub memory: Option<String>,
    /// What a node must have left, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What a replica may use, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Some of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// For example `250m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// For example `128Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// One metric that scaling looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingMetric {
    /// `queue_depth`, `in_flight`, `rps`, or with HPA also `cpu`, `memory`, `prometheus`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value per replica, as text.
    pub target: Option<String>,
    /// The query of a `prometheus` metric.
    pub query: Option<String>,
}

/// See [`ConcurrencyMode`]. All fields but `mode` are absent with FIXED.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyControl {
    /// Which mode.
    pub mode: ConcurrencyMode,
    /// Calls in flight per replica to start from.
    pub target_in_flight_per_pod: Option<u32>,
    /// Fewest.
    pub min_target_in_flight_per_pod: Option<u32>,
    /// Most.
    pub max_target_in_flight_per_pod: Option<u32>,
    /// Least time between two increases, in milliseconds.
    pub upscale_cooldown_ms: Option<u64>,
    /// Least time between two decreases, in milliseconds.
    pub downscale_cooldown_ms: Option<u64>,
    /// Load ratio from which the target goes down.
    pub high_load_threshold: Option<f64>,
    /// Load ratio up to which the target goes up.
    pub low_load_threshold: Option<f64>,
}

/// How replicas are scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingConfig {
    /// Who decides.
    pub strategy: ScalingStrategy,
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// What it looks at.
    pub metrics: Vec<ScalingMetric>,
    /// What follows for calls in flight.
    pub concurrency_control: ConcurrencyControl,
}

/// A function with every default filled in. Serialised, it is the FunctionResponse of the API: absent values are
/// left out at the top level and null inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSpec {
    /// Its name; always one that [`shard_core::Name`] takes.
    #[serde(deserialize_with = "resolved::checked_name")]
    pub name: String,
    /// Container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Replaces the image's entrypoint.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment of the program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// CPU and memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Longest attempt, in milliseconds.
    pub timeout_ms: u32,
    /// Attempts in flight at once.
    pub concurrency: u32,
    /// Executions that may wait.
    pub queue_size: u32,
    /// Attempts in total; 0 and 1 both mean one. Absent when the registration did not say: then synchronous calls have
    /// one, and accepted ones the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// That default, as it was at the registration. Clients do not read it: a response that is posted again would name
    /// what the registration did not.
    #[serde(default = "resolved::default_max_retries", skip_serializing)]
    pub default_max_retries: u32,
    /// Base of the back-off between attempts, in milliseconds.
    pub retry_backoff_ms: u32,
    /// Calls admitted per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_second: Option<u32>,
    /// Where its calls go: as given for POOL, the first replica's for DEPLOYMENT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// The mode that was asked for.
    pub execution_mode: ExecutionMode,
    /// The same again, under the name that clients of the Java original read.
    pub requested_execution_mode: ExecutionMode,
    /// The mode in force.
    pub effective_execution_mode: ExecutionMode,
    /// The backend that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_backend: Option<String>,
    /// Why the mode in force is not the one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degradation_reason: Option<String>,
    /// How its program takes a call. Documents of older versions lack it when it is the default.
    #[serde(default)]
    pub runtime_mode: RuntimeMode,
    /// The program, in shell-style words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_command: Option<String>,
    /// The program's working directory, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How it is scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_config: Option<ScalingConfig>,
    /// Secrets for pulling the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<String>>,
    /// How its Pods are, with a backend that runs it as such.
    #[serde(flatten)]
    pub pod: PodOptions,
}
