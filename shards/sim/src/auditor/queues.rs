//! Queues: no longer than they may be, no more bytes than may wait, and first come, first served.
//!
//! Judged by what surely waits. A call with a key may have joined another one instead: it counts once it was dispatched or
//! accepted.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::ExecutionId;

use super::Verdict;
use crate::swarm::{SHARDS_MAX, Swarm};

/// Why something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// For its record to be safe.
    Parked,
    /// For a slot, the first time, in its queue's order.
    First(u64),
    /// For another attempt.
    Again,
}

#[derive(Debug)]
struct Place {
    epoch: u64,
    class: u8,
    bytes: u64,
    wait: Wait,
}

/// The class of what a crash gave back: it has an order of its own.
const GIVEN_BACK: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Queues {
    /// Bytes that may wait, with what shards may have leased and not given back.
    bytes_max: u64,
    bytes: u64,
    /// Accepted executions wait in queues of their own, whenever the background scheduler is off.
    apart: bool,
    arrivals: u64,
    /// When calls arrived that may wait, or may have joined another one.
    doubtful: BTreeMap<ExecutionId, u64>,
    places: BTreeMap<ExecutionId, Place>,
    /// Registrations of which it is not known how many wait: callers with keys may have joined, or left.
    unsure: BTreeSet<u64>,
    /// By registration.
    depths: BTreeMap<u64, u32>,
    /// By registration and class.
    orders: BTreeMap<(u64, u8), BTreeMap<u64, ExecutionId>>,
}

