//! Mode `HTTP`: one long-lived program that serves; started, watched, restarted.
//!
//! A program that dies is started again after a pause that doubles up to `RESTART_BACKOFF_MAX`. One that dies or stays
//! unready at the very first start ends the watchdog instead: whoever started it must hear why.
//!
//! A call that times out does not kill the program, which may be busy with other calls. But it makes the program
//! suspect: if it then answers neither a health check nor any call for the limit of a call, it hangs, and is
//! killed and started again.
//!
//! How calls are passed on is in [`super::proxy`].

use std::{
    cell::{Cell, RefCell},
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::ControlFlow,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use hyper::{HeaderMap, Method, Uri};
use nanofaas_web::client::{Bounds, Client};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    invocation::{Failure, Invocation, Output},
    launcher::Launcher,
    options::{Options, port_of, with_port},
    output::{Tail, log},
    program::Program,
    proxy,
};

/// Pauses before a restart.
const RESTART_BACKOFF_MIN: Duration = Duration::from_millis(100);
const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A program that ran this long starts again with the shortest pause.
const STABLE_RUN_TIME: Duration = Duration::from_secs(10);

/// Ports that are tried before giving up.
const PORT_TRIES_MAX: usize = 64;

/// Between two health checks.
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);

/// Limit of one health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// After the program has ended, time to read what it wrote last.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);

/// After the program has broken off a call, time to find out that it has ended: its last words are waited for.
const EXIT_NOTICE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of its last words is told to those whose calls it ran, in bytes.
const LAST_WORDS_MAX: usize = 1024;

/// The program and the way to it.
pub struct Server {
    launcher: Launcher,
    client: Client,
    runtime: Uri,
    health: Uri,
    /// Keeps other watchdogs from the program's port, where that was chosen here.
    _reserved: Option<UdpSocket>,
    ready_timeout: Duration,
    /// Limit of a call, and how long a suspect may stay silent.
    timeout: Duration,
    /// Takes calls now.
    up: Cell<bool>,
    /// Time from start to ready, until somebody has reported it as a cold start.
    cold_start: Cell<Option<Duration>>,
    /// Calls that the program has answered, in whatever way.
    answered: Cell<u64>,
    /// How often the program has ended.
    ends: watch::Sender<u64>,
    /// How it ended last, and what it wrote.
    last_end: RefCell<(String, String)>,
    /// Wakes the supervisor after a call timed out.
    suspect: Notify,
    /// Ends the supervisor.
    stop: Notify,
}

/// A program that answered its health check. Dropping it kills the program.
struct Started {
    program: Program,
    /// Read what it writes.
    logs: [JoinHandle<()>; 2],
    /// The end of that.
    tail: Rc<RefCell<Tail>>,
    /// From start to ready.
    took: Duration,
}

impl Server {
    /// A server that is not started yet.
    ///
    /// # Errors
    /// No free port was found, where the options leave the choice.
    pub fn new(launcher: Launcher, options: &Options) -> Result<Server, Failure> {
        let (mut runtime, mut health) = (options.runtime.clone(), options.health.clone());
        let mut reserved = None;
        if port_of(&runtime) == 0 {
            let failed = Failure::watchdog("find a free port for the program");
            let socket = reserve_port().map_err(&failed)?;
            let port = socket.local_addr().map_err(&failed)?.port();
            reserved = Some(socket);
            runtime = with_port(&runtime, port);
            if port_of(&health) == 0 {
                health = with_port(&health, port);
            }
        }
        Ok(Server {
            launcher,
            client: Client::default(),
            _reserved: reserved,
            runtime,
            health,
            ready_timeout: options.ready_timeout,
            timeout: options.timeout,
            up: Cell::new(false),
            cold_start: Cell::new(None),
            answered: Cell::new(0),
            ends: watch::Sender::new(0),
            last_end: RefCell::default(),
            suspect: Notify::new(),
            stop: Notify::new(),
        })
    }

