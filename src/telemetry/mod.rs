//! What the server tells about itself: metrics here, the log in `log`.
//!
//! Counters live in the core, histograms beside each shard as plain memory of its thread. A scrape asks every
//! shard for a copy and merges the copies; nothing is shared and nothing is locked on the way of a call.

pub mod answers;
pub mod backends;
pub mod histogram;
pub mod log;
pub mod process;
pub mod prometheus;
pub mod runtime_config;
pub mod scale;
pub mod shard;
pub mod store;
