//! A resolved function on its way out: to clients as a document, to the core as numbers.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error};
use shard_core::{
    Name, Policy, Scaling, Target,
    scaling::{ConcurrencyControl, Metric, MetricTarget},
};

use super::{ExecutionMode, FunctionSpec, endpoint};

impl FunctionSpec {
    /// The FunctionResponse document, compact JSON.
    pub fn document(&self) -> Bytes {
        // Writing to memory cannot fail, all keys are strings, and a number that is not finite (which JSON has
        // no word for) is written as null. Were that ever untrue, an empty document is what clients would see.
        // Without the room that was left for more: a document lives as long as its function.
        serde_json::to_vec(self).map(|text| Bytes::from(text.into_boxed_slice())).unwrap_or_default()
    }

    /// Reads a [`document`](Self::document) back: clients do, and the server what it gave to the core.
    ///
    /// # Errors
    /// When it is not one, with the place.
    pub fn from_document(document: &[u8]) -> Result<FunctionSpec, serde_json::Error> {
        serde_json::from_slice(document)
    }

    /// The numbers for the core.
    pub fn policy(&self) -> Policy {
        Policy {
            timeout_ms: self.timeout_ms,
            concurrency: self.concurrency.max(1),
            queue_size: self.queue_size.max(1),
            attempts_max: self.max_retries.unwrap_or(self.default_max_retries).max(1),
            sync_attempts_max: self.max_retries.unwrap_or(1).max(1),
            retry_backoff_ms: self.retry_backoff_ms,
            rate_limit_per_second: self.rate_limit_per_second,
        }
    }

    /// Where its calls go, by the mode in force: a DEPLOYMENT function that was degraded to POOL has a fixed
    /// address like any other POOL function.
    pub fn target(&self) -> Target {
        match (self.effective_execution_mode, &self.endpoint_url) {
            (ExecutionMode::Local, _) => Target::Local,
            (ExecutionMode::Pool, Some(url)) => Target::Endpoint(Arc::from(endpoint::callable(url))),
            // `parse` lets no POOL function through without an address. One that got here by another way waits for
            // an endpoint instead of being called nowhere.
            (ExecutionMode::Pool, None) => Target::Backend,
            (ExecutionMode::Deployment | ExecutionMode::Remote, _) => Target::Backend,
        }
    }

    /// How the shard scales it: with strategy INTERNAL.
    fn scaling(&self) -> Option<Scaling> {
        let config = self.scaling_config.as_ref()?;
        let internal = self.execution_mode == ExecutionMode::Deployment
            && config.strategy == super::ScalingStrategy::Internal;
        internal.then(|| Scaling {
            min_replicas: config.min_replicas,
            max_replicas: config.max_replicas,
            metrics: config.metrics.iter().filter_map(metric_target).collect(),
            control: concurrency_control(&config.concurrency_control),
        })
    }

    /// What the core has to know.
    pub fn core_spec(&self) -> shard_core::FunctionSpec {
        shard_core::FunctionSpec {
            // A spec comes out of `parse` or `from_document`, and both refuse every other name.
            name: Name::new(&self.name).expect("a resolved function has a valid name"),
            policy: self.policy(),
            target: self.target(),
            scaling: self.scaling().map(Box::new),
            document: self.document(),
        }
    }
}

/// A target that cannot be read counts as 50, like in the Java original.
fn metric_target(metric: &super::ScalingMetric) -> Option<MetricTarget> {
    let target = metric.target.as_deref().and_then(|text| text.trim().parse().ok()).unwrap_or(50.0);
    let metric = match metric.kind.as_str() {
        "queue_depth" => Metric::QueueDepth,
        "in_flight" => Metric::InFlight,
        "rps" => Metric::Rps,
        _ => return None,
    };
    Some(MetricTarget { metric, target })
}

fn concurrency_control(control: &super::ConcurrencyControl) -> ConcurrencyControl {
    let target = control.target_in_flight_per_pod.unwrap_or(1);
    match control.mode {
        super::ConcurrencyMode::Fixed => ConcurrencyControl::Fixed,
        super::ConcurrencyMode::StaticPerPod => ConcurrencyControl::StaticPerPod { target },
        super::ConcurrencyMode::AdaptivePerPod => ConcurrencyControl::AdaptivePerPod {
            target,
            target_min: control.min_target_in_flight_per_pod.unwrap_or(1),
            target_max: control.max_target_in_flight_per_pod.unwrap_or(8),
            upscale_cooldown_us: control.upscale_cooldown_ms.unwrap_or(30_000).saturating_mul(1000),
            downscale_cooldown_us: control.downscale_cooldown_ms.unwrap_or(60_000).saturating_mul(1000),
            high_load: control.high_load_threshold.unwrap_or(0.85),
            low_load: control.low_load_threshold.unwrap_or(0.35),
        },
    }
}

/// The default of a server that is not told another one.
pub(super) fn default_max_retries() -> u32 {
    3
}

/// Refuses a document whose name the core would not take.
pub(super) fn checked_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match Name::new(&name) {
        Some(_) => Ok(name),
        None => Err(D::Error::custom("the name is not a function name")),
    }
}
