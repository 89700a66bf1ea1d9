//! Functions and their replicas.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderValue, LOCATION},
};
use nanofaas_wire::{
    error::ApiError,
    function::{self, FunctionSpec, parse::SpecError},
    replicas, scaling,
};
use shard_core::{Answer, Name, Refusal, Request, Shard, answer::BackendFailureKind};

use super::{Api, internal, unexpected};
use crate::http::{
    list::{AnswerBody, List, ListPlace},
    query::Query,
    request::{self, RequestBody},
    respond::{self, HttpResponse},
};

/// How long a listing waits for all shards.
const LISTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Functions that a shard tells of at once.
const SLICE_FUNCTIONS: usize = 1024;
/// Listings that one thread sends at a time: one that nobody reads keeps documents of deleted functions.
const LISTS_MAX: usize = 64;

impl Api {
    /// `GET /v1/functions`
    pub(super) async fn list_functions(&self) -> Result<HttpResponse, ApiError> {
        let full = || ApiError::Full { what: "lists of functions being sent" };
        let place = ListPlace::take(&self.lists, LISTS_MAX).ok_or_else(full)?;
        let gathered = tokio::time::timeout(LISTING_TIMEOUT, self.gather_documents()).await;
        let mut functions = gathered
            .map_err(|_| ApiError::Overloaded { what: "Gathering the functions of all shards" })??;
        functions.sort_unstable();
        let documents = functions.into_iter().map(|(_, document)| document).collect();
        let mut response = respond::json(StatusCode::OK, Vec::new());
        *response.body_mut() = AnswerBody::List(Box::new(List::new(documents, place)));
        Ok(response)
    }

    /// The documents of all functions, by name. They are shared with the shards, not copied. A shard is asked for a
    /// slice at a time and serves calls in between.
    async fn gather_documents(&self) -> Result<Vec<(Box<str>, Bytes)>, ApiError> {
        let workers = self.worker.workers();
        let mut functions: Vec<(Box<str>, Bytes)> = Vec::new();
        let mut left: Vec<(u16, usize)> = (0..workers.shards()).map(|shard| (shard, 0)).collect();
        while !left.is_empty() {
            let ask =
                |(shard, from): (u16, usize)| (shard, workers.ask(shard, move |shard, _| slice(shard, from)));
            let questions: Vec<_> = left.drain(..).map(ask).collect();
            for (shard, question) in questions {
                let (part, next) = question.await.map_err(|error| internal("a shard is gone", &error))?;
                functions.extend(part);
                left.extend(next.map(|next| (shard, next)));
            }
        }
        Ok(functions)
    }

    /// `POST /v1/functions`
    pub(super) async fn register_function(
        &self,
        query: &Query<'_>,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        request::require_declared_json(headers)?;
        let strict = query.flag("strict")?;
        let body = self.read_json(headers, body).await?;
        let registration = self.settings.runtime_config.registration();
        let (resolved, warnings) =
            FunctionSpec::parse_with_warnings(&body, &registration, strict).map_err(|error| match error {
                SpecError::Malformed(message) => ApiError::BadRequest(message.into()),
                SpecError::Invalid(details) => ApiError::Validation(details),
            })?;
        let name = resolved.name.clone();
        let spec = Box::new(resolved.core_spec());
        let limit = self.settings.spec_bytes_max;
        if spec.document.len() > limit {
            let limit_bytes = limit as u64;
            return Err(ApiError::PayloadTooLarge { limit_bytes, setting: "limits.spec-bytes" });
        }
        let document = match &self.settings.resources {
            Some(resources) => resources.register(resolved).await?,
            None => match self.ask(spec.name.owner_hash(), None, Request::Register(spec)).await? {
                Answer::Registered(document) => document.to_vec(),
                other => return Err(refused(other, &name)),
            },
        };
        let mut response = respond::json(StatusCode::CREATED, function::with_warnings(document, &warnings));
        if let Ok(location) = HeaderValue::try_from(format!("/v1/functions/{name}")) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    /// `GET /v1/functions/{name}`
    pub(super) async fn get_function(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, Request::GetFunction).await? {
            Answer::Function(document) => Ok(respond::json(StatusCode::OK, document.to_vec())),
            other => Err(refused(other, name)),
        }
    }

