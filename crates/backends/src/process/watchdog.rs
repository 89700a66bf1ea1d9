//! One watchdog process: starting it, hearing where it listens, seeing and making it end.
//!
//! What the process writes to standard error goes to the log ([`function_log`]), and its end into error messages. Those that
//! are logged go without it ([`Reason`]): every line is logged once.
//! Standard output carries one line, where the watchdog listens; after that it is read for its end, which comes when
//! the last process of the watchdog is gone.

use std::{
    cell::RefCell,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use nanofaas_watchdog::{
    function_log::{self, Wrote},
    output::{self, Tail, read_lines},
};
use nanofaas_wire::function::{FunctionSpec, RuntimeMode};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{
    ReplicaContext,
    environment::{Injected, OneShot, environment, job_environment},
    log::ReplicaLog,
    ports::Port,
    stop::Stop,
};

/// What the watchdog prints before its address.
const ANNOUNCEMENT: &str = "listening on ";

/// Longest line of a watchdog's log: a program's longest line (twice the limit, when it came in two pieces) with every
/// byte escaped, and its fields.
const LINE_MAX: usize = 2 * 6 * output::LINE_MAX + 4096;

/// Longest announcement, in bytes.
const ANNOUNCEMENT_MAX: u64 = 256;

/// After the watchdog has exited, time for what it leaves behind: its last words, and its own processes after it
/// was killed. Those end within milliseconds; a stranger who inherited a stream may hold it open for ever.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a watchdog is gone, or of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// In one line and without what it wrote: for the log, which has that already.
    pub cause: String,
    /// With the end of what it wrote: for those who do not see the log.
    pub text: String,
}

impl Reason {
    /// `joint` stands between the cause and what it wrote, when it wrote anything.
    pub fn new(cause: &str, joint: &str, wrote: &str) -> Reason {
        let text = if wrote.is_empty() { cause.to_owned() } else { format!("{cause}{joint}{wrote}") };
        Reason { cause: cause.lines().next().unwrap_or_default().to_owned(), text }
    }
}

impl From<String> for Reason {
    fn from(cause: String) -> Reason {
        Reason::new(&cause, "", "")
    }
}

/// A started watchdog.
pub struct Watchdog {
    child: Child,
    /// Group of the watchdog's outermost process, valid until that is reaped.
    group: Pid,
    stdout: BufReader<ChildStdout>,
    /// Reads standard error to its end.
    reader: JoinHandle<()>,
    /// The end of what is logged of it.
    tail: Rc<RefCell<Tail>>,
    /// What is not: why it ended, in its own words.
    last_words: Rc<RefCell<Tail>>,
    /// Where the program of mode HTTP serves.
    port: Option<Port>,
}

impl Watchdog {
    /// Starts a watchdog for `spec`. Must be called on the thread that outlives all replicas: the process dies
    /// with it.
    ///
    /// # Errors
    /// What the system lacks, for a person.
    pub fn start(
        spec: &FunctionSpec,
        context: &ReplicaContext,
        replica_log: &Rc<ReplicaLog>,
    ) -> Result<Watchdog, String> {
        Watchdog::start_as(spec, context, replica_log, None)
    }

    /// Starts the watchdog of a job: it runs the program once and ends. As above. `stdin` is what it reads the request from
    /// when that is not in the environment.
    ///
    /// # Errors
    /// As above.
    pub fn start_job(
        spec: &FunctionSpec,
        context: &ReplicaContext,
        replica_log: &Rc<ReplicaLog>,
        one_shot: &OneShot<'_>,
        stdin: Stdio,
    ) -> Result<Watchdog, String> {
        Watchdog::start_as(spec, context, replica_log, Some((one_shot, stdin)))
    }

