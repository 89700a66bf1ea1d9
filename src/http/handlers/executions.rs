//! Executions: read and cancelled.

use hyper::StatusCode;
use shard_core::{Answer, ExecutionId, Input, Refusal, Ticket};

use super::{Api, unexpected};
use crate::{
    api::{error::ApiError, result},
    http::respond::{self, HttpResponse},
};

impl Api {
    /// `GET /v1/executions/{id}`
    pub(super) async fn get_execution(&self, id: &str) -> Result<HttpResponse, ApiError> {
        self.about_execution(id, StatusCode::OK, |ticket, id| Input::GetExecution { ticket, id }).await
    }

    /// `DELETE /v1/executions/{id}`
    pub(super) async fn cancel_execution(&self, id: &str) -> Result<HttpResponse, ApiError> {
        self.about_execution(id, StatusCode::ACCEPTED, |ticket, id| Input::Cancel { ticket, id }).await
    }

    async fn about_execution(
        &self,
        text: &str,
        status: StatusCode,
        input: impl FnOnce(Ticket, ExecutionId) -> Input,
    ) -> Result<HttpResponse, ApiError> {
        let refused = |refusal| Err(ApiError::Refused { refusal, name: text.to_owned() });
        let Some(id) = ExecutionId::parse(text) else { return refused(Refusal::ExecutionNotFound) };
        match self.ask(id.owner_hash(), None, |ticket| input(ticket, id)).await? {
            Answer::Execution(view) => Ok(respond::of_execution(status, &id, result::execution(&view))),
            Answer::Refused(refusal) => refused(refusal),
            other => Err(unexpected(&other)),
        }
    }
}
