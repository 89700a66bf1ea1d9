//! The server of a demo: `nanofaas dev --ephemeral` as a child process.

use std::{net::TcpListener, process::ExitStatus, process::Stdio, time::Duration};

use hyper::{HeaderMap, Method, StatusCode};
use nanofaas_base::{environment, signals::Signals};
use nanofaas_web::client::{Bounds, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{failure::Failure, output::note};

/// Ports that `nanofaas` commands assume.
const DEFAULT_PORT: u16 = 8080;
/// Time for the server to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at its readiness.
const READY_POLL: Duration = Duration::from_millis(25);
/// Time for the server to end by itself: its own drain may take 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Time to end after the second signal, which ends it at once.
const STOP_NOW_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server.
pub(super) struct DemoServer {
    child: Child,
    port: u16,
    management_port: u16,
}

impl DemoServer {
    /// Starts the server on two ports of the loopback interface.
    pub(super) fn start(port: u16, management_port: u16) -> Result<DemoServer, Failure> {
        // Both are held until both are known, else the same free port could be found twice.
        let listeners = (free("--port", port)?, free("--management-port", management_port)?);
        let (port, management_port) = (port_of(&listeners.0)?, port_of(&listeners.1)?);
        drop(listeners);
        let failed = |error: std::io::Error| Failure::Failed(format!("cannot start the server: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args([
                "dev",
                "--ephemeral",
                "--set",
                "server.host=127.0.0.1",
                "--set",
                "management.host=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--management-port={management_port}"))
            .arg(format!("--end-with={}", std::process::id()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .envs(environment::vars())
            .kill_on_drop(true)
            // Ctrl-C on a terminal goes to the whole group; the server gets its one signal from us, because a
            // second one would end it without draining.
            .process_group(0);
        if environment::var_os("NANOFAAS_LOG").is_none() {
            command.env("NANOFAAS_LOG", "warn");
        }
        let child = command.spawn().map_err(failed)?;
        Ok(DemoServer { child, port, management_port })
    }

    /// Address of the API.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Address of the management listener.
    pub(super) fn management_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }

    /// Whether commands find it without being told where it is.
    pub(super) fn is_default(&self) -> bool {
        self.port == DEFAULT_PORT
    }

    /// Waits until the server says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let address = format!("{}/actuator/health/readiness", self.management_endpoint());
        tokio::select! {
            ended = self.ended() => return Err(ended),
            ready = timeout(READY_TIMEOUT, poll(&address)) => ready.map_err(|_| {
                Failure::Failed(format!("the server was not ready within {} s", READY_TIMEOUT.as_secs()))
            })?,
        }
        note(&format!("server ready after {} ms", started.elapsed().as_millis()));
        Ok(())
    }

    /// Waits for an end that nobody asked for.
    pub(super) async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => Failure::Failed(format!("the server ended by itself ({status})")),
            Err(error) => Failure::Failed(format!("lost the server: {error}")),
        }
    }

    /// Whether it has not ended yet.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the server and waits for it; another signal to us hurries it. False when it had to be killed.
    pub(super) async fn stop(mut self, signals: &mut Signals) -> bool {
        if !self.is_running() {
            return true;
        }
        self.terminate();
        tokio::select! {
            status = timeout(STOP_TIMEOUT, self.child.wait()) => if ended(status) { return true },
            () = signals.next() => {
                self.terminate();
                if ended(timeout(STOP_NOW_TIMEOUT, self.child.wait()).await) {
                    return true;
                }
            }
        }
        // Fails only when it has ended in this moment.
        let _ = self.child.kill().await;
        false
    }

    fn terminate(&self) {
        // The id is gone once the child has been waited for, so this never hits another process.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn ended(status: Result<std::io::Result<ExitStatus>, tokio::time::error::Elapsed>) -> bool {
    matches!(status, Ok(Ok(_)))
}

async fn poll(address: &str) {
    let client = Client::default();
    let bounds = Bounds { timeout: Duration::from_secs(2), ..Bounds::default() };
    loop {
        let answer = client.send(Method::GET, address, HeaderMap::new(), Default::default(), bounds).await;
        if answer.is_ok_and(|response| response.status == StatusCode::OK) {
            return;
        }
        sleep(READY_POLL).await;
    }
}

/// Takes a port, to find out now and in clear words that it is busy.
fn free(flag: &str, port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind(("127.0.0.1", port)).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::Failed(format!(
            "port {port} is busy: another server runs there; end it, or choose another port with {flag}"
        )),
        _ => Failure::Failed(format!("cannot listen on port {port}: {error}")),
    })
}

fn port_of(listener: &TcpListener) -> Result<u16, Failure> {
    let address = listener.local_addr();
    Ok(address.map_err(|error| Failure::Failed(format!("cannot find a free port: {error}")))?.port())
}
