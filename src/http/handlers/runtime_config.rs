//! The admin API: what can be changed while the server runs.

use hyper::{HeaderMap, StatusCode};
use nanofaas_wire::{
    error::ApiError,
    runtime_config::{self, Patch},
};

use super::Api;
use crate::http::{
    request::{self, RequestBody},
    respond::{self, HttpResponse},
};

impl Api {
    /// `GET /v1/admin/runtime-config`
    pub(super) fn get_runtime_config(&self) -> HttpResponse {
        respond::json(StatusCode::OK, self.settings.runtime_config.snapshot().document())
    }

    /// `PUT` and `PATCH /v1/admin/runtime-config`
    pub(super) async fn change_runtime_config(
        &self,
        needs_revision: bool,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let patch = self.read_patch(headers, body).await?;
        if needs_revision && patch.expected_revision.is_none() {
            let message = "expectedRevision is required: the `revision` that you have read";
            return Err(ApiError::BadRequest(message.into()));
        }
        // First what can fail: a change that was made is never answered with an error.
        let id = self.new_id(0)?;
        let (snapshot, warnings) = self.settings.runtime_config.change(&patch).await?;
        Ok(respond::json(StatusCode::OK, snapshot.applied(&id.to_string(), &warnings)))
    }

    /// `POST /v1/admin/runtime-config/validate`
    pub(super) async fn validate_runtime_config(
        &self,
        headers: &HeaderMap,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let patch = self.read_patch(headers, body).await?;
        self.settings.runtime_config.validate(&patch)?;
        Ok(respond::json(StatusCode::OK, runtime_config::valid()))
    }

    async fn read_patch(&self, headers: &HeaderMap, body: RequestBody<'_>) -> Result<Patch, ApiError> {
        request::require_declared_json(headers)?;
        Patch::parse(&self.read_json(headers, body).await?)
    }
}
