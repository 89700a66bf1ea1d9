//! The limits that are the server's as a whole: calls per second, bytes that wait, and room for what has ended
//! ([`crate::room`]). Shards lease chunks of them, so that the limit holds exactly and a busy shard touches the shared word
//! only once per chunk.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shard_core::{Effects, Input, Lease, Now, Request, Room, Shard};

use crate::room::{RoomAnswer, RoomBudget};

/// Most calls of one lease. Small limits lease one call at a time: then nothing is ever left unused elsewhere.
const CALLS_CHUNK_MAX: u32 = 256;
/// A lease is at most this part of the limit.
const CALLS_CHUNK_PART: u32 = 1024;

/// All of them, and how a step of a shard leases from them.
#[derive(Debug)]
pub struct Budgets {
    calls: CallBudget,
    bytes: ByteBudget,
    room: RoomBudget,
}

impl Budgets {
    /// Budgets of a server with so many shards that admits so many calls per second (0: any number), lets so many bytes wait, and
    /// has so much room for what has ended. Of that, each shard starts with [`Budgets::room_floor`].
    pub fn new(calls_per_second: u32, queued_bytes_max: u64, room: Room, shards: u16) -> Budgets {
        Budgets {
            calls: CallBudget::new(calls_per_second),
            bytes: ByteBudget::new(queued_bytes_max),
            room: RoomBudget::new(room, shards),
        }
    }

    /// The room that each of so many shards starts with.
    pub fn room_floor(room: Room, shards: u16) -> Room {
        RoomBudget::floor(room, shards)
    }

    /// Another number of calls per second holds from the next lease on.
    pub fn set_calls_per_second(&self, calls: u32) {
        self.calls.set_limit(calls);
    }

    /// Hands a shard an input, with what that needs of the budgets. `true`: the other shards are to be given
    /// [`Lease::CheckRoom`].
    pub fn step(
        &self,
        number: u16,
        shard: &mut Shard,
        now: Now,
        input: Input,
        effects: &mut Effects,
    ) -> bool {
        self.lease(shard, now, &input, effects);
        shard.handle(now, input, effects);
        let owed = shard.owed_bytes();
        if owed > 0 {
            // A retry waits again with a payload that was admitted before: it cannot be refused for its bytes.
            self.bytes.take(owed);
            shard.handle(now, Input::Lease(Lease::LentBytes(owed)), effects);
        }
        let mut others_should_look = false;
        // More than once when what memory has no room for goes to disk, which may have none either.
        while let Some(request) = shard.room_request() {
            let answer = self.room.answer(number, request);
            let RoomAnswer { granted, recalled, .. } = answer;
            shard.handle(now, Input::Lease(Lease::Room { granted, recalled }), effects);
            others_should_look |= answer.others_should_look;
        }
        others_should_look
    }

    /// A shard gave leased room back.
    pub fn return_room(&self, room: Room) {
        self.room.give_back(room);
    }

    /// Room that no shard has leased.
    pub fn free_room(&self) -> Room {
        self.room.free()
    }

    /// A shard gave leased bytes back.
    pub fn return_bytes(&self, bytes: u64) {
        self.bytes.give_back(bytes);
    }

    /// Bytes that all shards have leased.
    pub fn leased_bytes(&self) -> u64 {
        self.bytes.leased.load(Relaxed)
    }

    /// Leases what a call may need before it is offered to the shard.
    fn lease(&self, shard: &mut Shard, now: Now, input: &Input, effects: &mut Effects) {
        let is_call = matches!(input, Input::Ask(_, Request::Invoke(_) | Request::Enqueue(_)));
        if !is_call && !matches!(input, Input::Ask(_, Request::Replay { .. })) {
            return;
        }
        if is_call && shard.wants_calls(now) {
            let (second, calls) = self.calls.lease(now.second());
            if calls > 0 {
                shard.handle(now, Input::Lease(Lease::Calls { second, calls }), effects);
            }
        }
        let need = shard.needed_bytes(input);
        let wanted = shard.wanted_bytes(need);
        if wanted > 0 {
            let granted = self.bytes.lease(wanted, need);
            if granted > 0 {
                shard.handle(now, Input::Lease(Lease::Bytes(granted)), effects);
            }
        }
    }
}

