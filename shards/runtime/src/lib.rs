//! Runs shards on threads.
//!
//! [`Workers`] is what all threads share. Each thread has a [`Worker`]: a mailbox, a slab of callers that wait for
//! answers, and (mostly) one shard with its [`Host`], which performs the shard's effects. A call for the
//! thread's own shard is a function call; for another shard it is one message there and one back, batched,
//! through a bounded mailbox. Full means refuse now, never wait. What works for shards on threads of its own answers
//! through an [`Inbox`].
//!
//! Reading order: [`plan`] (which thread does what), `worker` (a call, a turn, the pump), `mailbox`, `replies`,
//! `budget` and `room` (the limits that all shards share), `loop_stats` (what each loop
//! tells about itself), `progress` (whether ready work is taken up).
//!
//! Not here: what a shard decides (`shard-core`), sockets, files, formats.

mod budget;
mod clock;
mod inbox;
mod loop_stats;
mod mailbox;
pub mod plan;
mod progress;
mod replies;
pub mod room;
mod sync;
#[cfg(test)]
mod tests;
mod threads;
mod worker;
mod workers;

pub use budget::Budgets;
pub use inbox::Inbox;
pub use loop_stats::{TallyView, ThreadView};
pub use plan::{Placement, Plan, Role};
pub use replies::Busy;
pub use threads::{Threads, start};
pub use worker::{Host, Reply, Worker};
pub use workers::{Shape, Workers};
