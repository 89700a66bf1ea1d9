//! Posts a result to the control plane, again and again while that may help.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use nanofaas_web::client::{Bounds, Client, ClientError};
use tokio::time::sleep;

use super::options::OneShot;

/// Pauses between tries; there is one try more than pauses.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Limit of one try.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the result did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// No answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An answer that is no success.
    #[error("{address} answered {status}")]
    Refused {
        /// Where the result was posted to.
        address: String,
        /// The answer.
        status: StatusCode,
    },
}

impl CallbackError {
    /// Another try may succeed: the network failed, or the control plane is busy or broken.
    fn may_pass(&self) -> bool {
        match self {
            CallbackError::Client(error) => !matches!(error, ClientError::BadAddress(_)),
            CallbackError::Refused { status, .. } => {
                matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
                    || status.is_server_error()
            }
        }
    }
}

/// Posts `completion` until it is accepted.
///
/// # Errors
/// Why the last try failed.
pub async fn deliver(one_shot: &OneShot, completion: Bytes) -> Result<(), CallbackError> {
    let client = Client::default();
    let headers = headers_of(one_shot);
    for pause in PAUSES {
        match post(&client, one_shot, headers.clone(), completion.clone()).await {
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "result not delivered yet");
            }
            result => return result,
        }
        sleep(pause).await;
    }
    post(&client, one_shot, headers, completion).await
}

async fn post(
    client: &Client,
    one_shot: &OneShot,
    headers: HeaderMap,
    completion: Bytes,
) -> Result<(), CallbackError> {
    let bounds = Bounds { timeout: TRY_TIMEOUT, ..Bounds::default() };
    let address = &one_shot.callback;
    let answer = client.send(Method::POST, address, headers, completion, bounds).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(CallbackError::Refused { address: address.clone(), status: answer.status })
}

fn headers_of(one_shot: &OneShot) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(attempt) = one_shot.attempt {
        headers.insert("x-dispatch-attempt", HeaderValue::from(attempt));
    }
    if let Some(trace_id) = one_shot.trace_id.as_ref().and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-trace-id", trace_id);
    }
    headers
}
