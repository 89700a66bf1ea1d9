//! What happened: counts and distributions, per function, phase and second.
//!
//! Every sending thread has a recorder, which nothing else touches. Once a second it hands what it has to the
//! [`collector::Collector`], so that the hot path neither locks nor shares.

pub mod collector;
pub mod distribution;
pub mod interval_log;
pub(crate) mod recorder;
pub mod tally;

pub use self::{
    collector::{Collector, Row},
    distribution::Distribution,
    tally::{Counts, Tally},
};
