//! Room: what finished executions and idempotency keys take up, and what a shard may take up. The bounds are the server's;
//! a shard leases parts of them.

/// Amounts of the four things that are bounded for the whole server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Finished executions.
    pub executions: u64,
    /// Bytes of outputs and error texts that they hold in memory.
    pub bytes: u64,
    /// Bytes of outputs and error texts that are on disk only, of finished executions that were accepted for later: those that
    /// no longer fit into memory.
    pub disk_bytes: u64,
    /// Idempotency keys.
    pub keys: u64,
}

impl Room {
    /// The amounts in a fixed order, for what is done with each in the same way.
    pub fn amounts(self) -> [u64; 4] {
        [self.executions, self.bytes, self.disk_bytes, self.keys]
    }

    /// Of amounts in the same order.
    pub fn of([executions, bytes, disk_bytes, keys]: [u64; 4]) -> Room {
        Room { executions, bytes, disk_bytes, keys }
    }
}

/// What a shard asks the server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomRequest {
    /// What it has leased.
    pub held: Room,
    /// What it is short of, at least 1 if it had to forget something since it last looked at all it has. What it has too
    /// much is forgotten only when it has an answer.
    pub lacks: Room,
    /// What it has yet to give back.
    pub recalled: Room,
    /// It has looked at all it has: what it does not lack, it wants no more.
    pub is_review: bool,
}

/// One of the four, as a place in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Executions,
    Bytes,
    Disk,
    Keys,
}

impl Part {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Executions that end between two requests of a shard that was told that there is no more: a busy one that is full must
/// not ask with every end.
const ENDINGS_PER_REQUEST: u32 = 64;

/// The room that a shard has leased.
#[derive(Debug)]
pub(crate) struct RoomLease {
    /// Never given back.
    floor: [u64; 4],
    held: [u64; 4],
    /// To be given back as soon as nothing is in it.
    recalled: [u64; 4],
    /// What is held and not recalled.
    bound: [u64; 4],
    /// Parts that the shard needs more of, one bit each.
    wanted: u8,
    /// Parts of which the server had no more when it was last asked.
    dry: u8,
    /// Parts of which it has more than it needs, for all it knows: what is free goes back.
    idle: u8,
    /// Executions that may end before it is asked again.
    endings_left: u32,
    /// The shard asks whether others lack what it has, and gives back what it does not use.
    is_due: bool,
}

impl RoomLease {
    pub(crate) fn new(floor: Room) -> RoomLease {
        let floor = floor.amounts();
        RoomLease {
            floor,
            held: floor,
            recalled: [0; 4],
            bound: floor,
            wanted: 0,
            dry: 0,
            idle: 0,
            endings_left: 0,
            is_due: false,
        }
    }

    pub(crate) fn held(&self) -> Room {
        Room::of(self.held)
    }

    /// What may be used of a part.
    pub(crate) fn bound(&self, part: Part) -> u64 {
        self.bound[part as usize]
    }

    /// Whether something has to go because so much is in use. If the server may have more, it is asked first.
    pub(crate) fn lacks(&mut self, part: Part, used: u64) -> bool {
        used > self.bound[part as usize] && self.is_told_that_it_lacks(part)
    }

    #[inline(never)]
    fn is_told_that_it_lacks(&mut self, part: Part) -> bool {
        if self.wanted & part.bit() != 0 {
            return false;
        }
        if self.dry & part.bit() != 0 || self.recalled[part as usize] > 0 {
            return true;
        }
        self.wanted |= part.bit();
        false
    }

    /// An execution has ended.
    pub(crate) fn count_ending(&mut self) {
        if self.dry != 0 {
            self.endings_left = self.endings_left.saturating_sub(1);
            if self.endings_left == 0 {
                self.wanted |= self.dry;
                self.dry = 0;
            }
        }
    }

    /// Whether the server is to be asked with a later step, whatever happens: it had no more of something, or some goes back
    /// when it is not used.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_due && (self.dry != 0 || self.held != self.floor)
    }

    /// Has the server asked with the end of this step, whatever it said before. What had to be forgotten for lack of room
    /// made the room that there is too small, however little is in it now: others gave up some, which nobody else takes
    /// as long as this shard wants it.
    pub(crate) fn ask(&mut self) {
        self.is_due = true;
        self.wanted |= self.dry;
        self.dry = 0;
    }

    /// Forgets that it was told that there is no more.
    pub(crate) fn forget(&mut self) {
        self.dry = 0;
    }

    /// Whether the server is to be asked.
    pub(crate) fn asks(&self) -> bool {
        self.wanted != 0 || self.is_due
    }

    pub(crate) fn request(&self, used: Room) -> RoomRequest {
        RoomRequest {
            held: self.held(),
            lacks: Room::of(self.lacking(used.amounts())),
            recalled: Room::of(self.recalled),
            is_review: self.is_due,
        }
    }

    /// What is used beyond what may be; one more of what is full and was too small.
    fn lacking(&self, used: [u64; 4]) -> [u64; 4] {
        [0, 1, 2, 3].map(|at| {
            let is_full = used[at] >= self.bound[at];
            let is_wanted = self.wanted & 1 << at != 0 && is_full;
            if is_wanted { (used[at] - self.bound[at]).max(1) } else { 0 }
        })
    }

    /// The server has answered.
    pub(crate) fn answered(&mut self, granted: Room, recalled: Room, used: Room) {
        let (granted, recalled, used) = (granted.amounts(), recalled.amounts(), used.amounts());
        let lacking = self.lacking(used);
        self.idle = 0;
        for at in 0..4 {
            if self.is_due && lacking[at] == 0 {
                self.idle |= 1 << at;
            }
            self.held[at] = self.held[at].saturating_add(granted[at]);
            let spare = self.held[at] - self.floor[at];
            self.recalled[at] = self.recalled[at].saturating_add(recalled[at]).min(spare);
            self.bound[at] = self.held[at] - self.recalled[at];
            if lacking[at] > granted[at] && used[at] > 0 {
                self.dry |= 1 << at;
            }
        }
        self.endings_left = ENDINGS_PER_REQUEST;
        self.wanted = 0;
        self.is_due = false;
    }

    /// Takes out what was recalled and is free; of what is idle, everything that is free above the floor.
    pub(crate) fn take_free(&mut self, used: Room) -> Room {
        let used = used.amounts();
        let mut free = [0; 4];
        for at in 0..4 {
            let kept = if self.idle & 1 << at == 0 { self.bound[at] } else { self.floor[at] };
            free[at] = self.held[at].saturating_sub(used[at].max(kept));
            self.held[at] -= free[at];
            self.recalled[at] = self.recalled[at].saturating_sub(free[at]);
            self.bound[at] = self.held[at] - self.recalled[at];
        }
        Room::of(free)
    }

    /// Whether the accounts are right.
    pub(crate) fn is_sound(&self) -> bool {
        (0..4).all(|at| {
            self.held[at] >= self.floor[at]
                && self.recalled[at] <= self.held[at] - self.floor[at]
                && self.bound[at] == self.held[at] - self.recalled[at]
        })
    }

    /// Parts of which it was told that there are no more.
    pub(crate) fn short(&self) -> [bool; 4] {
        [0, 1, 2, 3].map(|at| self.dry & 1 << at != 0)
    }
}