    /// `DELETE /v1/functions/{name}`
    pub(super) async fn delete_function(&self, name: &str) -> Result<HttpResponse, ApiError> {
        if let Some(resources) = &self.settings.resources {
            resources.remove(name).await?;
            return Ok(respond::no_content());
        }
        match self.ask_about(name, Request::Remove).await? {
            Answer::Removed => Ok(respond::no_content()),
            other => Err(refused(other, name)),
        }
    }

    /// `GET /v1/functions/{name}/replicas`
    pub(super) async fn get_replicas(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, Request::GetReplicas).await? {
            Answer::Replicas { desired, ready } => {
                Ok(respond::json(StatusCode::OK, replicas::status(name, desired, ready)))
            }
            other => Err(refused(other, name)),
        }
    }

    /// `PUT /v1/functions/{name}/replicas`
    pub(super) async fn set_replicas(
        &self,
        name: &str,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let body = self.read_json(headers, body).await?;
        let wanted = replicas::parse(&body)?;
        if let Some(resources) = &self.settings.resources {
            let wanted = resources.scale(name, wanted).await?;
            return Ok(respond::json(StatusCode::OK, replicas::accepted(name, wanted)));
        }
        let scale = |name| Request::Scale { name, replicas: wanted };
        match self.ask_about(name, scale).await? {
            Answer::Scaled { replicas: wanted } => {
                Ok(respond::json(StatusCode::OK, replicas::accepted(name, wanted)))
            }
            other => Err(refused(other, name)),
        }
    }

    /// `GET /v1/functions/{name}/scaling`
    pub(super) async fn get_scaling(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, Request::GetScaling).await? {
            Answer::Scaling(report) => Ok(respond::json(StatusCode::OK, scaling::report(name, &report))),
            other => Err(refused(other, name)),
        }
    }

    pub(super) async fn ask_about(
        &self,
        name: &str,
        request: impl FnOnce(Name) -> Request,
    ) -> Result<Answer, ApiError> {
        // No function can have a name that is none.
        let Some(name) = Name::new(name) else { return Ok(Answer::Refused(Refusal::FunctionNotFound)) };
        self.ask(name.owner_hash(), None, request(name)).await
    }

    /// Refuses when the async queue is off. Whether the function exists is said first: it is the more useful of the two
    /// answers.
    pub(super) async fn require_async_queue(&self, name: &str) -> Result<(), ApiError> {
        if self.settings.async_queue {
            return Ok(());
        }
        match self.ask_about(name, Request::GetFunction).await? {
            Answer::Function(_) => Err(ApiError::AsyncQueueDisabled),
            other => Err(refused(other, name)),
        }
    }

    pub(super) async fn read_json(
        &self,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<Bytes, ApiError> {
        request::require_json(headers)?;
        request::read_body(body, self.settings.request_bytes_max, "limits.request-bytes").await
    }
}

/// Some of a shard's functions, from a position on, and where to go on when there are more.
fn slice(shard: &Shard, from: usize) -> (Vec<(Box<str>, Bytes)>, Option<usize>) {
    let mut part = Vec::new();
    for (key, view) in shard.functions_from(from) {
        if part.len() == SLICE_FUNCTIONS {
            return (part, Some(key.index()));
        }
        part.push((Box::from(view.name), view.document.clone()));
    }
    (part, None)
}

pub(super) fn refused(answer: Answer, name: &str) -> ApiError {
    match answer {
        Answer::Refused(Refusal::Backend(failure)) if failure.kind == BackendFailureKind::Teardown => {
            internal("teardown failed, the function is back", &failure.message)
        }
        Answer::Refused(refusal) => ApiError::Refused { refusal, name: name.to_owned() },
        other => unexpected(&other),
    }
}