    fn start_as(
        spec: &FunctionSpec,
        context: &ReplicaContext,
        replica_log: &Rc<ReplicaLog>,
        job: Option<(&OneShot<'_>, Stdio)>,
    ) -> Result<Watchdog, String> {
        let is_http = spec.runtime_mode == RuntimeMode::Http;
        let port = is_http.then(|| context.ports.reserve()).transpose();
        let port = port.map_err(|error| format!("there is no free port for the program: {error}"))?;
        let mut command = command(spec, context, port.as_ref().map(Port::number), job);
        let cannot_start = |error: std::io::Error| {
            let directory = spec.working_dir.as_deref().unwrap_or(".");
            format!("cannot start {} in '{directory}': {error}", context.binary.path().display())
        };
        let mut child = command.spawn().map_err(cannot_start)?;
        let (Some(group), Some(stdout)) =
            (child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)), child.stdout.take())
        else {
            // Both are there on a child that was just started with a pipe.
            return Err("the watchdog has no process id or no output".to_owned());
        };
        let tail = Rc::new(RefCell::new(Tail::default()));
        let last_words = Rc::new(RefCell::new(Tail::default()));
        let (stderr, name) = (child.stderr.take(), spec.name.clone());
        let (events, others) = (Rc::clone(&tail), Rc::clone(&last_words));
        let (replica, lines) = (group.as_raw_pid(), Rc::clone(replica_log));
        let reader = tokio::task::spawn_local(async move {
            let log = |line: &str| {
                let (kept, text) = match function_log::wrote(&name, replica, line) {
                    Wrote::Event(text) => (&events, text),
                    Wrote::LastWords(text) => (&others, text),
                };
                lines.push(&text);
                let mut kept = kept.borrow_mut();
                kept.push(text.as_bytes());
                kept.push(b"\n");
            };
            read_lines(stderr, LINE_MAX, |_| (), log).await;
        });
        Ok(Watchdog { child, group, stdout: BufReader::new(stdout), reader, tail, last_words, port })
    }

    /// The process id, which names the replica in the log.
    pub fn id(&self) -> i32 {
        self.group.as_raw_pid()
    }

    /// Waits until the watchdog is ready.
    ///
    /// # Errors
    /// It ended, or said something else.
    pub async fn announced(&mut self) -> Result<SocketAddr, Reason> {
        let mut line = String::new();
        // An error, as of invalid UTF-8, leaves the line empty.
        let _ = (&mut self.stdout).take(ANNOUNCEMENT_MAX).read_line(&mut line).await;
        if let Some(address) = line.trim_end().strip_prefix(ANNOUNCEMENT) {
            return address
                .parse()
                .map_err(|_| format!("the watchdog listens on '{address}', which is no address").into());
        }
        if !line.is_empty() {
            return Err(format!("the watchdog wrote '{}' instead of its address", line.trim_end()).into());
        }
        let status = self.ended().await;
        Err(self.epitaph(status).await)
    }

    /// Waits until the outermost process has exited.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Why it ended: its own word for it when there is one, else all it wrote last.
    pub async fn epitaph(&mut self, status: Option<ExitStatus>) -> Reason {
        if !self.reader.is_finished() {
            let _ = timeout(LEFTOVERS_TIMEOUT, &mut self.reader).await;
        }
        let (wrote, last_words) = (self.tail.borrow().text(), self.last_words.borrow().text());
        if let Some(complaint) = complaint(&last_words) {
            return Reason::new(complaint, ": ", &wrote);
        }
        let status = status.map_or_else(String::new, |status| format!(" with {status}"));
        let all = format!("{wrote}\n{last_words}");
        match all.trim() {
            "" => format!("the watchdog ended{status} and wrote nothing").into(),
            all => Reason::new(&format!("the watchdog ended{status}"), " after it wrote: ", all),
        }
    }

    /// What is logged of it last.
    pub fn wrote(&self) -> String {
        self.tail.borrow().text()
    }

    /// Some stranger took the port that the program was to use. Asked after the end.
    pub fn lost_port(&self) -> bool {
        self.port.as_ref().is_some_and(Port::is_taken)
    }

    /// Ends it as `stop` says, also when that changes, and waits until nothing is left of it.
    pub async fn stop(&mut self, stop: &mut watch::Receiver<Option<Stop>>) {
        let mut sent = 0;
        loop {
            let schedule = stop.borrow_and_update().unwrap_or_else(|| Stop::within(Duration::ZERO));
            let next = schedule.signal(sent);
            let due = next.map_or_else(tokio::time::Instant::now, |(due, _)| due);
            tokio::select! {
                _ = self.child.wait() => break,
                () = sleep_until(due), if next.is_some() => {
                    sent += 1;
                    if let Some((_, signal)) = next {
                        self.signal(signal);
                    }
                }
                Ok(()) = stop.changed() => {}
            }
        }
        self.vanished().await;
    }

    /// Ends it within `grace`.
    pub async fn stop_within(&mut self, grace: Duration) {
        let (_sender, mut stop) = watch::channel(Some(Stop::within(grace)));
        self.stop(&mut stop).await;
    }

    /// After the exit of the outermost process, waits for those below it.
    pub async fn vanished(&mut self) {
        let mut sink = tokio::io::sink();
        if timeout(LEFTOVERS_TIMEOUT, tokio::io::copy(&mut self.stdout, &mut sink)).await.is_err() {
            tracing::warn!(
                replica = self.id(),
                "something still holds the output of a replica that has ended"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        // Without an id it was reaped, and the number may be somebody else's.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.group, signal);
        }
    }
}

fn command(
    spec: &FunctionSpec,
    context: &ReplicaContext,
    runtime_port: Option<u16>,
    job: Option<(&OneShot<'_>, Stdio)>,
) -> Command {
    let injected = Injected {
        callback_url: context.callback_url.as_deref(),
        parent_pid: std::process::id(),
        runtime_port,
        ready_timeout: context.ready_timeout,
    };
    let mut command = context.binary.command();
    // Of what is in `/proc` anyway, not of what the server hides.
    let own = std::env::vars_os();
    let (environment, stdin) = match job {
        None => (environment(spec, own, &injected), Stdio::null()),
        Some((one_shot, stdin)) => (job_environment(spec, own, &injected, one_shot), stdin),
    };
    command.env_clear().envs(environment);
    if let Some(directory) = &spec.working_dir {
        command.current_dir(directory);
    }
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A terminal's Ctrl-C is for the server, which then drains. Killed when the runtime ends early.
    command.process_group(0).kill_on_drop(true);
    command
}

/// The watchdog's complaint starts with `error: ` and may go on over many lines.
fn complaint(text: &str) -> Option<&str> {
    const MARK: &str = "error: ";
    let complaint = match text.strip_prefix(MARK) {
        Some(complaint) => complaint,
        None => text.split_once("\nerror: ")?.1,
    };
    Some(complaint.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_found_behind_other_words() {
        for (text, expected) in [
            ("error: one\ntwo\n", Some("one\ntwo")),
            ("12:00 INFO error: no\nerror: one\nerror: two", Some("one\nerror: two")),
            ("12:00 INFO error: no", None),
            ("", None),
        ] {
            assert_eq!(complaint(text), expected, "{text}");
        }
    }
}
