//! Calls per second, of the server and of each function: never more than allowed, and never fewer. By the auditor's own
//! count, in whole seconds of the clock that nobody can set.

use std::collections::BTreeMap;

use shard_core::Now;

use super::Verdict;
use crate::swarm::Swarm;

/// Calls of one second.
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
    /// The most and the least that any limit allowed in the current window, and the most ever.
    limit_of_window: u64,
    least_of_window: u64,
    limit_max: u64,
    /// In the current window, a shard leased calls and refused them for another reason.
    wasted: bool,
    /// By registration.
    functions: BTreeMap<u64, Window>,
    shards: u64,
}

impl Rates {
    pub(super) fn new(swarm: &Swarm) -> Rates {
        let limit = limit_of(swarm.calls_per_second);
        Rates {
            server: Window::default(),
            limit,
            limit_of_window: limit,
            least_of_window: limit,
            limit_max: limit,
            wasted: false,
            functions: BTreeMap::new(),
            shards: u64::from(swarm.shards),
        }
    }

    pub(super) fn configured(&mut self, calls_per_second: u32) {
        self.limit = limit_of(calls_per_second);
        self.limit_of_window = self.limit_of_window.max(self.limit);
        self.least_of_window = self.least_of_window.min(self.limit);
        self.limit_max = self.limit_max.max(self.limit);
    }

    /// The shards that counted are gone: another server begins to count.
    pub(super) fn forget(&mut self) {
        self.server = Window::default();
        self.functions.clear();
    }

    /// A call reached its shard.
    pub(super) fn arrived(&mut self, now: Now) {
        if self.server.move_to(now.second()) {
            self.limit_of_window = self.limit;
            self.least_of_window = self.limit;
            self.wasted = false;
        }
    }

    /// A shard that ends refused a call, for which it may have leased before.
    pub(super) fn turned_away(&mut self) {
        self.wasted = true;
    }

    /// The server's limit let it pass.
    pub(super) fn admitted(&mut self) -> Verdict {
        self.server.admitted += 1;
        if self.server.admitted <= self.limit_of_window {
            return Ok(());
        }
        let (admitted, limit) = (self.server.admitted, self.limit_of_window);
        Err(format!("{admitted} calls were admitted in a second that allows {limit}"))
    }

    /// The server's limit refused it.
    pub(super) fn refused(&self, retry_after_s: u32) -> Verdict {
        // Large limits are leased in chunks, of which each shard may have some left.
        let chunk = (self.limit_max / 1024).clamp(1, 256);
        let spare = if self.wasted || chunk > 1 { chunk * self.shards } else { 0 };
        let (admitted, least) = (self.server.admitted, self.least_of_window);
        if admitted.saturating_add(spare) < least {
            return Err(format!("a call was refused after {admitted} in a second that allows {least}"));
        }
        next_second(retry_after_s)
    }

    /// Its function's limit let it pass.
    pub(super) fn admitted_to(&mut self, epoch: u64, limit: Option<u32>, now: Now) -> Verdict {
        let Some(limit) = limit else { return Ok(()) };
        let window = self.functions.entry(epoch).or_default();
        window.move_to(now.second());
        window.admitted += 1;
        if window.admitted <= u64::from(limit) {
            return Ok(());
        }
        Err(format!("{} calls of a function were admitted in a second that allows {limit}", window.admitted))
    }

    /// Its function's limit refused it.
    pub(super) fn refused_to(
        &mut self,
        epoch: u64,
        limit: Option<u32>,
        now: Now,
        retry_after_s: u32,
    ) -> Verdict {
        let Some(limit) = limit else {
            return Err("a call was refused by the rate limit of a function that has none".to_owned());
        };
        let window = self.functions.entry(epoch).or_default();
        window.move_to(now.second());
        let admitted = window.admitted;
        if admitted < u64::from(limit) {
            return Err(format!(
                "a call of a function was refused after {admitted} in a second that allows {limit}"
            ));
        }
        next_second(retry_after_s)
    }
}

/// 0 is no limit.
fn limit_of(calls_per_second: u32) -> u64 {
    if calls_per_second == 0 { u64::MAX } else { calls_per_second.into() }
}

/// Windows are seconds: the next one opens within one.
fn next_second(retry_after_s: u32) -> Verdict {
    match retry_after_s {
        1 => Ok(()),
        other => Err(format!("a call was to come back after {other} s, and the next second allows it")),
    }
}
