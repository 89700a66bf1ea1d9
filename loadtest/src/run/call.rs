//! One call: from the time at which it should begin to the last answer.

use std::rc::Rc;

use crate::{client::request::Request, record::recorder::Times};

/// A call that is due or on its way.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Index of the function in the plan.
    pub(super) target: usize,
    /// 0 is the warm-up.
    pub(super) phase: usize,
    /// The phase in which it was told to wait, where all that follows from it is counted.
    pub(super) told_phase: usize,
    pub(super) request: Rc<Request>,
    pub(super) intended_ns: u64,
    /// 0 until it is sent.
    pub(super) sent_ns: u64,
    /// How often it was told to wait and has called again.
    pub(super) retries: u32,
}

impl Call {
    pub(super) fn times(&self) -> Times {
        Times {
            target: self.target,
            phase: self.phase,
            intended_ns: self.intended_ns,
            sent_ns: Some(self.sent_ns),
        }
    }

    pub(super) fn times_unsent(&self) -> Times {
        Times { sent_ns: None, ..self.times() }
    }
}

/// What an answer is an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallStep {
    /// The call itself; its answer is the result.
    Invoke,
    /// The call itself; its answer promises a result.
    Enqueue,
    /// A question for the result.
    Poll,
}

/// Bytes to send.
#[derive(Debug)]
pub(super) enum Out {
    Built(Rc<Request>),
    Own(Vec<u8>),
}

impl Out {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Out::Built(request) => &request.bytes,
            Out::Own(bytes) => bytes,
        }
    }
}

/// A request on its way, or waiting for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) call: Call,
    pub(super) step: CallStep,
    pub(super) out: Out,
    pub(super) written: usize,
    /// When this request was begun; the call may have begun earlier.
    pub(super) begun_ns: u64,
    /// Tells its callback from others.
    pub(super) token: Option<u64>,
}
