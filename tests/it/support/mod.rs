//! What tests need: servers, functions, clients, patience.

#![allow(dead_code, unused_imports, reason = "a toolbox: not every tool is in use at every time")]

pub mod client;
pub mod data_dir;
pub mod function;
pub mod gate;
pub mod server;
pub mod terminal;

use std::time::{Duration, Instant};

pub use client::{Client, Response};
pub use data_dir::DataDir;
pub use function::{Call, Function, Reply};
pub use gate::Gate;
pub use server::Server;
pub use terminal::Terminal;

/// Longest wait for something that must happen. Generous: two busy cores are slow, and a wait that succeeds
/// ends at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics with `what` when it does not in time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets time pass, for a peer that is slow: part of what is tested, never a way to wait for something.
pub fn pace(pause: Duration) {
    std::thread::sleep(pause);
}
