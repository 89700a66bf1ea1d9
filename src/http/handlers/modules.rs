//! What the server says of itself on the API listener.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::json;

use super::Api;
use crate::{
    api::{openapi, result::to_json},
    http::respond::{self, HttpResponse},
};

/// Commit that the binary was built from.
const COMMIT: &str = match option_env!("NANOFAAS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

impl Api {
    /// `GET /modules/build-metadata`
    pub(super) fn build_metadata(&self) -> HttpResponse {
        let body = to_json(&json!({
            "module": "build-metadata",
            "status": "enabled",
            "version": env!("CARGO_PKG_VERSION"),
            "commit": COMMIT,
            "features": self.settings.features,
            "shards": self.node.fabric().shards(),
        }));
        respond::json(StatusCode::OK, body)
    }
}

/// `GET /openapi.yaml`
pub(super) fn openapi() -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from_static(openapi::DOCUMENT.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    response
}
