//! The watchdog: any program as a function.
//!
//! A library, because there are two ways to it: the binary `nanofaas-watchdog`, which holds little memory, and the
//! subcommand `nanofaas watchdog`, for which nothing has to be installed besides.
//!
//! Two processes: the [`guard`], which outlives everything below it, and the watchdog proper, which starts the
//! program and talks to it. From there:
//!
//! - [`options`] the environment; [`launcher`], [`program`], [`descendants`], [`output`] processes and their streams
//! - [`stdio`], [`mod@file`] one process per call; [`http`], [`proxy`] one process for all
//! - [`warm`], [`door`], [`server`], [`metrics`] serving calls; [`one_shot`], [`callback`] a single execution
//! - [`log`], [`function_log`] what is written to standard error
//!
//! Everything runs on the main thread, without locks. Programs must be started there too.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Instant,
};

use rustix::process::Pid;

pub mod callback;
pub mod descendants;
pub mod door;
pub mod file;
pub mod function_log;
pub mod guard;
pub mod http;
pub mod invocation;
pub mod launcher;
pub mod log;
pub mod metrics;
pub mod one_shot;
pub mod options;
pub mod output;
pub mod program;
pub mod proxy;
pub mod server;
pub mod stdio;
pub mod stop;
pub mod warm;

use launcher::Launcher;
use options::{Options, Task};
use program::Programs;
use stop::StopSignals;

/// What `nanofaas-watchdog --version` prints: a server runs its replicas under a binary that says exactly this.
pub const VERSION: &str =
    concat!("nanofaas-watchdog ", env!("CARGO_PKG_VERSION"), " (sources ", env!("WATCHDOG_FINGERPRINT"), ")");

/// Events that are taken from the system at once: few, because their room is kept.
const EVENTS_AT_ONCE: usize = 64;

/// Stack of the threads that open files and resolve names.
const STACK_BYTES: usize = 256 << 10;

/// Exit code of a wrong environment.
const EXIT_CONFIGURATION: u8 = 64;

/// Runs the watchdog that the environment describes, until it is done or told to stop.
///
/// Exit codes: 0 stopped or succeeded, 1 could not start or the function failed, 2 result not delivered,
/// 64 wrong environment.
pub fn run() -> ExitCode {
    let started = Instant::now();
    let options = match Options::read(|name| std::env::var_os(name)) {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    log::init();
    // It may have been started through a link, of which `ps` and `pgrep` would show the last part. 15 bytes at most.
    let _ = rustix::thread::set_name(c"nanofaas-watchd");
    let Some(guard) = guard::guard_pid() else {
        // The guard needs nothing else, and lives long.
        let parent = options.parent;
        drop(options);
        return guard::run(parent);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS_AT_ONCE)
        .thread_stack_size(STACK_BYTES)
        .build_local(Default::default());
    match runtime {
        Ok(runtime) => runtime.block_on(async { ExitCode::from(watch(&options, guard, started).await) }),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The watchdog proper. Whatever ends it, no program is left.
async fn watch(options: &Options, guard: Pid, started: Instant) -> u8 {
    let (programs, stop) = match Programs::watch().and_then(|programs| Ok((programs, StopSignals::listen()?)))
    {
        Ok(both) => both,
        Err(error) => {
            complain(&error);
            return 1;
        }
    };
    let launcher = Launcher::new(programs.clone(), options);
    let code = tokio::select! {
        code = work(options, launcher, started, stop) => code,
        () = guard::watch_parent(guard) => {
            tracing::error!("the guard is gone, ending at once");
            1
        }
    };
    programs.kill_all();
    descendants::kill();
    code
}

async fn work(options: &Options, launcher: Launcher, started: Instant, mut stop: StopSignals) -> u8 {
    match &options.task {
        Task::Warm { host, port } => {
            let address = SocketAddr::new(*host, *port);
            warm::run(options, address, launcher, started, stop).await.unwrap_or_else(|error| {
                complain(&error);
                1
            })
        }
        Task::OneShot(execution) => {
            let stopped_twice = async {
                stop.received().await;
                tracing::info!("letting the execution finish; a second signal ends at once");
                stop.received().await;
            };
            tokio::select! {
                code = one_shot::run(options, execution, launcher) => code,
                () = stopped_twice => 1,
            }
        }
    }
}

/// Tells why there is no watchdog. Standard output belongs to one line, see [`warm`].
fn complain(error: &dyn std::error::Error) {
    // Nobody to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error}");
}
