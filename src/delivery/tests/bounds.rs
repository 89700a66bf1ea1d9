//! What is bounded, and what happens at the bounds and at the end.

use std::time::Duration;

use shard_core::{
    Delivery,
    DeliveryStatus::{Delivered, Failed, Pending},
    Input,
};

use super::support::{PATIENCE, Receiver, Rig, answer, id, options, order};
use crate::delivery::{DeliveryOptions, DeliveryOrder};

#[test]
fn a_slow_receiver_holds_up_nobody_else() {
    let options = DeliveryOptions { active_max: 4, active_per_host_max: 2, ..options() };
    let rig = Rig::start(options);
    let (slow, quick) = (Receiver::silent(), Receiver::of_status(200));
    for number in 1..=20 {
        rig.deliver(number, &slow.url());
    }
    slow.post();
    slow.post();
    for number in 21..=40 {
        rig.deliver(number, &quick.url());
        let (_, execution, delivery) = rig.report();
        assert_eq!((execution, delivery.status), (id(number), Delivered));
    }
    assert_eq!(slow.connections(), 2);
    assert!(rig.is_quiet());
}

#[test]
fn tries_at_the_same_time_are_bounded() {
    let rig = Rig::start(DeliveryOptions { active_max: 3, active_per_host_max: 2, ..options() });
    let receivers = [Receiver::silent(), Receiver::silent(), Receiver::silent()];
    for (number, receiver) in (1..).zip(receivers.iter().cycle().take(12)) {
        rig.deliver(number, &receiver.url());
    }
    receivers.iter().for_each(|receiver| drop(receiver.post()));
    // One that is refused at once says that all orders before it were taken.
    rig.deliver(99, "nonsense");
    assert_eq!(rig.report().1, id(99));
    assert_eq!(receivers.iter().map(Receiver::connections).sum::<usize>(), 3);
}

#[test]
fn what_there_is_no_room_for_fails_at_once() {
    let too_much = |options: DeliveryOptions| {
        let rig = Rig::start(options);
        let receiver = Receiver::silent();
        rig.deliver(1, &receiver.url());
        receiver.post();
        let refused = rig.deliveries.deliver(order(2, &receiver.url()));
        let Some(Input::Delivered { id: execution, delivery, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((execution, delivery.status, delivery.attempts), (id(2), Failed, 0));
        let error = delivery.last_error.unwrap_or_default();
        assert!(error.contains("too many results wait"), "{error}");
    };
    too_much(DeliveryOptions { pending_max: 1, ..options() });
    too_much(DeliveryOptions { pending_bytes_max: 4000, ..options() });
}

#[test]
fn a_receiver_that_is_behind_gets_no_more() {
    let rig = Rig::start(DeliveryOptions { pending_per_host_max: 1, ..options() });
    let (slow, quick) = (Receiver::silent(), Receiver::of_status(200));
    rig.deliver(1, &slow.url());
    rig.deliver(2, &slow.url());
    let (_, execution, delivery) = rig.report();
    assert_eq!((execution, delivery.status, delivery.attempts), (id(2), Failed, 0));
    assert!(delivery.last_error.unwrap_or_default().contains("this receiver"));
    // Places come back: one delivery after the other.
    for number in 3..=10 {
        rig.deliver(number, &quick.url());
        assert_eq!(rig.outcome().0, Delivered);
    }
}

#[test]
fn the_result_of_a_replay_takes_the_place_of_the_first() {
    let rig =
        Rig::start(DeliveryOptions { backoff_min: PATIENCE * 9, backoff_max: PATIENCE * 9, ..options() });
    let (failing, good) = (Receiver::of_status(500), Receiver::of_status(200));
    rig.deliver(1, &failing.url());
    assert_eq!(rig.outcome().0, Pending);
    rig.deliver(1, &good.url());
    assert_eq!(rig.outcome(), (Delivered, 1, String::new()));
    // Nothing of the first is left: an end has nothing to wait for.
    assert_eq!(rig.drain(PATIENCE), 0);
    assert_eq!(failing.connections(), 1);
}

#[test]
fn an_end_tries_once_more_and_gives_up_what_fails_then() {
    let rig = Rig::start(DeliveryOptions {
        attempts_max: 9,
        backoff_min: PATIENCE * 9,
        backoff_max: PATIENCE * 9,
        ..options()
    });
    let recovering = Receiver::start(|number| Some(answer(if number == 1 { 503 } else { 200 })));
    let failing = Receiver::of_status(503);
    rig.deliver(1, &recovering.url());
    rig.deliver(2, &failing.url());
    for _ in 0..2 {
        assert_eq!(rig.outcome().0, Pending);
    }
    assert_eq!(rig.drain(PATIENCE), 1);
    let mut last = [rig.report(), rig.report()];
    last.sort_by_key(|(_, execution, _)| *execution);
    let [(_, _, recovered), (_, _, failed)] = last;
    assert_eq!((recovered.status, recovered.attempts), (Delivered, 2));
    assert_eq!((failed.status, failed.attempts), (Pending, 2), "it is not decided");
    assert_eq!((recovering.connections(), failing.connections()), (2, 2));
}

#[test]
fn an_end_does_not_wait_beyond_its_time() {
    let rig = Rig::start(DeliveryOptions { active_max: 2, ..options() });
    let silent = Receiver::silent();
    for number in 1..=5 {
        rig.deliver(number, &silent.url());
    }
    silent.post();
    silent.post();
    assert_eq!(rig.drain(Duration::from_millis(50)), 5);
    // The thread is on its way out: sooner or later it takes no more.
    let deadline = std::time::Instant::now() + PATIENCE;
    let refused = loop {
        let order: DeliveryOrder = order(6, &silent.url());
        match rig.deliveries.deliver(order) {
            Some(refused) => break refused,
            None => assert!(std::time::Instant::now() < deadline, "it still takes orders"),
        }
    };
    let Input::Delivered { delivery: Delivery { status, .. }, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(status, Failed);
}
