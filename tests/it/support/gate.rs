//! A door in front of a function: calls wait at it until the test lets them through.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Instant,
};

use super::PATIENCE;

/// See the module. Clones are the same door. It is closed at first.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    arrived: usize,
    passes: usize,
    open: bool,
}

impl Gate {
    /// A closed door.
    pub fn closed() -> Gate {
        Gate::default()
    }

    /// Waits for a pass. Gives up, without one, when the test has long lost patience.
    pub fn pass(&self) {
        let (state, bell) = &*self.state;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        bell.notify_all();
        let deadline = Instant::now() + PATIENCE * 2;
        while !state.open && state.passes == 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.passes = state.passes.saturating_sub(1);
    }

    /// Lets this many through.
    pub fn admit(&self, count: usize) {
        self.change(|state| state.passes += count);
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Whether everybody is let through.
    pub fn is_open(&self) -> bool {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).open
    }

    /// Waits until this many calls have come to the door since the start.
    #[track_caller]
    pub fn await_arrivals(&self, count: usize) {
        let (state, bell) = &*self.state;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + PATIENCE;
        while state.arrived < count {
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("{} of {count} calls arrived", state.arrived));
            state = bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (state, bell) = &*self.state;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        bell.notify_all();
    }
}
