//! What is going to happen, by time: the one place that knows what time it is in a run.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Events of a run, soonest first; those of the same microsecond in the order in which they were put down.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    now_us: u64,
    /// Time, order of entry, position in `events`. Events are large; a heap of them would mostly copy.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    entered: u64,
    events: Vec<Option<E>>,
    free: Vec<u32>,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Agenda<E> {
        Agenda { now_us: 0, heap: BinaryHeap::new(), entered: 0, events: Vec::new(), free: Vec::new() }
    }

    /// The time, in microseconds since the run began.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Something happens after so long.
    pub(crate) fn after(&mut self, wait_us: u64, event: E) {
        self.at(self.now_us.saturating_add(wait_us), event);
    }

    /// Something happens then, or now if that is past.
    pub(crate) fn at(&mut self, at_us: u64, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() as u32 - 1
            }
        };
        self.entered += 1;
        self.heap.push(Reverse((at_us.max(self.now_us), self.entered, place)));
    }

    /// Only such events still happen.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&E) -> bool) {
        let (events, free) = (&mut self.events, &mut self.free);
        self.heap.retain(|Reverse((_, _, place))| {
            let event = &mut events[*place as usize];
            let stays = event.as_ref().is_some_and(&wanted);
            if !stays {
                *event = None;
                free.push(*place);
            }
            stays
        });
    }

    /// The next event up to then; it is its time. `None`: there is none, and it is that time.
    pub(crate) fn next_until(&mut self, until_us: u64) -> Option<E> {
        let due = self.heap.peek().map(|Reverse((at_us, ..))| *at_us);
        if due.is_none_or(|at_us| at_us > until_us) {
            self.now_us = self.now_us.max(until_us);
            return None;
        }
        self.next()
    }

    /// The next event, whenever that is; it is its time then. `None`: nothing is going to happen, and no time passes.
    pub(crate) fn next(&mut self) -> Option<E> {
        let Reverse((at_us, _, place)) = self.heap.pop()?;
        self.now_us = at_us;
        self.free.push(place);
        self.events[place as usize].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_entry() {
        let mut agenda = Agenda::new();
        for (wait_us, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (90, 'z')] {
            agenda.after(wait_us, event);
        }
        let order: String = std::iter::from_fn(|| agenda.next_until(50)).collect();
        assert_eq!((order.as_str(), agenda.now_us()), ("abcd", 50));
        assert_eq!((agenda.next_until(100), agenda.now_us()), (Some('z'), 90));
        assert_eq!((agenda.next(), agenda.now_us()), (None, 90));
    }
}
