//! Room for finished executions and idempotency keys is the server's as a whole. Shards lease it in chunks, so that the
//! bounds hold exactly, one shard can use nearly all of it, and a busy shard touches a shared word only once per chunk.
//!
//! A shard with less than its share (what each would have if all had the same) that finds nothing left says what it wants.
//! What is free is for it then, and a shard with more than its share is told to give up as much.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shard_core::{Room, RoomRequest};

/// Every shard may always keep this part of its share, and leases that part of it at once.
const FLOOR_PART: u64 = 256;
const CHUNK_PART: u64 = 64;

/// What a shard is told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RoomAnswer {
    /// Leased to it.
    pub granted: Room,
    /// To be given back.
    pub recalled: Room,
    /// It wants room that others hold: they should look.
    pub others_should_look: bool,
}

/// See the module.
#[derive(Debug)]
pub struct RoomBudget {
    pools: [Pool; 4],
}

impl RoomBudget {
    /// Room of a server with so many shards, each of which has [`RoomBudget::floor`] from the start.
    pub fn new(total: Room, shards: u16) -> RoomBudget {
        RoomBudget { pools: total.amounts().map(|total| Pool::new(total, shards)) }
    }

    /// What each shard has without asking, and keeps.
    pub fn floor(total: Room, shards: u16) -> Room {
        Room::of(total.amounts().map(|total| floor(total, shards)))
    }

    /// Answers a shard.
    pub fn answer(&self, shard: u16, request: RoomRequest) -> RoomAnswer {
        let (held, lacks) = (request.held.amounts(), request.lacks.amounts());
        let owed = request.recalled.amounts();
        let (mut granted, mut recalled, mut others_should_look) = ([0; 4], [0; 4], false);
        for (part, pool) in self.pools.iter().enumerate() {
            if lacks[part] > 0 || request.is_review {
                let (lease, is_wanted) = pool.lease(shard, lacks[part], held[part]);
                granted[part] = lease;
                others_should_look |= is_wanted;
            }
            if owed[part] == 0 {
                recalled[part] = pool.recall(shard, held[part] + granted[part]);
            }
        }
        RoomAnswer { granted: Room::of(granted), recalled: Room::of(recalled), others_should_look }
    }

    /// A shard gave room back.
    pub fn give_back(&self, room: Room) {
        for (pool, room) in self.pools.iter().zip(room.amounts()) {
            pool.free.fetch_add(room, Relaxed);
        }
    }

    /// What nobody has leased.
    pub fn free(&self) -> Room {
        Room::of([0, 1, 2, 3].map(|part| self.pools[part].free.load(Relaxed)))
    }
}

/// What each shard would have if all had the same; at least one, so that who has nothing may ask for it.
pub fn share(total: u64, shards: u16) -> u64 {
    (total / u64::from(shards.max(1))).max(1)
}

fn floor(total: u64, shards: u16) -> u64 {
    (share(total, shards) / FLOOR_PART).min(total / u64::from(shards.max(1)))
}

/// One of the four.
#[derive(Debug)]
struct Pool {
    share: u64,
    chunk: u64,
    free: AtomicU64,
    /// What each shard that has less than its share wants of what others hold.
    wanted: Box<[AtomicU64]>,
}

