//! A mailbox under loom: every interleaving of a sender and the owner, and those of two senders and the owner in which
//! no more than three threads are interrupted (all of them take hours). A lost wake-up is a deadlock, which loom reports.
//! How to run it stands in `sync`.

use loom::{future::block_on, sync::Arc, thread};

use super::*;

/// Receives until it has so many messages, the way the pump does.
async fn receive(mailbox: &Mailbox<u32>, count: usize) -> Vec<u32> {
    let mut received = Vec::new();
    while received.len() < count {
        let (mut control, mut data) = (Vec::new(), Vec::new());
        mailbox.take(&mut control, &mut data);
        if control.is_empty() && data.is_empty() {
            mailbox.told().await;
        }
        received.append(&mut control);
        received.append(&mut data);
    }
    received.sort_unstable();
    received
}

#[test]
fn model_of_two_senders_loses_nothing() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let mailbox = Arc::new(Mailbox::new(8));
        let senders = [vec![1], vec![2]].map(|mut batch| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.deliver(&mut Vec::new(), &mut batch, |_| false))
        });
        assert_eq!(block_on(receive(&mailbox, 2)), [1, 2]);
        for sender in senders {
            sender.join().expect("it ends");
        }
        assert_eq!(mailbox.depth(), 0);
    });
}

#[test]
fn model_of_batches_that_follow_each_other_loses_nothing() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(8));
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.deliver(&mut Vec::new(), &mut vec![1], |_| false);
                mailbox.deliver(&mut vec![2], &mut Vec::new(), |_| false);
            })
        };
        assert_eq!(block_on(receive(&mailbox, 2)), [1, 2]);
        sender.join().expect("it ends");
    });
}

#[test]
fn model_of_an_owner_that_is_behind_finds_the_data_later() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(8));
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.deliver(&mut vec![1], &mut vec![2], |_| false))
        };
        let mut control = Vec::new();
        mailbox.take_control(&mut control);
        let left = 2 - control.len();
        let later = block_on(receive(&mailbox, left));
        assert_eq!(later.last(), Some(&2));
        sender.join().expect("it ends");
    });
}

#[test]
fn model_of_a_stop_is_always_seen() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::<u32>::new(8));
        let stopping = Arc::new(AtomicBool::new(false));
        let stopper = {
            let (mailbox, stopping) = (Arc::clone(&mailbox), Arc::clone(&stopping));
            thread::spawn(move || {
                mailbox.deliver(&mut vec![1], &mut Vec::new(), |_| false);
                stopping.store(true, Ordering::Release);
                mailbox.wake();
            })
        };
        block_on(async {
            while !stopping.load(Ordering::Acquire) {
                mailbox.take(&mut Vec::new(), &mut Vec::new());
                mailbox.told().await;
            }
        });
        stopper.join().expect("it ends");
    });
}