    /// The program takes calls.
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Time from start to ready of a program that has not been reported as cold yet; reports it.
    pub fn take_cold_start(&self) -> Option<Duration> {
        self.cold_start.take()
    }

    /// Makes [`Server::supervise`] end the program and return.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Keeps the program running until stopped. `first` hears whether the first start went well; if not, this
    /// returns.
    pub async fn supervise(self: Rc<Self>, first: oneshot::Sender<Result<(), Failure>>) {
        let mut first = Some(first);
        let mut pause = RESTART_BACKOFF_MIN;
        loop {
            let begun = Instant::now();
            let started = tokio::select! {
                started = self.start() => started,
                () = self.stop.notified() => return,
            };
            match (started, first.take()) {
                (Ok(started), first) => {
                    first.map(|first| first.send(Ok(())));
                    if self.watch(started).await.is_break() {
                        return;
                    }
                }
                (Err(failure), Some(first)) => {
                    let _ = first.send(Err(failure));
                    return;
                }
                (Err(failure), None) => {
                    tracing::error!(reason = failure.without_output(), "the program did not come back")
                }
            }
            pause = if begun.elapsed() >= STABLE_RUN_TIME { RESTART_BACKOFF_MIN } else { pause };
            tracing::warn!(pause_ms = pause.as_millis(), "starting the program again");
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.notified() => return,
            }
            pause = (pause * 2).min(RESTART_BACKOFF_MAX);
        }
    }

    /// Passes one call on. `None` when it was interrupted.
    pub async fn run(
        &self,
        invocation: &Invocation,
        interrupted: impl Future<Output = ()>,
    ) -> Option<Result<Output, Failure>> {
        if !self.up.get() {
            return Some(Err(Failure::Unavailable("the program is down and being started again".to_owned())));
        }
        let mut ends = self.ends.subscribe();
        tokio::select! {
            result = proxy::forward(&self.client, &self.runtime, invocation) => {
                self.answered.set(self.answered.get().wrapping_add(1));
                Some(match result {
                    // It ended, or it does not answer this call.
                    Err(Failure::Broken(error)) => match timeout(EXIT_NOTICE_TIMEOUT, ends.changed()).await {
                        Ok(Ok(())) => Err(self.crashed()),
                        _ => Err(Failure::Broken(error)),
                    },
                    result => result,
                })
            }
            () = interrupted => {
                if Instant::now() >= invocation.deadline {
                    self.suspect.notify_one();
                }
                None
            }
        }
    }

    /// Starts the program for a single execution, runs it, and ends the program.
    ///
    /// # Errors
    /// The program did not start, or failed, or took too long.
    pub async fn run_once(&self, mut invocation: Invocation) -> Result<Output, Failure> {
        let mut started = self.start().await?;
        // The time to get ready is not the function's.
        invocation.deadline = Instant::now() + self.timeout;
        let call = proxy::forward(&self.client, &self.runtime, &invocation);
        let result = timeout(self.timeout, call).await.unwrap_or(Err(Failure::TimedOut(self.timeout)));
        if let Err(Failure::Broken(_)) = result
            && let Ok(status) = timeout(LAST_OUTPUT_TIMEOUT, started.program.ended()).await
        {
            started.bury(status.to_string(), &self.last_end).await;
            return Err(self.crashed());
        }
        started.program.end().await;
        result
    }

    /// Watches a program that is up until it is gone. Breaks when the supervisor is to stop.
    async fn watch(&self, mut started: Started) -> ControlFlow<()> {
        tracing::info!(init_ms = started.took.as_millis(), "the program is ready");
        self.cold_start.set(Some(started.took));
        self.up.set(true);
        let ended = tokio::select! {
            status = started.program.ended() => {
                tracing::error!(%status, "the program ended");
                Some(status.to_string())
            }
            () = self.hangs() => {
                tracing::error!("the program answers nothing any more");
                Some("killed, for it answered nothing any more".to_owned())
            }
            () = self.stop.notified() => None,
        };
        self.up.set(false);
        let Some(status) = ended else {
            started.program.end().await;
            return ControlFlow::Break(());
        };
        started.bury(status, &self.last_end).await;
        self.ends.send_modify(|ends| *ends += 1);
        ControlFlow::Continue(())
    }

    /// Why a call got no answer that the program ran when it ended.
    fn crashed(&self) -> Failure {
        let (status, tail) = self.last_end.borrow().clone();
        Failure::Crashed { status, tail }
    }

    /// Starts the program and waits until it is ready.
    async fn start(&self) -> Result<Started, Failure> {
        let begun = Instant::now();
        let mut program = self.launcher.start_server(port_of(&self.runtime))?;
        let tail = Rc::new(RefCell::new(Tail::default()));
        // Both streams end in one tail: many programs complain on standard output.
        let logs = [
            spawn_log(program.stdout.take(), "stdout", Rc::clone(&tail)),
            spawn_log(program.stderr.take(), "stderr", Rc::clone(&tail)),
        ];
        let ready = timeout_at(begun + self.ready_timeout, async {
            tokio::select! {
                () = self.healthy() => Ok(()),
                status = program.ended() => Err(status),
            }
        });
        match ready.await {
            Ok(Ok(())) => Ok(Started { program, logs, tail, took: begun.elapsed() }),
            Ok(Err(status)) => {
                for log in logs {
                    let _ = timeout(LAST_OUTPUT_TIMEOUT, log).await;
                }
                Err(Failure::EndedEarly { status, tail: tail.borrow().text() })
            }
            Err(_) => {
                program.end().await;
                Err(Failure::NotReady { limit: self.ready_timeout, tail: tail.borrow().text() })
            }
        }
    }

    /// Returns as soon as a health check succeeds.
    async fn healthy(&self) {
        while !self.is_healthy().await {
            sleep(HEALTH_INTERVAL).await;
        }
    }

    async fn is_healthy(&self) -> bool {
        let bounds = Bounds { timeout: HEALTH_TIMEOUT, ..Bounds::default() };
        let address = self.health.to_string();
        let answer = self.client.send(Method::GET, &address, HeaderMap::new(), Bytes::new(), bounds).await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    /// Returns when a suspect program hangs.
    async fn hangs(&self) {
        loop {
            self.suspect.notified().await;
            let answered = self.answered.get();
            let alive = async {
                while answered == self.answered.get() && !self.is_healthy().await {
                    sleep(HEALTH_INTERVAL).await;
                }
            };
            if timeout(self.timeout, alive).await.is_err() {
                return;
            }
        }
    }
}

impl Started {
    /// Ends what is left of it, and notes how it ended and what it wrote last.
    async fn bury(self, status: String, end: &RefCell<(String, String)>) {
        self.program.end().await;
        for log in self.logs {
            let _ = timeout(LAST_OUTPUT_TIMEOUT, log).await;
        }
        let text = self.tail.borrow().text();
        let mut from = text.len().saturating_sub(LAST_WORDS_MAX);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        end.replace((status, text[from..].to_owned()));
    }
}

fn spawn_log(
    stream: Option<impl tokio::io::AsyncRead + Unpin + 'static>,
    name: &'static str,
    tail: Rc<RefCell<Tail>>,
) -> JoinHandle<()> {
    tokio::task::spawn_local(async move { log(stream, name, "", &tail).await })
}

/// A free TCP port, taken among watchdogs by holding the UDP port of the same number: the program has to bind the
/// TCP port itself, and until it does, another watchdog could choose the same one and talk to the wrong program.
fn reserve_port() -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES_MAX {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        match UdpSocket::bind(address) {
            Ok(reserved) => return Ok(reserved),
            Err(error) => last = error,
        }
    }
    Err(last)
}
