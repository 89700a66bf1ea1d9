//! Functions as resources of Kubernetes, when `k8s.functions` is `crd`: the API asks [`Resources`] instead of a shard, and
//! those register functions here, the way the API does.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use nanofaas_kubernetes::resources::{Registry, Replicas, table::Registered};
pub use nanofaas_kubernetes::resources::{ResourceOptions, Resources};
use nanofaas_wire::{
    error::ApiError,
    function::{FunctionSpec, Registration},
};
use shard_core::{Answer, Name, Refusal, Request, Shard};
use shard_runtime::Workers;
use tokio::sync::oneshot;

use crate::{deployments::Deployments, host::ShardHost, runtime_config::RuntimeConfig};

/// Functions that a shard tells of at once.
const SLICE_FUNCTIONS: usize = 1024;

/// What resources need of the server.
pub struct ShardRegistry {
    /// Where functions are.
    pub workers: Arc<Workers<ShardHost>>,
    /// What runs them.
    pub deployments: Arc<Deployments>,
    /// What registrations are resolved against.
    pub runtime_config: Arc<RuntimeConfig<ShardHost>>,
    /// Longest spec of a function as it is kept, in bytes.
    pub spec_bytes_max: usize,
}

impl ShardRegistry {
    /// Asks the shard that has a name, by one of the threads that listen.
    fn ask(&self, name: Name, request: Request) -> BoxFuture<'static, Result<Answer, ApiError>> {
        let busy = || ApiError::Overloaded { what: "Waiting for other callers of this thread" };
        let hash = name.owner_hash();
        let listening: Vec<u16> = self.workers.plan().listening().collect();
        let Some(thread) = listening.get(usize::from(hash) % listening.len().max(1)) else {
            return async move { Err(busy()) }.boxed();
        };
        let (sender, receiver) = oneshot::channel();
        self.workers.run_on(*thread, move |worker| match worker.call(hash, None, request) {
            Ok(reply) => drop(tokio::task::spawn_local(async move {
                let _ = sender.send(Ok(reply.await));
            })),
            Err(_) => drop(sender.send(Err(busy()))),
        });
        // Without an answer the thread is gone, and the server with it.
        async move { receiver.await.unwrap_or_else(|_| Err(busy())) }.boxed()
    }
}

impl Registry for ShardRegistry {
    fn registration(&self) -> Registration {
        self.runtime_config.registration()
    }

    fn find(&self, function: &str) -> BoxFuture<'static, Result<Option<Registered>, ApiError>> {
        let Some(name) = Name::new(function) else { return async { Ok(None) }.boxed() };
        let spec = self.ask(name, Request::GetFunction(name));
        let replicas = self.ask(name, Request::GetReplicas(name));
        async move {
            let document = match spec.await? {
                Answer::Function(document) => document,
                Answer::Refused(Refusal::FunctionNotFound) => return Ok(None),
                other => return Err(unexpected(other, &name)),
            };
            let spec = FunctionSpec::from_document(&document).map_err(|error| unreadable(&name, &error))?;
            match replicas.await? {
                Answer::Replicas { desired, ready } => {
                    Ok(Some(Registered { spec, replicas: Some((desired, ready)) }))
                }
                _ => Ok(Some(Registered { spec, replicas: None })),
            }
        }
        .boxed()
    }

    fn all(&self) -> BoxFuture<'static, Result<BTreeMap<String, Replicas>, ApiError>> {
        let workers = Arc::clone(&self.workers);
        async move {
            let mut all = BTreeMap::new();
            for shard in 0..workers.shards() {
                let mut from = Some(0);
                while let Some(position) = from {
                    let part = workers.ask(shard, move |shard, _| slice(shard, position)).await;
                    let (part, next) = part.map_err(|_| ApiError::Overloaded { what: "A shard" })?;
                    all.extend(part);
                    from = next;
                }
            }
            Ok(all)
        }
        .boxed()
    }

    fn register(&self, spec: FunctionSpec) -> BoxFuture<'static, Result<Vec<u8>, ApiError>> {
        let function = spec.name.clone();
        let spec = Box::new(spec.core_spec());
        if spec.document.len() > self.spec_bytes_max {
            let limit_bytes = self.spec_bytes_max as u64;
            let error = ApiError::PayloadTooLarge { limit_bytes, setting: "limits.spec-bytes" };
            return async move { Err(error) }.boxed();
        }
        let name = spec.name;
        let answer = self.ask(name, Request::Register(spec));
        async move {
            match answer.await? {
                Answer::Registered(document) => Ok(document.to_vec()),
                Answer::Refused(Refusal::FunctionExists) => Err(ApiError::FunctionExists(function)),
                other => Err(unexpected(other, &name)),
            }
        }
        .boxed()
    }

    fn remove(&self, function: &str) -> BoxFuture<'static, Result<(), ApiError>> {
        let Some(name) = Name::new(function) else { return not_found(function) };
        let answer = self.ask(name, Request::Remove(name));
        async move {
            match answer.await? {
                Answer::Removed => Ok(()),
                other => Err(unexpected(other, &name)),
            }
        }
        .boxed()
    }

    fn scale(&self, function: &str, replicas: u32) -> BoxFuture<'static, Result<u32, ApiError>> {
        let Some(name) = Name::new(function) else { return not_found(function) };
        let answer = self.ask(name, Request::Scale { name, replicas });
        async move {
            match answer.await? {
                Answer::Scaled { replicas } => Ok(replicas),
                other => Err(unexpected(other, &name)),
            }
        }
        .boxed()
    }

    fn announce(&self, functions: Vec<String>) {
        functions.iter().for_each(|function| self.deployments.announce(function));
        if let Err(error) = self.deployments.look_for_leftovers() {
            tracing::error!(%error, "functions that are not registered may be left; the next start tries again");
        }
    }
}

/// Some of a shard's functions, from a position on, and where to go on when there are more.
fn slice(shard: &Shard, from: usize) -> (Vec<(String, Replicas)>, Option<usize>) {
    let mut part = Vec::new();
    for (key, view) in shard.functions_from(from) {
        if part.len() == SLICE_FUNCTIONS {
            return (part, Some(key.index()));
        }
        part.push((view.name.to_owned(), view.replicas));
    }
    (part, None)
}

fn not_found<T: Send + 'static>(function: &str) -> BoxFuture<'static, Result<T, ApiError>> {
    let error = ApiError::Refused { refusal: Refusal::FunctionNotFound, name: function.to_owned() };
    async move { Err(error) }.boxed()
}

fn unreadable(name: &Name, error: &dyn std::fmt::Display) -> ApiError {
    let name = name.as_str();
    ApiError::unavailable(format!("The document of function '{name}' cannot be read: {error}"))
}

/// Anything but what was asked for.
fn unexpected(answer: Answer, name: &Name) -> ApiError {
    match answer {
        Answer::Refused(refusal) => ApiError::Refused { refusal, name: name.as_str().to_owned() },
        other => {
            tracing::error!(?other, "an answer does not belong to the question");
            ApiError::Overloaded { what: "A shard" }
        }
    }
}
