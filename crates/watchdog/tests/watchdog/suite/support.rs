//! Runs the watchdog as a user would, and talks HTTP to it.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

/// Nothing in these tests should take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running watchdog, killed when dropped.
pub(crate) struct Watchdog {
    pub(crate) child: Child,
    /// Where it listens; only a ready one has told.
    pub(crate) address: Option<SocketAddr>,
    stderr: Arc<Mutex<String>>,
}

/// An answer of the watchdog.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error.code` and `error.message`.
    pub(crate) fn error(&self) -> (String, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}

/// The command that runs a watchdog with these variables and nothing inherited but what programs need.
pub(crate) fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = crate::watchdog_command();
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TMPDIR", std::env::temp_dir());
    command.envs(variables.iter().copied());
    command
}

/// The variables of a warm watchdog on a free port.
pub(crate) fn warm<'a>(mode: &'a str, program: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("WARM", "true"),
        ("WARM_HOST", "127.0.0.1"),
        ("WARM_PORT", "0"),
        ("RUNTIME_URL", "http://127.0.0.1:0/invoke"),
        ("EXECUTION_MODE", mode),
        ("WATCHDOG_CMD", program),
    ]
}

impl Watchdog {
    /// Starts a watchdog and waits until it is ready.
    pub(crate) fn ready(variables: &[(&str, &str)]) -> Watchdog {
        let mut watchdog = Watchdog::spawn(command(variables));
        assert!(watchdog.address.is_some(), "not ready, {:?}: {}", watchdog.exit(), watchdog.stderr());
        watchdog
    }

    /// Starts a command that is, or contains, a watchdog, and waits until it is ready or has closed its output.
    pub(crate) fn spawn(mut command: Command) -> Watchdog {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the watchdog starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (kept, mut stream) = (Arc::clone(&stderr), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        let (sender, first_line) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line = first_line.recv_timeout(PATIENCE).unwrap_or_default();
        let address = line.strip_prefix("listening on ").map(|address| address.parse().unwrap());
        Watchdog { child, address, stderr }
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.address.expect("ready"), method, path, headers, body).expect("an answer")
    }

    /// Calls the function with an execution id.
    pub(crate) fn invoke(&self, body: &str) -> Answer {
        self.send("POST", "/invoke", &[("X-Execution-Id", "e1")], body.as_bytes())
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Process id of the watchdog proper, below the guard.
    pub(crate) fn inner_pid(&self) -> u32 {
        children_of(self.child.id())[0]
    }

    /// Waits for the end.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        eventually("the watchdog ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = connect(address, method, path, headers, body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::other("no whole answer"))
}

/// Sends a request and leaves the answer to the caller.
pub(crate) fn connect(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(stream)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}

/// Polls until there is a result.
pub(crate) fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = poll() {
            return result;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process exists and is not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
}

pub(crate) fn gone(pid: u32) {
    eventually("the process is gone", || (!alive(pid)).then_some(()));
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A directory that is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("watchdog-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a program and gives the words that run it.
    pub(crate) fn program(&self, interpreter: &str, text: &str) -> String {
        let path = self.path("program");
        std::fs::write(&path, text).unwrap();
        format!("{interpreter} {}", path.display())
    }

    /// Waits until a program has written its process ids there.
    pub(crate) fn pids(&self, name: &str, count: usize) -> Vec<u32> {
        pids_in(&self.path(name), count)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pids_in(path: &Path, count: usize) -> Vec<u32> {
    eventually("the program tells its process ids", || {
        let text = std::fs::read_to_string(path).ok()?;
        let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() >= count && text.ends_with('\n')).then_some(pids)
    })
}
