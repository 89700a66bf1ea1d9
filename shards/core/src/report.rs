//! How an attempt ended, as told by whoever ran it.

use crate::payload::{Failure, Output};

/// How an attempt ended, with what the answer said about the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The replica said that this was its first call.
    pub cold_start: bool,
    /// How long the replica took to start, in milliseconds.
    pub init_ms: Option<u32>,
    /// The answer claimed to be JSON and was not.
    pub bad_output: bool,
}

impl Report {
    /// A report of a warm replica.
    pub fn warm(outcome: Outcome) -> Report {
        Report { outcome, cold_start: false, init_ms: None, bad_output: false }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The function answered.
    Success(Output),
    /// It failed, or could not be reached.
    Failure {
        /// Why.
        failure: Box<Failure>,
        /// Whether another attempt may be made.
        retryable: bool,
        /// How long the function asks to be left alone, in milliseconds.
        retry_after_ms: Option<u32>,
    },
    /// The function will report by callback.
    Deferred,
    /// It was not run: nothing of it was written, or who watches over the function says so.
    NotRun(Box<Failure>),
    /// What ran it ended before it had answered.
    Crashed(Box<Failure>),
}
