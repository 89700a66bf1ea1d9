//! When refused callers come back, planned so that there is room for them when they do.
//!
//! A returning caller carries nothing that tells it from a new one, and under overload new ones take every place
//! that becomes free. What is known is *when* it returns: whole seconds after its refusal, so in the same part of
//! a second. Therefore the plan divides a second into slices and lets one of [`PERIOD`] slices be a *window*: in
//! it everybody is admitted, outside it only whoever leaves the room that was reserved in the next window. A
//! caller that is refused in a slice is told to come back in a window that starts a whole number of seconds
//! later and has room left. Windows are few, so many returning callers meet few new ones there; and they visit
//! all parts of a second in turn, each once in [`PERIOD`] seconds, because [`PERIOD`] is prime to the number of
//! slices. Windows stay open a little longer than their slice: callers are late, never early.
//!
//! No slot idles for a reservation. Outside windows a call is admitted when the queue will have drained far enough
//! by the next window; should the callers with one not come, the queue is shorter than planned, and new calls
//! fill it up at once.
//!
//! How many are reserved per window follows from what it can hold less the new callers that it will meet, as
//! observed between windows; at a multiple of the overload that this is made for (about threefold) new callers
//! fill the windows, reservations are kept less often, and the queue stays full all the same.
//!
//! Bounded: [`WINDOWS_MAX`] counts and [`HORIZON_S_MAX`] seconds ahead. What is refused beyond is told the end of
//! the horizon. Not here: admission itself, and what the rate is.

use std::collections::VecDeque;

/// Slices from one window to the next. A prime that divides no entry of [`SLICES`].
const PERIOD: u64 = 11;
/// Numbers of slices per second to choose from: whole microseconds, none a multiple of [`PERIOD`].
const SLICES: [u64; 7] = [10, 20, 25, 40, 50, 100, 200];
/// Slices in the time that a full queue takes to drain: a period should not be much longer than that.
const SLICES_PER_QUEUE: f64 = 8.0;
/// Queues that drain faster than this are not planned: callers come back less exactly.
const DRAIN_US_MIN: f64 = 20_000.0;
/// How much longer than its slice a window stays open, as a fraction of the slice.
const LATE_DIVISOR: u64 = 4;
/// Queues shorter than this are not planned: chance would decide.
const ROOM_MIN: u32 = 8;
/// Furthest reservation.
const HORIZON_S_MAX: u64 = 3600;
/// Most windows remembered.
const WINDOWS_MAX: u64 = 8192;

/// What a function can take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// Queue length up to which calls are admitted.
    pub(crate) room: u32,
    /// Executions that leave the queue, per microsecond; positive.
    pub(crate) rate_per_us: f64,
}

impl Capacity {
    /// How long it takes until so many have left the queue, in whole microseconds.
    pub(crate) fn wait_us(self, ahead: u64) -> u64 {
        (ahead as f64 / self.rate_per_us).round() as u64
    }
}

/// See the module. Times are on the monotonic clock.
#[derive(Debug)]
pub(crate) struct RetryPlan {
    slice_us: u64,
    /// Slices in a second.
    slices: u64,
    /// `PERIOD · inverse ≡ 1 (mod slices)`.
    inverse: u64,
    /// Places reserved per window, from window `first` on.
    reserved: VecDeque<u32>,
    first: u64,
    outstanding: u64,
    /// By number of the window modulo `slices`: no earlier one has room.
    next: Vec<u64>,
    /// New callers per microsecond, as seen between windows.
    new_per_us: f64,
    /// Callers between windows `period` and `period + 1` so far.
    seen: u32,
    period: u64,
}

impl RetryPlan {
    /// A plan for a queue of this capacity. `None`: the queue is too short, or drains too fast, to plan for.
    pub(crate) fn new(capacity: Capacity, now_us: u64) -> Option<RetryPlan> {
        if capacity.room < ROOM_MIN {
            return None;
        }
        let drain_us = f64::from(capacity.room) / capacity.rate_per_us;
        if drain_us < DRAIN_US_MIN {
            return None;
        }
        let fine_enough = |slices: &u64| 1_000_000.0 / *slices as f64 * SLICES_PER_QUEUE <= drain_us;
        let finest = SLICES[SLICES.len() - 1];
        let slices = SLICES.into_iter().find(fine_enough).unwrap_or(finest);
        let slice_us = 1_000_000 / slices;
        let inverse = (1..slices).find(|inverse| PERIOD * inverse % slices == 1)?;
        let period = now_us / (slice_us * PERIOD);
        Some(RetryPlan {
            slice_us,
            slices,
            inverse,
            reserved: VecDeque::new(),
            first: period,
            outstanding: 0,
            next: vec![0; slices as usize],
            // Until the first period is over: a plan is made under overload.
            new_per_us: 2.0 * capacity.rate_per_us,
            seen: 0,
            period,
        })
    }