/// Calls per second of the monotonic clock.
#[derive(Debug)]
struct CallBudget {
    /// 0 is none.
    limit: AtomicU32,
    /// Second (upper 32 bits, enough for 136 years) and calls leased in it (lower 32).
    word: AtomicU64,
}

impl CallBudget {
    fn new(limit: u32) -> CallBudget {
        CallBudget { limit: AtomicU32::new(limit), word: AtomicU64::new(0) }
    }

    /// Another limit holds from the next lease on.
    fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// Leases calls in this second, or in a later one that was already seen: the window never goes back. Returns
    /// the second and how many, which is 0 when the limit is reached.
    fn lease(&self, second: u64) -> (u64, u32) {
        let limit = self.limit.load(Relaxed);
        if limit == 0 {
            // Not one lease for ever: another limit is to hold soon.
            return (second, CALLS_CHUNK_MAX);
        }
        let chunk = (limit / CALLS_CHUNK_PART).clamp(1, CALLS_CHUNK_MAX);
        // Relaxed: the word carries everything that the decision depends on.
        let mut word = self.word.load(Relaxed);
        loop {
            let (seen, used) = (word >> 32, word as u32);
            let (window, used) = if second > seen { (second, 0) } else { (seen, used) };
            let calls = limit.saturating_sub(used).min(chunk);
            if calls == 0 {
                return (window, 0);
            }
            let next = window << 32 | u64::from(used + calls);
            match self.word.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return (window, calls),
                Err(current) => word = current,
            }
        }
    }
}

/// Bytes of payloads that wait.
#[derive(Debug)]
struct ByteBudget {
    limit: u64,
    leased: AtomicU64,
}

impl ByteBudget {
    fn new(limit: u64) -> ByteBudget {
        ByteBudget { limit, leased: AtomicU64::new(0) }
    }

    /// Leases this many bytes, fewer if `least` still fits, or none.
    fn lease(&self, wanted: u64, least: u64) -> u64 {
        let mut granted = 0;
        let _ = self.leased.fetch_update(Relaxed, Relaxed, |leased| {
            let left = self.limit.saturating_sub(leased);
            granted = if wanted <= left {
                wanted
            } else if least <= left {
                left
            } else {
                0
            };
            (granted > 0).then_some(leased + granted)
        });
        granted
    }

    /// Leases bytes that are already in use, limit or not.
    fn take(&self, bytes: u64) {
        self.leased.fetch_add(bytes, Relaxed);
    }

    /// Gives leased bytes back.
    fn give_back(&self, bytes: u64) {
        self.leased.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn calls_never_exceed_the_limit_and_all_can_be_used() {
        for limit in [1, 1000, 100_000] {
            let budget = CallBudget::new(limit);
            let total: u32 = thread::scope(|scope| {
                let lease_all = || {
                    let mut sum = 0;
                    loop {
                        let (second, calls) = budget.lease(7);
                        assert_eq!(second, 7);
                        if calls == 0 {
                            return sum;
                        }
                        sum += calls;
                    }
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(lease_all)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
            });
            assert_eq!(total, limit);
            assert_eq!(budget.lease(6), (7, 0), "a thread that is late stays in the newest window");
            assert_eq!(budget.lease(8).0, 8);
        }
    }

    #[test]
    fn without_a_limit_there_are_always_calls_and_another_limit_holds_at_once() {
        let budget = CallBudget::new(0);
        for second in [7, 7, 8] {
            assert_eq!(budget.lease(second), (second, CALLS_CHUNK_MAX));
        }
        budget.set_limit(1);
        assert_eq!([budget.lease(8), budget.lease(8), budget.lease(9)], [(8, 1), (8, 0), (9, 1)]);
        budget.set_limit(0);
        assert_eq!(budget.lease(9), (9, CALLS_CHUNK_MAX));
    }

    #[test]
    fn bytes_come_back() {
        let budget = ByteBudget::new(100);
        assert_eq!(budget.lease(64, 10), 64);
        assert_eq!(budget.lease(64, 10), 36);
        assert_eq!(budget.lease(64, 1), 0);
        budget.give_back(50);
        assert_eq!(budget.lease(64, 51), 0);
        assert_eq!(budget.lease(64, 50), 50);
    }
}
