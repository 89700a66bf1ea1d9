//! The addresses of a function's replicas, kept from what its backend says is different. Pure.

use std::{collections::BTreeMap, sync::Arc};

use nanofaas_backends::{ReplicaChange, ReplicaId, ReplicaStatus};

/// Where the replicas of one function are, oldest first.
#[derive(Debug, Default)]
pub(super) struct EndpointTable {
    /// The place of every replica in `endpoints`, also of those that are not ready.
    places: BTreeMap<ReplicaId, u64>,
    endpoints: BTreeMap<u64, Arc<str>>,
    next_place: u64,
}

impl EndpointTable {
    /// A table of these replicas.
    pub(super) fn of(replicas: Vec<ReplicaStatus>) -> EndpointTable {
        let mut table = EndpointTable::default();
        for replica in replicas {
            table.apply(ReplicaChange::Now(replica));
        }
        table
    }

    /// Takes over a change; whether calls go elsewhere now.
    pub(super) fn apply(&mut self, change: ReplicaChange) -> bool {
        match change {
            ReplicaChange::Now(replica) => {
                let endpoint = replica.endpoint().cloned();
                let place = *self.places.entry(replica.id).or_insert_with(|| {
                    self.next_place += 1;
                    self.next_place
                });
                let old = match &endpoint {
                    Some(endpoint) => self.endpoints.insert(place, Arc::clone(endpoint)),
                    None => self.endpoints.remove(&place),
                };
                old != endpoint
            }
            ReplicaChange::Gone(id) => {
                let place = self.places.remove(&id);
                place.is_some_and(|place| self.endpoints.remove(&place).is_some())
            }
        }
    }

    /// All addresses.
    pub(super) fn list(&self) -> Vec<Arc<str>> {
        self.endpoints.values().cloned().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use nanofaas_backends::{ReplicaState, Version};

    use super::*;

    fn now(id: &str, state: ReplicaState) -> ReplicaChange {
        let (id, version) = (id.to_owned().into(), Version::from_label("1"));
        ReplicaChange::Now(ReplicaStatus { id, version, state, since: UNIX_EPOCH })
    }

    #[test]
    fn changes_add_up_to_the_list() {
        let mut table = EndpointTable::default();
        let ready = |address: &str| ReplicaState::Ready(address.into());
        for (change, is_changed, expected) in [
            (now("b", ReplicaState::Starting), false, &[][..]),
            (now("a", ready("one")), true, &["one"]),
            (now("b", ready("two")), true, &["two", "one"]),
            (now("b", ready("two")), false, &["two", "one"]),
            (now("b", ReplicaState::Failed("why".into())), true, &["one"]),
            (now("b", ready("three")), true, &["three", "one"]),
            (now("b", ReplicaState::Draining), true, &["one"]),
            (ReplicaChange::Gone("b".to_owned().into()), false, &["one"]),
            (ReplicaChange::Gone("a".to_owned().into()), true, &[]),
            (ReplicaChange::Gone("c".to_owned().into()), false, &[]),
        ] {
            let context = format!("{change:?}");
            assert_eq!(table.apply(change), is_changed, "{context}");
            let list = table.list();
            assert_eq!(list.iter().map(|address| &**address).collect::<Vec<_>>(), expected, "{context}");
            assert_eq!(table.len(), expected.len());
        }
    }
}
