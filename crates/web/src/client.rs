//! A small HTTP/1.1 client for everything that is not an invocation: the command line, health checks, the
//! watchdog's program, callbacks.
//!
//! It keeps idle connections per authority and retries once, on a fresh connection, a request that a closed
//! idle connection refused before anything was written. Redirects are never followed. `https` is for the command line:
//! with the machine's own roots, or with the certificates that a user names. Without the feature `tls` there is none.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

#[cfg(feature = "tls")]
use crate::tls::{self, TlsConnector};

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
    /// The address is not `http[s]://host[:port]/path`.
    #[error("{0} is not an http:// or https:// address")]
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
    /// Idle connections by scheme and authority, newest last.
    idle: Rc<RefCell<HashMap<Origin, Vec<Sender>>>>,
    /// Secures connections; `None` for the machine's own roots.
    #[cfg(feature = "tls")]
    connector: Option<TlsConnector>,
}

/// Where connections lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Origin {
    is_secure: bool,
    authority: String,
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
    /// A client that trusts the certificates of a PEM text and no others.
    ///
    /// # Errors
    /// Why it holds none that can be trusted.
    #[cfg(feature = "tls")]
    pub fn trusting(pem: &[u8]) -> Result<Client, String> {
        Ok(Client { connector: Some(tls::trusting(pem)?), ..Client::default() })
    }

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
        let origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) if scheme == "http" || is_https(scheme) => {
                Origin { is_secure: is_https(scheme), authority: authority.as_str().to_owned() }
            }
            _ => return Err(ClientError::BadAddress(address.to_owned())),
        };
        let exchange = self.exchange(method, &uri, &origin, headers, body, bounds.body_max);
        match tokio::time::timeout(bounds.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut {
                authority: origin.authority,
                limit_ms: bounds.timeout.as_millis(),
            }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        uri: &Uri,
        origin: &Origin,
        headers: HeaderMap,
        body: Bytes,
        body_max: usize,
    ) -> Result<Response, ClientError> {
        let authority = origin.authority.as_str();
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
            let (mut sender, reused) = match self.take_idle(origin) {
                Some(sender) => (sender, true),
                None => (self.connect(origin).await?, false),
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
            self.give_back(origin, sender);
        }
        Ok(Response { status, headers, body })
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, ClientError> {
        let Origin { is_secure, authority } = origin;
        let failed = |error: io::Error| ClientError::Connect {
            authority: authority.clone(),
            reason: error.to_string(),
        };
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let with_port = match port {
            Some(_) => authority.clone(),
            None => format!("{authority}:{}", if *is_secure { 443 } else { 80 }),
        };
        let stream = TcpStream::connect(&with_port).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if !is_secure {
            return handshake(stream).await.map_err(failed);
        }
        self.secure(&with_port, stream).await.map_err(failed)
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, with_port: &str, stream: TcpStream) -> io::Result<Sender> {
        let host = with_port.rsplit_once(':').map_or(with_port, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secured = match &self.connector {
            Some(connector) => tls::connect_with(connector, host, stream).await,
            None => tls::connect(host, stream).await,
        };
        handshake(secured?).await
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, _: &str, _: TcpStream) -> io::Result<Sender> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(origin)?;
        while let Some(sender) = senders.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, origin: &Origin, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.entry(origin.clone()).or_default();
        if senders.len() < IDLE_PER_AUTHORITY_MAX {
            senders.push(sender);
        }
    }
}

/// Whether this is https, and that can be spoken here.
fn is_https(scheme: &str) -> bool {
    cfg!(feature = "tls") && scheme == "https"
}

/// Begins to speak HTTP on a connection.
async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
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
