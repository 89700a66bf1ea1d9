//! Dead letters, and draining by hand.

use hyper::StatusCode;
use nanofaas_wire::{error::ApiError, result};
use shard_core::{Answer, ExecutionId, Name, Refusal, Request};

use super::{Api, functions::refused, invoke::accepted};
use crate::http::{
    query::Query,
    respond::{self, HttpResponse},
};

/// Dead letters of one listing, unless it says otherwise.
const LISTED: usize = 100;
/// Dead letters of one listing at most: as many as a function can have.
const LISTED_MAX: usize = 1000;

impl Api {
    /// `GET /v1/functions/{name}/dead-letters`
    pub(super) async fn list_dead_letters(
        &self,
        name: &str,
        query: &Query<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let limit = query.count("limit", LISTED_MAX)?.unwrap_or(LISTED);
        match self.ask_about(name, |name| Request::ListDeadLetters { name, limit }).await? {
            Answer::DeadLetters(letters) => Ok(respond::json(StatusCode::OK, result::dead_letters(&letters))),
            other => Err(refused(other, name)),
        }
    }

    /// `POST /v1/functions/{name}/dead-letters/{id}:replay`
    pub(super) async fn replay_dead_letter(&self, name: &str, id: &str) -> Result<HttpResponse, ApiError> {
        let replay = |name, id| Request::Replay { name, id };
        match self.about_dead_letter(name, id, replay).await? {
            Answer::Accepted { id } => Ok(accepted(&id)),
            Answer::Refused(Refusal::DeadLetterNotFound) => Err(no_dead_letter(name, id)),
            other => Err(refused(other, name)),
        }
    }

    /// `DELETE /v1/functions/{name}/dead-letters/{id}`
    pub(super) async fn purge_dead_letter(&self, name: &str, id: &str) -> Result<HttpResponse, ApiError> {
        let purge = |name, id| Request::Purge { name, id };
        match self.about_dead_letter(name, id, purge).await? {
            Answer::Removed => Ok(respond::no_content()),
            Answer::Refused(Refusal::DeadLetterNotFound) => Err(no_dead_letter(name, id)),
            other => Err(refused(other, name)),
        }
    }

    /// `POST /v1/internal/functions/{name}:drain-once`
    pub(super) async fn drain_once(&self, name: &str) -> Result<HttpResponse, ApiError> {
        self.require_async_queue(name).await?;
        match self.ask_about(name, Request::DrainOnce).await? {
            Answer::Drained { dispatched } => Ok(respond::json(StatusCode::OK, result::drained(dispatched))),
            other => Err(refused(other, name)),
        }
    }

    async fn about_dead_letter(
        &self,
        name: &str,
        text: &str,
        request: impl FnOnce(Name, ExecutionId) -> Request,
    ) -> Result<Answer, ApiError> {
        match ExecutionId::parse(text) {
            Some(id) => self.ask_about(name, |name| request(name, id)).await,
            None => Ok(Answer::Refused(Refusal::DeadLetterNotFound)),
        }
    }
}

fn no_dead_letter(function: &str, id: &str) -> ApiError {
    ApiError::NotFound(format!(
        "Function '{function}' has no dead letter '{id}'; `nanofaas dlq list {function}` shows what it has"
    ))
}
