//! What the server says of itself on the API listener.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use nanofaas_wire::about;

use super::Api;
use crate::http::{
    list::AnswerBody,
    openapi,
    respond::{self, HttpResponse},
};

impl Api {
    /// `GET /modules/build-metadata`
    pub(super) fn build_metadata(&self) -> HttpResponse {
        let body = about::build_metadata(&self.settings.features, self.worker.workers().shards());
        respond::json(StatusCode::OK, body)
    }
}

/// `GET /openapi.yaml`
pub(super) fn openapi() -> HttpResponse {
    let mut response = Response::new(AnswerBody::from(Bytes::from_static(openapi::DOCUMENT.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    response
}
