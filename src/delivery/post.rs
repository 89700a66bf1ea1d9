//! One POST over a connection of its own, to addresses that were chosen before, under the name of their host.
//!
//! Nothing is resolved, followed or used again here: whoever may not reach every address decides on the addresses, and
//! the connection goes to one of them and nowhere else. Only the status of the answer is of interest.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use nanofaas_web::tls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes of an answer's body that are read, so that the peer does not see its answer thrown back.
const SKIPPED_BYTES_MAX: usize = 64 << 10;
/// Time for reading those.
const BODY_SKIP_TIMEOUT: Duration = Duration::from_secs(1);
/// Time to connect to an address while there is another one to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What to send, and where.
pub(super) struct Post<'a> {
    /// Addresses of the host, tried one after the other until one takes the connection.
    pub(super) addresses: &'a [SocketAddr],
    /// Name or address that a certificate must carry; `None` sends without TLS.
    pub(super) tls: Option<&'a str>,
    /// Value of `Host`.
    pub(super) authority: &'a str,
    /// Path and query.
    pub(super) path: &'a str,
    /// Headers besides `Host`, `Connection` and `Content-Length`.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
    /// When the head of the answer has to be there.
    pub(super) deadline: Instant,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// No address took the connection.
    #[error("cannot connect to the receiver: {0}")]
    Connect(io::Error),
    /// The receiver does not speak TLS, or cannot be trusted.
    #[error("cannot secure the connection to the receiver: {0}")]
    Tls(io::Error),
    /// The address or a header cannot be written down.
    #[error("the request cannot be written: {0}")]
    Unsendable(hyper::http::Error),
    /// Something may have been written, and what came is no answer.
    #[error("the receiver did not answer as it should: {0}")]
    Broken(hyper::Error),
    /// The deadline passed.
    #[error("the receiver did not answer in time")]
    TimedOut,
}

/// Sends it. Returns the status of the answer, whatever it is.
///
/// # Errors
/// See [`PostError`].
pub(super) async fn post(post: Post<'_>) -> Result<StatusCode, PostError> {
    let (deadline, name) = (post.deadline, post.tls);
    let connecting = connect(post.addresses);
    let stream = timeout_at(deadline, connecting).await.map_err(|_| PostError::TimedOut)?;
    let stream = stream.map_err(PostError::Connect)?;
    let request = request(post).map_err(PostError::Unsendable)?;
    let Some(name) = name else { return exchange(stream, request, deadline).await };
    let securing = tls::connect(name, stream);
    let stream = timeout_at(deadline, securing).await.map_err(|_| PostError::TimedOut)?;
    exchange(stream.map_err(PostError::Tls)?, request, deadline).await
}

fn request(post: Post<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder().method(Method::POST).uri(post.path).body(Full::new(post.body))?;
    *request.headers_mut() = post.headers;
    request.headers_mut().insert(HOST, HeaderValue::from_str(post.authority)?);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the host has no address");
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if index + 1 < addresses.len() {
            timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            connecting.await
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<StatusCode, PostError> {
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(PostError::Broken)?;
    let mut answer = pin!(async move {
        let response = timeout_at(deadline, sender.send_request(request)).await;
        let response = response.map_err(|_| PostError::TimedOut)?.map_err(PostError::Broken)?;
        let status = response.status();
        // The status says it all: a body that does not end changes nothing.
        let _ = timeout(BODY_SKIP_TIMEOUT, skip(response.into_body())).await;
        Ok(status)
    });
    tokio::select! {
        status = &mut answer => status,
        // What it brought before it ended is still there to be taken.
        _ = connection => answer.await,
    }
}

async fn skip(mut body: Incoming) {
    let mut skipped = 0;
    while skipped < SKIPPED_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        skipped += frame.data_ref().map_or(0, Bytes::len);
    }
}
