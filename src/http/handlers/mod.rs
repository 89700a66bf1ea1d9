//! What the API does, one file per group of paths.

mod callbacks;
mod dead_letters;
mod executions;
mod functions;
mod invoke;
mod modules;
mod runtime_config;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use hyper::{Method, body::Incoming, http::request::Parts};
use nanofaas_wire::error::ApiError;
use shard_core::{Answer, ExecutionId, Request};
use shard_runtime::Worker;

use super::{
    body::BodyBudget,
    io::ConnectionState,
    origin::Pass,
    query::Query,
    request::{CallHeaders, RequestBody},
    respond::{self, HttpResponse},
    route::Route,
};
use crate::{
    delivery::address::Permit, host::ShardHost, ids::IdSource, resources::Resources,
    runtime_config::RuntimeConfig,
};

/// Settings that handlers need.
pub struct ApiSettings {
    /// Longest request body, in bytes.
    pub request_bytes_max: usize,
    /// Memory for bodies that are being read.
    pub bodies: BodyBudget,
    /// Longest spec of a function as it is kept, in bytes.
    pub spec_bytes_max: usize,
    /// Longest callback body, in bytes.
    pub response_bytes_max: usize,
    /// What can be changed while the server runs.
    pub runtime_config: Arc<RuntimeConfig<ShardHost>>,
    /// The admin API is served.
    pub admin: bool,
    /// `:enqueue` is taken.
    pub async_queue: bool,
    /// Where results may be delivered; `None` when there is no key to sign them with.
    pub delivery: Option<Permit>,
    /// Backends and modules that are on, for the build metadata.
    pub features: Vec<&'static str>,
    /// Callbacks arrive at a listener of their own.
    pub internal_listener: bool,
    /// Functions are resources: these register and remove them.
    pub resources: Option<Arc<Resources>>,
}

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// The API listener.
    Api,
    /// The listener for callbacks only.
    Internal,
}

/// The API on one thread.
pub struct Api {
    worker: Worker<ShardHost>,
    settings: Arc<ApiSettings>,
    ids: RefCell<IdSource>,
    /// Lists that are being sent.
    lists: Rc<Cell<usize>>,
}

impl Api {
    /// The API on the worker's thread.
    pub fn new(worker: Worker<ShardHost>, settings: Arc<ApiSettings>) -> Rc<Api> {
        Rc::new(Api { worker, settings, ids: RefCell::default(), lists: Rc::default() })
    }

    /// Answers one request. `call` is what its head says about a call.
    pub(super) async fn handle(
        &self,
        kind: ListenerKind,
        state: &Rc<ConnectionState>,
        pass: &Pass,
        head: &Parts,
        call: &CallHeaders<'_>,
        incoming: Incoming,
    ) -> HttpResponse {
        let body = RequestBody { incoming, state: Rc::clone(state), budget: &self.settings.bodies };
        match self.route(kind, pass, head, call, body).await {
            Ok(response) => response,
            Err(error) => respond::error(&error),
        }
    }

    async fn route(
        &self,
        kind: ListenerKind,
        pass: &Pass,
        head: &Parts,
        call: &CallHeaders<'_>,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let route = Route::of(head.uri.path()).ok_or(ApiError::UnknownPath)?;
        body.state.set_route(route.number());
        let belongs = match kind {
            ListenerKind::Api => !(route.is_internal() && self.settings.internal_listener),
            ListenerKind::Internal => route.is_internal(),
        };
        if !belongs || (route.is_admin() && !self.settings.admin) {
            return Err(ApiError::UnknownPath);
        }
        if !route.allows(&head.method) {
            if let Some(headers) = pass.preflight(&head.method, &head.headers, route.allow()) {
                let mut response = respond::no_content();
                *response.headers_mut() = headers;
                return Ok(response);
            }
            return Err(ApiError::MethodNotAllowed { allow: route.allow() });
        }
        // hyper leaves out the body of an answer to HEAD, and announces its length.
        let get = head.method == Method::GET || head.method == Method::HEAD;
        let query = Query::of(&head.uri);
        match route {
            Route::Invoke(name) => self.invoke(&name, call, body).await,
            Route::Enqueue(name) => self.enqueue(&name, call, body).await,
            Route::Functions if get => self.list_functions().await,
            Route::Functions => self.register_function(&query, &head.headers, body).await,
            Route::Function(name) if get => self.get_function(&name).await,
            Route::Function(name) => self.delete_function(&name).await,
            Route::Replicas(name) if get => self.get_replicas(&name).await,
            Route::Replicas(name) => self.set_replicas(&name, &head.headers, body).await,
            Route::Scaling(name) => self.get_scaling(&name).await,
            Route::DeadLetters(name) => self.list_dead_letters(&name, &query).await,
            Route::DeadLetter(name, id) => self.purge_dead_letter(&name, &id).await,
            Route::Replay(name, id) => self.replay_dead_letter(&name, &id).await,
            Route::Execution(id) if get => self.get_execution(&id, &query).await,
            Route::Execution(id) => self.cancel_execution(&id).await,
            Route::Complete(id) => self.complete(&id, &head.headers, body).await,
            Route::DrainOnce(name) => self.drain_once(&name).await,
            Route::RuntimeConfig if get => Ok(self.get_runtime_config()),
            Route::RuntimeConfig => {
                let needs_revision = head.method == Method::PATCH;
                self.change_runtime_config(needs_revision, &head.headers, body).await
            }
            Route::ValidateRuntimeConfig => self.validate_runtime_config(&head.headers, body).await,
            Route::BuildMetadata => Ok(self.build_metadata()),
            Route::OpenApi => Ok(modules::openapi()),
        }
    }

    /// Asks the shard that owns `hash` and waits for its answer.
    async fn ask(&self, hash: u16, id: Option<ExecutionId>, request: Request) -> Result<Answer, ApiError> {
        match self.worker.call(hash, id, request) {
            Ok(reply) => Ok(reply.await),
            Err(_busy) => Err(ApiError::Overloaded { what: "Waiting for other callers of this thread" }),
        }
    }

    fn new_id(&self, hash: u16) -> Result<ExecutionId, ApiError> {
        self.ids.borrow_mut().next(hash).map_err(|error| internal("no random bytes", &error))
    }
}

/// Writes a fault of ours into the log and names it to the client.
fn internal(what: &'static str, error: &dyn std::fmt::Display) -> ApiError {
    // Only has to be unlikely to repeat within a log.
    let mut id = [0; 8];
    let _ = getrandom::fill(&mut id);
    let request_id = format!("{:016x}", u64::from_be_bytes(id));
    tracing::error!(request_id, %error, what, "request failed");
    ApiError::Internal { request_id }
}

/// An answer that does not belong to the question: a bug, reported as one.
fn unexpected(answer: &Answer) -> ApiError {
    internal("answer does not belong to the question", &format!("{answer:?}"))
}
