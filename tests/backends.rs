//! Backends from outside: orders in, events and real processes out.
//!
//! [`conformance`] is what every backend must do; [`process`] is what only local processes show.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

#[path = "backends/rig.rs"]
mod rig;
#[allow(dead_code, reason = "shared with the tests of the watchdog")]
#[path = "support/watchdog.rs"]
mod support;

#[path = "backends/conformance.rs"]
mod conformance;
#[path = "backends/process.rs"]
mod process;
