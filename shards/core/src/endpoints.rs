//! The addresses of a function. Most functions have one, so the first one lies in the function itself: a vector alone
//! would be one more cold place in memory per call. Others are found by their place, for a function may have thousands.

use std::sync::Arc;

use crate::{keys::EndpointId, timers::TimerKey};

/// One address of a function.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// Whose it is.
    pub(crate) replica: u64,
    pub(crate) address: Arc<str>,
    /// Attempts in flight to it.
    pub(crate) in_flight: u32,
    /// It did not take its last attempt, or ended with it: no further one goes there for a while.
    pub(crate) down: bool,
}

/// What the shard keeps of an open address.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct OpenEndpoint {
    /// Its place among those of its function.
    pub(crate) place: u32,
    /// Tries it again while it is down, unless it is being probed.
    pub(crate) retry: TimerKey,
    /// The dispatcher is connecting to it, to see whether it is back.
    pub(crate) is_probed: bool,
    /// Probes in a row that failed.
    pub(crate) failed_probes: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// `None`: there are none at all.
    first: Option<Endpoint>,
    /// Those that came after it.
    more: Vec<Endpoint>,
    /// How many are down.
    down: u32,
}

impl Endpoints {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Those that take attempts.
    pub(crate) fn up(&self) -> usize {
        self.len() - self.down as usize
    }

    /// Says of one whether it is down. `false`: it was said before, or it is not here.
    pub(crate) fn set_down(&mut self, id: EndpointId, place: u32, down: bool) -> bool {
        let found = self.find_mut(id, || Some(place));
        let Some(endpoint) = found.filter(|endpoint| endpoint.down != down) else { return false };
        endpoint.down = down;
        self.down = if down { self.down + 1 } else { self.down - 1 };
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.first.iter().chain(&self.more)
    }

    pub(crate) fn push(&mut self, endpoint: Endpoint) {
        self.down += u32::from(endpoint.down);
        match self.first {
            None => self.first = Some(endpoint),
            Some(_) => self.more.push(endpoint),
        }
    }

    /// The endpoint with this id. Its place is looked up unless it is the first.
    pub(crate) fn find_mut(
        &mut self,
        id: EndpointId,
        place: impl FnOnce() -> Option<u32>,
    ) -> Option<&mut Endpoint> {
        if self.first.as_ref().is_some_and(|endpoint| endpoint.id == id) {
            return self.first.as_mut();
        }
        let place = (place()? as usize).checked_sub(1)?;
        self.more.get_mut(place).filter(|endpoint| endpoint.id == id)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.first.iter_mut().chain(&mut self.more)
    }

    /// Takes out those for which `stays` does not hold, in order.
    pub(crate) fn take_unless(&mut self, stays: impl Fn(&Endpoint) -> bool) -> Vec<Endpoint> {
        self.down = 0;
        let all = self.first.take().into_iter().chain(std::mem::take(&mut self.more));
        let (stay, gone): (Vec<_>, Vec<_>) = all.partition(stays);
        stay.into_iter().for_each(|endpoint| self.push(endpoint));
        gone
    }

    /// The less busy of two that are chosen at random (Mitzenmacher: "The power of two choices in randomized load
    /// balancing"), of those that are not down. `None` when there is none at all.
    pub(crate) fn choose(&mut self, random: u64) -> Option<&mut Endpoint> {
        let count = self.len() as u64;
        if self.down > 0 {
            return self.choose_up(random);
        }
        if count < 2 {
            return self.first.as_mut();
        }
        let one = random % count;
        // The second choice differs from the first.
        let other = (one + 1 + (random >> 32) % (count - 1)) % count;
        let in_flight = |place| self.iter().nth(place as usize).map(|endpoint| endpoint.in_flight);
        let chosen = if in_flight(other) < in_flight(one) { other } else { one };
        self.iter_mut().nth(chosen as usize)
    }

