//! Backends from outside: orders in, events and real replicas out.
//!
//! [`conformance`] is what every backend must do, run with each; [`adoption`] is what those do whose replicas outlive the
//! server, [`orphans`] what becomes of replicas that nobody wants any more, and [`process`] what only local processes
//! show. [`jobs`] is the same of what runs once. [`memory`] is a second backend: its replicas are small HTTP servers of the
//! test, which stay when the backend is gone. [`kubelet`] is a cluster for the Kubernetes backend, with such servers as Pods, and
//! [`cluster`] a real one, where there is one.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

mod adoption;
#[path = "../../crates/kubernetes/tests/suite/api_server/mod.rs"]
mod api_server;
mod cluster;
mod conformance;
mod jobs;
mod kubelet;
mod memory;
mod orphans;
mod process;
mod recorder;
mod rig;
mod server;
#[allow(dead_code, reason = "shared with the tests of the watchdog")]
#[path = "../../crates/watchdog/tests/watchdog/suite/support.rs"]
mod support;

/// The watchdog that `support` would start by itself.
fn watchdog_command() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nanofaas"));
    command.arg("watchdog");
    command
}
