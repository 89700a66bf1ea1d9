//! Orders to have fewer replicas: as many are named as may have to go, each once, and none that certainly runs a call while
//! one that certainly runs none is not named.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{
    AttemptKey, BackendEvent, Destination, Dispatch, DispatchEvent, EndpointId, ExecutionId, FunctionKey,
    Input, Outcome, ReplicaAddress, Request, Target,
};

use super::{Verdict, endpoints::Endpoints, probes::Probes};
use crate::functions::ExchangeKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scales {
    /// The replicas that a backend said last to be ready, and how it addressed them.
    replicas: BTreeMap<(u16, FunctionKey), Vec<ReplicaAddress>>,
    /// Attempts that go on, and where.
    running: BTreeMap<ExchangeKey, (ExecutionId, EndpointId)>,
    /// Addresses where an attempt was decided and goes on, or the other way round.
    doubtful: BTreeSet<(u16, EndpointId)>,
    /// What was said in this step is not what held when a deadline passed in it.
    is_news: bool,
}

impl Scales {
    /// A shard is about to be given this.
    pub(super) fn input(&mut self, shard: u16, input: &Input) {
        self.is_news = false;
        match input {
            Input::Backend(function, BackendEvent::EndpointsChanged { endpoints, .. }) => {
                self.is_news = true;
                self.replicas.insert((shard, *function), endpoints.clone());
            }
            Input::Backend(function, BackendEvent::Provisioned(Ok(provisioned))) => {
                self.is_news = true;
                let fixed = provisioned.target != Target::Backend;
                let known = self.replicas.get(&(shard, *function)).is_some_and(|known| !known.is_empty());
                if fixed || !known {
                    self.replicas.insert((shard, *function), provisioned.endpoints.clone());
                }
            }
            Input::Dispatch(attempt, DispatchEvent::Finished(report)) => {
                self.is_news = true;
                self.is_over(shard, *attempt, report.outcome == Outcome::Deferred);
            }
            Input::Ask(_, Request::Complete { id, .. }) => {
                self.is_news = true;
                let of = self.running.iter().filter(|(_, (running, _))| running == id);
                self.doubtful.extend(of.map(|((shard, _), (_, endpoint))| (*shard, *endpoint)));
            }
            _ => {}
        }
    }

    pub(super) fn dispatched(&mut self, shard: u16, dispatch: &Dispatch) {
        if let Destination::Endpoint(endpoint) = dispatch.destination {
            self.running.insert((shard, dispatch.attempt), (dispatch.id, endpoint));
        }
    }

    /// An attempt is over, or goes on until a callback.
    pub(super) fn is_over(&mut self, shard: u16, attempt: AttemptKey, is_deferred: bool) {
        let Some((_, endpoint)) = self.running.remove(&(shard, attempt)) else { return };
        if is_deferred {
            self.doubtful.insert((shard, endpoint));
        }
    }

    /// There are to be so many replicas.
    pub(super) fn scaled(
        &self,
        shard: u16,
        (function, replicas): (FunctionKey, u32),
        first_to_go: &[u64],
        (open, probes): (&Endpoints, &Probes),
    ) -> Verdict {
        if self.is_news {
            return Ok(());
        }
        let known = self.replicas.get(&(shard, function)).map(Vec::as_slice).unwrap_or_default();
        let named: BTreeSet<u64> = first_to_go.iter().copied().collect();
        let of = |number: u64| known.iter().find(|of| of.replica == number);
        if named.len() < first_to_go.len() || named.iter().any(|number| of(*number).is_none()) {
            return Err(format!("{first_to_go:?} are to go first, of {known:?}"));
        }
        let surplus = if replicas == 0 { 0 } else { known.len().saturating_sub(replicas as usize) };
        if named.len() != surplus {
            return Err(format!("{} replicas are to go first, of {surplus} that may have to", named.len()));
        }
        let runs = |of: &&ReplicaAddress| {
            let endpoint = open.endpoint_at(shard, &of.address)?;
            // What takes no calls goes first, whatever still runs there.
            let is_certain = !self.doubtful.contains(&(shard, endpoint)) && probes.is_up(shard, endpoint);
            let mut running = self.running.iter().filter(|((of, _), _)| *of == shard);
            is_certain.then(|| running.any(|(_, (_, at))| *at == endpoint))
        };
        let (go, stay): (Vec<_>, Vec<_>) = known.iter().partition(|of| named.contains(&of.replica));
        match (go.iter().find(|of| runs(of) == Some(true)), stay.iter().find(|of| runs(of) == Some(false))) {
            (Some(busy), Some(idle)) => {
                Err(format!("{} is to go first, which runs a call, and not {}", busy.address, idle.address))
            }
            _ => Ok(()),
        }
    }

    /// The shards are gone.
    pub(super) fn forget(&mut self) {
        *self = Scales::default();
    }
}
