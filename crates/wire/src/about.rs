//! What the server says of itself, on the wire.

use serde_json::{Map, Value, json};

use super::result::to_json;

/// Commit that the binary was built from.
const COMMIT: &str = match option_env!("NANOFAAS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The body of `GET /modules/build-metadata`. `features` are the backends and modules that are on.
pub fn build_metadata(features: &[&'static str], shards: u16) -> Vec<u8> {
    to_json(&json!({
        "module": "build-metadata",
        "status": "enabled",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": COMMIT,
        "features": features,
        "shards": shards,
    }))
}

/// The body of a health check; `groups` names those that can be asked for alone.
pub fn health(status: &str, groups: &[&str]) -> Vec<u8> {
    to_json(&health_body(status, groups))
}

/// The same, with what the server is busy with.
pub fn health_with_details(status: &str, groups: &[&str], details: &str) -> Vec<u8> {
    let mut body = health_body(status, groups);
    body["details"] = json!(details);
    to_json(&body)
}

fn health_body(status: &str, groups: &[&str]) -> Value {
    let mut body = json!({ "status": status });
    if !groups.is_empty() {
        body["groups"] = json!(groups);
    }
    body
}

/// Links to paths below `base`, each under its own name.
pub fn links(base: &str, paths: &[&str]) -> Vec<u8> {
    let link = |path: &&str| ((*path).to_owned(), json!({ "href": format!("{base}/{path}") }));
    let links: Map<String, Value> = paths.iter().map(link).collect();
    to_json(&json!({ "_links": links }))
}
