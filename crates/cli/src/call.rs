//! One call of a function, waited for (`invoke`, `fn test`, `demo`) or handed over (`enqueue`).

use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, header::HeaderValue};
use nanofaas_web::client::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    client::{ApiClient, MANAGEMENT_TIMEOUT, function_path, refused},
    failure::Failure,
};

/// Time for a call without a timeout of its own.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(300);
/// How much later than the server we give up: it should be the one that says why.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(10);

/// Header of an answer that belongs to an execution: how that ended.
const EXECUTION_STATUS: &str = "x-execution-status";

/// What to send.
#[derive(Debug)]
pub(super) struct CallRequest<'a> {
    /// Name of the function.
    pub(super) function: &'a str,
    /// An [`envelope`], or the bytes of a raw call.
    pub(super) body: Bytes,
    /// Headers; an envelope needs no content type.
    pub(super) headers: HeaderMap,
    /// `X-Timeout-Ms`
    pub(super) timeout_ms: Option<u64>,
}

/// What came back from an execution, good or bad.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The envelope as the server sent it.
    pub(super) body: Bytes,
    /// `success`, `error` or `timeout`.
    pub(super) status: String,
    /// The output's bytes; `null` when there is none.
    pub(super) output: String,
    /// Code and message of a failure.
    pub(super) error: Option<CallError>,
    /// The execution's id.
    pub(super) id: Option<String>,
}

/// A call that the server has taken over.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The envelope as the server sent it.
    pub(super) body: Bytes,
    /// Where its result will be.
    pub(super) id: String,
}

/// Why an execution did not succeed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CallError {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct ResponseEnvelope<'a> {
    status: String,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<CallError>,
    #[serde(rename = "executionId", default)]
    execution_id: Option<String>,
}

#[derive(Deserialize)]
struct Receipt {
    #[serde(rename = "executionId")]
    execution_id: String,
}

/// The body of a call with this input, byte for byte.
pub(super) fn envelope(input: &RawValue) -> Bytes {
    format!("{{\"input\":{}}}", input.get()).into()
}

impl Outcome {
    pub(super) fn succeeded(&self) -> bool {
        self.status == "success"
    }

    /// The failure as one sentence.
    pub(super) fn complaint(&self) -> String {
        match &self.error {
            Some(error) => format!("{} ({})", error.message, error.code),
            None => format!("the execution ended as {}", self.status),
        }
    }
}

impl ApiClient {
    /// Calls a function and waits for the end of the execution.
    ///
    /// A function that failed or timed out is an [`Outcome`]; a call that was not admitted is a [`Failure`].
    pub(super) async fn invoke(&self, call: CallRequest<'_>) -> Result<Outcome, Failure> {
        let timeout = call.timeout_ms.map_or(INVOKE_TIMEOUT, |ms| Duration::from_millis(ms) + TIMEOUT_MARGIN);
        let response = self.post(call, ":invoke", timeout).await?;
        if !matches!(response.status, StatusCode::OK | StatusCode::REQUEST_TIMEOUT) {
            return Err(refused(&response));
        }
        let envelope: ResponseEnvelope<'_> = match serde_json::from_slice(&response.body) {
            Ok(envelope) => envelope,
            Err(_) => return Err(refused(&response)),
        };
        Ok(Outcome {
            status: envelope.status,
            output: envelope.output.map_or("null", RawValue::get).to_owned(),
            error: envelope.error,
            id: envelope.execution_id,
            body: response.body,
        })
    }

    /// Calls a function with bytes as they are; the answer is the function's, with the status and headers of an
    /// execution. A call that was not admitted is a [`Failure`].
    pub(super) async fn invoke_raw(&self, call: CallRequest<'_>) -> Result<Response, Failure> {
        let timeout = call.timeout_ms.map_or(INVOKE_TIMEOUT, |ms| Duration::from_millis(ms) + TIMEOUT_MARGIN);
        let response = self.post(call, ":invoke", timeout).await?;
        let has_run = response.headers.contains_key(EXECUTION_STATUS);
        if response.status != StatusCode::OK && !has_run { Err(refused(&response)) } else { Ok(response) }
    }

    /// Hands a call over; its result is fetched later.
    pub(super) async fn enqueue(&self, call: CallRequest<'_>) -> Result<Accepted, Failure> {
        let response = self.post(call, ":enqueue", MANAGEMENT_TIMEOUT).await?;
        if response.status != StatusCode::ACCEPTED {
            return Err(refused(&response));
        }
        match serde_json::from_slice::<Receipt>(&response.body) {
            Ok(receipt) => Ok(Accepted { id: receipt.execution_id, body: response.body }),
            Err(_) => Err(refused(&response)),
        }
    }

    async fn post(
        &self,
        call: CallRequest<'_>,
        action: &str,
        timeout: Duration,
    ) -> Result<Response, Failure> {
        let mut headers = call.headers;
        if let Some(ms) = call.timeout_ms {
            headers.insert("x-timeout-ms", HeaderValue::from(ms));
        }
        let path = function_path(call.function, action);
        self.send(Method::POST, &path, headers, call.body, timeout).await
    }
}
