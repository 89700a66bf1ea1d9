//! What hangs below this process, programs' children included.
//!
//! Guard and watchdog are *subreapers*: a process below them that loses its parent becomes their child, whatever
//! group or session it moved to. So following the children is enough to find everything.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// Longest time to kill what is left; a process may be stuck in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes this process the parent of its orphaned descendants. It must bury them.
///
/// # Errors
/// The system refuses.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Children of this process, those of all its threads. None where the kernel does not tell.
pub fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

/// Kills and buries the children of this process until there are none: killing one makes its children ours.
pub fn kill() {
    let deadline = Instant::now() + KILL_TIMEOUT;
    // The list of children may miss some while others end; only `wait` knows when there are none (an error).
    while let Ok(ended) = wait(WaitOptions::NOHANG) {
        if ended.is_some() {
            continue;
        }
        if Instant::now() > deadline {
            return;
        }
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Nothing else runs any more; the processes need a moment to end.
        std::thread::sleep(Duration::from_millis(2));
    }
}
