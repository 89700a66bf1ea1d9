//! What a lane takes, what waits beside it, and what is left of it when a commit fails.

use shard_core::{FunctionSpec, Policy, Target};

use super::*;
use crate::{
    Store,
    codec::tests::{codec, owned},
    disk::{accepted, ended, id, name},
};

/// The one shard of a server without a thread that writes. Its lane is full with so many bytes.
fn shard(bounds: (usize, usize)) -> (ShardStore, Arc<Shared>) {
    let mut shared = Shared::new(1, Arc::new(|_, _| ()), codec());
    shared.bounds = bounds;
    let shared = Arc::new(shared);
    (ShardStore { shard: 0, shared: Arc::clone(&shared) }, shared)
}

/// Bytes of a record.
fn length(record: Record) -> usize {
    let mut bytes = Vec::new();
    assert!(codec().encode(&owned(record), &mut bytes));
    bytes.len()
}

fn is_refused(said: Option<Input>) -> bool {
    matches!(said, Some(Input::Journal(JournalEvent::NotTaken { .. })))
}

fn registered() -> Record {
    let (name, document) = (name(), b"{}".to_vec().into());
    let policy = Policy::default();
    Record::Registered {
        spec: Box::new(FunctionSpec { name, policy, target: Target::Local, scaling: None, document }),
    }
}

#[test]
fn new_executions_are_refused_above_a_bound_and_while_the_disk_fails() {
    let one = length(accepted(1));
    let (mut shard, shared) = shard((one, 100 * one));
    assert!(!is_refused(shard.append(1, owned(accepted(1)))));
    assert!(!is_refused(shard.append(2, owned(accepted(2)))), "it is at the bound, not above it");
    assert!(is_refused(shard.append(3, owned(accepted(3)))));
    assert!(!is_refused(shard.append(4, owned(ended(9)))), "a fact is not");
    let (mut shard, failing) = self::shard((100 * one, 100 * one));
    failing.failing.store(true, Ordering::Relaxed);
    assert!(is_refused(shard.append(1, owned(accepted(1)))));
    assert!(!is_refused(shard.append(2, owned(ended(9)))));
    assert_eq!(shared.lanes[0].lock().through, 4);
}

#[test]
fn a_lane_has_room_for_many_records() {
    let shared = Arc::new(Shared::new(1, Arc::new(|_, _| ()), codec()));
    let mut shard = ShardStore { shard: 0, shared: Arc::clone(&shared) };
    for number in 1..=200 {
        assert!(!is_refused(shard.append(number, owned(accepted(number as u8)))));
    }
    assert!(shared.lanes[0].lock().waiting.is_empty());
    // A megabyte beside it is not much.
    shared.lanes[0].lock().waiting_bytes = 1 << 20;
    assert!(!is_refused(shard.append(201, owned(ended(1)))));
    let (pending_max, backlog_max) = shared.bounds;
    assert!(1 << 20 < pending_max && pending_max < backlog_max);
}

#[test]
fn facts_wait_beside_a_full_lane_in_their_order_and_whoever_asks_is_refused() {
    let one = length(ended(1));
    let (mut shard, shared) = shard((one, one));
    let counts = || {
        let lane = shared.lanes[0].lock();
        (lane.records.len() / one, lane.waiting.len(), lane.waiting_bytes / one, lane.through)
    };
    let mut append = |number, record| is_refused(shard.append(number, owned(record)));
    assert!(!append(1, ended(1)));
    assert!(!append(2, ended(2)));
    assert_eq!(counts(), (2, 0, 0, 2), "at the bound it takes another one");
    for number in 3..=5 {
        assert!(!append(number, ended(number as u8)));
    }
    assert_eq!(counts(), (2, 3, 3, 2));
    for (number, record) in [
        (6, registered()),
        (7, Record::Replayed { id: id(9), at_ms: 1 }),
        (8, Record::Purged { id: id(9) }),
        (9, accepted(9)),
    ] {
        assert!(append(number, record), "{number}");
    }
    // A commit takes the lane; what waits follows, up to the bound.
    let mut frame = Vec::new();
    shared.lanes[0].lock().gather(one, &mut frame);
    assert_eq!((frame.len() / one, shared.lanes[0].lock().gathered), (2, 2));
    assert_eq!(counts(), (1, 2, 2, 3));
    // There is room, but not before those that wait.
    assert!(!append(10, ended(10)));
    assert_eq!(counts(), (1, 3, 3, 3));
    for (taken, left) in [(3, (1, 2, 2, 4)), (4, (1, 1, 1, 5)), (5, (1, 0, 0, 10)), (10, (0, 0, 0, 10))] {
        let mut lane = shared.lanes[0].lock();
        lane.gather(one, &mut frame);
        assert_eq!(lane.gathered, taken);
        drop(lane);
        assert_eq!(counts(), left);
    }
    assert_eq!(facts(&frame), frame);
    let mut expected = Vec::new();
    for number in [1, 2, 3, 4, 5, 10] {
        assert!(codec().encode(&owned(ended(number)), &mut expected));
    }
    assert_eq!(frame, expected);
}

#[test]
fn ends_are_refused_when_too_many_wait_beside_a_lane() {
    let (mut shard, shared) = shard((1, 1));
    let waits = |bytes| shared.lanes[0].lock().waiting_bytes = bytes;
    let refused = || shared.lanes[0].lock().refused;
    assert!(!is_refused(shard.append(1, owned(ended(1)))));
    waits(WAITING_BYTES_MAX);
    assert!(!is_refused(shard.append(2, owned(ended(2)))), "it is at the bound, not above it");
    waits(WAITING_BYTES_MAX + 1);
    assert!(is_refused(shard.append(3, owned(ended(3)))));
    assert!(is_refused(shard.append(4, owned(ended(4)))));
    assert_eq!(refused(), 2);
    assert!(!is_refused(shard.append(5, owned(Record::Attempted { id: id(1), attempt: 2 }))));
    waits(WAITING_BYTES_MAX);
    assert!(!is_refused(shard.append(6, owned(ended(6)))));
    assert_eq!(refused(), 2);
}

#[test]
fn of_a_lane_that_is_given_up_the_facts_wait_on() {
    let mut lane = Lane::default();
    assert_eq!(lane.give_up(1000), None, "there was nothing");
    let encode = |record: Record| move |bytes: &mut Vec<u8>| codec().encode(&owned(record.clone()), bytes);
    let one = length(ended(1));
    assert!(lane.take(1, false, encode(accepted(1))));
    assert!(lane.take(2, false, encode(ended(2))));
    assert!(lane.take(3, false, encode(accepted(3))));
    assert!(lane.take(4, true, encode(ended(4))));
    assert!(lane.take(5, true, encode(ended(5))));
    // Numbers of what waits beside it are not among those that failed.
    assert_eq!(lane.give_up(one), Some(3));
    let mut expected = Vec::new();
    assert!(codec().encode(&owned(ended(2)), &mut expected));
    assert_eq!((&lane.records, lane.waiting.len(), lane.gathered), (&expected, 2, 0));
    assert_eq!(lane.give_up(2 * one), Some(3));
    assert!(codec().encode(&owned(ended(4)), &mut expected));
    assert_eq!((&lane.records, lane.through, lane.waiting_bytes), (&expected, 4, one));
    // Without facts nothing of it is left to be written.
    let mut lane = Lane::default();
    assert!(lane.take(1, false, encode(accepted(1))));
    assert_eq!(lane.give_up(1000), Some(1));
    assert_eq!((lane.records.len(), lane.gathered), (0, 1));
}
