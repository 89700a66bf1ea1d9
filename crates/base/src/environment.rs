//! The environment of a server, out of reach of its functions.
//!
//! Anybody of the same user can read `/proc/<pid>/environ`: what a process was started with, for as long as it runs. Functions
//! of the process backend are such, so a server must not have been started with what they may not know. It starts itself
//! again ([`hide`]): the same process, program, arguments and open files, with harmless variables only. The others go
//! through pipes, and are in memory from then on ([`var`], [`vars`]).
//!
//! Not hidden: the environment of processes above the server (a shell that exported a secret before it was started
//! itself, an init that got it), and what stands on the command line.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::CommandExt,
    },
    process::Command,
    sync::OnceLock,
};

use tokio::signal::unix::{SignalKind, signal};

mod carrier;

/// Marks a process that was started again: its own id, so that nobody believes it who only inherited it.
const MARK: &str = "NANOFAAS_HANDED_OVER";

/// Variables that stay: those that functions get as well, those that libraries and the system look for by themselves
/// (the loader, the allocator, certificates, sockets and times from a supervisor), what shells say of themselves, and
/// the filter of the log. A server that has no others need not be started again, which is what tools that run it
/// under their own control (valgrind) want.
const HARMLESS: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "TERM",
    "SHELL",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "_",
    "NO_COLOR",
    "NANOFAAS_LOG",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The same, by what they begin with.
const HARMLESS_PREFIXES: [&str; 9] =
    ["LC_", "LD_", "LISTEN_", "RUST_", "MIMALLOC_", "GLIBC", "MALLOC_", "FAKETIME", "LLVM_PROFILE_"];

/// What was handed over, for the life of the process.
static HANDED_OVER: OnceLock<BTreeMap<OsString, OsString>> = OnceLock::new();

/// Why the environment is not hidden.
#[derive(Debug, thiserror::Error)]
pub enum HideError {
    /// Everything is there, but functions can read it.
    #[error(
        "functions can read the environment that this server was started with: it cannot start itself again without it ({0})"
    )]
    Exposed(io::Error),
    /// Settings may be missing, so nothing may go on.
    #[error(
        "{MARK} says that this process was handed its environment, and it was not ({0}); start it without this variable"
    )]
    Lost(io::Error),
}

/// Starts this program again, without what functions may not know, and does not return; or takes over, when it was started
/// again. Call it before there are threads or open files.
///
/// # Errors
/// See [`HideError`].
pub fn hide() -> Result<(), HideError> {
    let is_marked = env::var_os(MARK).is_some_and(|mark| mark == *std::process::id().to_string());
    if is_marked {
        let bytes = take_over().map_err(HideError::Lost)?;
        // Only here, and once.
        let _ = HANDED_OVER.set(decode(&bytes));
        return Ok(());
    }
    let (harmless, others): (Vec<_>, Vec<_>) = env::vars_os().partition(|(name, _)| is_harmless(name));
    if others.is_empty() {
        return Ok(());
    }
    Err(HideError::Exposed(start_again(harmless, &encode(&others))))
}

/// A variable of the environment, wherever that is.
pub fn var_os(name: &str) -> Option<OsString> {
    let handed_over = HANDED_OVER.get().and_then(|variables| variables.get(OsStr::new(name)));
    handed_over.cloned().or_else(|| env::var_os(name))
}

/// A variable of the environment, wherever that is; none when it is not UTF-8.
pub fn var(name: &str) -> Option<String> {
    var_os(name)?.into_string().ok()
}

/// All variables: what this program was started with by others.
pub fn vars() -> impl Iterator<Item = (OsString, OsString)> {
    let handed_over = HANDED_OVER.get().into_iter().flatten();
    let handed_over = handed_over.map(|(name, value)| (name.clone(), value.clone()));
    env::vars_os().filter(|(name, _)| name != MARK).chain(handed_over)
}

