//! Addresses of replicas that do not take calls: which of them get some again, and when.
//!
//! An address that refused a call or broke off is *down*. It gets no calls for a pause, and then none before a probe: the
//! dispatcher connects to it, which costs no caller anything. When that fails, the next pause is twice as long, up to
//! [`PAUSE_US_MAX`]: whatever does not answer for long, such as a node that vanished, is hardly asked any more.
//!
//! That is so while another address of the function takes calls. When none does, all are tried after the shortest pause,
//! the first of them by calls, without a probe: the last one is never taken away, and a restarted only replica is found
//! at once.
//!
//! All this is about replicas that a backend starts again. A fixed address that refuses a call failed an attempt: nobody
//! would tell when it is back.

use crate::{
    effect::{Effect, Effects},
    keys::{EndpointId, FunctionKey},
    sabotage::Sabotage,
    shard::Shard,
    timers::{Due, TimerKey},
};

/// Time for which an address that refused a call gets none, at first.
const PAUSE_US: u64 = 100_000;
/// Longest time until an address is probed again.
const PAUSE_US_MAX: u64 = 10_000_000;
/// Failed probes after which the pause does not get longer.
const DOUBLINGS_MAX: u32 = 7;

impl Shard {
    /// No call goes to this address for a while, if its replica is one that is started again.
    pub(super) fn endpoint_is_down(&mut self, key: FunctionKey, endpoint: Option<EndpointId>) {
        let Some(endpoint) = endpoint.filter(|_| !self.sabotaged.by(Sabotage::DownEndpointUsed)) else {
            // The server itself answers its calls.
            return;
        };
        let Some(function) = self.functions.get_mut(key).filter(|function| function.is_managed()) else {
            // A fixed address; or the attempt was decided long ago, and its function is gone.
            return;
        };
        // Stale when the backend was the first to say that the replica is gone.
        let Some(open) = self.endpoints.get_mut(endpoint) else { return };
        if !function.endpoints.set_down(endpoint, open.place, true) {
            return;
        }
        open.failed_probes = 0;
        self.pause_endpoint(key, endpoint);
        self.keep_one_in_reach(key);
    }

    /// An address that is down is looked at again after its pause.
    fn pause_endpoint(&mut self, key: FunctionKey, endpoint: EndpointId) {
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        let Some(open) = self.endpoints.get_mut(endpoint) else { return self.impossible() };
        let mut doublings = open.failed_probes.min(DOUBLINGS_MAX);
        if function.endpoints.up() == 0 || self.sabotaged.by(Sabotage::PauseStaysShort) {
            doublings = 0;
        }
        let pause_us = (PAUSE_US << doublings).min(PAUSE_US_MAX);
        open.retry = self.timers.insert(self.now.mono_us + pause_us, Due::Endpoint(key, endpoint));
    }

    /// When no address of a function takes calls, all are looked at soon: any of them may be the one that is back.
    pub(super) fn keep_one_in_reach(&mut self, key: FunctionKey) {
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        if function.endpoints.up() > 0 || self.sabotaged.by(Sabotage::LastEndpointSuspended) {
            return;
        }
        let soon_us = self.now.mono_us + PAUSE_US;
        for endpoint in function.endpoints.iter().map(|endpoint| endpoint.id) {
            let Some(open) = self.endpoints.get_mut(endpoint) else { continue };
            if self.timers.due_us(open.retry).is_some_and(|due_us| due_us > soon_us) {
                self.timers.remove(open.retry);
                open.retry = self.timers.insert(soon_us, Due::Endpoint(key, endpoint));
            }
        }
    }

    /// The pause of an address is over.
    pub(super) fn endpoint_is_due(&mut self, key: FunctionKey, endpoint: EndpointId, fx: &mut Effects) {
        let Some(function) = self.functions.get(key) else { return self.impossible() };
        let is_last = function.endpoints.up() == 0 && !self.sabotaged.by(Sabotage::LastEndpointSuspended);
        let Some(open) = self.endpoints.get_mut(endpoint) else { return self.impossible() };
        open.retry = TimerKey::NONE;
        if is_last || self.sabotaged.by(Sabotage::ProbeLeftOut) {
            self.endpoint_is_up(key, endpoint);
            return;
        }
        open.is_probed = true;
        fx.push(Effect::Probe { function: key, endpoint });
    }

    /// The dispatcher has tried to connect to an address.
    pub(super) fn endpoint_probed(&mut self, key: FunctionKey, endpoint: EndpointId, reachable: bool) {
        // Stale when the address was closed meanwhile.
        let Some(open) = self.endpoints.get_mut(endpoint).filter(|open| open.is_probed) else { return };
        open.is_probed = false;
        if reachable {
            self.endpoint_is_up(key, endpoint);
        } else {
            open.failed_probes = open.failed_probes.saturating_add(1);
            self.pause_endpoint(key, endpoint);
        }
    }

    /// Calls go there again.
    fn endpoint_is_up(&mut self, key: FunctionKey, endpoint: EndpointId) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let first = !function.has_replica();
        let Some(open) = self.endpoints.get(endpoint) else { return self.impossible() };
        if !function.endpoints.set_down(endpoint, open.place, false) {
            return self.impossible();
        }
        if first {
            self.restart_sync_waits(key);
        }
        self.ring(key);
    }
}
