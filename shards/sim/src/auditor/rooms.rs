//! Room for what has ended: until all calls that were ever made might fill it, nothing is forgotten for lack of it.

use shard_core::Room;
use shard_runtime::{Budgets, room::share};

use crate::swarm::Swarm;

/// Bytes in memory that no run fills.
const UNREACHED_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct RoomBounds {
    /// What shards surely have together, whatever each of them has leased and does not use.
    usable: Room,
    disks_have_room: bool,
}

impl RoomBounds {
    pub(super) fn new(swarm: &Swarm) -> RoomBounds {
        let (total, shards) = (swarm.room.amounts(), swarm.shards);
        let floor = Budgets::room_floor(swarm.room, shards).amounts();
        let usable = [0, 1, 2, 3].map(|part| {
            // A chunk, as large as any, and what it never gives back.
            let unused = share(total[part], shards) / 64 + 1 + floor[part];
            total[part].saturating_sub(u64::from(shards) * unused)
        });
        let disk = &swarm.disk;
        RoomBounds {
            usable: Room::of(usable),
            disks_have_room: swarm.room.disk_bytes >= UNREACHED_BYTES && (disk.fails, disk.fills) == (0, 0),
        }
    }

    /// Whether so many executions may be too many.
    pub(super) fn may_lack_executions(&self, executions: usize) -> bool {
        executions as u64 >= self.usable.executions
    }

    /// Whether so many keys may be too many.
    pub(super) fn may_lack_keys(&self, keys: usize) -> bool {
        keys as u64 >= self.usable.keys
    }

    /// Whether results may be too large for memory.
    pub(super) fn may_lack_bytes(&self) -> bool {
        self.usable.bytes < UNREACHED_BYTES / 2
    }

    /// Whether disks, which do not fail, have room for all that memory has none for.
    pub(super) fn disks_have_room(&self) -> bool {
        self.disks_have_room
    }
}
