//! What came to the functions: every request with the number of its attempt and the server's life in which it came.
//!
//! From this follows which request a result came from, whether two requests of an execution carried one number, and whether a
//! callback from before a kill decided an attempt after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// A request for an attempt. Its place among those of its execution, from 1, is its *run*, which its result names.
#[derive(Debug, Clone)]
pub(super) struct AttemptRequest {
    /// `X-Dispatch-Attempt`.
    pub(super) attempt: u32,
    /// How often the server had been killed.
    pub(super) life: u64,
    pub(super) at: Instant,
    /// The life in which its callback was sent first, if one was.
    pub(super) called_back: Option<u64>,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Runs {
    by_execution: BTreeMap<String, Vec<AttemptRequest>>,
    /// Execution ids by the number of the call.
    by_number: BTreeMap<u64, BTreeSet<String>>,
    /// Callbacks that were sent after the server had been killed that they were for.
    pub(super) late_callbacks: u64,
}

impl Runs {
    /// A request came. The number of this run.
    pub(super) fn came(&mut self, id: &str, number: u64, attempt: u32, life: u64) -> u32 {
        self.by_number.entry(number).or_default().insert(id.to_owned());
        let requests = self.by_execution.entry(id.to_owned()).or_default();
        requests.push(AttemptRequest { attempt, life, at: Instant::now(), called_back: None });
        u32::try_from(requests.len()).unwrap_or(u32::MAX)
    }

    /// The callback of a run is sent. The first time counts: it may have arrived although no answer came.
    pub(super) fn calls_back(&mut self, id: &str, run: u32, life: u64) {
        let Some(request) = self.by_execution.get_mut(id).and_then(|all| all.get_mut(place(run))) else {
            return;
        };
        if request.called_back.is_none() {
            request.called_back = Some(life);
            self.late_callbacks += u64::from(life > request.life);
        }
    }

    /// The requests of an execution, in their order.
    pub(super) fn of(&self, id: &str) -> &[AttemptRequest] {
        self.by_execution.get(id).map_or(&[], Vec::as_slice)
    }

    /// Under how many ids a call came.
    pub(super) fn ids(&self, number: u64) -> usize {
        self.by_number.get(&number).map_or(0, BTreeSet::len)
    }

    /// An attempt's number that came twice, if there is one, and the lives in which it did.
    pub(super) fn repeated(&self, id: &str) -> Option<(u32, u64, u64)> {
        let mut lives = BTreeMap::new();
        self.of(id).iter().find_map(|request| {
            let first = lives.insert(request.attempt, request.life)?;
            Some((request.attempt, first, request.life))
        })
    }

    /// Whether this run could only be told of after its server had been killed, and the server before it.
    pub(super) fn is_told_late(&self, id: &str, run: u32) -> bool {
        let request = self.of(id).get(place(run));
        request.is_some_and(|request| request.called_back.is_some_and(|life| life > request.life))
    }
}

fn place(run: u32) -> usize {
    (run as usize).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_comes_twice_is_noticed() {
        let mut runs = Runs::default();
        assert_eq!((runs.came("a", 4, 1, 0), runs.came("a", 4, 2, 1), runs.came("b", 4, 1, 1)), (1, 2, 1));
        assert_eq!(runs.repeated("a"), None);
        assert_eq!((runs.came("a", 4, 2, 2), runs.ids(4)), (3, 2));
        assert_eq!(runs.repeated("a"), Some((2, 1, 2)));
        assert_eq!(runs.repeated("unknown"), None);
    }

    #[test]
    fn a_callback_from_before_a_kill_is_told_from_others() {
        let mut runs = Runs::default();
        for _ in 0..3 {
            runs.came("a", 4, 1, 5);
        }
        runs.calls_back("a", 1, 5);
        // Sent again: the first may have come.
        runs.calls_back("a", 1, 6);
        runs.calls_back("a", 2, 6);
        runs.calls_back("a", 0, 6);
        assert_eq!(
            [1, 2, 3, 0, 4].map(|run| runs.is_told_late("a", run)),
            [false, true, false, false, false]
        );
        assert_eq!(runs.late_callbacks, 1);
    }
}