/// Whether functions may know it.
pub fn is_harmless(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        HARMLESS.contains(&name) || HARMLESS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Returns only when it failed; everything is as before then.
fn start_again(harmless: Vec<(OsString, OsString)>, others: &[u8]) -> io::Error {
    let name = rustix::thread::name().unwrap_or_default();
    let before = match carrier::load(name.as_bytes(), others) {
        Ok(before) => before,
        Err(error) => return error,
    };
    // Not `current_exe`: this path still leads to this very program after the file was replaced or deleted.
    let error = Command::new("/proc/self/exe")
        .arg0(env::args_os().next().unwrap_or_default())
        .args(env::args_os().skip(1))
        .env_clear()
        .envs(harmless)
        .env(MARK, std::process::id().to_string())
        .exec();
    carrier::unload(&before);
    survive_broken_pipes();
    error
}

/// An attempt to start another program leaves this process with the disposition that programs begin with.
fn survive_broken_pipes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build_local(Default::default());
    // Caught once, it stays caught. Nothing can be done about a system that refuses.
    let _ = runtime.and_then(|runtime| runtime.block_on(async { signal(SignalKind::pipe()).map(drop) }));
}

fn take_over() -> io::Result<Vec<u8>> {
    let cargo = carrier::receive()?;
    // Its own name again, not that of the path in /proc.
    if let Ok(name) = std::ffi::CString::new(cargo.label) {
        let _ = rustix::thread::set_name(&name);
    }
    let mut bytes = Vec::new();
    for pipe in cargo.pipes {
        std::fs::File::from(pipe).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 != cargo.length {
        return Err(io::Error::other(format!("{} bytes of {} arrived", bytes.len(), cargo.length)));
    }
    Ok(bytes)
}

/// As in `/proc/<pid>/environ`.
fn encode(variables: &[(OsString, OsString)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in variables {
        bytes.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }
    bytes
}

fn decode(bytes: &[u8]) -> BTreeMap<OsString, OsString> {
    let variable = |entry: &[u8]| {
        // A name may begin with the sign that otherwise ends it.
        let end = 1 + entry.get(1..)?.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry[..end].to_vec(), entry[end + 1..].to_vec());
        Some((OsString::from_vec(name), OsString::from_vec(value)))
    };
    bytes.split(|byte| *byte == 0).filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_variables_stay() {
        for (name, stays) in [
            ("PATH", true),
            ("LC_ALL", true),
            ("TZ", true),
            ("NANOFAAS_LOG", true),
            ("LISTEN_FDS", true),
            ("LISTEN_PID", true),
            ("LISTEN_FDNAMES", true),
            ("LD_PRELOAD", true),
            ("FAKETIME_SHARED", true),
            ("RUST_BACKTRACE", true),
            ("NANOFAAS_DELIVERY_SECRET", false),
            ("NANOFAAS_DATA_DIR", false),
            ("NANOFAAS_LOGS", false),
            (MARK, false),
            ("SERVER_PORT", false),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("DATABASE_URL", false),
            ("HTTPS_PROXY", false),
            ("WATCHDOG_CMD", false),
            ("PATHS", false),
            ("XLC_ALL", false),
            ("", false),
        ] {
            assert_eq!(is_harmless(OsStr::new(name)), stays, "{name}");
        }
        assert!(!is_harmless(OsStr::from_bytes(b"LC_\xff")), "a name that is no text");
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let text = |text: &[u8]| OsString::from_vec(text.to_vec());
        let variables = [
            (text(b"A"), text(b"")),
            (text(b"B"), text(b"x=y\nz ")),
            (text(b"\xff"), text(b"\xfe")),
            (text(b"=C:"), text(b"C:\\")),
        ];
        assert_eq!(decode(&encode(&variables)), variables.into_iter().collect());
        assert_eq!(decode(b""), BTreeMap::new());
        assert_eq!(decode(b"nonsense\0\0=\0"), BTreeMap::new());
    }
}
