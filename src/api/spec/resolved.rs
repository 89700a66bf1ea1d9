//! A resolved function on its way out: to clients and the store as a document, to the core as numbers.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error};
use shard_core::{Name, Policy, Target};

use super::{ExecutionMode, FunctionSpec, endpoint};

impl FunctionSpec {
    /// The FunctionResponse document, compact JSON.
    pub fn document(&self) -> Bytes {
        // Writing to memory cannot fail, all keys are strings, and a number that is not finite (which JSON has
        // no word for) is written as null. Were that ever untrue, an empty document is what clients would see.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }

    /// Reads a [`document`](Self::document) back, for the store and for clients.
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
            attempts_max: self.max_retries.max(1),
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

    /// What the core has to know.
    pub fn core_spec(&self) -> shard_core::FunctionSpec {
        shard_core::FunctionSpec {
            // A spec comes out of `parse` or `from_document`, and both refuse every other name.
            name: Name::new(&self.name).expect("a resolved function has a valid name"),
            policy: self.policy(),
            target: self.target(),
            scaling: None,
            document: self.document(),
        }
    }
}

/// Refuses a document whose name the core would not take.
pub(super) fn checked_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match Name::new(&name) {
        Some(_) => Ok(name),
        None => Err(D::Error::custom("the name is not a function name")),
    }
}
