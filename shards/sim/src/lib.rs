//! Deterministic simulation of nanofaas: real shards in a world of faults, audited from outside.
//!
//! A run follows from its seed alone. It makes the same steps every time, on every machine, in debug and release
//! builds, and says so with a hash. Time is virtual: hours pass in seconds.
//!
//! Reading order: [`swarm`] (what a run is made of), `world` (what happens, one event after the other), `clients`,
//! `functions`, `backend`, `network`, `disk` (who is around the shards), `auditor` (what has to hold, kept apart from the
//! shards), [`sabotage`] (worlds that are broken on purpose, to see that the auditor notices).
//!
//! Not here: threads, sockets, files. Those are tested from outside, against the real server.

mod agenda;
mod auditor;
mod backend;
mod clients;
mod disk;
pub mod file;
mod functions;
mod jobs;
mod network;
pub mod random;
mod run;
pub mod sabotage;
pub mod shrink;
pub mod storage;
pub mod swarm;
mod trace;
mod world;

pub use auditor::Stats;
pub use clients::Kind;
pub use run::{Failure, Options, Outcome, run, run_on};
