//! Accepts connections and spreads them over the threads: to the one with the fewest.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use listenfd::ListenFd;
use nanofaas_wire::error::ApiError;
use shard_runtime::Workers;
use socket2::{SockFilter, SockRef};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

use super::{
    connection::{ConnectionCount, ConnectionGuard, Connections},
    handlers::ListenerKind,
    route::NO_ROUTE,
};
use crate::{
    host::ShardHost,
    telemetry::answers::{AnswerCounts, Refused},
};

/// Connections that the kernel may keep waiting.
const BACKLOG: u32 = 4096;
/// Refusals that are being written at the same time; beyond, connections are just closed.
const REFUSALS_MAX: usize = 64;
/// Time for a refused client to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for connections that are being set up when the listener closes: a round trip, and what a busy machine adds.
const HANDSHAKE_TIME: Duration = Duration::from_millis(50);

/// Drops what asks for a connection, SYN without ACK, and lets everything else pass. Classic BPF, which sees a segment
/// from its TCP header on: load the byte with the flags, keep SYN and ACK, drop if only SYN is left.
const NO_NEW_CONNECTIONS: [SockFilter; 5] = {
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// Accepts at one address.
pub struct Listener {
    /// What comes in here may ask for.
    pub kind: ListenerKind,
    /// Connections at most, over all threads and listeners.
    pub connections_max: usize,
    /// Connections of all threads.
    pub count: Arc<ConnectionCount>,
    /// Counts refusals of this thread.
    pub answers: Arc<AnswerCounts>,
    /// Threads that serve, with the number of their connections.
    pub threads: Vec<(u16, Arc<AtomicUsize>)>,
}

/// A listening socket.
pub struct Socket {
    /// The socket itself.
    pub listener: TcpListener,
    /// Whether a supervisor holds it as well, and with it what has connected and not been accepted.
    pub is_handed_over: bool,
}

/// Binds an address. The port may be 0.
///
/// # Errors
/// When it is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Socket { listener: socket.listen(BACKLOG)?, is_handed_over: false })
}

/// Takes over the socket at this place of `LISTEN_FDS`, if a supervisor handed one over. It lives as long as anybody holds
/// it: when this process ends, nobody is refused, and whoever connects waits for the next.
///
/// # Errors
/// When it is no listening TCP socket.
pub fn take_over(handed: &mut ListenFd, guard: usize) -> io::Result<Option<Socket>> {
    let Some(socket) = handed.take_tcp_listener(guard)? else { return Ok(None) };
    socket.set_nonblocking(true)?;
    Ok(Some(Socket { listener: TcpListener::from_std(socket)?, is_handed_over: true }))
}

impl Listener {
    /// Accepts until told to stop, and then what has connected so far; the address is free afterwards.
    pub async fn run(
        self,
        socket: Socket,
        workers: Arc<Workers<ShardHost>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let Socket { listener, is_handed_over } = socket;
        let refusals = Arc::new(AtomicUsize::new(0));
        let stopped = async {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        self.accept_until(stopped, &listener, &workers, &refusals).await;
        // Closing a listener resets connections that nobody has accepted; they may carry requests already. So nobody
        // is let in any more before the last one is accepted: else somebody comes between that and the close. Whoever
        // tries gets no answer, tries again after a second, and is refused then. A socket that was handed over stays
        // open, and the next server must be able to hear with it.
        if !is_handed_over {
            match SockRef::from(&listener).attach_filter(&NO_NEW_CONNECTIONS) {
                Ok(()) => {
                    let settled = tokio::time::sleep(HANDSHAKE_TIME);
                    self.accept_until(settled, &listener, &workers, &refusals).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "clients that connect while the listener closes may be reset")
                }
            }
        }
        // What waits is asked of the kernel, because tokio may not know yet.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                self.hand_over(&workers, stream, &refusals);
            }
        }
    }

    async fn accept_until(
        &self,
        end: impl Future<Output = ()>,
        listener: &TcpListener,
        workers: &Workers<ShardHost>,
        refusals: &Arc<AtomicUsize>,
    ) {
        let mut end = pin!(end);
        let mut back_off = Duration::ZERO;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut end => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    back_off = Duration::ZERO;
                    self.hand_over(workers, stream, refusals);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: trying again at once would spin, and log as fast.
                    if back_off.is_zero() {
                        tracing::error!(%error, "cannot accept connections; raise the limit of open files");
                    }
                    back_off = (back_off * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    tokio::time::sleep(back_off).await;
                }
            }
        }
    }

    fn hand_over(&self, workers: &Workers<ShardHost>, stream: TcpStream, refusals: &Arc<AtomicUsize>) {
        if self.count.open.load(Ordering::Relaxed) >= self.connections_max {
            let answer = TOO_MANY.answer();
            self.answers.answered(NO_ROUTE, answer.status);
            self.answers.refused(Refused(answer.reason));
            if refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS_MAX {
                let refusals = Arc::clone(refusals);
                tokio::task::spawn_local(async move {
                    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                    refusals.fetch_sub(1, Ordering::Relaxed);
                });
            } else {
                refusals.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let Some((thread, load)) = self.threads.iter().min_by_key(|(_, load)| load.load(Ordering::Relaxed))
        else {
            return;
        };
        let guard = ConnectionGuard::take(&self.count, load);
        if let Ok(stream) = stream.into_std() {
            give(workers, *thread, stream, self.kind, guard);
        }
    }
}

/// Gives an accepted connection to a thread.
fn give(
    workers: &Workers<ShardHost>,
    thread: u16,
    stream: std::net::TcpStream,
    kind: ListenerKind,
    guard: ConnectionGuard,
) {
    workers.run_on(thread, move |_| match TcpStream::from_std(stream) {
        // Installed before the first connection is accepted.
        Ok(stream) => {
            Connections::on_this_thread(|connections| connections.serve(stream, kind, guard));
        }
        Err(error) => tracing::warn!(%error, "connection lost on its way to a thread"),
    });
}

/// Errors that say nothing of the next connection.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What a client is told when there are too many.
const TOO_MANY: ApiError = ApiError::Overloaded { what: "Taking more connections (limits.connections)" };

/// Tells a client that there are too many, and lets it read that.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let answer = TOO_MANY.answer();
    let mut text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        answer.body.len()
    )
    .into_bytes();
    text.extend_from_slice(&answer.body);
    stream.write_all(&text).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer would be lost with it.
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}
