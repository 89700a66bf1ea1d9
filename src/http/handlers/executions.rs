//! Executions: read and cancelled.

use std::time::Duration;

use hyper::StatusCode;
use nanofaas_wire::{error::ApiError, result};
use shard_core::{Answer, ExecutionId, Refusal, Request};

use super::{Api, unexpected};
use crate::http::{
    query::Query,
    respond::{self, HttpResponse},
};

/// Longest wait of one read.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Api {
    /// `GET /v1/executions/{id}`
    pub(super) async fn get_execution(&self, id: &str, query: &Query<'_>) -> Result<HttpResponse, ApiError> {
        let wait = query.duration("wait")?.unwrap_or_default().min(WAIT_MAX);
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let ask = |id| Request::GetExecution { id, wait_ms };
        self.about_execution(id, StatusCode::OK, ask).await
    }

    /// `DELETE /v1/executions/{id}`
    pub(super) async fn cancel_execution(&self, id: &str) -> Result<HttpResponse, ApiError> {
        self.about_execution(id, StatusCode::ACCEPTED, Request::Cancel).await
    }

    async fn about_execution(
        &self,
        text: &str,
        status: StatusCode,
        request: impl FnOnce(ExecutionId) -> Request,
    ) -> Result<HttpResponse, ApiError> {
        let refused = |refusal| Err(ApiError::Refused { refusal, name: text.to_owned() });
        let Some(id) = ExecutionId::parse(text) else { return refused(Refusal::ExecutionNotFound) };
        match self.ask(id.owner_hash(), Some(id), request(id)).await? {
            Answer::Execution(view) => {
                let code = view.error.as_ref().map(|failure| &*failure.code);
                Ok(respond::of_execution(status, &id, view.state, code, result::execution(&view)))
            }
            Answer::Refused(refusal) => refused(refusal),
            other => Err(unexpected(&other)),
        }
    }
}
