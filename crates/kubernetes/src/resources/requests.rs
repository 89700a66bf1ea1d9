//! Requests about resources.

use std::{cell::Cell, time::Duration};

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use nanofaas_wire::error::ApiError;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::object::{Function, Status, replicas_of, status_of};
use crate::cluster::{MANAGER, REQUEST_TIMEOUT, RequestError, repeated};

/// Between two writes of a status: at most 50 a second.
const STATUS_PAUSE: Duration = Duration::from_millis(20);

/// Resources at the API server.
pub(super) struct Requests {
    /// Of the namespace.
    pub(super) api: Api<Function>,
    /// When the next status may be written.
    pub(super) next_status: Cell<Instant>,
}

impl Requests {
    /// Makes a resource. Not repeated when there was no answer: it may be there then, and would be in its own way.
    pub(super) async fn create(&self, object: &Value) -> Result<Function, RequestError> {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let object: Function = serde_json::from_value(object.clone())
            .map_err(|error| RequestError::Unreachable(format!("the resource cannot be written: {error}")))?;
        answered(self.api.create(&parameters, &object)).await
    }

    /// Deletes exactly this resource. One that is not there any more is a success.
    pub(super) async fn delete(&self, function: &Function, by: Instant) -> Result<(), RequestError> {
        let uid = Some(function.uid().to_owned());
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match repeated(by, || self.api.delete(function.name(), &parameters)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            // Another one has the name by now.
            Err(RequestError::Refused(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a resource ask for so many replicas.
    pub(super) async fn scale(
        &self,
        function: &Function,
        replicas: u32,
        by: Instant,
    ) -> Result<Function, RequestError> {
        let object = replicas_of(function, replicas);
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&object));
        repeated(by, || self.api.patch(function.name(), &parameters, &patch)).await
    }

    /// Tells of a resource, in turn.
    pub(super) async fn tell(
        &self,
        function: &Function,
        status: &Status,
        revision: Option<&str>,
    ) -> Result<Function, RequestError> {
        let turn = self.next_status.get().max(Instant::now());
        self.next_status.set(turn + STATUS_PAUSE);
        sleep_until(turn).await;
        let object = status_of(function, status, revision);
        let parameters = PatchParams::apply(MANAGER).force();
        answered(self.api.patch_status(function.name(), &parameters, &Patch::Apply(&object))).await
    }
}

/// Waits for an answer, once.
async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RequestError> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(RequestError::of),
        Err(_) => {
            let limit_ms = REQUEST_TIMEOUT.as_millis();
            Err(RequestError::Unreachable(format!("no answer within {limit_ms} ms")))
        }
    }
}

/// What whoever asked for a function is told when its resource could not be written.
pub(super) fn refused(function: &str, error: &RequestError) -> ApiError {
    match error {
        RequestError::Refused(status) if status.code == 409 => ApiError::conflict(format!(
            "Function '{function}' cannot be written as a resource: {}; delete that one first",
            status.message
        )),
        RequestError::Refused(status) if matches!(status.code, 400 | 422) => {
            ApiError::Validation(vec![format!("resource: {}", status.message)])
        }
        error => unchanged(function, error),
    }
}

/// The same when it is there already.
pub(super) fn unchanged(function: &str, error: &RequestError) -> ApiError {
    ApiError::unavailable(format!(
        "The resource of function '{function}' could not be written, so nothing was changed: {error}; try again, or look with \
         kubectl"
    ))
}
