//! Functions report results.

use hyper::HeaderMap;
use nanofaas_wire::{callback, error::ApiError};
use shard_core::{Answer, ExecutionId, Refusal, Request};

use super::{Api, unexpected};
use crate::http::{
    request::{self, RequestBody},
    respond::{self, HttpResponse},
};

impl Api {
    /// `POST /v1/internal/executions/{id}:complete`
    pub(super) async fn complete(
        &self,
        text: &str,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        request::require_json(headers)?;
        let limit = self.settings.response_bytes_max;
        let body = request::read_body(body, limit, "limits.response-bytes").await?;
        let outcome = callback::parse(&body)?;
        let attempt = request::dispatch_attempt(headers);
        let refused = |refusal| Err(ApiError::Refused { refusal, name: text.to_owned() });
        let Some(id) = ExecutionId::parse(text) else { return refused(Refusal::ExecutionNotFound) };
        let request = Request::Complete { id, attempt, outcome };
        match self.ask(id.owner_hash(), None, request).await? {
            Answer::Callback { applied } => {
                if !applied {
                    tracing::warn!(execution = %id, attempt, "callback ignored: stale or too late");
                }
                let mut response = respond::no_content();
                respond::set_execution_id(&mut response, &id);
                Ok(response)
            }
            Answer::Refused(refusal) => refused(refusal),
            other => Err(unexpected(&other)),
        }
    }
}
