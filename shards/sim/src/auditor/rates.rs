//! Calls per epoch second, of the server and of each function: never more than allowed, by the auditor's own count.

use std::collections::BTreeMap;

use shard_core::Now;

use super::Verdict;
use crate::swarm::Swarm;

/// Calls of one window. Windows are whole epoch seconds; a clock that steps back stays in the newest.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    second: u64,
    admitted: u64,
}

impl Window {
    fn move_to(&mut self, second: u64) -> bool {
        let moves = second > self.second;
        if moves {
            *self = Window { second, admitted: 0 };
        }
        moves
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rates {
    server: Window,
    limit: u64,
    /// The most that any limit allowed in the current window, and ever.
    limit_of_window: u64,
    limit_max: u64,
    /// In the current window the clock went back to an earlier one.
    stepped_back: bool,
    /// By registration.
    functions: BTreeMap<u64, Window>,
    shards: u64,
}

impl Rates {
    pub(super) fn new(swarm: &Swarm) -> Rates {
        let limit = u64::from(swarm.calls_per_second);
        Rates {
            server: Window::default(),
            limit,
            limit_of_window: limit,
            limit_max: limit,
            stepped_back: false,
            functions: BTreeMap::new(),
            shards: u64::from(swarm.shards),
        }
    }

    pub(super) fn configured(&mut self, calls_per_second: u32) {
        self.limit = u64::from(calls_per_second);
        self.limit_of_window = self.limit_of_window.max(self.limit);
        self.limit_max = self.limit_max.max(self.limit);
    }

    /// The shards that counted are gone: another server begins to count.
    pub(super) fn forget(&mut self) {
        self.server = Window::default();
        self.functions.clear();
    }

    /// A call reached its shard.
    pub(super) fn arrived(&mut self, now: Now) {
        let second = now.unix_ms / 1000;
        if self.server.move_to(second) {
            self.limit_of_window = self.limit;
            self.stepped_back = false;
        }
        self.stepped_back |= second < self.server.second;
    }

    /// The server's limit let it pass.
    pub(super) fn admitted(&mut self) -> Verdict {
        self.server.admitted += 1;
        // Large limits are leased in chunks; after the clock stepped back, a shard may use up what it has left of a
        // window in which another limit held.
        let chunk = (self.limit_max / 1024).clamp(1, 256);
        let spare = if self.stepped_back && chunk > 1 { chunk * self.shards } else { 0 };
        if self.server.admitted <= self.limit_of_window + spare {
            return Ok(());
        }
        let (admitted, limit) = (self.server.admitted, self.limit_of_window);
        Err(format!("{admitted} calls were admitted in a second that allows {limit}"))
    }

    /// Its function's limit let it pass.
    pub(super) fn admitted_to(&mut self, epoch: u64, limit: Option<u32>, now: Now) -> Verdict {
        let Some(limit) = limit else { return Ok(()) };
        let window = self.functions.entry(epoch).or_default();
        window.move_to(now.unix_ms / 1000);
        window.admitted += 1;
        if window.admitted <= u64::from(limit) {
            return Ok(());
        }
        Err(format!("{} calls of a function were admitted in a second that allows {limit}", window.admitted))
    }
}
