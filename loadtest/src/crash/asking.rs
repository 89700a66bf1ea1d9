//! Questions to the server: what it knows of an execution, which functions it has.

use std::{net::SocketAddr, time::Duration};

use super::{CrashError, caller::name, ledger::Seen};
use crate::{
    client::exchange::{Client, FetchError},
    server::Server,
};

/// How long an answer may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Registers what is missing; how many functions that were.
pub(super) fn register(
    server: &Server,
    functions: u64,
    endpoint: SocketAddr,
    attempts_max: u32,
) -> Result<u64, CrashError> {
    let failed = |error: String| CrashError::Register(error);
    let mut client = Client::connect(server.api, ASK_TIMEOUT)?;
    let mut missing = 0;
    for function in 0..functions {
        let name = name(function);
        let path = format!("/v1/functions/{name}");
        let known = client.send("GET", &path, None).map_err(|error| failed(error.to_string()))?;
        if known.status == 200 {
            continue;
        }
        missing += 1;
        let spec = format!(
            r#"{{"name":"{name}","executionMode":"POOL","endpointUrl":"http://{endpoint}/invoke","concurrency":16,"queueSize":100000,"maxRetries":{attempts_max}}}"#
        );
        let answer =
            client.send("POST", "/v1/functions", Some(&spec)).map_err(|error| failed(error.to_string()))?;
        if answer.status != 201 {
            return Err(failed(String::from_utf8_lossy(&answer.body).into_owned()));
        }
    }
    Ok(missing)
}

/// What the server says of an execution.
pub(super) fn look(client: &mut Client, id: &str) -> Result<Seen, FetchError> {
    let answer = client.send("GET", &format!("/v1/executions/{id}"), None)?;
    if answer.status == 404 {
        return Ok(Seen::Unknown);
    }
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    let status: serde_json::Value =
        serde_json::from_slice(&answer.body).map_err(|error| FetchError::Answer(error.to_string()))?;
    Ok(match status["status"].as_str() {
        Some(end @ ("success" | "error" | "timeout")) => {
            Seen::Ended(end.to_owned(), format!("{} {}", status["output"], status["error"]))
        }
        _ => Seen::Open,
    })
}
