//! Room for finished executions and keys is leased from the server, which has it for all shards. Who needs more asks; who
//! is told that there is none forgets its oldest. What is not used any more goes back with the next sweep. A server whose
//! room is all leased recalls some from a shard with more than its share, for one with less.

use crate::{
    effect::{Effect, Effects},
    room::{Part, Room, RoomRequest},
    sabotage::Sabotage,
    shard::Shard,
};

/// Keys of executions that go on, which are passed over when a key has to go.
const KEYS_PASSED_OVER: usize = 8;

impl Shard {
    /// What has ended and is kept takes up so much, and keys.
    pub fn room_used(&self) -> Room {
        Room {
            executions: self.finished_count() as u64,
            bytes: self.retained_bytes(),
            disk_bytes: self.retention.disk_bytes,
            keys: self.index.keys.len() as u64,
        }
    }

    /// Room that is leased to this shard.
    pub fn room_held(&self) -> Room {
        self.retention.room.held()
    }

    /// What of [`Room::amounts`] the server had no more of when this shard last asked.
    pub fn room_short(&self) -> [bool; 4] {
        self.retention.room.short()
    }

    /// What this shard asks the server for, if it does: [`crate::input::Lease::Room`] is to be its next input.
    pub fn room_request(&self) -> Option<RoomRequest> {
        self.retention.room.asks().then(|| self.retention.room.request(self.room_used()))
    }

    /// Whether something is kept beyond what may be. If the server may have more room, it is asked first.
    pub(super) fn lacks_room(&mut self, part: Part, used: u64) -> bool {
        if self.sabotaged.by(Sabotage::RoomUnasked) && matches!(part, Part::Executions | Part::Bytes)
            || self.sabotaged.by(Sabotage::KeysUnasked) && part == Part::Keys
        {
            return used > self.retention.room.bound(part);
        }
        !self.sabotaged.by(Sabotage::RoomIgnored) && self.retention.room.lacks(part, used)
    }

    /// The server has answered.
    pub(super) fn room_granted(&mut self, granted: Room, recalled: Room, fx: &mut Effects) {
        let recalled = match self.sabotaged.by(Sabotage::RecallIgnored) {
            true => Room::default(),
            false => recalled,
        };
        self.retention.room.answered(granted, recalled, self.room_used());
        self.make_room(fx);
        if !self.make_room_for_keys() {
            self.sweep_soon();
        }
        self.return_room(fx);
        self.arm_sweep();
    }

    /// Forgets the oldest executions until there is room for the others. Should that take too long, the rest follows soon.
    pub(super) fn make_room(&mut self, fx: &mut Effects) {
        let mut left = self.limits.batch_max * 16;
        while self.lacks_room_for_executions() {
            if left == 0 {
                return self.sweep_soon();
            }
            if !self.evict_one(fx) {
                return;
            }
            left -= 1;
        }
    }

    fn lacks_room_for_executions(&mut self) -> bool {
        self.lacks_room(Part::Executions, self.finished_count() as u64)
            || self.lacks_room(Part::Bytes, self.retained_bytes())
            || self.lacks_room(Part::Disk, self.retention.disk_bytes)
    }

    /// Forgets keys until there is room, but none of an execution that goes on. `false`: that took too long.
    fn make_room_for_keys(&mut self) -> bool {
        let (mut left, mut passed_over) = (self.limits.batch_max * 16, 0);
        while self.lacks_room(Part::Keys, self.index.keys.len() as u64) {
            if left == 0 {
                return false;
            }
            left -= 1;
            if !self.expire_keys(1) {
                passed_over += 1;
            }
            if passed_over > KEYS_PASSED_OVER {
                break;
            }
        }
        true
    }

    /// Gives back what was recalled or is idle, as far as it is free.
    fn return_room(&mut self, fx: &mut Effects) {
        if self.sabotaged.by(Sabotage::RoomKept) {
            return;
        }
        let free = self.retention.room.take_free(self.room_used());
        if free != Room::default() {
            fx.push(Effect::ReturnRoom(free));
        }
    }
}
