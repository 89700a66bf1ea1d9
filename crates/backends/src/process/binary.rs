//! The binary that watchdogs are started from: the small one when it lies beside the server, else the server's own.
//!
//! A watchdog that is the whole server holds several times the memory of the small binary, for each replica. But a server
//! must not depend on a second file, nor run one of another version: what the two say to each other is nobody's contract.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use nanofaas_watchdog::VERSION;
use tokio::{process::Command, time::timeout};

/// Time to tell its version: it answers at once, or it is something else.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// What watchdogs are started from.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    /// The small one, kept open. `path` leads to it also when the file is replaced or deleted.
    small: Option<File>,
}

impl Binary {
    /// Takes the binary at `small` if that is the watchdog that this server was built with, else the server's own.
    pub async fn choose(own: PathBuf, small: Option<&Path>) -> Binary {
        let Some(small) = small else { return Binary { path: own, small: None } };
        let file = match File::open(small) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %small.display(), %error, "replicas run under the server's own binary");
                }
                return Binary { path: own, small: None };
            }
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        match version_of(&path).await {
            Ok(version) if version == VERSION => Binary { path, small: Some(file) },
            found => {
                let found = found.unwrap_or_else(|error| error.to_string());
                tracing::warn!(
                    path = %small.display(), found, wanted = VERSION,
                    "not the watchdog of this server; replicas run under the server's own binary, which takes more memory"
                );
                Binary { path: own, small: None }
            }
        }
    }

    /// The command that starts a watchdog.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // What `ps` shows, instead of the path to a running file.
        match self.small {
            Some(_) => command.arg0("nanofaas-watchdog"),
            None => command.arg0("nanofaas").arg("watchdog"),
        };
        command
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

async fn version_of(path: &Path) -> io::Result<String> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let Output { stdout, .. } = timeout(VERSION_TIMEOUT, command.output()).await??;
    Ok(String::from_utf8_lossy(&stdout).trim_end().chars().take(VERSION.len() + 1).collect())
}
