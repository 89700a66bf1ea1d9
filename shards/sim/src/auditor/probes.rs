//! Addresses that are down: calls go there again only after a probe that succeeded, or when no other address is left. Probes
//! come one at a time, after pauses that grow, and never to the last address.
//!
//! An address that was the last one may take calls without a word: from then on it is not known whether it is down.

use std::collections::BTreeMap;

use shard_core::{EndpointId, Input};

use super::{Verdict, endpoints::Endpoints};

/// Time for which an address that did not take a call gets none.
const PAUSE_US: u64 = 100_000;
/// Longest that this becomes with failed probes.
const PAUSE_US_MAX: u64 = 10_000_000;

/// An address that is down, as far as is known.
#[derive(Debug)]
struct Down {
    /// When it went down, or its last probe failed.
    since_us: u64,
    failed_probes: u32,
    /// From when on calls may go there without a probe, because no other address took any.
    alone_from_us: Option<u64>,
    is_probed: bool,
}

impl Down {
    /// When its pause is over, unless it is the last one.
    fn due_us(&self) -> u64 {
        self.since_us + (PAUSE_US << self.failed_probes.min(10)).min(PAUSE_US_MAX)
    }

    /// Whether it may take calls.
    fn may_be_up(&self, now_us: u64) -> bool {
        !self.is_probed && self.alone_from_us.is_some_and(|from_us| from_us <= now_us)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Probes {
    down: BTreeMap<(u16, EndpointId), Down>,
    /// What this step says of a probe.
    result: Option<(EndpointId, bool)>,
    /// Other addresses may be the last ones when the step is over.
    changed: bool,
}

impl Probes {
    /// A shard is about to be given this.
    pub(super) fn input(&mut self, input: &Input) {
        if let Input::Probed { endpoint, reachable, .. } = input {
            self.result = Some((*endpoint, *reachable));
        }
    }

    /// An address did not take a call.
    pub(super) fn is_down(&mut self, shard: u16, endpoint: EndpointId, now_us: u64) {
        let before = self.down.get(&(shard, endpoint));
        if before.is_some_and(|down| !down.may_be_up(now_us)) {
            return;
        }
        let alone_from_us = before.and_then(|down| down.alone_from_us);
        let down = Down { since_us: now_us, failed_probes: 0, alone_from_us, is_probed: false };
        self.down.insert((shard, endpoint), down);
        self.changed = true;
    }

    /// Whether an address may take calls.
    pub(super) fn may_be_up(&self, shard: u16, endpoint: EndpointId, now_us: u64) -> bool {
        self.down.get(&(shard, endpoint)).is_none_or(|down| down.may_be_up(now_us))
    }

    /// Whether an address certainly takes calls.
    pub(super) fn is_up(&self, shard: u16, endpoint: EndpointId) -> bool {
        !self.down.contains_key(&(shard, endpoint))
    }

    /// An address is probed, before the step does anything else.
    pub(super) fn probed(
        &mut self,
        shard: u16,
        endpoint: EndpointId,
        now_us: u64,
        open: &Endpoints,
    ) -> Verdict {
        let mut others = open.open_with(shard, endpoint).filter(|other| *other != endpoint);
        let is_last = !others.any(|other| self.may_be_up(shard, other, now_us));
        let Some(down) = self.down.get_mut(&(shard, endpoint)) else {
            return Err(format!("{endpoint:?} of shard {shard} is probed, and was not down"));
        };
        if down.is_probed {
            return Err(format!("{endpoint:?} of shard {shard} is probed twice at once"));
        }
        if is_last {
            return Err(format!("{endpoint:?} of shard {shard} is probed, and no other address takes calls"));
        }
        if now_us < down.due_us() && !down.may_be_up(now_us) {
            return Err(format!(
                "{endpoint:?} of shard {shard} is probed again too soon, after {} that failed",
                down.failed_probes
            ));
        }
        (down.is_probed, down.alone_from_us) = (true, None);
        Ok(())
    }

    /// What a probe came to counts. Returns it.
    pub(super) fn hear(&mut self, shard: u16, now_us: u64) -> Option<bool> {
        let (endpoint, reachable) = self.result.take()?;
        let down = self.down.get_mut(&(shard, endpoint)).filter(|down| down.is_probed)?;
        self.changed = true;
        if reachable {
            self.down.remove(&(shard, endpoint));
        } else {
            down.failed_probes += 1;
            (down.since_us, down.is_probed) = (now_us, false);
        }
        Some(reachable)
    }

    /// A call goes out.
    pub(super) fn dispatched(&mut self, shard: u16, endpoint: EndpointId, now_us: u64) -> Verdict {
        if !self.may_be_up(shard, endpoint, now_us) {
            return Err("it goes to an address that has refused a call or broken off, without a probe".into());
        }
        self.down.remove(&(shard, endpoint));
        Ok(())
    }

    /// An address was opened or closed.
    pub(super) fn changed(&mut self, shard: u16, endpoint: EndpointId) {
        self.down.remove(&(shard, endpoint));
        self.changed = true;
    }

    /// A step is over: where no address is left, each of them may be tried soon.
    pub(super) fn settle(&mut self, shard: u16, now_us: u64, open: &Endpoints) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let of_shard = self.down.iter().filter(|((of, down), _)| {
            *of == shard && open.open_with(shard, *down).all(|other| self.down.contains_key(&(shard, other)))
        });
        for key in of_shard.map(|(key, _)| *key).collect::<Vec<_>>() {
            if let Some(down) = self.down.get_mut(&key).filter(|down| !down.is_probed) {
                let from_us = down.due_us().min(now_us + PAUSE_US);
                down.alone_from_us = Some(down.alone_from_us.map_or(from_us, |before| before.min(from_us)));
            }
        }
    }
}