impl Pool {
    fn new(total: u64, shards: u16) -> Pool {
        let share = share(total, shards);
        Pool {
            share,
            chunk: (share / CHUNK_PART).max(1),
            free: AtomicU64::new(total - u64::from(shards) * floor(total, shards)),
            wanted: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Leases what a shard lacks, and a chunk more, as far as it is there. Returns how much, and whether somebody wants more
    /// since now.
    fn lease(&self, shard: u16, lacks: u64, held: u64) -> (u64, bool) {
        let granted = if lacks > 0 { self.take(shard, lacks + self.chunk, held) } else { 0 };
        // It may have taken what was given up for another one, which has its share as little.
        let wanted_by_others = if granted > 0 { self.wanted_by_others(shard) } else { 0 };
        let is_taken = wanted_by_others > self.free.load(Relaxed);
        // What it lacks no more it takes back: with every sweep it asks, whether it lacks something or not.
        let missing = if granted < lacks { lacks + self.chunk - granted } else { 0 };
        let wanted = missing.min(self.share.saturating_sub(held + granted));
        let Some(word) = self.wanted.get(usize::from(shard)) else { return (granted, false) };
        // Written by this shard alone.
        let wanted_before = word.load(Relaxed);
        if wanted_before != wanted {
            word.store(wanted, Relaxed);
        }
        // What others gave up so far was for what was wanted before.
        let is_news = wanted > wanted_before || granted > 0 && wanted > 0;
        (granted, is_taken || is_news)
    }

    /// Takes as much of what is free as there is, up to this. Beyond its share, a shard leaves what others want for theirs.
    fn take(&self, shard: u16, most: u64, held: u64) -> u64 {
        let kept_for_others = self.wanted_by_others(shard);
        let missing_in_share = self.share.saturating_sub(held);
        let mut granted = 0;
        // Relaxed: the word carries everything that the decision must not get wrong.
        let _ = self.free.fetch_update(Relaxed, Relaxed, |free| {
            granted = most.min(free.saturating_sub(kept_for_others).max(missing_in_share.min(free)));
            (granted > 0).then_some(free - granted)
        });
        granted
    }

    /// What a shard is to give up, which holds so much: what others want for their share and is not free, as far as it has
    /// more than its own.
    fn recall(&self, shard: u16, held: u64) -> u64 {
        let spare = held.saturating_sub(self.share);
        if spare == 0 {
            return 0;
        }
        spare.min(self.wanted_by_others(shard).saturating_sub(self.free.load(Relaxed)))
    }

    fn wanted_by_others(&self, shard: u16) -> u64 {
        let others = self.wanted.iter().enumerate().filter(|(of, _)| *of != usize::from(shard));
        others.map(|(_, wanted)| wanted.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn answer(budget: &RoomBudget, shard: u16, held: u64, lacks: u64) -> (u64, u64, bool) {
        let of = |executions| Room { executions, ..Room::default() };
        let recalled = Room::default();
        let request = RoomRequest { held: of(held), lacks: of(lacks), recalled, is_review: true };
        let RoomAnswer { granted, recalled, others_should_look } = budget.answer(shard, request);
        (granted.executions, recalled.executions, others_should_look)
    }

    fn budget(executions: u64, shards: u16) -> RoomBudget {
        RoomBudget::new(Room { executions, ..Room::default() }, shards)
    }

    #[test]
    fn one_shard_gets_all_but_the_floors_of_the_others() {
        let total = Room { executions: 1000, bytes: 1 << 20, disk_bytes: 0, keys: 3 };
        let floor = RoomBudget::floor(total, 2);
        assert_eq!(floor, Room { executions: 1, bytes: 2048, disk_bytes: 0, keys: 0 });
        let budget = RoomBudget::new(total, 2);
        let mut held = floor.executions;
        while let (granted @ 1.., 0, false) = answer(&budget, 0, held, 1) {
            assert!(granted <= 8, "a chunk, and what is lacking");
            held += granted;
        }
        assert_eq!((held, budget.free().executions), (999, 0));
    }

    #[test]
    fn who_has_less_than_its_share_gets_it_back_and_nobody_else_takes_it_meanwhile() {
        let budget = budget(100, 2);
        assert_eq!(answer(&budget, 0, 0, 100), (100, 0, false));
        assert_eq!(answer(&budget, 1, 0, 3), (0, 0, true), "others should look");
        assert_eq!(answer(&budget, 1, 0, 3), (0, 0, false), "they know");
        assert_eq!(answer(&budget, 0, 100, 0), (0, 4, false), "what the other lacks, and a chunk");
        budget.give_back(Room { executions: 4, ..Room::default() });
        assert_eq!(answer(&budget, 0, 96, 5), (0, 0, false), "it is not free for this one");
        assert_eq!(answer(&budget, 1, 0, 3), (4, 0, false));
        assert_eq!(answer(&budget, 0, 96, 0), (0, 0, false), "nobody wants anything any more");
        assert_eq!(answer(&budget, 1, 4, 60), (0, 0, true));
        assert_eq!(answer(&budget, 0, 96, 0), (0, 46, false), "no more than the share of the other");
        assert_eq!(answer(&budget, 1, 4, 0), (0, 0, false));
        assert_eq!(answer(&budget, 0, 96, 0), (0, 0, false), "it was taken back");
    }

    #[test]
    fn nobody_wants_more_than_a_share_and_small_totals_are_shared_too() {
        let budget = budget(3, 5);
        assert_eq!(answer(&budget, 0, 0, 9), (3, 0, false));
        assert_eq!(answer(&budget, 1, 0, 1), (0, 0, true));
        assert_eq!(answer(&budget, 0, 3, 1), (0, 1, false));
        budget.give_back(Room { executions: 1, ..Room::default() });
        assert_eq!(answer(&budget, 1, 0, 1), (1, 0, false));
        assert_eq!(answer(&budget, 1, 1, 1), (0, 0, false), "it has its share");
    }

    #[test]
    fn threads_lease_no_more_than_there_is() {
        let budget = budget(100_000, 4);
        let held: u64 = thread::scope(|scope| {
            let budget = &budget;
            let lease_all = |shard| {
                move || {
                    let mut held = 0;
                    loop {
                        match answer(budget, shard, held, 1) {
                            (0, _, _) => return held,
                            (granted, _, _) => held += granted,
                        }
                    }
                }
            };
            let threads: Vec<_> = (0..4).map(|shard| scope.spawn(lease_all(shard))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        let floors = 4 * RoomBudget::floor(Room { executions: 100_000, ..Room::default() }, 4).executions;
        assert_eq!(held + floors + budget.free().executions, 100_000);
        assert!(budget.free().executions < 4 * 400, "what those left who wanted something for others");
    }
}
