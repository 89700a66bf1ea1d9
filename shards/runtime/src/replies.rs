//! Callers of one thread that wait for answers: a slab with generations instead of a channel per request.

use std::task::{Context, Poll, Waker};

use shard_core::{Answer, Ticket};

/// No further caller can wait: the bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Bits of a ticket: thread, generation, position.
const POSITION_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;

#[derive(Debug)]
enum Place {
    /// Nobody; the next free position.
    Free(u32),
    /// Waits for its answer.
    Waiting(Option<Waker>),
    /// Has its answer.
    Answered(Answer),
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    place: Place,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Replies {
    thread: u16,
    entries: Vec<Entry>,
    free: u32,
    waiting: usize,
    waiting_max: usize,
}

const NONE: u32 = u32::MAX;

/// The thread that a ticket's caller waits on.
pub(crate) fn thread_of(ticket: Ticket) -> u16 {
    (ticket.0 >> (POSITION_BITS + GENERATION_BITS)) as u16
}

impl Replies {
    pub(crate) fn new(thread: u16, waiting_max: usize) -> Replies {
        let waiting_max = waiting_max.min((1 << POSITION_BITS) - 1);
        Replies { thread, entries: Vec::new(), free: NONE, waiting: 0, waiting_max }
    }

    /// A ticket for a new caller.
    pub(crate) fn open(&mut self) -> Result<Ticket, Busy> {
        if self.waiting >= self.waiting_max {
            return Err(Busy);
        }
        self.waiting += 1;
        let position = match self.entries.get(self.free as usize) {
            Some(Entry { place: Place::Free(next), .. }) => std::mem::replace(&mut self.free, *next),
            _ => {
                self.entries.push(Entry { generation: 0, place: Place::Free(NONE) });
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[position as usize];
        entry.place = Place::Waiting(None);
        let thread = u64::from(self.thread) << (POSITION_BITS + GENERATION_BITS);
        Ok(Ticket(thread | u64::from(entry.generation) << POSITION_BITS | u64::from(position)))
    }

    /// Gives a caller its answer. A caller that is gone is no error.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let Some(entry) = self.entry(ticket) else { return };
        if let Place::Waiting(waker) = &mut entry.place {
            let waker = waker.take();
            entry.place = Place::Answered(answer);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes the answer if it is there; afterwards the ticket is void.
    pub(crate) fn poll(&mut self, ticket: Ticket, context: &mut Context<'_>) -> Poll<Answer> {
        // A void ticket is polled only after completion, which futures need not support.
        let Some(entry) = self.entry(ticket) else { return Poll::Pending };
        match &mut entry.place {
            Place::Answered(_) => {
                let place = self.close(ticket);
                match place {
                    Some(Place::Answered(answer)) => Poll::Ready(answer),
                    _ => Poll::Pending,
                }
            }
            Place::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Place::Free(_) => Poll::Pending,
        }
    }

    /// A caller is gone. Returns whether it still waited for its answer.
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> bool {
        matches!(self.close(ticket), Some(Place::Waiting(_)))
    }

    /// Callers that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let position = ticket.0 as usize & ((1 << POSITION_BITS) - 1);
        let generation = (ticket.0 >> POSITION_BITS) as u32 & ((1 << GENERATION_BITS) - 1);
        self.entries.get_mut(position).filter(|entry| entry.generation == generation)
    }

    fn close(&mut self, ticket: Ticket) -> Option<Place> {
        let free = self.free;
        let entry = self.entry(ticket)?;
        if matches!(entry.place, Place::Free(_)) {
            return None;
        }
        entry.generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        let place = std::mem::replace(&mut entry.place, Place::Free(free));
        self.free = (ticket.0 & ((1 << POSITION_BITS) - 1)) as u32;
        self.waiting -= 1;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the naive model knows of a ticket.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fate {
        Waits,
        Answered(u32),
        Void,
    }

    proptest! {
        /// Callers come, are answered, look, and leave in any order, with tickets old and new.
        #[test]
        fn every_caller_gets_its_own_answer(steps in proptest::collection::vec((0..4u8, 0..1000usize), 1..400)) {
            const WAITING_MAX: usize = 5;
            let mut replies = Replies::new(1, WAITING_MAX);
            let mut model: Vec<(Ticket, Fate)> = Vec::new();
            let mut context = Context::from_waker(Waker::noop());
            for (number, (kind, which)) in (0u32..).zip(steps) {
                let open = model.iter().filter(|(_, fate)| *fate != Fate::Void).count();
                prop_assert_eq!(replies.waiting(), open);
                if kind == 0 {
                    match replies.open() {
                        Ok(ticket) => {
                            prop_assert!(model.iter().all(|(other, _)| *other != ticket), "a ticket came twice");
                            model.push((ticket, Fate::Waits));
                        }
                        Err(Busy) => prop_assert_eq!(open, WAITING_MAX),
                    }
                    continue;
                }
                // Mostly young ones; old ones are all void.
                let back = which % 8 + 1;
                let Some((ticket, fate)) = model.iter_mut().rev().take(back).last() else { continue };
                match kind {
                    1 => {
                        replies.answer(*ticket, Answer::Scaled { replicas: number });
                        if *fate == Fate::Waits {
                            *fate = Fate::Answered(number);
                        }
                    }
                    2 => {
                        let polled = replies.poll(*ticket, &mut context);
                        match *fate {
                            Fate::Answered(replicas) => {
                                prop_assert_eq!(polled, Poll::Ready(Answer::Scaled { replicas }));
                                *fate = Fate::Void;
                            }
                            _ => prop_assert!(polled.is_pending()),
                        }
                    }
                    _ => {
                        prop_assert_eq!(replies.abandon(*ticket), *fate == Fate::Waits);
                        *fate = Fate::Void;
                    }
                }
            }
        }
    }

    #[test]
    fn tickets_go_stale_and_places_are_used_again() {
        let mut replies = Replies::new(3, 2);
        let mut context = Context::from_waker(Waker::noop());
        let one = replies.open().expect("room");
        let two = replies.open().expect("room");
        assert_eq!(replies.open(), Err(Busy));
        assert_eq!((thread_of(one), thread_of(two)), (3, 3));
        replies.answer(one, Answer::Removed);
        assert_eq!(replies.poll(one, &mut context), Poll::Ready(Answer::Removed));
        assert_eq!(replies.waiting(), 1);
        let three = replies.open().expect("room");
        replies.answer(one, Answer::Removed);
        assert!(replies.poll(three, &mut context).is_pending(), "a late answer reached another caller");
        assert!(replies.abandon(two) && !replies.abandon(two));
        assert_eq!(replies.waiting(), 1);
    }
}
