//! Everything a backend has reported, and the replicas that add up from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

use nanofaas_backends::{
    BackendError, Ensured, Events, FunctionName, ReplicaChange, ReplicaChanges, ReplicaId, ReplicaState,
    ReplicaStatus,
};

use crate::support::PATIENCE;

/// What a server would know of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// In the order in which they were first seen.
    pub(crate) replicas: Vec<ReplicaStatus>,
    pub(crate) desired: u32,
}

impl View {
    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        self.replicas.iter().filter_map(|replica| replica.endpoint().cloned()).collect()
    }

    pub(crate) fn ids(&self) -> Vec<ReplicaId> {
        self.replicas.iter().map(|replica| replica.id.clone()).collect()
    }

    fn apply(&mut self, change: ReplicaChange) {
        match change {
            ReplicaChange::Now(new) => match self.replicas.iter_mut().find(|old| old.id == new.id) {
                Some(old) => {
                    assert_ne!(old.state, ReplicaState::Draining, "no state follows: {new:?}");
                    assert!(new.since >= old.since && new.version == old.version, "{old:?}, {new:?}");
                    *old = new;
                }
                None => self.replicas.push(new),
            },
            ReplicaChange::Gone(id) => self.replicas.retain(|replica| replica.id != id),
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) ensured: BTreeMap<FunctionName, Result<Ensured, BackendError>>,
    pub(crate) scaled: BTreeMap<FunctionName, Result<u32, BackendError>>,
    pub(crate) torn_down: BTreeMap<FunctionName, Result<(), BackendError>>,
    pub(crate) views: BTreeMap<FunctionName, View>,
    /// Every change so far.
    pub(crate) changes: Vec<(FunctionName, ReplicaChange)>,
}

impl Recorder {
    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.more.notify_all();
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock().unwrap();
        loop {
            if let Some(found) = look(&mut seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}, known {:?}", seen.views);
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Events for Recorder {
    fn ensured(&self, function: &FunctionName, result: Result<Ensured, BackendError>) {
        self.record(|seen| {
            match &result {
                Ok(Ensured { replicas, desired }) => {
                    let view = View { replicas: replicas.clone(), desired: *desired };
                    seen.views.insert(function.clone(), view);
                }
                Err(_) => drop(seen.views.remove(function)),
            }
            assert!(seen.ensured.insert(function.clone(), result).is_none(), "ensured twice");
        });
    }

    fn scaled(&self, function: &FunctionName, result: Result<u32, BackendError>) {
        self.record(|seen| drop(seen.scaled.insert(function.clone(), result)));
    }

    fn torn_down(&self, function: &FunctionName, result: Result<(), BackendError>) {
        self.record(|seen| drop(seen.torn_down.insert(function.clone(), result)));
    }

    fn replicas_changed(&self, function: &FunctionName, changes: ReplicaChanges) {
        self.record(|seen| {
            // Caught when a test next looks: the lock is poisoned.
            let view = seen.views.get_mut(function).expect("a change before ensured");
            view.desired = changes.desired;
            for change in changes.changes {
                view.apply(change.clone());
                seen.changes.push((function.clone(), change));
            }
        });
    }
}
