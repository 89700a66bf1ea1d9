//! Builds responses.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use nanofaas_wire::{
    error::ApiError,
    headers::{EXECUTION_ERROR, EXECUTION_ID, EXECUTION_STATUS},
};
use shard_core::{ExecutionId, State};

use super::list::AnswerBody;
use crate::telemetry::answers::Refused;

/// What every handler answers with.
pub(super) type HttpResponse = Response<AnswerBody>;

/// A JSON response.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(AnswerBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
    response
}

/// A JSON response that belongs to an execution, which stands like this and failed with this code.
pub(super) fn of_execution(
    status: StatusCode,
    id: &ExecutionId,
    state: State,
    code: Option<&str>,
    body: Vec<u8>,
) -> HttpResponse {
    let mut response = json(status, body);
    set_execution_id(&mut response, id);
    mark(&mut response, state, code);
    response
}

/// Says in headers how an execution stands.
pub(super) fn mark(response: &mut HttpResponse, state: State, code: Option<&str>) {
    response.headers_mut().insert(EXECUTION_STATUS, status_value(state));
    // A code given by a function may be anything.
    if let Some(code) = code.and_then(|code| HeaderValue::from_str(code).ok()) {
        response.headers_mut().insert(EXECUTION_ERROR, code);
    }
}

/// A state as a header. Checked when this is compiled, not with each answer.
fn status_value(state: State) -> HeaderValue {
    match state {
        State::Queued => const { HeaderValue::from_static(State::Queued.as_str()) },
        State::Running => const { HeaderValue::from_static(State::Running.as_str()) },
        State::Success => const { HeaderValue::from_static(State::Success.as_str()) },
        State::Error => const { HeaderValue::from_static(State::Error.as_str()) },
        State::Timeout => const { HeaderValue::from_static(State::Timeout.as_str()) },
    }
}

/// Names the execution that a response belongs to.
pub(super) fn set_execution_id(response: &mut HttpResponse, id: &ExecutionId) {
    if let Ok(value) = HeaderValue::from_bytes(&id.text()) {
        response.headers_mut().insert(EXECUTION_ID, value);
    }
}

/// A response without a body.
pub(super) fn no_content() -> HttpResponse {
    let mut response = Response::new(AnswerBody::from(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// An error.
pub(super) fn error(error: &ApiError) -> HttpResponse {
    let answer = error.answer();
    let mut response = json(answer.status, answer.body);
    response.headers_mut().extend(answer.headers);
    response.extensions_mut().insert(Refused(answer.reason));
    response
}
