//! No program survives its watchdog, whoever is killed and however.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::{os::unix::process::ExitStatusExt, process::Command};

use super::support::{Folder, Watchdog, alive, command, connect, gone, kill, warm};

/// Starts a call whose program has a child in its process group and one in a session of its own. Gives their ids.
fn run_family(folder: &Folder, watchdog: &Watchdog) -> Vec<u32> {
    let connection =
        connect(watchdog.address.unwrap(), "POST", "/invoke", &[("X-Execution-Id", "e1")], b"{}").unwrap();
    // Closing the connection would end the call.
    std::mem::forget(connection);
    let pids = folder.pids("pids", 3);
    assert!(pids.iter().all(|pid| alive(*pid)));
    pids
}

fn family(folder: &Folder) -> String {
    let pids = folder.path("pids");
    let script = format!(
        "trap '' TERM HUP\nsleep 300 &\nchild=$!\nsetsid sh -c 'echo $$ >> {0}; exec sleep 300' &\necho $$ $child >> {0}\nwait\n",
        pids.display()
    );
    folder.program("sh", &script)
}

#[test]
fn killing_the_guard_or_the_watchdog_takes_the_program_along() {
    for inner in [false, true] {
        let folder = Folder::new(&format!("kill-{inner}"));
        let program = family(&folder);
        let mut watchdog = Watchdog::ready(&warm("STDIO", &program));
        let pids = run_family(&folder, &watchdog);
        let proper = watchdog.inner_pid();
        kill(if inner { proper } else { watchdog.child.id() }, "KILL");
        pids.into_iter().for_each(gone);
        gone(proper);
        let status = watchdog.exit();
        assert!(status.code() == Some(137) || status.signal() == Some(9), "{status}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new("second");
    let program = family(&folder);
    let mut watchdog = Watchdog::ready(&warm("STDIO", &program));
    let pids = run_family(&folder, &watchdog);
    watchdog.signal("TERM");
    super::support::eventually("it drains", || watchdog.stderr().contains("draining").then_some(()));
    assert!(watchdog.child.try_wait().unwrap().is_none(), "a call still runs");
    watchdog.signal("INT");
    assert_eq!(watchdog.exit().code(), Some(1));
    assert!(!pids.into_iter().any(alive), "nothing is left when the watchdog has ended");
}

#[test]
fn the_watchdog_does_not_outlive_the_parent_it_was_told() {
    let folder = Folder::new("parent");
    let program = family(&folder);
    let watchdog_command = command(&warm("STDIO", &program));
    let mut shell = Command::new("sh");
    // The shell stays, as the control plane would.
    shell.args(["-c", "NANOFAAS_PARENT_PID=$$ \"$@\" & wait", "sh"]);
    shell.arg(watchdog_command.get_program()).args(watchdog_command.get_args());
    shell.env_clear();
    shell.envs(watchdog_command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let watchdog = Watchdog::spawn(shell);
    let pids = run_family(&folder, &watchdog);
    watchdog.signal("KILL");
    pids.into_iter().for_each(gone);
}

#[test]
fn a_watchdog_whose_parent_is_gone_already_ends() {
    let mut variables = warm("STDIO", "cat");
    variables.push(("NANOFAAS_PARENT_PID", "1"));
    let mut watchdog = Watchdog::spawn(command(&variables));
    assert_eq!(watchdog.exit().code(), Some(1));
}
