//! The life of a warm watchdog: listen, get ready, serve, drain.

use std::{
    cell::Cell,
    io::Write,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::{Request, body::Incoming};
use nanofaas_web::server::{Drain, serve};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

use super::{
    door, http,
    invocation::{BODY_MAX, Failure},
    launcher::Launcher,
    options::{Mode, Options},
    server::{Runner, Service, error},
    stop::StopSignals,
};

/// A drain takes as long as the longest call, and this for killing and answering.
const DRAIN_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// What went wrong before the watchdog was ready.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// The port is taken, or may not be used.
    #[error("cannot listen on {address}: {reason} (WARM_HOST and WARM_PORT choose another address)")]
    Listen {
        /// Address that was wanted.
        address: SocketAddr,
        /// The operating system's word for it.
        reason: std::io::Error,
    },
    /// The program did not start, or never became ready. What it wrote is in the log.
    #[error("{}", .0.without_output())]
    Program(#[from] Failure),
}

/// The supervised program of mode HTTP.
struct Supervised {
    server: Rc<http::Server>,
    supervisor: JoinHandle<()>,
    /// Whether the first start went well.
    first: oneshot::Receiver<Result<(), Failure>>,
}

/// Serves until told to stop. Gives the exit code.
///
/// # Errors
/// Why the watchdog could not become ready.
pub async fn run(
    options: &Options,
    address: SocketAddr,
    launcher: Launcher,
    started: Instant,
    mut stop: StopSignals,
) -> Result<u8, WarmError> {
    let listen_failed = |reason| WarmError::Listen { address, reason };
    let listener = TcpListener::bind(address).await.map_err(listen_failed)?;
    let address = listener.local_addr().map_err(listen_failed)?;
    let mut supervised = match options.mode {
        Mode::Http => Some(supervise(launcher.clone(), options)?),
        Mode::Stdio | Mode::File => None,
    };
    let runner = match &supervised {
        Some(supervised) => Runner::Http(Rc::clone(&supervised.server)),
        None => {
            Runner::PerCall { launcher, mode: options.mode, cold_start: Cell::new(Some(started.elapsed())) }
        }
    };
    let service = Rc::new(Service::new(runner, options));
    let drain = Drain::default();
    let is_on_loopback = address.ip().to_canonical().is_loopback();
    let serving = spawn_serving(listener, is_on_loopback, drain.clone(), Rc::clone(&service));

    let stopped = match &mut supervised {
        Some(supervised) => tokio::select! {
            // The sender is dropped without a word only by a supervisor that was stopped.
            first = &mut supervised.first => { first.unwrap_or(Ok(()))?; false }
            () = stop.received() => true,
        },
        None => false,
    };
    if !stopped {
        announce(address);
        stop.received().await;
    }
    tracing::info!("draining; a second signal ends at once");
    service.drain();
    drain.start();
    let finished = async {
        let all_answered = async {
            let _ = serving.await;
            service.idle().await;
        };
        if timeout(options.timeout + DRAIN_TIMEOUT_MARGIN, all_answered).await.is_err() {
            tracing::warn!("connections are still open after the longest call; leaving them");
        }
        if let Some(supervised) = supervised {
            supervised.server.stop();
            let _ = supervised.supervisor.await;
        }
    };
    tokio::select! {
        () = finished => Ok(0),
        () = stop.received() => Ok(1),
    }
}

fn supervise(launcher: Launcher, options: &Options) -> Result<Supervised, Failure> {
    let server = Rc::new(http::Server::new(launcher, options)?);
    let (first, receiver) = oneshot::channel();
    let supervisor = tokio::task::spawn_local(Rc::clone(&server).supervise(first));
    Ok(Supervised { server, supervisor, first: receiver })
}

fn spawn_serving(
    listener: TcpListener,
    is_on_loopback: bool,
    drain: Drain,
    service: Rc<Service>,
) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        // A program's own answer may look like one that hyper gives by itself, so none gets words.
        let words = |_| None;
        let handle = move |(), call| Rc::clone(&service).handle(call);
        let admit = move |request: &Request<Incoming>| {
            door::check(is_on_loopback, request.headers(), request.version(), request.uri())
                .map_err(|(status, code, message)| Box::new(error(status, code, &message)))
        };
        serve(listener, BODY_MAX, &drain, words, admit, handle).await;
    })
}

/// Tells whoever started the watchdog where it listens. A closed standard output is no reason to fail.
fn announce(address: SocketAddr) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush());
}
