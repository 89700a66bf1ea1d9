//! Black-box tests: everything here talks to the real binary, over HTTP, on its command line, or by signals.
//!
//! One binary, so that linking is paid once. `support` starts servers, functions and clients; the other folders
//! and files are named after what they test. The server's placement is taken from `NANOFAAS_PLACEMENT`, so the same
//! tests hold for both.

#![allow(unreachable_pub, reason = "modules of a test binary are its only readers")]

mod async_queue;
mod autoscaler;
mod browsers;
mod callbacks;
mod cli;
mod clock;
mod concurrency;
mod connections;
mod crashes;
mod delivery;
mod deployment;
mod descriptors;
mod disconnects;
mod drain;
mod durability;
mod endpoints;
mod environment;
mod errors;
#[cfg(feature = "kubernetes")]
mod external_metrics;
mod functions;
mod handover;
mod idempotency;
mod invocation;
mod kubernetes;
mod log;
mod memory;
mod metrics;
mod openapi;
mod overload;
mod placement;
mod raw;
mod remote;
mod retention;
mod retries;
mod runtime_config;
mod stress;
mod support;
mod sync_queue;
mod vanished;
#[path = "../../crates/watchdog/tests/watchdog/suite/mod.rs"]
mod watchdog;

/// The command that the tests of the watchdog are about. The binary of its own has the same tests.
fn watchdog_command() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nanofaas"));
    command.arg("watchdog");
    command
}
