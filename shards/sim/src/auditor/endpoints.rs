//! Where attempts go: to an address that is open, of the execution's own function, and of a replica that its backend has
//! said to be ready. The server answers itself where that was asked for, and nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shard_core::{BackendEvent, Destination, EndpointId, FunctionKey, Input, Name, ReplicaAddress, Target};

use super::{Verdict, registrations::Registration};

type Addresses = BTreeSet<Arc<str>>;

/// See the module. Shards name functions and addresses by keys of their own.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    open: BTreeMap<(u16, EndpointId), Arc<str>>,
    /// Steps that were taken.
    steps: u64,
    /// The step in which each address was opened.
    opened: BTreeMap<(u16, EndpointId), u64>,
    /// The step in which each replica was first said to be ready.
    first_ready: BTreeMap<(u16, FunctionKey, u64), u64>,
    /// The step in which the replica that has an address was first said to be ready.
    taken: BTreeMap<(u16, Arc<str>), u64>,
    /// The same, of what was said in this step.
    said: Vec<((u16, Arc<str>), u64)>,
    /// Addresses that the backend has said to be ready, by function.
    ready: BTreeMap<(u16, FunctionKey), Addresses>,
    /// What counts from the end of this step on: deadlines that pass in it come before what it is given.
    next: Option<((u16, FunctionKey), Addresses)>,
    /// Addresses that were ever said to be a replica's.
    replicas: BTreeSet<(u16, Arc<str>)>,
}

impl Endpoints {
    /// A shard is about to be given this.
    pub(super) fn input(&mut self, shard: u16, input: &Input) {
        match input {
            Input::Backend(function, BackendEvent::EndpointsChanged { endpoints, .. }) => {
                self.are_ready((shard, *function), endpoints);
            }
            Input::Backend(function, BackendEvent::Provisioned(Ok(provisioned))) => {
                // What was reported meanwhile is newer.
                let known = self.ready.get(&(shard, *function)).is_some_and(|ready| !ready.is_empty());
                if provisioned.target != Target::Backend {
                    self.next = Some(((shard, *function), BTreeSet::new()));
                } else if !known {
                    self.are_ready((shard, *function), &provisioned.endpoints);
                }
            }
            _ => {}
        }
    }

    fn are_ready(&mut self, function: (u16, FunctionKey), replicas: &[ReplicaAddress]) {
        let addresses: Addresses = replicas.iter().map(|of| Arc::clone(&of.address)).collect();
        self.replicas.extend(addresses.iter().map(|address| (function.0, Arc::clone(address))));
        for ReplicaAddress { replica, address } in replicas {
            let (shard, key) = function;
            let first_ready = *self.first_ready.entry((shard, key, *replica)).or_insert(self.steps);
            self.said.push(((shard, Arc::clone(address)), first_ready));
        }
        self.ready.entry(function).or_default().extend(addresses.iter().cloned());
        self.next = Some((function, addresses));
    }

    /// A step is over.
    pub(super) fn settle(&mut self) {
        if let Some((function, ready)) = self.next.take() {
            self.ready.insert(function, ready);
        }
        self.taken.extend(self.said.drain(..));
        self.steps += 1;
    }

    pub(super) fn opened(&mut self, shard: u16, endpoint: EndpointId, address: &Arc<str>) -> Verdict {
        self.opened.insert((shard, endpoint), self.steps);
        match self.open.insert((shard, endpoint), Arc::clone(address)) {
            None => Ok(()),
            Some(before) => Err(format!("endpoint {endpoint:?} of shard {shard} is opened twice: {before}")),
        }
    }

    pub(super) fn closed(&mut self, shard: u16, endpoint: EndpointId) -> Verdict {
        self.opened.remove(&(shard, endpoint));
        match self.open.remove(&(shard, endpoint)) {
            Some(_) => Ok(()),
            None => Err(format!("endpoint {endpoint:?} of shard {shard} is closed and was not open")),
        }
    }

    /// An attempt of a function goes out.
    pub(super) fn chosen(
        &self,
        shard: u16,
        destination: Destination,
        (name, registration): (Name, &Registration),
    ) -> Verdict {
        let endpoint = match destination {
            Destination::Endpoint(endpoint) => endpoint,
            Destination::Job(_) if registration.target == Target::Jobs => return Ok(()),
            Destination::Job(_) => return Err(format!("a job is ordered for {name}")),
            Destination::Local if registration.target == Target::Local => return Ok(()),
            Destination::Local => return Err(format!("the server answers itself for {name}")),
        };
        let Some(address) = self.open.get(&(shard, endpoint)) else {
            return Err(format!("an attempt of {name} goes to an address that is not open"));
        };
        if address.split('/').next() != Some(name.as_str()) {
            return Err(format!("an attempt of {name} goes to {address}"));
        }
        if !self.replicas.contains(&(shard, Arc::clone(address))) {
            return Ok(());
        }
        let since = self.taken.get(&(shard, Arc::clone(address)));
        if since.is_some_and(|since| self.opened[&(shard, endpoint)] < *since) {
            return Err(format!(
                "an attempt of {name} goes to {address} as it was opened to another replica before"
            ));
        }
        let of_shard = self.ready.iter().filter(|((of, _), _)| *of == shard);
        match of_shard.map(|(_, ready)| ready).any(|ready| ready.contains(address)) {
            true => Ok(()),
            false => Err(format!("an attempt of {name} goes to {address}, which is not ready")),
        }
    }

    /// The endpoint that is open at an address.
    pub(super) fn endpoint_at(&self, shard: u16, address: &str) -> Option<EndpointId> {
        let mut open = self.open.iter();
        open.find(|((of, _), at)| *of == shard && ***at == *address).map(|((_, endpoint), _)| *endpoint)
    }

    /// The function whose replica has this address.
    pub(super) fn function_of(&self, shard: u16, endpoint: EndpointId) -> Option<FunctionKey> {
        let address = self.open.get(&(shard, endpoint))?;
        let has_it =
            |((of, _), ready): &(&(u16, FunctionKey), &Addresses)| *of == shard && ready.contains(address);
        self.ready.iter().find(has_it).map(|((_, function), _)| *function)
    }

    /// Addresses that are open of the same deployment.
    pub(super) fn open_with(&self, shard: u16, endpoint: EndpointId) -> impl Iterator<Item = EndpointId> {
        let deployment =
            |address: &Arc<str>| address.rsplit_once('/').map(|(deployment, _)| deployment.to_owned());
        let own = self.open.get(&(shard, endpoint)).and_then(deployment);
        let same = move |address: &Arc<str>| deployment(address) == own;
        let of_shard = self.open.iter().filter(move |((of, _), _)| *of == shard);
        of_shard.filter(move |(_, address)| same(address)).map(|((_, endpoint), _)| *endpoint)
    }

    /// The shards are gone, and their keys with them.
    pub(super) fn forget(&mut self) {
        *self = Endpoints::default();
    }
}
