//! The rest of the server, as far as it has to do with room: what it has for this shard, and what others hold.

use shard_core::{Effects, Input, Lease, Limits, Room};

use super::{
    drive::{Drive, LARGE_BYTES},
    oracle::{ACCEPTED_TTL_MS, DEAD_MAX, KEYS_TTL_MS, RETRY_WAIT_MS_MAX, SWEEP_MS, TTL_MS},
    registry::PENDING_MAX,
};

/// Finished executions that the shard may always keep, and those that the server has room for in all.
pub(super) const EXECUTIONS_FLOOR: u64 = 5;
pub(super) const EXECUTIONS_MAX: u64 = 25;
/// Bounds that scripts get to.
pub(super) fn limits() -> Limits {
    Limits {
        pending_max: PENDING_MAX,
        room: Room {
            executions: EXECUTIONS_FLOOR,
            // Of two results of accepted executions; what others hold is less than half of it.
            bytes: 2 * LARGE_BYTES as u64 + 100,
            disk_bytes: 1 << 20,
            keys: 1_000_000,
        },
        results_on_disk: true,
        executions_ttl_us: TTL_MS * 1000,
        accepted_ttl_us: ACCEPTED_TTL_MS * 1000,
        payload_ttl_us: TTL_MS * 500,
        sweep_interval_us: SWEEP_MS * 1000,
        keys_ttl_us: KEYS_TTL_MS * 1000,
        dead_letters_max: DEAD_MAX,
        retry_wait_us_max: RETRY_WAIT_MS_MAX * 1000,
        queued_bytes_chunk: 40,
        // What is left over for a later step is tested in scripts.
        batch_max: 1000,
        ..Limits::default()
    }
}

/// See the module. Only the room for finished executions changes; of the others, the shard has all there is.
pub(super) struct Rooms {
    /// What the shard should hold.
    held: u64,
    /// What others hold, and need of what this one holds.
    elsewhere: u64,
    owed: u64,
    /// The least that the shard could keep while it was told that there is no more. `None`: it never was.
    pub(super) least: Option<u64>,
}

impl Default for Rooms {
    fn default() -> Rooms {
        Rooms { held: EXECUTIONS_FLOOR, elsewhere: 0, owed: 0, least: None }
    }
}

impl Rooms {
    /// All shards begin anew.
    pub(super) fn of_another_shard(self) -> Rooms {
        Rooms { least: self.least, ..Rooms::default() }
    }
}

impl Drive {
    /// Hands the shard an input, and answers what it asks for.
    pub(super) fn handle(&mut self, input: Input, effects: &mut Effects) {
        self.shard.handle(self.now, input, effects);
        while self.shard.room_request().is_some() {
            self.answer_request(0, effects);
        }
    }

    fn answer_request(&mut self, recalled: u64, effects: &mut Effects) {
        let Some(request) = self.shard.room_request() else { return };
        let rooms = &mut self.rooms;
        let lacks = request.lacks.executions;
        let granted = lacks.min(EXECUTIONS_MAX - rooms.held - rooms.elsewhere);
        rooms.held += granted;
        if granted < lacks || recalled > 0 {
            let may_keep = rooms.held - recalled - request.recalled.executions;
            rooms.least = Some(rooms.least.map_or(may_keep, |least| least.min(may_keep)));
        }
        let of = |executions| Room { executions, ..Room::default() };
        let answer = Input::Lease(Lease::Room { granted: of(granted), recalled: of(recalled) });
        self.shard.handle(self.now, answer, effects);
    }

    /// Others hold so much from now on, if this shard has it to give.
    pub(super) fn change_elsewhere(&mut self, executions: u64) {
        let rooms = &mut self.rooms;
        let free = EXECUTIONS_MAX - rooms.held - rooms.elsewhere;
        let missing = executions.saturating_sub(rooms.elsewhere + free);
        rooms.elsewhere = executions.min(rooms.elsewhere + free);
        let recalled = missing.min(rooms.held - EXECUTIONS_FLOOR).saturating_sub(rooms.owed);
        rooms.owed += recalled;
        let mut effects = Effects::default();
        self.shard.handle(self.now, Input::Lease(Lease::CheckRoom), &mut effects);
        self.answer_request(recalled, &mut effects);
        self.expect(self.shard.room_request().is_none(), "it asks without a need");
        let (caused, _) = self.settle(effects, &mut std::iter::empty());
        self.expect(caused.is_empty(), &format!("recalled room causes {caused:?}"));
        self.expect(self.rooms.owed == 0, "recalled room is not given back");
        self.compare();
    }

    /// The shard gives room back: to those who need it, if it was recalled.
    pub(super) fn take_back(&mut self, room: Room) {
        let rooms = &mut self.rooms;
        rooms.held -= room.executions;
        let owed = rooms.owed.min(room.executions);
        rooms.owed -= owed;
        rooms.elsewhere += owed;
    }

    /// The accounts agree, and nothing is kept beyond them.
    pub(super) fn compare_room(&self) {
        let (used, held) = (self.shard.room_used(), self.shard.room_held());
        let expected = Room { executions: self.rooms.held, ..limits().room };
        self.expect(held == expected, &format!("it holds {held:?}, not {expected:?}"));
        let fits = used.amounts().iter().zip(held.amounts()).all(|(used, held)| *used <= held);
        self.expect(fits, &format!("it keeps {used:?} in {held:?}"));
    }
}
