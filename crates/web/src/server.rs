//! A plain server for the side doors: the management listener and the watchdog.
//!
//! One handler for all requests, bodies read to their end within a limit, graceful drain. The API listener has
//! its own, faster machinery; this one favours being short.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::refusal::Worded;

/// A request, read to its end.
#[derive(Debug)]
pub struct Call {
    /// Method of the request.
    pub method: Method,
    /// Path without the query, as sent.
    pub path: String,
    /// The query, as sent.
    pub query: Option<String>,
    /// Headers of the request.
    pub headers: HeaderMap,
    /// The body, or why there is none.
    pub body: Result<Bytes, BodyError>,
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The client left, or broke the protocol.
    #[error("the body did not arrive whole")]
    Broken,
}

/// An answer: with a whole body, or one that is made while it is being sent.
pub type Answer = Response<Either<Full<Bytes>, Chunks>>;

/// A body that is made while it is being sent, a chunk when there is room for one. It never waits.
pub struct Chunks(Box<dyn Iterator<Item = Bytes>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Builds an answer with a content type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Builds a 204.
pub fn no_content() -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Builds a 200 whose body is too large to be kept as a whole.
pub fn answer_in_chunks(content_type: &'static str, chunks: impl Iterator<Item = Bytes> + 'static) -> Answer {
    let mut response = Response::new(Either::Right(Chunks(Box::new(chunks))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Tells a running [`serve`] to drain: no new connections, requests in flight are answered, then it returns.
#[derive(Debug, Clone)]
pub struct Drain(watch::Sender<bool>);

impl Default for Drain {
    fn default() -> Self {
        Drain(watch::Sender::new(false))
    }
}

impl Drain {
    /// Starts draining. Doing it twice is harmless.
    pub fn start(&self) {
        self.0.send_replace(true);
    }
}

/// What connections are made of.
pub trait Transport: 'static {
    /// A connection that can be served.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// What is known of whoever is at its other end.
    type Peer: 'static;

    /// Connections at a time; more are closed at once.
    const CONNECTIONS_MAX: usize;
    /// Time to send a whole request head, and to stay idle between two requests.
    const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

    /// Makes a connection of one that was accepted. `None`: it came to nothing.
    fn open(&self, stream: TcpStream) -> impl Future<Output = Option<(Self::Stream, Self::Peer)>>;
}

/// HTTP as it is.
struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;
    type Peer = ();

    // As many as there are descriptors.
    const CONNECTIONS_MAX: usize = usize::MAX;

    async fn open(&self, stream: TcpStream) -> Option<(TcpStream, ())> {
        Some((stream, ()))
    }
}

/// Serves until drained. Runs on one thread, inside a tokio `LocalRuntime` or `LocalSet`.
///
/// `admit` looks at a request before its body is read: it answers it, or says what it found. `handler` gets both. `words` gives
/// the JSON body for what is refused because it cannot be read; `None` leaves it with its status alone.
pub async fn serve<A, P, F, R>(
    listener: TcpListener,
    body_max: usize,
    drain: &Drain,
    words: fn(StatusCode) -> Option<Vec<u8>>,
    admit: A,
    handler: F,
) where
    A: Fn(&hyper::Request<Incoming>) -> Result<P, Box<Answer>> + 'static,
    F: Fn(P, Call) -> R + 'static,
    R: Future<Output = Answer> + 'static,
{
    serve_over(Plain, listener, body_max, drain, words, move |(), request| admit(request), handler).await;
}

/// The same over any transport. `admit` is told who is at the other end.
pub async fn serve_over<T, A, P, F, R>(
    transport: T,
    listener: TcpListener,
    body_max: usize,
    drain: &Drain,
    words: fn(StatusCode) -> Option<Vec<u8>>,
    admit: A,
    handler: F,
) where
    T: Transport,
    A: Fn(&T::Peer, &hyper::Request<Incoming>) -> Result<P, Box<Answer>> + 'static,
    F: Fn(P, Call) -> R + 'static,
    R: Future<Output = Answer> + 'static,
{
    let (transport, admit, handler) = (Rc::new(transport), Rc::new(admit), Rc::new(handler));
    let connections = Rc::new(RefCell::new(JoinSet::new()));
    let mut draining = drain.0.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: accepting again at once would spin.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (transport, admit, handler) = (Rc::clone(&transport), Rc::clone(&admit), Rc::clone(&handler));
        let mut draining = drain.0.subscribe();
        let mut connections = connections.borrow_mut();
        while connections.try_join_next().is_some() {}
        if connections.len() >= T::CONNECTIONS_MAX {
            continue;
        }
        connections.spawn_local(async move {
            let opened = tokio::select! {
                opened = transport.open(stream) => opened,
                _ = draining.wait_for(|draining| *draining) => return,
            };
            let Some((stream, peer)) = opened else { return };
            let peer = Rc::new(peer);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let (peer, admit, handler) = (Rc::clone(&peer), Rc::clone(&admit), Rc::clone(&handler));
                async move {
                    let admitted = match admit(&peer, &request) {
                        Ok(admitted) => admitted,
                        Err(refusal) => return Ok(*refusal),
                    };
                    let (head, body) = request.into_parts();
                    let body = match Limited::new(body, body_max).collect().await {
                        Ok(whole) => Ok(whole.to_bytes()),
                        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                            Err(BodyError::TooLarge(body_max))
                        }
                        Err(_) => Err(BodyError::Broken),
                    };
                    let call = Call {
                        method: head.method,
                        path: head.uri.path().to_owned(),
                        query: head.uri.query().map(str::to_owned),
                        headers: head.headers,
                        body,
                    };
                    Ok::<_, Infallible>(handler(admitted, call).await)
                }
            });
            let mut connection = std::pin::pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(T::HEADER_TIMEOUT)
                    // A client that left ends its request, and with it whatever runs for it.
                    .half_close(false)
                    .serve_connection(TokioIo::new(Worded::new(stream, words)), service)
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    let mut rest = connections.take();
    while rest.join_next().await.is_some() {}
}
