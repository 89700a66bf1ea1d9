//! The addresses of a function's replicas, kept from what its backend says is different. Pure.
//!
//! Each replica gets a number that no other one of the function has had: to a shard, another replica at the same address
//! is another address.

use std::{collections::BTreeMap, sync::Arc};

use nanofaas_backends::{ReplicaChange, ReplicaId, ReplicaStatus};
use shard_core::ReplicaAddress;

/// Where the replicas of one function are, oldest first.
#[derive(Debug, Default)]
pub(super) struct EndpointTable {
    /// The number of every replica, also of those that are not ready.
    numbers: BTreeMap<ReplicaId, u64>,
    endpoints: BTreeMap<u64, Arc<str>>,
    last_number: u64,
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
                let number = *self.numbers.entry(replica.id).or_insert_with(|| {
                    self.last_number += 1;
                    self.last_number
                });
                let old = match &endpoint {
                    Some(endpoint) => self.endpoints.insert(number, Arc::clone(endpoint)),
                    None => self.endpoints.remove(&number),
                };
                old != endpoint
            }
            ReplicaChange::Gone(id) => {
                let number = self.numbers.remove(&id);
                number.is_some_and(|number| self.endpoints.remove(&number).is_some())
            }
        }
    }

    /// All that are ready.
    pub(super) fn list(&self) -> Vec<ReplicaAddress> {
        let of = |(replica, address): (&u64, &Arc<str>)| ReplicaAddress {
            replica: *replica,
            address: Arc::clone(address),
        };
        self.endpoints.iter().map(of).collect()
    }

    /// Those that have these numbers, in this order.
    pub(super) fn replicas(&self, numbers: &[u64]) -> Vec<ReplicaId> {
        if numbers.is_empty() {
            return Vec::new();
        }
        let ids: BTreeMap<u64, &ReplicaId> = self.numbers.iter().map(|(id, number)| (*number, id)).collect();
        numbers.iter().filter_map(|number| ids.get(number).copied().cloned()).collect()
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
            assert_eq!(list.iter().map(|of| &*of.address).collect::<Vec<_>>(), expected, "{context}");
            assert_eq!(table.len(), expected.len());
        }
    }
    #[test]
    fn a_replica_keeps_its_number_and_no_other_one_gets_it() {
        let mut table = EndpointTable::default();
        let mut listed = |changes: &[(&str, bool)]| -> Vec<u64> {
            for (id, is_there) in changes {
                table.apply(match is_there {
                    true => now(id, ReplicaState::Ready("the same address".into())),
                    false => ReplicaChange::Gone((*id).to_owned().into()),
                });
            }
            table.list().iter().map(|of| of.replica).collect()
        };
        assert_eq!(listed(&[("a", true), ("b", true)]), [1, 2]);
        assert_eq!(listed(&[("a", true)]), [1, 2]);
        assert_eq!(listed(&[("a", false), ("b", false)]), [0; 0]);
        assert_eq!(listed(&[("b", true), ("a", true)]), [3, 4]);
    }
}
