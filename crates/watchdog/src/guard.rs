//! The guard: a small process around the watchdog, so that no program outlives it, whoever is killed and however.
//!
//! The watchdog starts as the guard, and starts itself again as the watchdog proper. The guard
//!
//! - is the *subreaper* of everything below: when the watchdog is killed, its programs, and what those started,
//!   become children of the guard, which kills them all. As process 1 of a container it also buries orphans;
//! - passes SIGTERM and SIGINT on and ends with the watchdog's exit code;
//! - kills everything at once on SIGQUIT, for a watchdog that reacts to nothing else any more;
//! - kills everything at once when its own parent dies, if it was told which process that is.
//!
//! The other direction is covered by `watch_parent`: a watchdog whose guard died kills its programs itself.
//!
//! There is a guard for every replica, so it holds as little as it can: no runtime and no thread. Everything
//! that happens to it is a signal, and it waits for the next one.
//!
//! The alternative is a parent-death signal on each program. It misses the children of the program, and as only a
//! child can ask for it (safely: by starting through a second exec of our own binary) it costs more than a
//! millisecond per call. The guard costs that once.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus},
};

use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, set_parent_process_death_signal, wait,
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{descendants, options::PARENT_PID};

/// Marks the watchdog proper: the process id of its guard.
pub const GUARD_PID: &str = "NANOFAAS_WATCHDOG_GUARD_PID";

/// The guard of this process, if it is the watchdog proper.
pub(super) fn guard_pid() -> Option<Pid> {
    let pid = std::env::var(GUARD_PID).ok()?.parse().ok()?;
    Pid::from_raw(pid)
}

/// Guards a watchdog until it has ended and nothing is left of it. `parent` is the process not to outlive.
pub(super) fn run(parent: Option<Pid>) -> ExitCode {
    let result = guard(parent);
    descendants::kill();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!(%error, "the watchdog could not be started");
            ExitCode::FAILURE
        }
    }
}

fn guard(parent: Option<Pid>) -> io::Result<u8> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGCHLD])?;
    if parent.is_some() {
        // First the handler, then the request for the signal, then a look whether it is already too late.
        signals.add_signal(SIGHUP)?;
        set_parent_process_death_signal(Some(Signal::HUP))?;
    }
    if is_orphaned(parent) {
        return Ok(1);
    }
    descendants::adopt_orphans()?;
    let mut watchdog = start_watchdog()?;
    // Only `bury` reaps it, so the pid is the watchdog's until this returns.
    let pid = Pid::from_child(&watchdog);
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                if let Some(status) = bury(&mut watchdog)? {
                    return Ok(code_of(status));
                }
            }
            SIGTERM => drop(kill_process(pid, Signal::TERM)),
            SIGINT => drop(kill_process(pid, Signal::INT)),
            // It may also come from a terminal.
            SIGHUP if !is_orphaned(parent) => {}
            _ => return Ok(1),
        }
    }
    Ok(1)
}

fn is_orphaned(parent: Option<Pid>) -> bool {
    parent.is_some() && getppid() != parent
}

/// Waits until `guard` has died.
pub(super) async fn watch_parent(guard: Pid) {
    // First the handler, then the request for the signal, then a look whether it is already too late.
    let armed = signal(SignalKind::hangup())
        .and_then(|hangup| Ok((hangup, set_parent_process_death_signal(Some(Signal::HUP))?)));
    match armed {
        Ok((mut hangup, ())) => {
            while getppid() == Some(guard) {
                // A hang-up may also come from a terminal.
                hangup.recv().await;
            }
        }
        Err(error) => tracing::error!(%error, "cannot watch the parent process"),
    }
}

/// Starts this binary again with the same arguments, in a group of its own: a terminal's Ctrl-C must reach it once,
/// through the guard.
fn start_watchdog() -> io::Result<Child> {
    // Not `current_exe`: this path still leads to this very binary after the file was replaced or deleted.
    Command::new("/proc/self/exe")
        .arg0(std::env::args_os().next().unwrap_or_default())
        .args(std::env::args_os().skip(1))
        .env(GUARD_PID, std::process::id().to_string())
        .env_remove(PARENT_PID)
        .process_group(0)
        .spawn()
}

/// Reaps what has ended. Gives the watchdog's status if it is among it.
fn bury(watchdog: &mut Child) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(watchdog);
    while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
        if ended == pid {
            return Ok(Some(ExitStatus::from_raw(status.as_raw())));
        }
    }
    Ok(None)
}

/// Exit code of the watchdog, or as a shell shows a signal.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok()).unwrap_or(1)
}