    /// Callers that were told to come back and whose window has not passed.
    pub(crate) fn outstanding(&mut self, now_us: u64) -> u64 {
        let current = now_us / self.period_us();
        while self.first < current {
            let Some(count) = self.reserved.pop_front() else {
                self.first = current;
                break;
            };
            self.outstanding -= u64::from(count);
            self.first += 1;
        }
        self.outstanding
    }

    /// Takes note of a caller that would have to wait.
    pub(crate) fn arrived(&mut self, now_us: u64) {
        let period = now_us / self.period_us();
        if period != self.period {
            let between_us = (self.period_us() - self.open_us()) as f64;
            let seen_per_us = if period == self.period + 1 { f64::from(self.seen) / between_us } else { 0.0 };
            self.new_per_us = (self.new_per_us + seen_per_us) / 2.0;
            self.seen = 0;
            self.period = period;
        }
        if now_us % self.period_us() >= self.open_us() {
            self.seen = self.seen.saturating_add(1);
        }
    }

    /// Whether the room that is reserved stays free when a call joins the `ahead` that wait.
    pub(crate) fn allows(&mut self, capacity: Capacity, ahead: u32, now_us: u64) -> bool {
        self.outstanding(now_us);
        let into_us = now_us % self.period_us();
        let next = now_us / self.period_us() + 1;
        let reserved = self.reserved.get((next - self.first) as usize).copied().unwrap_or(0);
        if into_us < self.open_us() || reserved == 0 {
            return true;
        }
        let room = f64::from(capacity.room);
        let drained = capacity.rate_per_us * (self.period_us() - into_us) as f64;
        let left_at_window = f64::from(ahead) + 1.0 - drained;
        let free = room - f64::from(reserved) - self.new_per_window();
        left_at_window <= free.max(room / 10.0)
    }

    /// Finds the seconds after which a caller that is refused now will be admitted, and keeps a place for it.
    pub(crate) fn reserve(&mut self, capacity: Capacity, after_s_min: u32, now_us: u64) -> u32 {
        self.outstanding(now_us);
        let slice = now_us / self.slice_us;
        let class = slice * self.inverse % self.slices;
        let earliest = (slice + u64::from(after_s_min.max(1)) * self.slices).div_ceil(PERIOD);
        let last = self.first + WINDOWS_MAX.min(HORIZON_S_MAX * self.slices / PERIOD);
        if earliest + self.slices > last {
            return after_s_min;
        }
        let mut window = self.at_or_after(earliest.max(self.next[class as usize]), class);
        let most = self.reserved_max(capacity);
        while window + self.slices <= last && self.reserved_in(window) >= most {
            window += self.slices;
        }
        self.next[class as usize] = window;
        let index = (window - self.first) as usize;
        if self.reserved.len() <= index {
            self.reserved.resize(index + 1, 0);
        }
        self.reserved[index] += 1;
        self.outstanding += 1;
        ((window * PERIOD - slice) / self.slices) as u32
    }

    fn reserved_in(&self, window: u64) -> u32 {
        self.reserved.get((window - self.first) as usize).copied().unwrap_or(0)
    }

    /// The first window from `earliest` on whose number is `class` modulo the slices of a second.
    fn at_or_after(&self, earliest: u64, class: u64) -> u64 {
        earliest + (class + self.slices - earliest % self.slices) % self.slices
    }

    /// Places to reserve in a window at most: what fits, less the new ones that it will meet.
    fn reserved_max(&self, capacity: Capacity) -> u32 {
        let drained = capacity.rate_per_us * self.period_us() as f64;
        let fits = drained.min(f64::from(capacity.room));
        let free = fits - 1.1 * self.new_per_window();
        free.max(0.5 * fits).max(1.0) as u32
    }

    fn new_per_window(&self) -> f64 {
        self.new_per_us * self.open_us() as f64
    }

    fn period_us(&self) -> u64 {
        self.slice_us * PERIOD
    }

