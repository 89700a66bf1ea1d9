//! A small HTTP/1.1 client for everything that is not an invocation: the command line, health checks, the
//! watchdog's program, callbacks.
//!
//! It keeps idle connections per authority and retries once, on a fresh connection, a request that a closed
//! idle connection refused before anything was written. Invocations do not pass here: they have their own
//! pools in [`super`]. Redirects are never followed. Plain `http` only.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections kept per authority; more are closed when they come back.
const IDLE_PER_AUTHORITY_MAX: usize = 64;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status of the answer, whatever it is: no status is an error here.
    pub status: StatusCode,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// The whole body, at most the limit given to [`Client::send`].
    pub body: Bytes,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not `http://host[:port]/path`.
    #[error("{0} is not an http:// address")]
    BadAddress(String),
    /// Nothing was written: name resolution or connecting failed.
    #[error("cannot connect to {authority}: {reason}")]
    Connect {
        /// Host and port that did not answer.
        authority: String,
        /// The operating system's word for it.
        reason: String,
    },
    /// Something may have been written and the answer did not come whole.
    #[error("{authority} closed the connection before it answered: {reason}")]
    Broken {
        /// Host and port of the peer.
        authority: String,
        /// What ended the exchange.
        reason: String,
    },
    /// The answer's body is longer than allowed.
    #[error("the answer of {authority} is longer than {limit} bytes")]
    TooLarge {
        /// Host and port of the peer.
        authority: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The time given to the whole exchange was over.
    #[error("{authority} did not answer within {limit_ms} ms")]
    TimedOut {
        /// Host and port of the peer.
        authority: String,
        /// The limit in milliseconds.
        limit_ms: u128,
    },
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// A client with its idle connections. Cheap to clone; all clones share the connections. Lives on one thread,
/// inside a tokio `LocalRuntime` (or a `LocalSet`).
#[derive(Clone, Default)]
pub struct Client {
    /// Idle connections by authority, newest last.
    idle: Rc<RefCell<HashMap<String, Vec<Sender>>>>,
}

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time for the whole exchange, connecting included.
    pub timeout: Duration,
    /// Largest body that is accepted, in bytes.
    pub body_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { timeout: Duration::from_secs(30), body_max: 16 << 20 }
    }
}

impl Client {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// See [`ClientError`]; a status of 400 or more is not an error.
    pub async fn send(
        &self,
        method: Method,
        address: &str,
        headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Response, ClientError> {
        let uri: Uri = address.parse().map_err(|_| ClientError::BadAddress(address.to_owned()))?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => authority.as_str().to_owned(),
            _ => return Err(ClientError::BadAddress(address.to_owned())),
        };
        let exchange = self.exchange(method, &uri, &authority, headers, body, bounds.body_max);
        match tokio::time::timeout(bounds.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut { authority, limit_ms: bounds.timeout.as_millis() }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        uri: &Uri,
        authority: &str,
        headers: HeaderMap,
        body: Bytes,
        body_max: usize,
    ) -> Result<Response, ClientError> {
        let broken = |reason: hyper::Error| ClientError::Broken {
            authority: authority.to_owned(),
            reason: reason.to_string(),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| ClientError::BadAddress(uri.to_string()))?;
        *request.headers_mut() = headers;
        if let Ok(host) = authority.parse() {
            request.headers_mut().insert(hyper::header::HOST, host);
        }
        let (mut sender, mut response) = loop {
            let (mut sender, reused) = match self.take_idle(authority) {
                Some(sender) => (sender, true),
                None => (connect(authority).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => break (sender, response),
                Err(mut error) => match error.take_message() {
                    // The peer closed an idle connection: the request was never written, another may do.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(broken(error.into_error())),
                },
            }
        };
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = read(response.into_body(), body_max, authority).await?;
        if sender.ready().await.is_ok() {
            self.give_back(authority, sender);
        }
        Ok(Response { status, headers, body })
    }

    fn take_idle(&self, authority: &str) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(authority)?;
        while let Some(sender) = senders.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, authority: &str, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.entry(authority.to_owned()).or_default();
        if senders.len() < IDLE_PER_AUTHORITY_MAX {
            senders.push(sender);
        }
    }
}

async fn connect(authority: &str) -> Result<Sender, ClientError> {
    let failed = |reason: String| ClientError::Connect { authority: authority.to_owned(), reason };
    let with_port = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let stream = TcpStream::connect(&with_port).await.map_err(|error| failed(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    // Ends with the connection; its error reaches the sender as well.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

async fn read(body: Incoming, body_max: usize, authority: &str) -> Result<Bytes, ClientError> {
    match Limited::new(body, body_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ClientError::TooLarge { authority: authority.to_owned(), limit: body_max })
        }
        Err(error) => Err(ClientError::Broken { authority: authority.to_owned(), reason: error.to_string() }),
    }
}
