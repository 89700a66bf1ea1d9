//! Which thread does what: a pure function of the number of workers and the placement.

/// How shards and connections are laid out over threads. Measured figures are in docs/decisions/0001.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Every thread serves connections and owns one shard.
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

/// What every thread does, and how many shards there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One role per thread.
    pub threads: Vec<Role>,
    /// Number of shards, at least 1.
    pub shards: u16,
}

/// Most workers; thread numbers travel in 16 bits of a ticket.
pub const WORKERS_MAX: u16 = 1024;

/// Lays `workers` (at least 1) out over threads.
pub fn plan(workers: u16, placement: Placement) -> Plan {
    let workers = workers.clamp(1, WORKERS_MAX);
    match placement {
        Placement::Colocated => Plan {
            threads: (0..workers).map(|shard| Role { listens: true, shard: Some(shard) }).collect(),
            shards: workers,
        },
        Placement::Split => {
            // One worker still needs both kinds of thread.
            let listening = (workers / 2).max(1);
            let shards = (workers - workers / 2).max(1);
            let listeners = (0..listening).map(|_| Role { listens: true, shard: None });
            let owners = (0..shards).map(|shard| Role { listens: false, shard: Some(shard) });
            Plan { threads: listeners.chain(owners).collect(), shards }
        }
    }
}

impl Plan {
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
            for workers in 0..20 {
                let plan = plan(workers, placement);
                let mut shards: Vec<_> = plan.threads.iter().filter_map(|role| role.shard).collect();
                shards.sort_unstable();
                assert_eq!(shards, (0..plan.shards).collect::<Vec<_>>());
                assert!(plan.shards >= 1 && plan.listening().count() >= 1);
                for shard in 0..plan.shards {
                    assert_eq!(plan.threads[usize::from(plan.thread_of(shard))].shard, Some(shard));
                }
            }
        }
    }
}
