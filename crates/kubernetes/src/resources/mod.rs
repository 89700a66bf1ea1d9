//! Functions as resources of Kubernetes: what somebody writes as a `Function` becomes a function, and what is registered by the
//! HTTP API is written as one first. How and why is in `docs/internals/resources.md`.
//!
//! From the outside in: here [`Resources`], which the API asks, and [`Registry`], by which functions are registered; `thread`
//! looks for what there is to do; `reconcile` does it for one function; `requests` asks the API server; pure are [`table`]
//! (what is known and what follows), [`status`] (what is told) and [`object`] (what the API server has).

pub mod object;
mod reconcile;
mod requests;
pub mod status;
pub mod table;
mod thread;

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use nanofaas_wire::{
    error::ApiError,
    function::{FunctionSpec, Registration},
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{KubernetesBackendError, access::Access, watching::WatchLimits};
use table::Registered;

/// Where functions are registered. Every answer comes in the end.
pub trait Registry: Send + Sync + 'static {
    /// What registrations are resolved against now.
    fn registration(&self) -> Registration;
    /// A function, if there is one.
    fn find(&self, function: &str) -> BoxFuture<'static, Result<Option<Registered>, ApiError>>;
    /// All functions with their replicas, as far as a backend runs them.
    fn all(&self) -> BoxFuture<'static, Result<BTreeMap<String, Replicas>, ApiError>>;
    /// Registers a function; its document.
    fn register(&self, spec: FunctionSpec) -> BoxFuture<'static, Result<Vec<u8>, ApiError>>;
    /// Removes one.
    fn remove(&self, function: &str) -> BoxFuture<'static, Result<(), ApiError>>;
    /// Has one have so many replicas; how many those are.
    fn scale(&self, function: &str, replicas: u32) -> BoxFuture<'static, Result<u32, ApiError>>;
    /// These are going to be registered, if they are not yet. What backends run of others is nobody's.
    fn announce(&self, functions: Vec<String>);
}

/// Wanted and ready replicas, when a backend runs a function.
pub type Replicas = Option<(u32, u32)>;

/// What resources are told.
#[derive(Debug, Clone)]
pub struct ResourceOptions {
    /// Where the API server is, and who we are to it.
    pub access: Access,
    /// Namespace of the resources; none takes that of the access.
    pub namespace: Option<String>,
    /// Tells servers that share a namespace apart.
    pub installation: String,
    /// Where the API of this server is, for people to read.
    pub api_url: Option<String>,
    /// A file that says that functions have become resources, and of which namespace. Without one everything that is
    /// registered at the start becomes a resource.
    pub mark: Option<PathBuf>,
    /// How long watches take.
    pub limits: WatchLimits,
}

/// What the API asks for.
enum Command {
    Register(Box<FunctionSpec>, oneshot::Sender<Result<Vec<u8>, ApiError>>),
    Remove(String, oneshot::Sender<Result<(), ApiError>>),
    Scale(String, u32, oneshot::Sender<Result<u32, ApiError>>),
    End,
}

/// Keeps functions and resources the same.
pub struct Resources {
    /// Not bounded by itself: each has a caller who waits, of which there are only so many.
    commands: mpsc::UnboundedSender<Command>,
    /// Until it was waited for.
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Resources {
    /// Starts the thread. Call it when everything that was kept is back. Whether the API server answers shows later.
    ///
    /// # Errors
    /// No thread, or it is not known where the API server is.
    pub fn start(
        options: ResourceOptions,
        registry: Arc<dyn Registry>,
    ) -> Result<Resources, KubernetesBackendError> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, is_started) = std::sync::mpsc::sync_channel::<Result<(), KubernetesBackendError>>(1);
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match options.access.client().await {
                    Err(error) => drop(started.send(Err(error.into()))),
                    Ok(client) => {
                        let _ = started.send(Ok(()));
                        thread::run(client, options, registry, receiver).await;
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("resources".to_owned()).spawn(body)?;
        // Nothing was sent when the thread ended before, which it does only by a panic.
        is_started.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once").into()))?;
        Ok(Resources { commands, thread: Mutex::new(Some(thread)) })
    }

    /// Writes a function as a resource and registers it; its document.
    ///
    /// # Errors
    /// As for a registration without resources; also when the resource cannot be written, and then nothing is registered.
    pub async fn register(&self, spec: FunctionSpec) -> Result<Vec<u8>, ApiError> {
        self.ask(|reply| Command::Register(Box::new(spec), reply)).await
    }

    /// Deletes the resource of a function, and removes the function.
    ///
    /// # Errors
    /// As for a removal without resources; also when the resource cannot be deleted, and then nothing is removed.
    pub async fn remove(&self, function: &str) -> Result<(), ApiError> {
        self.ask(|reply| Command::Remove(function.to_owned(), reply)).await
    }

    /// Has the resource of a function ask for so many replicas, and scales it; how many those are.
    ///
    /// # Errors
    /// As for a change without resources; also when the resource cannot be changed, and then nothing is.
    pub async fn scale(&self, function: &str, replicas: u32) -> Result<u32, ApiError> {
        self.ask(|reply| Command::Scale(function.to_owned(), replicas, reply)).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Command,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(command(reply));
        let ended = || ApiError::unavailable("The server is shutting down; try again".to_owned());
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Ends: nothing is registered or removed from now on.
    pub fn end(&self) {
        let _ = self.commands.send(Command::End);
        if self.thread.lock().take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of resources ended by a panic");
        }
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        // Not waited for: whoever drops this may be on any thread.
        let _ = self.commands.send(Command::End);
    }
}
