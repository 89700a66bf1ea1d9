//! Processes: starting them, seeing them end, ending them.
//!
//! Every program leads its own process group, and the group ends with it: when the leader has exited, what is
//! left of its group is killed *before* the leader is reaped, so that the number of the group cannot have gone to
//! somebody else. That order is why children are reaped here and not by `tokio::process`.
//!
//! Not here: what is said to the programs, and what happens when the watchdog itself is killed ([`super::guard`]).

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    pin::pin,
    process::{Child, Command, ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid};
use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use super::{descendants, invocation::Failure};

/// Between asking a process group to end and killing it.
const TERM_GRACE: Duration = Duration::from_millis(500);

/// Longest wait for a killed process to vanish: it may be stuck in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// After a program has exited, time for its streams to end. Somebody who left its process group may hold them open.
const STREAMS_END_TIMEOUT: Duration = Duration::from_millis(500);

/// All programs that run. Cheap to clone; lives on the main thread.
#[derive(Clone, Default)]
pub struct Programs {
    running: Rc<RefCell<HashMap<Pid, Running>>>,
}

/// A program that has not been reaped.
struct Running {
    child: Child,
    /// Told how it ended.
    ended: oneshot::Sender<ExitStatus>,
}

/// One running program. Dropping it kills its process group.
pub struct Program {
    pid: Pid,
    programs: Programs,
    ended: oneshot::Receiver<ExitStatus>,
    /// How it ended, once that is known.
    status: Option<ExitStatus>,
    /// Standard input, when it was piped and not taken.
    pub stdin: Option<ChildStdin>,
    /// Standard output, when not taken.
    pub stdout: Option<ChildStdout>,
    /// Standard error, when not taken.
    pub stderr: Option<ChildStderr>,
}

impl Programs {
    /// Starts watching for programs that end, and adopts what they leave behind. Needs a running tokio `LocalRuntime`.
    ///
    /// # Errors
    /// The signal handler could not be installed.
    pub fn watch() -> io::Result<Programs> {
        let mut child_ended = signal(SignalKind::child())?;
        descendants::adopt_orphans()?;
        let programs = Programs::default();
        let watched = programs.clone();
        tokio::task::spawn_local(async move {
            while child_ended.recv().await.is_some() {
                watched.reap();
            }
        });
        Ok(programs)
    }

    /// Starts a program with piped output in its own process group.
    ///
    /// # Errors
    /// [`Failure::NotStarted`], or what the watchdog lacks.
    pub fn start(&self, mut command: Command, stdin: Stdio) -> Result<Program, Failure> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .map_err(|reason| Failure::not_started(&command.get_program().to_string_lossy(), &reason))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pid = Pid::from_child(&child);
        let (sender, ended) = oneshot::channel();
        self.running.borrow_mut().insert(pid, Running { child, ended: sender });
        // From here on a failure drops `program`, which kills the process.
        let mut program = Program {
            pid,
            programs: self.clone(),
            ended,
            status: None,
            stdin: None,
            stdout: None,
            stderr: None,
        };
        let failed = Failure::watchdog("talk to the program");
        program.stdin = stdin.map(ChildStdin::from_std).transpose().map_err(&failed)?;
        program.stdout = stdout.map(ChildStdout::from_std).transpose().map_err(&failed)?;
        program.stderr = stderr.map(ChildStderr::from_std).transpose().map_err(&failed)?;
        Ok(program)
    }

    /// Kills every process group at once, waits for nothing, and forgets them: the caller reaps.
    pub fn kill_all(&self) {
        for (pid, _) in self.running.borrow_mut().drain() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// One signal may stand for several programs that ended, so all are asked.
    fn reap(&self) {
        let mut running = self.running.borrow_mut();
        for (pid, mut ended) in running.extract_if(|pid, _| has_ended(*pid)) {
            let _ = kill_process_group(pid, Signal::KILL);
            // It has ended: this does not block.
            let status = ended.child.wait().unwrap_or_else(|_| unknown_status());
            let _ = ended.ended.send(status);
        }
        for orphan in descendants::children().into_iter().filter(|pid| !running.contains_key(pid)) {
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
    }

    fn signal(&self, pid: Pid, signal: Signal) {
        // A pid that is not listed was reaped and may be somebody else's.
        if self.running.borrow().contains_key(&pid) {
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Program {
    /// Waits for it to end. May be dropped and called again.
    pub async fn ended(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let status = (&mut self.ended).await.unwrap_or_else(|_| unknown_status());
        self.status = Some(status);
        status
    }

    /// Waits for it to end while `streams` talks to it.
    ///
    /// # Errors
    /// That of `streams`, at once: the program may still run.
    pub async fn ended_after(
        &mut self,
        streams: impl Future<Output = Result<(), Failure>>,
    ) -> Result<ExitStatus, Failure> {
        let mut streams = pin!(streams);
        tokio::select! {
            result = streams.as_mut() => result?,
            status = self.ended() => {
                if let Ok(result) = timeout(STREAMS_END_TIMEOUT, streams).await {
                    result?;
                }
                return Ok(status);
            }
        }
        Ok(self.ended().await)
    }

    /// Ends the process group: asks, waits a little, kills. Returns when the program is gone.
    pub async fn end(mut self) {
        self.programs.signal(self.pid, Signal::TERM);
        if timeout(TERM_GRACE, self.ended()).await.is_ok() {
            return;
        }
        self.programs.signal(self.pid, Signal::KILL);
        if timeout(KILL_TIMEOUT, self.ended()).await.is_err() {
            tracing::error!(pid = self.pid.as_raw_pid(), "a killed program does not end");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.programs.signal(self.pid, Signal::KILL);
    }
}

/// The process has ended; it stays a zombie, so that its number stays taken.
fn has_ended(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), look), Ok(Some(_)))
}

/// Stands for a status that the system would not tell.
fn unknown_status() -> ExitStatus {
    ExitStatus::from_raw(Signal::KILL.as_raw())
}
