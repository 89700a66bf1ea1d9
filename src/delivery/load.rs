//! How much may wait to be delivered. Counted where orders are given, so that one too many is refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Deliveries that are not over, and what they keep in memory.
#[derive(Debug)]
pub(super) struct Load {
    count_max: usize,
    bytes_max: u64,
    count: AtomicUsize,
    bytes: AtomicU64,
    given_up: AtomicUsize,
}

/// The place of one delivery. Dropping it gives it back, however the delivery ends.
#[derive(Debug)]
pub(super) struct DeliveryPermit {
    load: Arc<Load>,
    bytes: u64,
}

impl Load {
    pub(super) fn new(count_max: usize, bytes_max: u64) -> Arc<Load> {
        Arc::new(Load {
            count_max,
            bytes_max,
            count: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            given_up: AtomicUsize::new(0),
        })
    }

    /// Takes a place for a result of this size. `None` when there is none.
    pub(super) fn admit(self: &Arc<Self>, bytes: u64) -> Option<DeliveryPermit> {
        // Taken first: dropping it corrects what was one too many.
        let place = DeliveryPermit { load: Arc::clone(self), bytes };
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let sum = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (count <= self.count_max && sum <= self.bytes_max).then_some(place)
    }

    /// Deliveries that are not over.
    pub(super) fn count(&self) -> usize {
        // After it is 0, what the deliveries reported is to be seen.
        self.count.load(Ordering::Acquire)
    }

    /// Deliveries that ended undecided, because the server ends.
    pub(super) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }
}

impl DeliveryPermit {
    /// Ends a delivery that is not decided.
    pub(super) fn give_up(self) {
        self.load.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for DeliveryPermit {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.load.count.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_run_out_and_come_back() {
        let load = Load::new(2, 100);
        let first = load.admit(60).expect("there is room");
        assert!(load.admit(41).is_none(), "bytes");
        let second = load.admit(40).expect("there is room");
        assert!(load.admit(0).is_none(), "places");
        assert_eq!(load.count(), 2);
        drop(first);
        assert!(load.admit(61).is_none(), "bytes");
        drop((load.admit(60).expect("there is room"), second));
        assert_eq!((load.count(), load.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
