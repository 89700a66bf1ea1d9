//! Calls whose result comes by a callback.

use std::collections::HashMap;

use super::call::Call;

/// A result that came by a callback.
#[derive(Debug)]
pub(crate) struct CallbackResult {
    /// Names the call.
    pub(crate) token: u64,
    /// The code of a failure.
    pub(crate) result: Result<(), Option<String>>,
}

/// A call that waits for its callback.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Call,
    /// The connection of a closed loop that waits with it, once the server has accepted the call.
    pub(super) connection: Option<usize>,
}

/// Calls of one thread that wait. Every one leaves by its callback, a refusal or its timeout.
#[derive(Debug)]
pub(super) struct Pending {
    calls: HashMap<u64, Waiting>,
    next_token: u64,
}

/// Tokens carry the thread's number in these high bits.
const THREAD_SHIFT: u32 = 48;

/// The thread whose call a token names.
pub(crate) fn thread_of(token: u64) -> usize {
    (token >> THREAD_SHIFT) as usize
}

impl Pending {
    pub(super) fn new(thread: usize) -> Pending {
        Pending { calls: HashMap::new(), next_token: (thread as u64) << THREAD_SHIFT }
    }

    /// Adds a call and gives it a token.
    pub(super) fn add(&mut self, call: Call) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.calls.insert(token, Waiting { call, connection: None });
        token
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Waiting> {
        self.calls.get_mut(&token)
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Waiting> {
        self.calls.remove(&token)
    }

    /// Takes out what was sent before `time_ns`.
    pub(super) fn take_older(&mut self, time_ns: u64) -> Vec<Waiting> {
        self.calls
            .extract_if(|_, waiting| waiting.call.sent_ns < time_ns)
            .map(|(_, waiting)| waiting)
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
