//! What the server leases of its limits to this shard: calls of a second, and bytes that may wait. For room see `room`.

use crate::{
    effect::{Effect, Effects},
    input::{Input, Lease, Request},
    shard::Shard,
    time::Now,
};

impl Shard {
    pub(super) fn take_lease(&mut self, lease: Lease) {
        match lease {
            Lease::Calls { second, calls } => self.calls.grant(second, calls),
            Lease::Bytes(bytes) => self.bytes.granted = self.bytes.granted.saturating_add(bytes),
            Lease::LentBytes(bytes) => {
                self.bytes.granted = self.bytes.granted.saturating_add(bytes);
                self.bytes.lent = self.bytes.lent.saturating_add(bytes);
            }
            // Taken before timers fired: what it is about might have changed.
            Lease::Room { .. } => {}
            Lease::CheckRoom => self.retention.room.ask(),
        }
    }

    /// Whether a call in this second needs [`Lease::Calls`] first.
    pub fn wants_calls(&self, now: Now) -> bool {
        self.calls.is_spent(now.second())
    }

    /// What [`Lease::Bytes`] should bring before a payload of this size is offered; 0 for none.
    pub fn wanted_bytes(&self, payload_bytes: u64) -> u64 {
        let need = self.bytes.queued + payload_bytes;
        if need <= self.bytes.granted {
            0
        } else {
            (need - self.bytes.granted).max(self.limits.queued_bytes_chunk)
        }
    }

    /// Bytes that wait beyond those that were granted: of retries, and of what was given back after a crash.
    pub fn owed_bytes(&self) -> u64 {
        self.bytes.queued.saturating_sub(self.bytes.granted)
    }

    /// Bytes that must be granted for this input, unless it is to be refused.
    pub fn needed_bytes(&self, input: &Input) -> u64 {
        match input {
            Input::Ask(_, Request::Invoke(call) | Request::Enqueue(call)) => call.payload.bytes(),
            Input::Ask(_, Request::Replay { id, .. }) => {
                let dead = self.find(*id).and_then(|execution| execution.dead.as_ref());
                dead.map_or(0, |letter| letter.payload.bytes())
            }
            _ => 0,
        }
    }

    /// Gives leased bytes back when far fewer wait than were leased for. After every step, not only when time
    /// passes: a shard that falls idle would keep what others need.
    pub(super) fn return_bytes(&mut self, fx: &mut Effects) {
        let chunk = self.limits.queued_bytes_chunk;
        let spare = self.bytes.granted.saturating_sub(self.bytes.queued);
        // What was lent is not for new calls: with every retry more would wait than may.
        let repaid = spare.min(self.bytes.lent);
        let idle = (spare - repaid).saturating_sub(chunk);
        let returned = repaid + if idle >= chunk { idle } else { 0 };
        if returned > 0 {
            self.bytes.lent -= repaid;
            self.bytes.granted -= returned;
            fx.push(Effect::ReturnBytes(returned));
        }
    }
}
