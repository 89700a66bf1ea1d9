//! Functions and their replicas.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderValue, LOCATION},
};
use shard_core::{Answer, Input, Name, Refusal, Ticket, answer::BackendFailureKind};

use super::{Api, internal, unexpected};
use crate::{
    api::{
        error::ApiError,
        replicas, scaling,
        spec::{self, FunctionSpec, parse::SpecError},
    },
    http::{
        query::Query,
        request::{self, RequestBody},
        respond::{self, HttpResponse},
    },
};

/// How long a listing waits for all shards.
const LISTING_TIMEOUT: Duration = Duration::from_secs(5);

impl Api {
    /// `GET /v1/functions`
    pub(super) async fn list_functions(&self) -> Result<HttpResponse, ApiError> {
        let fabric = self.node.fabric();
        let questions: Vec<_> = (0..fabric.shards())
            .map(|shard| {
                fabric.ask(shard, |shard, _| {
                    let functions = shard.functions();
                    functions.map(|(_, view)| (Box::from(view.name), view.document.clone())).collect()
                })
            })
            .collect();
        let gather = async {
            let mut functions: Vec<(Box<str>, Bytes)> = Vec::new();
            for question in questions {
                let part: Vec<_> = question.await.map_err(|error| internal("a shard is gone", &error))?;
                functions.extend(part);
            }
            Ok::<_, ApiError>(functions)
        };
        let gathered = tokio::time::timeout(LISTING_TIMEOUT, gather).await;
        let mut functions = gathered
            .map_err(|_| ApiError::Overloaded { what: "Gathering the functions of all shards" })??;
        functions.sort_unstable();
        let length: usize = functions.iter().map(|(_, document)| document.len() + 1).sum();
        let mut body = Vec::with_capacity(length + 2);
        body.push(b'[');
        for (position, (_, document)) in functions.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(document);
        }
        body.push(b']');
        Ok(respond::json(StatusCode::OK, body))
    }

    /// `POST /v1/functions`
    pub(super) async fn register_function(
        &self,
        query: &Query<'_>,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<HttpResponse, ApiError> {
        request::require_declared_json(headers)?;
        let strict = query.flag("strict")?;
        let body = self.read_json(headers, body).await?;
        let registration = self.settings.runtime_config.registration();
        let (spec, warnings) =
            FunctionSpec::parse_with_warnings(&body, &registration, strict).map_err(|error| match error {
                SpecError::Malformed(message) => ApiError::BadRequest(message.into()),
                SpecError::Invalid(details) => ApiError::Validation(details),
            })?;
        let name = spec.name.clone();
        let spec = Box::new(spec.core_spec());
        let answer =
            self.ask(spec.name.owner_hash(), None, |ticket| Input::Register { ticket, spec }).await?;
        match answer {
            Answer::Registered(document) => {
                let body = spec::with_warnings(document.to_vec(), &warnings);
                let mut response = respond::json(StatusCode::CREATED, body);
                if let Ok(location) = HeaderValue::try_from(format!("/v1/functions/{name}")) {
                    response.headers_mut().insert(LOCATION, location);
                }
                Ok(response)
            }
            other => Err(refused(other, &name)),
        }
    }

    /// `GET /v1/functions/{name}`
    pub(super) async fn get_function(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, |ticket, name| Input::GetFunction { ticket, name }).await? {
            Answer::Function(document) => Ok(respond::json(StatusCode::OK, document.to_vec())),
            other => Err(refused(other, name)),
        }
    }

    /// `DELETE /v1/functions/{name}`
    pub(super) async fn delete_function(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, |ticket, name| Input::Remove { ticket, name }).await? {
            Answer::Removed => Ok(respond::no_content()),
            other => Err(refused(other, name)),
        }
    }

    /// `GET /v1/functions/{name}/replicas`
    pub(super) async fn get_replicas(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, |ticket, name| Input::GetReplicas { ticket, name }).await? {
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
        body: RequestBody,
    ) -> Result<HttpResponse, ApiError> {
        let body = self.read_json(headers, body).await?;
        let wanted = replicas::parse(&body)?;
        let scale = |ticket, name| Input::Scale { ticket, name, replicas: wanted };
        match self.ask_about(name, scale).await? {
            Answer::Scaled { replicas: wanted } => {
                Ok(respond::json(StatusCode::OK, replicas::accepted(name, wanted)))
            }
            other => Err(refused(other, name)),
        }
    }

    /// `GET /v1/functions/{name}/scaling`
    pub(super) async fn get_scaling(&self, name: &str) -> Result<HttpResponse, ApiError> {
        match self.ask_about(name, |ticket, name| Input::GetScaling { ticket, name }).await? {
            Answer::Scaling(report) => Ok(respond::json(StatusCode::OK, scaling::report(name, &report))),
            other => Err(refused(other, name)),
        }
    }

    pub(super) async fn ask_about(
        &self,
        name: &str,
        input: impl FnOnce(Ticket, Name) -> Input,
    ) -> Result<Answer, ApiError> {
        // No function can have a name that is none.
        let Some(name) = Name::new(name) else { return Ok(Answer::Refused(Refusal::FunctionNotFound)) };
        self.ask(name.owner_hash(), None, |ticket| input(ticket, name)).await
    }

    /// Refuses when the async queue is off. Whether the function exists is said first: it is the more useful of the two
    /// answers.
    pub(super) async fn require_async_queue(&self, name: &str) -> Result<(), ApiError> {
        if self.settings.async_queue {
            return Ok(());
        }
        match self.ask_about(name, |ticket, name| Input::GetFunction { ticket, name }).await? {
            Answer::Function(_) => Err(ApiError::AsyncQueueDisabled),
            other => Err(refused(other, name)),
        }
    }

    pub(super) async fn read_json(&self, headers: &HeaderMap, body: RequestBody) -> Result<Bytes, ApiError> {
        request::require_json(headers)?;
        request::read_body(headers, body, self.settings.request_bytes_max, "limits.request-bytes").await
    }
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
