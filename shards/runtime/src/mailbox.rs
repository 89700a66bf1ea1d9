//! A thread's mailbox: bounded, filled in batches, emptied in one go.
//!
//! A mutex around two vectors, held for a few nanoseconds per batch: senders append what they gathered during
//! one turn of their loop, the owner swaps everything out. The owner is woken at most once per batch.

use std::sync::PoisonError;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Notify, Ordering};

#[cfg(all(test, loom_model))]
#[path = "mailbox/model_tests.rs"]
mod model;

/// What waits in a mailbox.
#[derive(Debug)]
struct Content<M> {
    /// Comes before everything else, and is never refused: every message here was made possible by something
    /// that is bounded elsewhere (an answer by its caller, an event by its function).
    control: Vec<M>,
    /// New work, bounded, and what must not overtake it.
    data: Vec<M>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    content: Mutex<Content<M>>,
    data_max: usize,
    /// The owner was told and has not looked yet.
    told: AtomicBool,
    wake: Notify,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(data_max: usize) -> Mailbox<M> {
        Mailbox {
            content: Mutex::new(Content { control: Vec::new(), data: Vec::new() }),
            data_max,
            told: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Delivers a batch. What does not fit stays in `data`, for the sender to refuse; only what is `bound` to
    /// earlier work fits always.
    pub(crate) fn deliver(&self, control: &mut Vec<M>, data: &mut Vec<M>, bound: impl Fn(&M) -> bool) {
        let mut content = self.lock();
        content.control.append(control);
        let fits = self.data_max.saturating_sub(content.data.len()).min(data.len());
        content.data.extend(data.drain(..fits));
        if !data.is_empty() {
            content.data.extend(data.extract_if(.., |message| bound(message)));
        }
        drop(content);
        self.ring();
    }

    /// Wakes the owner, unless it was told since it last looked.
    pub(crate) fn ring(&self) {
        // AcqRel: the owner clears the flag before it takes the content, so whoever finds it set knows that the
        // content will be looked at after this.
        if !self.told.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Takes everything out. Both vectors must be empty; their memory is used for what comes next.
    pub(crate) fn take(&self, control: &mut Vec<M>, data: &mut Vec<M>) {
        if !self.told.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut content = self.lock();
        std::mem::swap(&mut content.control, control);
        std::mem::swap(&mut content.data, data);
    }

    /// Takes the control messages out and leaves the data, which stays bounded, to a later [`take`](Self::take).
    pub(crate) fn take_control(&self, control: &mut Vec<M>) {
        // The flag stays: the data has not been looked at.
        if self.told.load(Ordering::Acquire) {
            std::mem::swap(&mut self.lock().control, control);
        }
    }

    /// Wakes the owner whatever it was told: a flag beside the content was set.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until the owner is told something.
    pub(crate) async fn told(&self) {
        self.wake.notified().await;
    }

    /// New work that waits.
    pub(crate) fn depth(&self) -> usize {
        self.lock().data.len()
    }

    fn lock(&self) -> MutexGuard<'_, Content<M>> {
        // Nothing in here can panic while the lock is held; the content is whole in any case.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_refuses_data_and_never_control() {
        let mailbox = Mailbox::new(3);
        let (mut control, mut data) = (vec![1], vec![10, 11]);
        mailbox.deliver(&mut control, &mut data, |_| false);
        assert!(control.is_empty() && data.is_empty());
        let (mut control, mut data) = (vec![2], vec![12, 13]);
        mailbox.deliver(&mut control, &mut data, |_| false);
        assert_eq!((control.len(), data), (0, vec![13]));
        let (mut control, mut data) = (Vec::new(), vec![14, 15, 16]);
        mailbox.deliver(&mut control, &mut data, |message| *message == 15);
        assert_eq!(data, vec![14, 16], "what is bound to earlier work comes after it, full or not");
        let (mut control, mut data) = (Vec::new(), Vec::new());
        mailbox.take(&mut control, &mut data);
        assert_eq!((control, data), (vec![1, 2], vec![10, 11, 12, 15]));
    }

    #[test]
    fn data_stays_bounded_while_its_owner_is_behind() {
        let mailbox = Mailbox::new(2);
        mailbox.deliver(&mut vec![1], &mut vec![10, 11], |_| false);
        let (mut control, mut data) = (Vec::new(), Vec::new());
        mailbox.take_control(&mut control);
        assert_eq!((control.len(), mailbox.depth()), (1, 2));
        let mut more = vec![12];
        mailbox.deliver(&mut Vec::new(), &mut more, |_| false);
        assert_eq!(more, [12], "the owner has not taken any data");
        control.clear();
        mailbox.take(&mut control, &mut data);
        assert_eq!((control.len(), data), (0, vec![10, 11]));
    }
}
