//! Runs shards on threads.
//!
//! A [`Fabric`] connects threads. Each thread has a [`Node`]: a mailbox, a slab of callers that wait for
//! answers, and (mostly) one shard with its [`Host`], which performs the shard's effects. A call for the
//! thread's own shard is a function call; for another shard it is one message there and one back, batched,
//! through a bounded mailbox. Full means refuse now, never wait.
//!
//! Reading order: [`plan`] (which thread does what), `node` (a call, a turn, the pump), `mailbox`, `replies`,
//! `budget` (the two limits that all shards share), `signs` (what each loop tells about itself), `progress` (whether ready work is taken up).
//!
//! Not here: what a shard decides (`shard-core`), sockets, files, formats.

mod budget;
mod clock;
mod fabric;
mod mailbox;
mod node;
pub mod plan;
mod progress;
mod replies;
mod signs;
mod sync;
#[cfg(test)]
mod tests;
mod threads;

pub use budget::Budgets;
pub use fabric::{Fabric, Shape};
pub use node::{Host, Node, Reply};
pub use plan::{Placement, Plan, Role};
pub use replies::Busy;
pub use signs::{TallyView, ThreadView};
pub use threads::{Threads, start};