impl Queues {
    pub(super) fn new(swarm: &Swarm) -> Queues {
        let leased_max = 2 * swarm.limits.queued_bytes_chunk * u64::from(SHARDS_MAX);
        Queues {
            bytes_max: swarm.queued_bytes_max + leased_max,
            bytes: 0,
            apart: !swarm.settings.background_scheduler || swarm.may_configure(),
            arrivals: 0,
            doubtful: BTreeMap::new(),
            places: BTreeMap::new(),
            unsure: BTreeSet::new(),
            depths: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    /// Something new waits.
    pub(super) fn enter(
        &mut self,
        id: ExecutionId,
        (epoch, queue_size): (u64, u32),
        accepted: bool,
        bytes: u64,
        parked: bool,
    ) -> Verdict {
        self.leave(id);
        let class = u8::from(accepted && self.apart);
        self.places.insert(id, Place { epoch, class, bytes, wait: Wait::Parked });
        let depth = self.depths.entry(epoch).or_default();
        *depth += 1;
        if *depth > queue_size {
            return Err(format!("{depth} executions wait in a queue of {queue_size}"));
        }
        self.bytes += bytes;
        if self.bytes > self.bytes_max {
            return Err(format!("{} bytes wait, more than {}", self.bytes, self.bytes_max));
        }
        if !parked {
            self.queue(id);
        }
        Ok(())
    }

    /// A shard is given something back, in the order in which it waited: it was admitted once.
    pub(super) fn give_back(&mut self, id: ExecutionId, epoch: u64) {
        self.leave(id);
        self.arrivals += 1;
        let wait = Wait::First(self.arrivals);
        self.places.insert(id, Place { epoch, class: GIVEN_BACK, bytes: 0, wait });
        *self.depths.entry(epoch).or_default() += 1;
        self.orders.entry((epoch, GIVEN_BACK)).or_default().insert(self.arrivals, id);
    }

    /// Whether it waits since it was given back.
    pub(super) fn is_given_back(&self, id: ExecutionId) -> bool {
        self.places.get(&id).is_some_and(|place| place.class == GIVEN_BACK)
    }

    /// From now on it is not known how many wait for a registration.
    pub(super) fn is_unsure(&mut self, epoch: u64) {
        self.unsure.insert(epoch);
    }

    /// How many wait for a registration, if that is known.
    pub(super) fn exact_depth(&self, epoch: u64) -> Option<u32> {
        let depth = self.depths.get(&epoch).copied().unwrap_or_default();
        (!self.unsure.contains(&epoch)).then_some(depth)
    }

    /// Whether something surely waits for its first attempt, and for nothing but a slot.
    pub(super) fn somebody_waits(&self, epoch: u64) -> bool {
        self.orders.get(&(epoch, 0)).is_some_and(|order| !order.is_empty())
    }

    /// Something may wait.
    pub(super) fn may_wait(&mut self, id: ExecutionId) {
        self.arrivals += 1;
        self.doubtful.insert(id, self.arrivals);
    }

    /// Something that was parked waits for a slot now.
    pub(super) fn queue(&mut self, id: ExecutionId) {
        self.arrivals += 1;
        let Some(place) = self.places.get_mut(&id).filter(|place| place.wait == Wait::Parked) else { return };
        place.wait = Wait::First(self.arrivals);
        self.orders.entry((place.epoch, place.class)).or_default().insert(self.arrivals, id);
    }

    /// A failed attempt is followed by another. Its place was checked when it was first admitted; its bytes cannot be
    /// refused.
    pub(super) fn again(&mut self, id: ExecutionId, (epoch, queue_size): (u64, u32)) -> Verdict {
        self.places.insert(id, Place { epoch, class: 0, bytes: 0, wait: Wait::Again });
        let depth = self.depths.entry(epoch).or_default();
        *depth += 1;
        // It may be dispatched in the same step, without a place.
        if *depth > queue_size + 1 {
            return Err(format!("{depth} executions wait in a queue of {queue_size}"));
        }
        Ok(())
    }

    /// A first attempt goes out; of a call that is just coming in if it is `fresh`.
    pub(super) fn dispatched(
        &mut self,
        id: ExecutionId,
        epoch: u64,
        (accepted, fresh): (bool, bool),
        in_turn: bool,
    ) -> Verdict {
        let place = self.places.get(&id);
        if matches!(place, Some(Place { wait: Wait::Parked, .. })) {
            return Err(format!("{id} was dispatched before its record was safe"));
        }
        if place.is_some_and(|place| place.wait == Wait::Again) {
            self.leave(id);
            return Ok(());
        }
        // What goes out as it comes is the last to arrive.
        let arrival = match place.map(|place| place.wait) {
            Some(Wait::First(arrival)) => arrival,
            _ if fresh => u64::MAX,
            // What is not known to have come after others is not judged.
            _ => self.doubtful.get(&id).copied().unwrap_or_default(),
        };
        // What was accepted while it waited stays where it is.
        let was_accepted = accepted && !self.doubtful.contains_key(&id);
        let class = place.map_or(u8::from(was_accepted && self.apart), |place| place.class);
        let first = self.orders.get(&(epoch, class)).and_then(|order| order.first_key_value());
        let skipped = first.filter(|(first, _)| in_turn && **first < arrival).map(|(_, id)| *id);
        self.leave(id);
        match skipped {
            None => Ok(()),
            Some(first) => Err(format!("{id} was dispatched before {first}, which had waited longer")),
        }
    }

    /// Something does not wait any more.
    pub(super) fn leave(&mut self, id: ExecutionId) {
        self.doubtful.remove(&id);
        let Some(place) = self.places.remove(&id) else { return };
        self.bytes -= place.bytes;
        if let Some(depth) = self.depths.get_mut(&place.epoch) {
            *depth -= 1;
        }
        if let Wait::First(arrival) = place.wait
            && let Some(order) = self.orders.get_mut(&(place.epoch, place.class))
        {
            order.remove(&arrival);
        }
    }

    /// The shards that kept them are gone. What they are given back is not judged: it was admitted once.
    pub(super) fn forget(&mut self) {
        self.bytes = 0;
        self.doubtful.clear();
        self.places.clear();
        self.depths.clear();
        self.orders.clear();
    }

    /// Checks that nothing waits.
    pub(super) fn all_empty(&self) -> Verdict {
        match self.places.first_key_value() {
            None => Ok(()),
            Some((id, place)) => Err(format!("{id} waits for ever: {place:?}")),
        }
    }
}
