//! Servers that this program starts itself: `nanofaas serve` on free ports, or on given ones.
//!
//! A server is a process group of its own, so that Ctrl-C reaches only this program, which then ends its servers by their
//! ids: when a [`NanofaasServer`] is dropped, and before a second signal ends the process. Where a server listens is read from its
//! log; that it is ready is asked at its management address.

use std::{
    collections::VecDeque,
    io,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{client::address::Address, cores, monitor::Monitor};

/// Lines of its log that are kept, to be shown when it fails.
const LOG_LINES_MAX: usize = 30;
/// How often it is asked whether it is ready, or has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long an answer about readiness may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Process ids of servers that run.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The `nanofaas` program.
    pub binary: PathBuf,
    /// Its `--workers`.
    pub workers: usize,
    /// Its data directory; `None`: it keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Settings, as `key=value`.
    pub settings: Vec<String>,
    /// Variables of its environment besides ours.
    pub environment: Vec<(String, String)>,
    /// Port of its API; 0 takes a free one.
    pub port: u16,
    /// A socket for its API that outlives it: it is handed over (`LISTEN_FDS`), and `port` is of no use.
    pub listener: Option<Arc<TcpListener>>,
    /// Cores that it may use; `None`: all.
    pub cores: Option<Vec<usize>>,
}

/// A server that runs.
#[derive(Debug)]
pub struct NanofaasServer {
    child: Child,
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where its management listener does.
    pub management: SocketAddr,
    log: Log,
    addresses: Receiver<(SocketAddr, SocketAddr)>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program cannot be run.
    #[error("cannot start {0}: {1}; --binary names the nanofaas program")]
    Spawn(PathBuf, io::Error),
    /// It ended instead of serving.
    #[error("the server ended with {0} instead of serving; the end of its log:\n{1}")]
    Ended(ExitStatus, String),
    /// It takes too long.
    #[error("the server is not ready after {0:?}; the end of its log:\n{1}")]
    NotReady(Duration, String),
    /// The system refuses something.
    #[error("cannot watch the server: {0}")]
    System(#[from] io::Error),
}

/// The latest lines of its log.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Launch {
    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// When it is not within `patience`; it does not run then.
    pub fn start(&self, patience: Duration) -> Result<NanofaasServer, ServerError> {
        let mut server = self.begin()?;
        server.wait_ready(patience)?;
        Ok(server)
    }

    /// Starts the program only.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn begin(&self) -> Result<NanofaasServer, ServerError> {
        let child = self.spawn()?;
        let (log, (sender, addresses)) = (Log::default(), mpsc::channel());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server =
            NanofaasServer { child, api: nowhere, management: nowhere, log: Arc::clone(&log), addresses };
        if let Some(stderr) = server.child.stderr.take() {
            thread::Builder::new()
                .name("server-log".to_owned())
                .spawn(move || read(stderr, &log, &sender))?;
        }
        Ok(server)
    }

    fn spawn(&self) -> Result<Child, ServerError> {
        let mut command = Command::new(&self.binary);
        let (workers, port) = (self.workers.to_string(), self.port.to_string());
        command.args(["serve", "--workers", &workers, "--port", &port, "--management-port", "0"]);
        match &self.data_dir {
            Some(data_dir) => {
                command.arg("--set").arg(format!("data-dir={}", data_dir.display()));
            }
            None => {
                command.arg("--ephemeral");
            }
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.env("NANOFAAS_LOG", "info").envs(self.environment.iter().cloned()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A copy without the mark that closes it when the program starts; ours keeps the mark.
        let handed: Option<OwnedFd> =
            self.listener.as_deref().map(rustix::io::dup).transpose().map_err(io::Error::from)?;
        if let Some(handed) = &handed {
            command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", handed.as_raw_fd().to_string());
        }
        // A child may use the cores that its parent may use at that moment.
        let pinned = self.cores.as_deref().map(cores::pin).transpose()?;
        let child = command.spawn().map_err(|error| ServerError::Spawn(self.binary.clone(), error))?;
        drop(pinned);
        running().push(child.id());
        Ok(child)
    }
}

impl NanofaasServer {
    /// Waits until it serves and says that it is ready; its addresses are known then.
    ///
    /// # Errors
    /// When it is not ready within `patience`.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<(), ServerError> {
        let end = Instant::now() + patience;
        loop {
            if let Ok((api, management)) = self.addresses.try_recv() {
                (self.api, self.management) = (api, management);
                break;
            }
            self.check(end, patience)?;
            thread::sleep(POLL_INTERVAL);
        }
        let ready = Address {
            socket: self.management,
            host: self.management.to_string(),
            path: "/actuator/health/readiness".to_owned(),
        };
        while ready.fetch(ASK_TIMEOUT).is_err() {
            self.check(end, patience)?;
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Watches its CPU time and memory.
    pub fn monitor(&self) -> Monitor {
        Monitor::Pid(self.pid())
    }

    /// Ends it without a chance to tidy up.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end; [`NanofaasServer::wait`] waits for that.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.ended() {
                None if Instant::now() < end => thread::sleep(POLL_INTERVAL),
                ended => return ended,
            }
        }
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }

    fn check(&mut self, end: Instant, patience: Duration) -> Result<(), ServerError> {
        if let Some(status) = self.ended() {
            return Err(ServerError::Ended(status, self.log()));
        }
        if Instant::now() >= end {
            return Err(ServerError::NotReady(patience, self.log()));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // A child that has ended keeps its id until it is waited for, so this reaches no one else.
        if let Some(pid) = pid(self.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().retain(|pid| *pid != self.child.id());
    }
}

impl Drop for NanofaasServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Kills every server; for the moment before the process ends without dropping anything.
pub(crate) fn kill_all() {
    for pid in running().iter().filter_map(|id| pid(*id)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Reads the log to its end, so that the server never waits for a reader.
fn read(stderr: ChildStderr, log: &Log, addresses: &Sender<(SocketAddr, SocketAddr)>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(found) = serving(&line) {
            // Only the start waits for it.
            let _ = addresses.send(found);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES_MAX {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// The addresses in the line that says that it serves.
fn serving(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |field: &str| event.get(field)?.as_str()?.parse().ok();
    (event.get("message")? == "serving").then_some(())?;
    Some((address("api")?, address("management")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_log() {
        let line = r#"{"level":"INFO","message":"serving","api":"127.0.0.1:1","management":"127.0.0.1:2"}"#;
        let (api, management) = serving(line).expect("addresses");
        assert_eq!((api.port(), management.port()), (1, 2));
        assert_eq!(serving(r#"{"message":"draining"}"#), None);
        assert_eq!(serving("text"), None);
    }

    #[test]
    fn what_is_no_server_is_said() {
        let launch = Launch { binary: "false".into(), ..Launch::default() };
        let error = launch.start(Duration::from_secs(10)).expect_err("it ends");
        assert!(matches!(error, ServerError::Ended(..)), "{error}");
        let launch = Launch { binary: "no such program".into(), ..Launch::default() };
        assert!(matches!(launch.start(Duration::from_secs(10)), Err(ServerError::Spawn(..))));
    }
}