    /// The less busy of two among those that are up. Rare, and so without care for its costs.
    fn choose_up(&mut self, random: u64) -> Option<&mut Endpoint> {
        let up: Vec<(u32, EndpointId, usize)> = self
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| !endpoint.down)
            .map(|(place, endpoint)| (endpoint.in_flight, endpoint.id, place))
            .collect();
        let count = up.len() as u64;
        let one = up.get(random.checked_rem(count)? as usize)?;
        let other = up.get(((random >> 32) % count) as usize)?;
        let (_, _, place) = *one.min(other);
        self.iter_mut().nth(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    fn of(in_flight: &[u32]) -> (Endpoints, Vec<EndpointId>) {
        let mut keys = Slab::new();
        let mut endpoints = Endpoints::default();
        for in_flight in in_flight {
            let id = keys.insert(());
            let address = Arc::from("a");
            endpoints.push(Endpoint { id, replica: 0, address, in_flight: *in_flight, down: false });
        }
        let ids = endpoints.iter().map(|endpoint| endpoint.id).collect();
        (endpoints, ids)
    }

    #[test]
    fn order_stays_whoever_goes() {
        for gone in 0..8usize {
            let (mut endpoints, ids) = of(&[0, 1, 2]);
            let stays = |id: EndpointId| gone & (1 << id.index()) == 0;
            let taken = endpoints.take_unless(|endpoint| stays(endpoint.id));
            let (staying, going): (Vec<_>, Vec<_>) = ids.iter().copied().partition(|id| stays(*id));
            assert_eq!(taken.iter().map(|endpoint| endpoint.id).collect::<Vec<_>>(), going);
            assert_eq!(endpoints.iter().map(|endpoint| endpoint.id).collect::<Vec<_>>(), staying);
            assert_eq!((endpoints.len(), endpoints.is_empty()), (staying.len(), staying.is_empty()));
            for id in ids {
                let place = staying.iter().position(|of| *of == id).map(|place| place as u32);
                let found = endpoints.find_mut(id, || place).map(|endpoint| endpoint.id);
                assert_eq!(found, Some(id).filter(|_| stays(id)));
                // A place where another one is finds nothing.
                let found = endpoints.find_mut(id, || Some(place.unwrap_or_default() + 1));
                assert!(found.is_none_or(|endpoint| endpoint.id == id));
            }
        }
    }

    #[test]
    fn what_is_down_is_not_chosen() {
        for down in 0..16usize {
            let (mut endpoints, ids) = of(&[0, 1, 2, 3]);
            let is_down = |id: EndpointId| down & (1 << id.index()) != 0;
            for id in ids.iter().copied().filter(|id| is_down(*id)) {
                let place = id.index() as u32;
                assert!(endpoints.set_down(id, place, true) && !endpoints.set_down(id, place, true));
            }
            assert_eq!(endpoints.up(), 4 - down.count_ones() as usize);
            for random in 0..50u64 {
                let chosen = endpoints.choose(random.wrapping_mul(0x9e37_79b9_7f4a_7c15)).map(|up| up.id);
                assert_eq!(chosen.is_none(), down == 15);
                assert!(chosen.is_none_or(|id| !is_down(id)));
            }
            endpoints.take_unless(|endpoint| is_down(endpoint.id));
            assert_eq!(endpoints.up(), 0);
            for (place, id) in (0..).zip(ids.into_iter().filter(|id| is_down(*id))) {
                assert!(endpoints.set_down(id, place, false));
            }
            assert_eq!(endpoints.up(), down.count_ones() as usize);
        }
    }

    #[test]
    fn the_busiest_is_never_chosen_and_every_other_one_is() {
        assert!(Endpoints::default().choose(7).is_none());
        for in_flight in [&[5][..], &[5, 4], &[4, 5], &[1, 9, 1], &[1, 1, 9, 1], &[9, 1, 1, 1, 1]] {
            let (mut endpoints, _) = of(in_flight);
            let mut chosen = vec![false; in_flight.len()];
            for random in 0..200u64 {
                let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let endpoint = endpoints.choose(random).expect("there are some");
                chosen[endpoint.id.index()] = true;
            }
            let busiest = in_flight.iter().max();
            let expected: Vec<bool> =
                in_flight.iter().map(|n| in_flight.len() == 1 || Some(n) != busiest).collect();
            assert_eq!(chosen, expected, "{in_flight:?}");
        }
    }
}
