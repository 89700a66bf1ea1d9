//! What an earlier server left behind: functions that a backend still runs, and that nobody has registered.
//!
//! They are looked for once, after everything that was kept has been given back to the shards, so that each of these has
//! asked for its functions. A function that is registered while its leftovers are being removed waits for the end of that:
//! backends take one order of a function at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use nanofaas_backends::{Backend, BackendError, FoundFunction, FunctionName, Order};

use super::{MANAGED_BY, events::ShardEvents};

/// Time for a backend to list what it runs.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// First and longest pause before a backend is asked again.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// How often a backend is asked before it is given up: for about two minutes.
const TRIES_MAX: usize = 12;

/// An order that waits until the leftovers of its function are gone.
pub(super) type WaitingOrder = (Arc<dyn Backend>, Order);

/// Which functions are nobody's, and which of them are being removed.
#[derive(Default)]
pub(super) struct Orphans {
    /// What a shard has asked for since the start; also a function whose backend has failed, for that is registered.
    wanted: BTreeSet<FunctionName>,
    /// What is being removed, each with the order that waits for its end.
    removing: BTreeMap<FunctionName, Option<WaitingOrder>>,
    /// Something could not be removed.
    is_incomplete: bool,
    /// Nobody looks for orphans any more.
    is_over: bool,
}

impl Orphans {
    /// A shard asks for a function.
    pub(super) fn want(&mut self, name: &FunctionName) {
        if !self.is_over {
            self.wanted.insert(name.clone());
        }
    }

    /// Returns the order when it can be given now.
    pub(super) fn admit(
        &mut self,
        name: &FunctionName,
        backend: &Arc<dyn Backend>,
        order: Order,
    ) -> Option<Order> {
        match self.removing.get_mut(name) {
            None => Some(order),
            Some(waiting) => {
                *waiting = Some((Arc::clone(backend), order));
                None
            }
        }
    }

    /// Chooses what is to be removed: what we made, and nobody has asked for.
    pub(super) fn claim(&mut self, found: Vec<FoundFunction>) -> Vec<FoundFunction> {
        let (label, value) = MANAGED_BY;
        let is_orphan = |found: &FoundFunction| {
            let is_ours = found.labels.get(label).is_some_and(|found| **found == *value);
            is_ours && !self.wanted.contains(&found.name) && !self.removing.contains_key(&found.name)
        };
        let claimed: Vec<FoundFunction> =
            if self.is_over { Vec::new() } else { found.into_iter().filter(is_orphan).collect() };
        self.removing.extend(claimed.iter().map(|found| (found.name.clone(), None)));
        claimed
    }

    /// A function was torn down. When it was an orphan: what waited for that.
    pub(super) fn removed(
        &mut self,
        name: &FunctionName,
        result: &Result<(), BackendError>,
    ) -> Option<Option<WaitingOrder>> {
        let waiting = self.removing.remove(name)?;
        if let Err(error) = result
            && !self.is_over
        {
            tracing::warn!(function = %name, %error, "a function that is not registered could not be removed");
            self.is_incomplete = true;
        }
        Some(waiting)
    }

    /// Whether nothing is being removed.
    pub(super) fn is_idle(&self) -> bool {
        self.removing.is_empty() || self.is_over
    }

    /// Whether everything was removed since this was last asked.
    pub(super) fn take_complete(&mut self) -> bool {
        !std::mem::take(&mut self.is_incomplete)
    }

    /// Whether nobody looks for orphans any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the search. What is being removed goes on.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.wanted.clear();
    }
}

/// Removes the orphans of all backends. One that fails to list what it has is asked again, a limited number of times.
pub(super) fn remove(events: &ShardEvents, mut backends: Vec<Arc<dyn Backend>>) {
    let [mut pause, pause_max] = RETRY_PAUSES;
    for attempt in 1..=TRIES_MAX {
        backends.retain(|backend| !remove_from(events, backend));
        if backends.is_empty() || attempt == TRIES_MAX || !events.rest(pause) {
            break;
        }
        pause = (pause * 2).min(pause_max);
    }
    if !events.end_orphans() && !backends.is_empty() {
        let ids: Vec<_> = backends.iter().map(|backend| backend.id()).collect();
        let backends = ids.join(",");
        tracing::error!(
            backends,
            "functions that are not registered may be left; the next start tries again"
        );
    }
}

/// Whether no orphan is left at a backend.
fn remove_from(events: &ShardEvents, backend: &Arc<dyn Backend>) -> bool {
    let id = backend.id();
    let found = match list(&**backend) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(backend = id, %error, "cannot look for functions that are not registered");
            return false;
        }
    };
    for FoundFunction { name, replicas, .. } in events.claim_orphans(found) {
        let replicas = replicas.len();
        tracing::info!(function = %name, backend = id, replicas, "removing a function that is not registered");
        backend.submit(Order::Teardown { function: name });
    }
    events.orphans_are_removed()
}

fn list(backend: &dyn Backend) -> Result<Vec<FoundFunction>, BackendError> {
    let (sender, receiver) = sync_channel(1);
    backend.list(Box::new(move |found| {
        // Nobody waits for it any more when it is late.
        let _ = sender.try_send(found);
    }));
    let late = |_| BackendError::Unavailable(format!("no answer within {} s", LIST_TIMEOUT.as_secs()));
    receiver.recv_timeout(LIST_TIMEOUT).map_err(late)?
}
