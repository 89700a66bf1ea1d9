//! Builds responses.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use shard_core::ExecutionId;

use super::{headers::EXECUTION_ID, list::AnswerBody};
use crate::api::error::ApiError;

/// What every handler answers with.
pub(super) type HttpResponse = Response<AnswerBody>;

/// A JSON response.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(AnswerBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON response that belongs to an execution.
pub(super) fn of_execution(status: StatusCode, id: &ExecutionId, body: Vec<u8>) -> HttpResponse {
    let mut response = json(status, body);
    set_execution_id(&mut response, id);
    response
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
    response
}
