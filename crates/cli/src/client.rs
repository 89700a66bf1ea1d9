//! The connection to a server, as commands use it.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use nanofaas_base::environment;
use nanofaas_web::client::{Bounds, Client, Response};
use serde_json::Value;

use super::{arguments::ServerOptions, contexts, failure::Failure, json::shorten, output::Output};

/// Time for anything but an invocation. Registering waits for images and first replicas.
pub(super) const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer that is read: a function's answer (16 MiB by default) and its envelope.
const BODY_MAX: usize = 1 << 30;

/// What a command that talks to a server needs.
pub(super) struct Session {
    /// The server.
    pub(super) api: ApiClient,
    /// Where results go.
    pub(super) output: Output,
}

/// A server's API.
#[derive(Clone)]
pub(super) struct ApiClient {
    client: Client,
    endpoint: String,
    /// Sent with every request.
    headers: HeaderMap,
}

impl Session {
    /// Finds out which server is meant. Connects to nothing yet.
    pub(super) fn open(target: &ServerOptions, output: Output) -> Result<Session, Failure> {
        let server = with_contexts(target, contexts::endpoint)?;
        Ok(Session { api: ApiClient::of(server)?, output })
    }

    /// The server's management listener, as `--management` or whatever else says. Connects to nothing yet.
    pub(super) fn management(target: &ServerOptions, flag: Option<&str>) -> Result<ApiClient, Failure> {
        with_contexts(target, |wanted| contexts::management(wanted, flag)).and_then(ApiClient::of)
    }
}

/// Reads what says where servers are.
fn with_contexts<T>(
    target: &ServerOptions,
    find: impl FnOnce(&contexts::Wanted<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let path = contexts::file_path(&environment::var).unwrap_or_default();
    let text = contexts::text(&path)?;
    let name = path.display().to_string();
    find(&contexts::Wanted {
        endpoint: target.endpoint.as_deref(),
        context: target.context.as_deref(),
        headers: &target.header,
        cacert: target.cacert.as_deref(),
        environment: &environment::var,
        file: text.as_deref().map(|text| (name.as_str(), text)),
    })
}

impl ApiClient {
    /// The address, without a slash at its end.
    pub(super) fn address(&self) -> &str {
        &self.endpoint
    }

    /// The API at an address without a slash at its end.
    pub(super) fn new(endpoint: String) -> ApiClient {
        ApiClient { client: Client::default(), endpoint, headers: HeaderMap::new() }
    }

    /// The API of a server, with what has to be said to it.
    fn of(server: contexts::ServerAccess) -> Result<ApiClient, Failure> {
        let client = match &server.cacert {
            None => Client::default(),
            Some(path) => {
                let failed = |reason: &dyn std::fmt::Display| {
                    Failure::Configuration(format!("certificates of {}: {reason}", path.display()))
                };
                let pem = std::fs::read(path).map_err(|error| failed(&error))?;
                Client::trusting(&pem).map_err(|reason| failed(&reason))?
            }
        };
        Ok(ApiClient { client, endpoint: server.address, headers: server.headers })
    }

    /// Sends a request; whatever the server says is an answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Response, Failure> {
        if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        let bounds = Bounds { timeout, body_max: BODY_MAX };
        let address = format!("{}{path}", self.endpoint);
        Ok(self.client.send(method, &address, headers, body, bounds).await?)
    }

    /// Sends a request without a body.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Response, Failure> {
        self.send(method, path, HeaderMap::new(), Bytes::new(), MANAGEMENT_TIMEOUT).await
    }

    /// Sends a JSON body.
    pub(super) async fn tell(&self, method: Method, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send(method, path, HeaderMap::new(), body.to_string().into(), MANAGEMENT_TIMEOUT).await
    }

    /// Gets an object or a list, and the bytes it came in.
    pub(super) async fn get(&self, path: &str) -> Result<(Value, Bytes), Failure> {
        self.get_within(path, MANAGEMENT_TIMEOUT).await
    }

    /// The same, for answers that take their time.
    pub(super) async fn get_within(&self, path: &str, timeout: Duration) -> Result<(Value, Bytes), Failure> {
        let response = self.send(Method::GET, path, HeaderMap::new(), Bytes::new(), timeout).await?;
        if response.status != StatusCode::OK {
            return Err(refused(&response));
        }
        Ok((parse(&response)?, response.body))
    }
}

/// Path of a function, with what follows it.
pub(super) fn function_path(name: &str, rest: &str) -> String {
    format!("/v1/functions/{}{rest}", segment(name))
}

/// One segment of a path. A name that is no name must reach the server as the user wrote it, not as two
/// segments or a query.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// The JSON of an answer.
pub(super) fn parse(response: &Response) -> Result<Value, Failure> {
    serde_json::from_slice(&response.body).map_err(|error| {
        Failure::Failed(format!("the answer (HTTP {}) is not JSON: {error}", response.status.as_u16()))
    })
}

/// What the server said when it did not do what was asked.
pub(super) fn refused(response: &Response) -> Failure {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let status = response.status.as_u16();
    // The admin API calls them errors.
    let details = body.get("details").or_else(|| body.get("errors"));
    let details = details.and_then(Value::as_array).into_iter().flatten();
    Failure::Refused {
        code: text("error").unwrap_or_else(|| format!("HTTP {status}")),
        message: text("message").unwrap_or_else(|| fallback(response)),
        details: details.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

/// Something else than our server answered: show the beginning of what it said.
fn fallback(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body);
    let reason = response.status.canonical_reason().unwrap_or("unknown status");
    match text.trim() {
        "" => format!("the server answered {reason}"),
        text => format!("the server answered {reason}: {}", shorten(text, 300)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(function_path("word-stats_2.x", ":invoke"), "/v1/functions/word-stats_2.x:invoke");
        assert_eq!(function_path("a/b?c ü:invoke", ""), "/v1/functions/a%2Fb%3Fc%20%C3%BC%3Ainvoke");
    }
}
