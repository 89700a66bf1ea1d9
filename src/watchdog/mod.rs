//! The watchdog: any program as a function.
//!
//! Two processes: the [`guard`], which outlives everything below it, and the watchdog proper, which starts the
//! program and talks to it. From there:
//!
//! - [`options`] the environment; [`launcher`], [`program`], [`descendants`], [`output`] processes and their streams
//! - [`stdio`], [`mod@file`] one process per call; [`http`], [`proxy`] one process for all
//! - [`warm`], [`server`], [`metrics`] serving calls; [`one_shot`], [`callback`] a single execution
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
pub mod file;
pub mod function_log;
pub mod guard;
pub mod http;
pub mod invocation;
pub mod launcher;
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
    crate::telemetry::log::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            match guard::guard_pid() {
                None => guard::run(options.parent).await,
                Some(guard) => ExitCode::from(watch(&options, guard, started).await),
            }
        }),
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
        () = guard::watch_parent(Some(guard)) => {
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

/// Logs to standard error; `RUST_LOG` chooses how much. Standard output belongs to one line, see [`warm`].
fn complain(error: &dyn std::error::Error) {
    // Nobody to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error}");
}
