//! The addresses of a function. Most functions have one, so the first one lies in the function itself: a vector alone
//! would be one more cold place in memory per call.

use std::sync::Arc;

use crate::shard::EndpointId;

/// One address of a function.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) address: Arc<str>,
    /// Attempts in flight to it.
    pub(crate) in_flight: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// `None`: there are none at all.
    first: Option<Endpoint>,
    /// Those that came after it.
    more: Vec<Endpoint>,
}

impl Endpoints {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.first.iter().chain(&self.more)
    }

    pub(crate) fn push(&mut self, endpoint: Endpoint) {
        match self.first {
            None => self.first = Some(endpoint),
            Some(_) => self.more.push(endpoint),
        }
    }

    /// The endpoint with this id.
    pub(crate) fn find_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.iter_mut().find(|endpoint| endpoint.id == id)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.first.iter_mut().chain(&mut self.more)
    }

    /// Takes out those for which `stays` does not hold, in order.
    pub(crate) fn take_unless(&mut self, stays: impl Fn(&Endpoint) -> bool) -> Vec<Endpoint> {
        let all = self.first.take().into_iter().chain(std::mem::take(&mut self.more));
        let (stay, gone): (Vec<_>, Vec<_>) = all.partition(stays);
        stay.into_iter().for_each(|endpoint| self.push(endpoint));
        gone
    }

    /// The less busy of two that are chosen at random (Mitzenmacher: "The power of two choices in randomized load
    /// balancing"). `None` when there is none at all.
    pub(crate) fn choose(&mut self, random: u64) -> Option<&mut Endpoint> {
        let count = self.len() as u64;
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
            endpoints.push(Endpoint { id, address: Arc::from("a"), in_flight: *in_flight });
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
                assert_eq!(
                    endpoints.find_mut(id).map(|endpoint| endpoint.id),
                    Some(id).filter(|_| stays(id))
                );
            }
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
