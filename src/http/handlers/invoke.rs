//! Synchronous and asynchronous invocation.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION},
};
use nanofaas_wire::{envelope, error::ApiError, result};
use shard_core::{
    Answer, ExecutionId, Failure, Invoke, Name, Output, OutputKind, Payload, Refusal, Request, State,
    payload::code,
};

use super::{Api, unexpected};
use crate::http::{
    list::AnswerBody,
    request::{self, CallHeaders, RequestBody},
    respond::{self, HttpResponse},
};

impl Api {
    /// `POST /v1/functions/{name}:invoke`
    pub(super) async fn invoke(
        &self,
        name: &str,
        ours: &CallHeaders<'_>,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let call = self.read_call(name, ours, body).await?;
        let (id, raw) = (call.id, call.payload.content_type.is_some());
        let answer = self.ask(call.name.owner_hash(), Some(id), Request::Invoke(call)).await?;
        match answer {
            Answer::Finished { id, result: Ok(output) } if raw => Ok(raw_success(&id, output)),
            Answer::Finished { id, result: Ok(output) } => {
                let body = result::success(&id, &output);
                Ok(respond::of_execution(StatusCode::OK, &id, State::Success, None, body))
            }
            Answer::Finished { id, result: Err(failure) } if raw => Ok(raw_failure(&id, *failure)),
            Answer::Finished { id, result: Err(failure) } => {
                let body = result::failure(&id, &failure);
                Ok(respond::of_execution(StatusCode::OK, &id, State::Error, Some(&failure.code), body))
            }
            Answer::TimedOut { id, stage, limit_ms } => {
                let body = result::timeout(&id, stage, limit_ms);
                let (status, code) = (StatusCode::REQUEST_TIMEOUT, Some(code::TIMEOUT));
                Ok(respond::of_execution(status, &id, State::Timeout, code, body))
            }
            Answer::Refused(refusal) => Err(refused(refusal, name)),
            other => Err(unexpected(&other)),
        }
    }

    /// `POST /v1/functions/{name}:enqueue`
    pub(super) async fn enqueue(
        &self,
        name: &str,
        ours: &CallHeaders<'_>,
        body: RequestBody<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let mut call = self.read_call(name, ours, body).await?;
        ours.add_async(self.settings.delivery, &mut call.extra)?;
        self.require_async_queue(name).await?;
        // Nobody waits for it here.
        call.timeout_ms = None;
        let answer = self.ask(call.name.owner_hash(), None, Request::Enqueue(call)).await?;
        match answer {
            Answer::Accepted { id } => Ok(accepted(&id)),
            Answer::Refused(refusal) => Err(refused(refusal, name)),
            other => Err(unexpected(&other)),
        }
    }

    async fn read_call(
        &self,
        name: &str,
        ours: &CallHeaders<'_>,
        body: RequestBody<'_>,
    ) -> Result<Invoke, ApiError> {
        let content_type = ours.raw_content_type()?;
        let timeout_ms = ours.timeout_ms()?;
        let limit = self.settings.request_bytes_max;
        let body = request::read_body(body, limit, "limits.request-bytes").await?;
        let extra = ours.extra(&body)?;
        let payload = match content_type {
            None => envelope::parse(&body)?,
            Some(_) => Payload { input: body, metadata: None, content_type },
        };
        // No function can have a name that is none.
        let name = Name::new(name).ok_or_else(|| refused(Refusal::FunctionNotFound, name))?;
        let id = self.new_id(name.owner_hash())?;
        Ok(Invoke { id, name, payload, timeout_ms, extra })
    }
}

/// The execution was accepted; its result is fetched later.
pub(super) fn accepted(id: &ExecutionId) -> HttpResponse {
    let mut response =
        respond::of_execution(StatusCode::ACCEPTED, id, State::Queued, None, result::accepted(id));
    let location = [b"/v1/executions/", &id.text()[..]].concat();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn refused(refusal: Refusal, name: &str) -> ApiError {
    ApiError::Refused { refusal, name: name.to_owned() }
}

fn raw_success(id: &ExecutionId, output: Output) -> HttpResponse {
    let mut response = raw_response(StatusCode::OK, id, output);
    respond::mark(&mut response, State::Success, None);
    response
}

/// The function's own words, as they are; our message when it had none.
fn raw_failure(id: &ExecutionId, failure: Failure) -> HttpResponse {
    let output = failure.body.unwrap_or_else(|| Output {
        body: Bytes::from(failure.message.into_string()),
        kind: OutputKind::Text,
    });
    let mut response = raw_response(StatusCode::BAD_GATEWAY, id, output);
    respond::mark(&mut response, State::Error, Some(&failure.code));
    response
}

fn raw_response(status: StatusCode, id: &ExecutionId, output: Output) -> HttpResponse {
    let (content_type, encoding): (Cow<'static, str>, _) = match output.kind {
        OutputKind::Json => ("application/json".into(), None),
        OutputKind::Text => ("text/plain; charset=utf-8".into(), None),
        OutputKind::Other(media) => (media.content_type.into_string().into(), media.encoding),
    };
    let mut response = Response::new(AnswerBody::from(output.body));
    *response.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(&content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    if let Some(encoding) = encoding.and_then(|encoding| HeaderValue::from_str(&encoding).ok()) {
        response.headers_mut().insert(CONTENT_ENCODING, encoding);
    }
    respond::set_execution_id(&mut response, id);
    response
}
