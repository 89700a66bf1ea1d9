//! A disk that becomes full while the server runs, stays full over kills, and has room again later.
//!
//! Best is a small file system of the run's own, in memory, in a mount namespace of this process, which needs no root where
//! user namespaces are allowed ([`enter`]). The rest of it is taken by a file. Where nothing can be mounted, as in many
//! containers, the server gets a limit on the length of its files instead (`RLIMIT_FSIZE`): writes fail at the same
//! place, with another error, and a new file is full from its first byte.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use fastrand::Rng;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::torn;
use crate::server::NanofaasServer;

/// Size of the file system.
const SIZE: &str = "256m";
/// Says that [`enter`] did its work.
const ENTERED: &str = "LOADTEST_DISK_IS_MOUNTED";
/// Takes the room.
const BALLAST: &str = "ballast";
/// Room that a limit on the length of files leaves, at most: writes succeed in part.
const SLACK_BYTES: u64 = 200;
/// Share of the times that there is room again while the server serves.
const FREED_WHILE_SERVING: f64 = 0.5;

/// How the disk becomes full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A small file system in memory.
    Tmpfs,
    /// A limit on the length of the server's files.
    Limit,
}

/// Mounts a small file system at `data`, for this program and what it starts, and begins it anew. Returns when that is
/// done, or with the reason why it cannot be.
///
/// # Errors
/// What the system says.
pub fn enter(data: &Path) -> io::Result<()> {
    if std::env::var_os(ENTERED).is_some() {
        return Ok(());
    }
    let mount = |namespaces: &[&str]| {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size={SIZE},mode=700 tmpfs \"$0\" && exec \"$@\"");
        command.args(namespaces).args(["--", "sh", "-c", &script]).arg(data);
        command
    };
    let mut reason = String::new();
    for namespaces in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let tried = mount(namespaces).arg("true").stdin(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => {
                let mut command = mount(namespaces);
                command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(ENTERED, "1");
                // Comes back only when it fails.
                return Err(command.exec());
            }
            Ok(output) => reason = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => reason = format!("unshare: {error}"),
        }
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// What happens to the disk while the server serves once.
#[derive(Debug, Default)]
struct DiskPlan {
    fill: Option<Duration>,
    free: Option<Duration>,
}

/// The disk.
#[derive(Debug)]
pub(super) struct Disk {
    way: Way,
    data: PathBuf,
    plan: DiskPlan,
    /// No room.
    is_full: bool,
    /// How often it became full.
    pub(super) fills: u64,
    /// Kills while it was.
    pub(super) kills: u64,
}

impl Disk {
    pub(super) fn new(way: Way, data: &Path) -> Disk {
        let (data, plan) = (data.to_owned(), DiskPlan::default());
        Disk { way, data, plan, is_full: false, fills: 0, kills: 0 }
    }

    /// A server serves from now on, so long.
    pub(super) fn plan(&mut self, serve: Duration, random: &mut Rng) {
        let fill = (!self.is_full).then(|| serve.mul_f64(random.f64() * 0.7));
        let from = fill.unwrap_or_default();
        // A run is short at times: the first chance to be killed while it is full is taken.
        let is_freed = self.kills > 0 && random.f64() < FREED_WHILE_SERVING;
        let free = is_freed.then(|| from + (serve - from).mul_f64(random.f64()));
        self.plan = DiskPlan { fill, free };
    }

    /// So long it has served. Does what is due.
    pub(super) fn advance(
        &mut self,
        served: Duration,
        server: &NanofaasServer,
        random: &mut Rng,
    ) -> io::Result<()> {
        if self.plan.fill.take_if(|at| served >= *at).is_some() {
            self.fills += 1;
            self.is_full = true;
            match self.way {
                Way::Tmpfs => fill_up(&self.data.join(BALLAST))?,
                Way::Limit => {
                    let written = fs::metadata(torn::newest(&self.data)?)?.len();
                    limit(server, Some(written + random.u64(0..SLACK_BYTES)))?;
                }
            }
        }
        if self.plan.fill.is_none() && self.plan.free.take_if(|at| served >= *at).is_some() {
            self.free(Some(server))?;
        }
        Ok(())
    }

    /// The server was killed. Sometimes there is room before the next one starts.
    pub(super) fn killed(&mut self, random: &mut Rng) -> io::Result<()> {
        self.kills += u64::from(self.is_full);
        if self.is_full && random.f64() < FREED_WHILE_SERVING {
            self.free(None)?;
        }
        Ok(())
    }

    /// Another server was begun.
    pub(super) fn begun(&mut self, server: &NanofaasServer, random: &mut Rng) -> io::Result<()> {
        match self.way {
            _ if !self.is_full => Ok(()),
            // What the last one cut off at its end is taken, too.
            Way::Tmpfs => fill_up(&self.data.join(BALLAST)),
            // It begins a new file.
            Way::Limit => limit(server, Some(random.u64(0..SLACK_BYTES))),
        }
    }

    /// There is room.
    pub(super) fn free(&mut self, server: Option<&NanofaasServer>) -> io::Result<()> {
        self.plan = DiskPlan::default();
        self.is_full = false;
        match (self.way, server) {
            (Way::Tmpfs, _) => match fs::remove_file(self.data.join(BALLAST)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            (Way::Limit, Some(server)) => limit(server, None),
            // The next one has no limit.
            (Way::Limit, None) => Ok(()),
        }
    }
}

/// Writes until nothing more goes in.
fn fill_up(path: &Path) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let zeros = vec![0; size];
        loop {
            match file.write(&zeros) {
                Ok(1..) => {}
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Limits the length of the server's files; `None`: as it was.
fn limit(server: &NanofaasServer, bytes: Option<u64>) -> io::Result<()> {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    // Without one it would be our own limit.
    let pid = pid.ok_or_else(|| io::Error::other("the server has no process id"))?;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?;
    Ok(())
}
