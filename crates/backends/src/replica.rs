//! Replicas as backends report them: who they are, what they run, how they are.

use std::{cmp::Reverse, collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use crate::Version;

/// Names a replica, from its start until nothing is left of it, also over restarts of its program and of the server.
/// Given by the backend, and to no other replica after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ReplicaId {
    fn from(id: String) -> ReplicaId {
        ReplicaId(id.into())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaState {
    /// Not ready yet, or not at the moment.
    Starting,
    /// Calls may be sent to this address, such as `http://127.0.0.1:40001/invoke`.
    Ready(Arc<str>),
    /// Asked to go: it gets no new calls, and those in flight may finish. No other state follows.
    Draining,
    /// It ended or cannot start, for this reason. The backend tries again.
    Failed(Arc<str>),
}

/// A replica at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which one.
    pub id: ReplicaId,
    /// What it runs.
    pub version: Version,
    /// How it is.
    pub state: ReplicaState,
    /// Since when.
    pub since: SystemTime,
}

impl ReplicaStatus {
    /// A replica that starts now.
    pub fn starting(id: ReplicaId, version: Version) -> ReplicaStatus {
        ReplicaStatus { id, version, state: ReplicaState::Starting, since: SystemTime::now() }
    }

    /// Where calls may be sent.
    pub fn endpoint(&self) -> Option<&Arc<str>> {
        match &self.state {
            ReplicaState::Ready(endpoint) => Some(endpoint),
            ReplicaState::Starting | ReplicaState::Draining | ReplicaState::Failed(_) => None,
        }
    }

    /// Takes over a state; what to report, when it is another one.
    pub fn change_to(&mut self, state: ReplicaState) -> Option<ReplicaChange> {
        if self.state == state {
            return None;
        }
        self.state = state;
        self.since = SystemTime::now();
        Some(ReplicaChange::Now(self.clone()))
    }
}

/// What happened to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaChange {
    /// It is new, or is different from before: this is how it is now.
    Now(ReplicaStatus),
    /// Nothing is left of it.
    Gone(ReplicaId),
}

/// What is different with a function. Whatever is not named is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaChanges {
    /// In the order in which it happened.
    pub changes: Vec<ReplicaChange>,
    /// How many replicas are wanted now.
    pub desired: u32,
}

/// How a function runs that was ensured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Every replica, also those that are not ready.
    pub replicas: Vec<ReplicaStatus>,
    /// How many replicas are wanted: what was asked for, or more that were wanted before and adopted.
    pub desired: u32,
}

/// Which replicas go when there are to be so many fewer, of these in the order of their age, oldest first: those that are not
/// ready, then those that are named, in that order, then the newest. Their positions, the first to go first.
pub fn who_goes<'a>(
    replicas: impl Iterator<Item = (usize, &'a ReplicaStatus)>,
    first_to_go: &[ReplicaId],
    count: usize,
) -> Vec<usize> {
    if count == 0 {
        return Vec::new();
    }
    let ranks: BTreeMap<&ReplicaId, usize> = first_to_go.iter().zip(0..).collect();
    let order = |(at, replica): (usize, &ReplicaStatus)| {
        let rank = ranks.get(&replica.id).copied().unwrap_or(usize::MAX);
        (replica.endpoint().is_some(), rank, Reverse(at))
    };
    let mut all: Vec<_> = replicas.map(order).collect();
    all.sort_unstable();
    all.into_iter().take(count).map(|(_, _, Reverse(at))| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_not_ready_go_first_then_those_that_are_named_then_the_newest() {
        let id = |name: &str| ReplicaId::from(name.to_owned());
        let replica = |(name, is_ready): (&str, bool)| {
            let mut status = ReplicaStatus::starting(id(name), Version::from_label("1"));
            if is_ready {
                status.change_to(ReplicaState::Ready("http://a".into()));
            }
            status
        };
        let all: Vec<_> = [("a", true), ("b", true), ("c", false), ("d", true), ("e", false), ("f", true)]
            .map(replica)
            .into();
        for (named, expected) in [
            (&[][..], [4, 2, 5, 3, 1, 0]),
            (&["b", "a"], [4, 2, 1, 0, 5, 3]),
            (&["f", "c", "nobody"], [2, 4, 5, 3, 1, 0]),
        ] {
            let named: Vec<ReplicaId> = named.iter().map(|name| id(name)).collect();
            for count in 0..8 {
                let gone = who_goes((0..).zip(&all), &named, count);
                assert_eq!(gone, expected[..count.min(6)], "{named:?}");
            }
        }
    }
}
