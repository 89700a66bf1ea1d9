//! Questions to the server: what it knows of an execution, which dead letters a function has.

use std::time::Duration;

use serde_json::Value;

use super::{
    caller::name,
    ledger::{End, Seen},
};
use crate::client::exchange::{Client, FetchError};

/// How long an answer may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// Dead letters that a function can have.
pub(super) const LETTERS_MAX: usize = 1000;

/// What the server says of an execution; `query` may ask it to wait for the end.
pub(super) fn look(client: &mut Client, id: &str, query: &str) -> Result<Seen, FetchError> {
    let answer = client.send("GET", &format!("/v1/executions/{id}{query}"), None)?;
    if answer.status == 404 {
        return Ok(Seen::Unknown);
    }
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    Ok(end(&parsed(&answer.body)?).map_or(Seen::Open, Seen::Ended))
}

/// The dead letters of a function: ids and ends. `None`: there is no such function.
pub(super) fn dead_letters(
    client: &mut Client,
    function: u64,
) -> Result<Option<Vec<(String, End)>>, FetchError> {
    let path = format!("/v1/functions/{}/dead-letters?limit={LETTERS_MAX}", name(function));
    let answer = client.send("GET", &path, None)?;
    match answer.status {
        200 => {}
        404 => return Ok(None),
        status => return Err(FetchError::Status(status)),
    }
    let list = parsed(&answer.body)?;
    let letters = list.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    Ok(Some(
        letters
            .filter_map(|letter| Some((letter["executionId"].as_str()?.to_owned(), end(letter)?)))
            .collect(),
    ))
}

/// The end in an ExecutionStatus, if it has one.
pub(super) fn end(status: &Value) -> Option<End> {
    let name = status["status"].as_str().filter(|name| ["success", "error", "timeout"].contains(name))?;
    Some(End {
        status: name.to_owned(),
        code: status["error"]["code"].as_str().map(str::to_owned),
        result: format!("{} {}", status["output"], status["error"]),
    })
}

fn parsed(body: &[u8]) -> Result<Value, FetchError> {
    serde_json::from_slice(body).map_err(|error| FetchError::Answer(error.to_string()))
}
