//! Backends from outside: orders in, events and real processes out.
//!
//! [`conformance`] is what every backend must do; [`process`] is what only local processes show.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

mod conformance;
mod process;
mod rig;
#[allow(dead_code, reason = "shared with the tests of the watchdog")]
#[path = "../it/watchdog/support.rs"]
mod support;
