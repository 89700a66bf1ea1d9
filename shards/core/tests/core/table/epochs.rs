//! What epochs of partitions say of records: which count, and which attempts may have been made without one.

use shard_core::{
    Entry, Epoch, ExecutionId, Name, Partition, Payload, Record, Recovery, Stored, StoredExecution,
};

fn name() -> Name {
    Name::new("f").expect("valid")
}

fn id(number: u8) -> ExecutionId {
    ExecutionId::new([number; 16], name().owner_hash())
}

fn accepted(number: u8) -> Record {
    Record::Accepted {
        id: id(number),
        function: name(),
        created_ms: 0,
        payload: Payload::json("1"),
        extra: None,
        callback_url: None,
    }
}

fn begins(epoch: u64) -> Entry {
    let (partition, epoch) = (name().partition(), Epoch(epoch));
    Entry::of(epoch, Record::Started { partition, epoch })
}

fn of(epoch: u64, record: Record) -> Entry {
    Entry::of(Epoch(epoch), record)
}

fn all(entries: impl IntoIterator<Item = Entry>) -> Recovery {
    let mut recovery = Recovery::default();
    entries.into_iter().for_each(|entry| recovery.apply(entry));
    recovery
}

/// The epoch of a partition, as it is given back.
fn epoch_of(recovery: Recovery, of: Partition) -> Option<Epoch> {
    recovery.into_stored().find_map(|stored| match stored {
        Stored::Partition { partition, epoch } if partition == of => Some(epoch),
        _ => None,
    })
}

fn executions(recovery: Recovery) -> Vec<StoredExecution> {
    let execution = |stored| match stored {
        Stored::Execution(execution) => Some(*execution),
        _ => None,
    };
    recovery.into_stored().filter_map(execution).collect()
}

#[test]
fn what_an_earlier_owner_writes_when_another_epoch_has_begun_does_not_count() {
    let before = [begins(1), of(1, accepted(1)), begins(2), of(2, accepted(2))];
    let late = [
        of(1, Record::Forgotten { id: id(1) }),
        of(1, Record::Attempted { id: id(2), attempt: 9 }),
        of(1, accepted(3)),
        begins(1),
    ];
    let recovery = all(before.clone().into_iter().chain(late));
    assert_eq!(recovery.fenced(), 4);
    assert_eq!(executions(recovery), executions(all(before)));
}

#[test]
fn other_partitions_have_epochs_of_their_own() {
    let other = Partition(name().partition().0.wrapping_add(1));
    let elsewhere = Entry::of(Epoch(7), Record::Started { partition: other, epoch: Epoch(7) });
    let recovery = || all([begins(1), elsewhere.clone(), of(1, accepted(1))]);
    assert_eq!(recovery().fenced(), 0);
    assert_eq!(epoch_of(recovery(), name().partition()), Some(Epoch(1)));
    assert_eq!(epoch_of(recovery(), other), Some(Epoch(7)));
    assert_eq!(epoch_of(recovery(), Partition(other.0.wrapping_add(1))), Some(Epoch(0)));
    // Epochs that begin there say nothing about attempts that may have been made here.
    let execution = executions(recovery()).remove(0);
    assert_eq!(execution.unrecorded, 1);
}

#[test]
fn an_epoch_has_begun_when_a_record_is_of_it() {
    let recovery = || all([of(3, accepted(1)), of(2, Record::Forgotten { id: id(1) })]);
    assert_eq!(recovery().fenced(), 1);
    assert_eq!(epoch_of(recovery(), name().partition()), Some(Epoch(3)));
    assert_eq!(executions(recovery()).len(), 1);
}

#[test]
fn each_epoch_since_the_last_record_may_have_made_an_attempt() {
    let more = |epochs: u64| [begins(1), of(1, accepted(1))].into_iter().chain((2..2 + epochs).map(begins));
    for epochs in [0, 1, 5] {
        assert_eq!(executions(all(more(epochs)))[0].unrecorded, 1 + epochs as u32);
    }
}

#[test]
fn records_without_epochs_are_of_the_one_that_had_begun() {
    let mut recovery = Recovery::default();
    recovery.apply_without_epoch(accepted(1));
    recovery.begin_everywhere(Epoch(4));
    recovery.apply_without_epoch(accepted(2));
    recovery.begin_everywhere(Epoch(5));
    recovery.apply_without_epoch(Record::Attempted { id: id(2), attempt: 2 });
    // The first server that writes epochs goes on from there.
    recovery.apply(begins(6));
    assert_eq!(recovery.fenced(), 0);
    let unrecorded: Vec<u32> = executions(recovery).iter().map(|execution| execution.unrecorded).collect();
    assert_eq!(unrecorded, [7, 1]);
}

#[test]
fn a_shard_is_told_of_its_partitions_and_of_nobody_elses() {
    let recovery = Recovery::of([Partition(3), name().partition()].into_iter());
    let given = recovery.into_stored().map(|stored| match stored {
        Stored::Partition { partition, epoch } => (partition, epoch),
        other => panic!("{other:?}"),
    });
    assert_eq!(given.collect::<Vec<_>>(), [Partition(3), name().partition()].map(|of| (of, Epoch(0))));
}
