//! The backend that starts, scales and stops replicas: orders take time, some fail, and reports of replicas come when
//! they like.

use std::collections::BTreeMap;

use shard_core::{
    BackendEvent, FunctionKey, FunctionSpec, Input, Provisioned, ReplicaAddress, Target,
    answer::{BackendFailure, BackendFailureKind},
};

use crate::{
    agenda::Agenda,
    clients::unique_address,
    random::{Random, Stream},
    swarm::BackendFaults,
    world::Event,
};

/// Names a deployment: functions have keys per shard.
pub(crate) type DeploymentKey = (u16, FunctionKey);

/// What a backend keeps of a function.
#[derive(Debug)]
struct Deployment {
    name: String,
    desired: u32,
    ready: u32,
    /// How often others took the places of its replicas, at their addresses.
    replaced: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Backend {
    seed: u64,
    faults: BackendFaults,
    orders: u64,
    deployments: BTreeMap<DeploymentKey, Deployment>,
}

impl Backend {
    pub(crate) fn new(seed: u64, faults: BackendFaults) -> Backend {
        Backend { seed, faults, orders: 0, deployments: BTreeMap::new() }
    }

    /// From now on every order succeeds.
    pub(crate) fn behave(&mut self) {
        (self.faults.fails, self.faults.degrades) = (0, 0);
    }

    /// The server is gone: whatever runs is found again, or started anew, when it asks.
    pub(crate) fn cut_off(&mut self) {
        self.deployments.clear();
    }

    /// Starts the replicas of a function.
    pub(crate) fn provision(&mut self, of: DeploymentKey, spec: &FunctionSpec, agenda: &mut Agenda<Event>) {
        let mut random = self.order();
        let wait_us = random.around(self.faults.delay_us);
        let result = if random.chance(self.faults.fails) {
            Err(failure(BackendFailureKind::Provisioning))
        } else {
            let desired = random.below(3) as u32;
            let ready = random.below(u64::from(desired) + 1) as u32;
            let degrades = random.chance(self.faults.degrades);
            let target = match degrades {
                true => Target::Endpoint(unique_address(spec.name.as_str(), self.orders)),
                false => Target::Backend,
            };
            if !degrades {
                let deployment =
                    Deployment { name: spec.name.as_str().to_owned(), desired, ready, replaced: 0 };
                self.deployments.insert(of, deployment);
            }
            let endpoints = if degrades { Vec::new() } else { self.addresses(of) };
            Ok(Provisioned { document: spec.document.clone(), target, endpoints, desired })
        };
        tell(agenda, wait_us, of, Input::Backend(of.1, BackendEvent::Provisioned(result)));
        if random.chance(300) {
            // Replicas may become ready before the order is reported done, or after.
            self.flap(of, random.below(4) as u32, random.around(self.faults.delay_us), agenda);
        }
    }

    /// Stops them.
    pub(crate) fn tear_down(&mut self, of: DeploymentKey, agenda: &mut Agenda<Event>) {
        let mut random = self.order();
        let wait_us = random.around(self.faults.delay_us);
        let fails = random.chance(self.faults.fails);
        if random.chance(self.faults.reports_late) {
            self.flap(of, random.below(3) as u32, random.around(self.faults.delay_us * 2), agenda);
        }
        let result = match fails {
            true => Err(failure(BackendFailureKind::Teardown)),
            false => {
                self.deployments.remove(&of);
                Ok(())
            }
        };
        tell(agenda, wait_us, of, Input::Backend(of.1, BackendEvent::TornDown(result)));
    }

    /// Changes their number.
    pub(crate) fn scale(&mut self, of: DeploymentKey, replicas: u32, agenda: &mut Agenda<Event>) {
        let mut random = self.order();
        let wait_us = random.around(self.faults.delay_us);
        if random.chance(self.faults.fails) {
            let result = Err(failure(BackendFailureKind::Unavailable));
            tell(agenda, wait_us, of, Input::Backend(of.1, BackendEvent::Scaled(result)));
            return;
        }
        if let Some(deployment) = self.deployments.get_mut(&of) {
            deployment.desired = replicas;
        }
        tell(agenda, wait_us, of, Input::Backend(of.1, BackendEvent::Scaled(Ok(replicas))));
        self.flap(of, replicas, wait_us + random.around(self.faults.delay_us), agenda);
    }

    /// Replicas come and go: so many are ready after a while.
    pub(crate) fn flap(&mut self, of: DeploymentKey, ready: u32, wait_us: u64, agenda: &mut Agenda<Event>) {
        let Some(deployment) = self.deployments.get_mut(&of) else { return };
        deployment.ready = ready;
        deployment.replaced += u64::from(wait_us.is_multiple_of(4));
        let desired = deployment.desired;
        let endpoints = self.addresses(of);
        tell(
            agenda,
            wait_us,
            of,
            Input::Backend(of.1, BackendEvent::EndpointsChanged { endpoints, desired }),
        );
    }

    /// One of the deployments.
    pub(crate) fn pick(&self, pick: u64) -> Option<DeploymentKey> {
        let at = pick.checked_rem(self.deployments.len() as u64)?;
        self.deployments.keys().nth(at as usize).copied()
    }

    /// All deployments.
    pub(crate) fn deployments(&self) -> Vec<DeploymentKey> {
        self.deployments.keys().copied().collect()
    }

    fn addresses(&self, of: DeploymentKey) -> Vec<ReplicaAddress> {
        let Some(deployment) = self.deployments.get(&of) else { return Vec::new() };
        let of = format!("{}/{:?}", deployment.name, of.1);
        let replica = |number: u32| ReplicaAddress {
            replica: deployment.replaced << 32 | u64::from(number),
            address: unique_address(&of, u64::from(number)),
        };
        (0..deployment.ready).map(replica).collect()
    }

    fn order(&mut self) -> Random {
        self.orders += 1;
        Random::of(self.seed, Stream::Backend, self.orders)
    }
}

/// Whether an address is one of those that backends give their replicas, and no fixed one.
pub(crate) fn is_replica(address: &str) -> bool {
    address.matches('/').count() > 1
}

fn tell(agenda: &mut Agenda<Event>, wait_us: u64, of: DeploymentKey, input: Input) {
    agenda.after(wait_us, Event::Input { shard: of.0, input: Box::new(input) });
}

fn failure(kind: BackendFailureKind) -> BackendFailure {
    BackendFailure { kind, message: "as the seed wants it".into() }
}
