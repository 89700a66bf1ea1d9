//! Which thread does what: a pure function of the number of workers and the placement.

use shard_core::{PARTITIONS, Seating};

/// How shards and connections are laid out over threads. Measured figures are in docs/decisions/0001.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Every thread serves connections and owns one shard, as long as there are partitions to seat.
    #[default]
    Colocated,
    /// Half of the threads serve connections, the other half own shards. For comparison.
    Split,
}

/// What one thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// It serves connections.
    pub listens: bool,
    /// The shard that it owns.
    pub shard: Option<u16>,
}

/// What every thread does, and which shard seats what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One role per thread.
    pub threads: Vec<Role>,
    /// Which shard seats which partitions.
    pub seating: Seating,
}

/// Most workers; thread numbers travel in 16 bits of a ticket.
pub const WORKERS_MAX: u16 = 1024;

/// Lays `workers` (at least 1) out over threads.
pub fn plan(workers: u16, placement: Placement) -> Plan {
    let workers = workers.clamp(1, WORKERS_MAX);
    match placement {
        Placement::Colocated => {
            let shards = workers.min(PARTITIONS);
            let shard_of = |thread| (thread < shards).then_some(thread);
            Plan {
                threads: (0..workers).map(|thread| Role { listens: true, shard: shard_of(thread) }).collect(),
                seating: Seating::of(shards),
            }
        }
        Placement::Split => {
            // One worker still needs both kinds of thread.
            let shards = (workers - workers / 2).clamp(1, PARTITIONS);
            let listening = workers.saturating_sub(shards).max(1);
            let listeners = (0..listening).map(|_| Role { listens: true, shard: None });
            let owners = (0..shards).map(|shard| Role { listens: false, shard: Some(shard) });
            Plan { threads: listeners.chain(owners).collect(), seating: Seating::of(shards) }
        }
    }
}

impl Plan {
    /// Number of shards, at least 1.
    pub fn shards(&self) -> u16 {
        self.seating.shards()
    }

    /// The thread that owns a shard.
    pub fn thread_of(&self, shard: u16) -> u16 {
        self.threads.iter().position(|role| role.shard == Some(shard)).unwrap_or(0) as u16
    }

    /// The threads that serve connections.
    pub fn listening(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..).zip(&self.threads).filter(|(_, role)| role.listens).map(|(thread, _)| thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_thread_and_somebody_listens() {
        for placement in [Placement::Colocated, Placement::Split] {
            for workers in (0..20).chain([255, 256, 257, 513, WORKERS_MAX]) {
                let plan = plan(workers, placement);
                let mut shards: Vec<_> = plan.threads.iter().filter_map(|role| role.shard).collect();
                shards.sort_unstable();
                assert_eq!(shards, (0..plan.shards()).collect::<Vec<_>>());
                assert_eq!(
                    plan.threads.len(),
                    usize::from(workers.max(1 + u16::from(placement == Placement::Split)))
                );
                assert!((1..=PARTITIONS).contains(&plan.shards()) && plan.listening().count() >= 1);
                for shard in 0..plan.shards() {
                    assert_eq!(plan.threads[usize::from(plan.thread_of(shard))].shard, Some(shard));
                }
            }
        }
    }
}