    fn open_us(&self) -> u64 {
        self.slice_us + self.slice_us / LATE_DIVISOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seconds of work.
    const CAPACITY: Capacity = Capacity { room: 100, rate_per_us: 50e-6 };

    #[test]
    fn reserved_returns_fall_into_windows_that_have_room() {
        let mut plan = RetryPlan::new(CAPACITY, 5_000_000).expect("room enough");
        let mut returns = Vec::new();
        for caller in 0..2000 {
            let now_us = 5_000_000 + caller * 7_001;
            plan.arrived(now_us);
            let after_s = plan.reserve(CAPACITY, 2, now_us);
            assert!(after_s >= 2);
            returns.push(now_us + u64::from(after_s) * 1_000_000);
        }
        let mut per_window = std::collections::BTreeMap::new();
        for at_us in returns {
            assert!(at_us % plan.period_us() < plan.slice_us, "{at_us}");
            *per_window.entry(at_us / plan.period_us()).or_insert(0) += 1;
        }
        // No window holds more than drains from one to the next.
        assert!(per_window.values().all(|count| *count <= 55), "{per_window:?}");
        assert!(per_window.len() < 200, "{per_window:?}");
    }

    #[test]
    fn outside_windows_calls_leave_the_reserved_room() {
        let mut plan = RetryPlan::new(CAPACITY, 0).expect("room enough");
        let period_us = plan.period_us();
        for _ in 0..20 {
            plan.reserve(CAPACITY, 1, 0);
        }
        let window = plan.reserved.iter().position(|count| *count > 0).expect("a reservation") as u64;
        let before_us = window * period_us - 100_000;
        assert!(plan.allows(CAPACITY, 99, period_us * 3 / 2), "nobody comes next");
        assert!(plan.allows(CAPACITY, 10, before_us));
        assert!(!plan.allows(CAPACITY, 99, before_us));
        assert!(plan.allows(CAPACITY, 99, window * period_us), "in the window");
        assert_eq!(plan.outstanding((window + 1) * period_us), 0);
    }

    /// Five periods in, with so many places reserved in each of the next two windows.
    fn reserving(callers: u32) -> RetryPlan {
        let period_us = RetryPlan::new(CAPACITY, 0).expect("room enough").period_us();
        let mut plan = RetryPlan::new(CAPACITY, 5 * period_us).expect("room enough");
        assert_eq!((plan.slice_us, plan.first), (100_000, 5));
        plan.reserved = [0, callers, callers].into();
        plan
    }

    #[test]
    fn room_is_kept_for_those_who_have_it_reserved_and_for_new_ones_that_the_window_will_meet() {
        // Twice the rate of new callers than leave, in windows of 125 ms: 12.5 of them. 25 leave until the next window.
        for (reserved, ahead_max) in [(50, 61), (20, 91), (95, 34)] {
            let mut plan = reserving(reserved);
            let now_us = 5 * plan.period_us() + 600_000;
            assert!(plan.allows(CAPACITY, ahead_max, now_us), "{reserved}");
            assert!(!plan.allows(CAPACITY, ahead_max + 1, now_us), "{reserved}");
        }
    }

    #[test]
    fn windows_stay_open_a_little_longer_than_their_slice() {
        let mut plan = reserving(50);
        let window_us = 6 * plan.period_us();
        for (into_us, open) in [(0, true), (100_000, true), (124_999, true), (125_000, false)] {
            assert_eq!(plan.allows(CAPACITY, 99, window_us + into_us), open, "{into_us}");
        }
    }

    #[test]
    fn new_callers_are_counted_between_windows() {
        let mut plan = reserving(0);
        let period_us = plan.period_us();
        (0..10).for_each(|caller| plan.arrived(5 * period_us + caller));
        (0..39).for_each(|caller| plan.arrived(5 * period_us + 125_000 + 1000 * caller));
        let near = |per_us: f64, expected: f64| (per_us - expected).abs() < 1e-9;
        assert!(near(plan.new_per_us, 100e-6));
        plan.arrived(6 * period_us);
        // 39 in 975 ms, and half of what was believed before.
        assert!(near(plan.new_per_us, 70e-6), "{}", plan.new_per_us);
        plan.arrived(8 * period_us);
        assert!(near(plan.new_per_us, 35e-6), "{}", plan.new_per_us);
    }

    #[test]
    fn a_window_is_reserved_for_as_many_as_fit_beside_new_callers() {
        let mut plan = reserving(0);
        assert_eq!(plan.reserved_max(CAPACITY), 41, "55 leave, and 12.5 are new");
        plan.new_per_us = 1e-3;
        assert_eq!(plan.reserved_max(CAPACITY), 27, "at least half of them");
        assert_eq!(
            plan.reserved_max(Capacity { room: 20, ..CAPACITY }),
            10,
            "no more than there is room for"
        );
    }

    #[test]
    fn nobody_comes_back_earlier_than_is_asked_for() {
        for least_s in [1, 2, 5, 30] {
            let mut plan = RetryPlan::new(CAPACITY, 0).expect("room enough");
            for caller in 0..100 {
                assert!(plan.reserve(CAPACITY, least_s, caller * 7_001) >= least_s);
            }
        }
    }

    #[test]
    fn reservations_are_bounded() {
        let mut plan = RetryPlan::new(CAPACITY, 0).expect("room enough");
        for caller in 0..300_000 {
            let after_s = plan.reserve(CAPACITY, 2, caller);
            assert!(u64::from(after_s) <= HORIZON_S_MAX);
        }
        assert!(plan.reserved.len() as u64 <= WINDOWS_MAX);
        assert_eq!(plan.reserve(CAPACITY, u32::MAX, 300_000), u32::MAX);
        assert_eq!(plan.outstanding(u64::MAX / 2), 0);
    }

    #[test]
    fn short_queues_and_fast_ones_are_not_planned() {
        assert!(RetryPlan::new(Capacity { room: 7, ..CAPACITY }, 0).is_none());
        assert!(RetryPlan::new(Capacity { room: 100, rate_per_us: 1.0 }, 0).is_none());
    }
}
