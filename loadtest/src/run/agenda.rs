//! What a thread has to do later, by time.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use super::call::Call;

/// Something that is due later.
#[derive(Debug)]
pub(super) enum Later {
    /// Open the connection again.
    Reopen(usize),
    /// Call again, in a closed loop on the same connection.
    Again { stream: usize, connection: Option<usize>, call: Call },
    /// Ask for the result again.
    Write(usize),
}

/// Things by time; those of the same time in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Due>>,
    count: u64,
}

impl Agenda {
    pub(super) fn push(&mut self, at_ns: u64, what: Later) {
        self.count += 1;
        self.heap.push(Reverse(Due { at_ns, number: self.count, what }));
    }

    /// When the first is due; `u64::MAX` without any.
    pub(super) fn next_ns(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse(due)| due.at_ns)
    }

    /// Takes the first, if it is due, with its time.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, Later)> {
        if self.next_ns() > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| (due.at_ns, due.what))
    }
}

#[derive(Debug)]
struct Due {
    at_ns: u64,
    number: u64,
    what: Later,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_when_they_are_due_and_in_order() {
        let mut agenda = Agenda::default();
        for (at_ns, index) in [(30, 0), (10, 1), (10, 2)] {
            agenda.push(at_ns, Later::Write(index));
        }
        let mut pop = |now_ns| agenda.pop(now_ns).map(|(at_ns, what)| (at_ns, format!("{what:?}")));
        assert_eq!(pop(9), None);
        assert_eq!(pop(20), Some((10, "Write(1)".to_owned())));
        assert_eq!(pop(20), Some((10, "Write(2)".to_owned())));
        assert_eq!(pop(20), None);
        assert_eq!(agenda.next_ns(), 30);
    }
}
