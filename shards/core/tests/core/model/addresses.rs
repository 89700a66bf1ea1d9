//! Which addresses the attempts and probes of the shard go to: the model has no names for them.

use shard_core::{EndpointId, FunctionKey, Input};

use super::{drive::Drive, words::addresses};

/// Which of the addresses this is.
fn bit_of(address: &str) -> Option<u8> {
    (0..3).find(|bit| addresses(1 << bit).iter().any(|of| *of.address == *address))
}

impl Drive {
    /// Which replica an attempt goes to is the shard's choice, of those that take calls.
    pub(super) fn learn_replicas(&mut self) {
        for (ticket, number, address) in std::mem::take(&mut self.addressed) {
            let Some(at) = self.oracle.attempt_at(ticket, number) else { continue };
            let function = &self.oracle.functions[self.oracle.attempts[at].function];
            let replica = function.replicas.iter().find(|replica| Some(replica.bit) == bit_of(&address));
            let takes_calls = replica.is_none_or(|replica| replica.down.is_none());
            self.expect(takes_calls, &format!("{ticket}#{number} goes to {address}, which is down"));
            let number = replica.map(|replica| replica.number);
            self.oracle.attempts[at].replica = number;
        }
    }

    /// An address is probed, as the model says it.
    pub(super) fn learn_probe(&mut self, function: FunctionKey, endpoint: EndpointId) -> Option<String> {
        self.probes.push((function, endpoint));
        let (at, _) = self.functions.iter().find(|(_, known)| **known == function)?;
        let name = self.oracle.functions[*at].name;
        let bit = self.open.get(&endpoint).and_then(|address| bit_of(address));
        self.expect(bit.is_some(), "an address is probed that is closed");
        Some(format!("probe f{name} {}", bit?))
    }

    /// What came of the last probe of an address.
    pub(super) fn probe_input(&self, at: usize, bit: u8, reachable: bool) -> Option<Input> {
        let function = *self.functions.get(&at)?;
        let is_its = |endpoint: &EndpointId| self.open.get(endpoint).and_then(|of| bit_of(of)) == Some(bit);
        let mut probes = self.probes.iter().rev();
        let probe = probes.find(|(of, endpoint)| *of == function && is_its(endpoint));
        self.expect(probe.is_some(), "an address is not probed");
        let (_, endpoint) = *probe?;
        Some(Input::Probed { function, endpoint, reachable })
    }
}
