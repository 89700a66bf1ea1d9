//! Starts Chromium without a screen on one page, and ends it with everything that it started.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A browser with a profile of its own. Dropping it ends it.
pub struct Chromium {
    child: Child,
    profile: PathBuf,
}

impl Chromium {
    /// Opens a page. Nothing but what the page does goes over the network.
    pub fn open(url: &str, flags: &[&str]) -> Chromium {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("nanofaas-browser-{}-{number}", std::process::id()));
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            // Tests may run as root, whom Chromium's sandbox does not take; the page is our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display())).args(flags).arg(url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: the browser is many processes, and all of them end with it.
        let child =
            command.process_group(0).spawn().expect("chromium is installed (tests/run.sh installs it)");
        Chromium { child, profile }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
