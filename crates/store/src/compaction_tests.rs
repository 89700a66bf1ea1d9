//! A compacted log adds up to the same as before.

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use shard_core::journal::{End, EndResult};
use shard_core::{
    Entry, Epoch, Failure, FunctionSpec, Output, Payload, Policy, Record, Recovery, Stored, Target,
};

use super::*;
use crate::{
    codec::tests::{codec, owned},
    disk::{self, accepted, ended},
    files::OsFiles,
    head::Head,
    lookup::Lookup,
    recovery::{self, Progress},
    segment::tests::{Scratch, write},
};

/// Records about few functions and executions, so that they concern each other.
fn record() -> impl Strategy<Value = Record> {
    (any::<u8>(), 0..2u8, 0..5u8).prop_map(|(kind, function, execution)| {
        let name = Name::new(["f", "g"][usize::from(function)]).expect("a name");
        let id = ExecutionId::new([execution + 1; 16], name.owner_hash());
        let failure = Failure::new("FAILED", "It failed");
        let end = |result| {
            let dispatched_ms = u64::from(kind);
            Box::new(End { result, dispatched_ms, finished_ms: 2, cold_start: false, init_ms: None })
        };
        match kind % 12 {
            0 => Record::Registered { spec: spec(name) },
            1 => Record::Removed { name },
            2 => Record::Reinstated { spec: spec(name) },
            3 => Record::Attempted { id, attempt: u32::from(kind / 12) },
            4 => Record::Requeued { id, failure },
            5 => Record::Ended { id, end: end(EndResult::Output(Output::null())), dead: false },
            6 => Record::Ended { id, end: end(EndResult::Failed(Box::new(failure))), dead: true },
            7 => Record::Replayed { id, at_ms: 7 },
            8 => Record::Purged { id },
            9 | 10 => Record::Accepted {
                id,
                function: name,
                created_ms: 0,
                payload: Payload::json("1"),
                extra: None,
                callback_url: None,
            },
            _ => Record::Forgotten { id },
        }
    })
}

fn spec(name: Name) -> Box<FunctionSpec> {
    let document = format!(
        "{{\"name\":\"{name}\",\"timeoutMs\":1,\"concurrency\":1,\"queueSize\":1,\"maxRetries\":1,\"retryBackoffMs\":0,\
         \"executionMode\":\"LOCAL\",\"requestedExecutionMode\":\"LOCAL\",\"effectiveExecutionMode\":\"LOCAL\"}}"
    );
    let policy =
        Policy { timeout_ms: 1, concurrency: 1, queue_size: 1, attempts_max: 1, ..Policy::default() };
    Box::new(FunctionSpec { name, policy, target: Target::Local, scaling: None, document: document.into() })
}

/// What it adds up to; an execution's place only by its neighbours.
fn sum(segments: &[Segment]) -> Vec<String> {
    let recovered = recovery::read(
        &OsFiles,
        codec(),
        segments,
        (shard_core::Seating::of(1), None),
        &Progress::default(),
        None,
    )
    .expect("whole");
    let stored = recovered.into_iter().flat_map(Recovery::into_stored);
    let said = stored.map(|stored| match stored {
        Stored::Partition { partition, epoch } => format!("{partition:?} {epoch}"),
        Stored::Function(spec) => format!("{spec:?}"),
        Stored::Execution(execution) => {
            let text = format!("{execution:?}");
            text.split(", order:").next().unwrap_or_default().to_owned()
        }
    });
    said.collect()
}

/// Gives records epochs: now and then one begins, and now and then a record is of the one before.
fn with_epochs(steps: Vec<(Record, u8)>) -> Vec<Entry> {
    let mut begun: BTreeMap<Partition, Epoch> = BTreeMap::new();
    let mut entries = Vec::new();
    for (record, step) in steps {
        let partition = record.partition();
        let newest = begun.entry(partition).or_default();
        if step == 0 || *newest == Epoch(0) {
            *newest = newest.next();
            entries.push(Entry::of(*newest, Record::Started { partition, epoch: *newest }));
        }
        entries.push(Entry::of(if step == 1 { newest.before() } else { *newest }, record));
    }
    entries
}

/// Ids are used once: the second acceptance of one is the same again, and nothing follows its end, unless that does not count.
fn sensible(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut over, mut fence) = (HashSet::new(), BTreeMap::new());
    let keep = |entry: &Entry| match &entry.record {
        _ if is_late(entry, &mut fence) => true,
        Record::Forgotten { id } => {
            over.insert(*id);
            true
        }
        Record::Accepted { id, .. } => !over.contains(id),
        _ => true,
    };
    entries.into_iter().filter(keep).collect()
}

/// Whether another epoch has begun since.
fn is_late(entry: &Entry, begun: &mut BTreeMap<Partition, Epoch>) -> bool {
    let begun = begun.entry(entry.partition).or_default();
    let is_late = entry.epoch < *begun;
    *begun = entry.epoch.max(*begun);
    is_late
}

/// The segments, and what `HEAD` says of them.
fn log(scratch: &Path, entries: &[Entry], parts: usize) -> (Vec<Segment>, Head) {
    let part = entries.len().div_ceil(parts).max(1);
    let (mut segments, mut head) = (Vec::new(), Head { closed: true, ..Head::default() });
    for (number, entries) in (1..).zip(entries.chunks(part)) {
        let frames: Vec<Vec<u8>> = entries
            .chunks(3)
            .map(|entries| {
                let mut frame = Vec::new();
                entries.iter().for_each(|entry| assert!(codec().encode(entry, &mut frame)));
                frame
            })
            .collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (segment, end) = write(scratch, number, head.mark, &frames);
        segments.push(segment);
        (head.newest, head.mark) = (number, end);
    }
    (segments, head)
}

/// The segments as the next start finds them.
fn found(scratch: &Path, head: &Head) -> Vec<Segment> {
    let mut segments = head::list(&OsFiles, scratch).expect("whole");
    head::link(&OsFiles, scratch, &mut segments, Some(head)).expect("whole");
    segments
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn compaction_changes_nothing_that_counts(
        steps in proptest::collection::vec((record(), 0..10u8), 1..80),
        parts in 1..5usize,
        compacted in 1..5usize,
    ) {
        let scratch = Scratch::new("compaction");
        let directory = scratch.directory();
        let entries = sensible(with_epochs(steps));
        let (segments, head) = log(&directory.store, &entries, parts);
        let expected = sum(&segments);
        let index = Arc::new(Index::default());
        recovery::read(&OsFiles, codec(), &segments, (shard_core::Seating::of(1), None), &Progress::default(), Some(&index)).expect("whole");
        let lookup = Lookup::new(Arc::new(OsFiles), Arc::clone(&index), codec());
        let newest = newest_ends(&entries);
        let read_back = || newest.keys().map(|id| (*id, lookup.end_of(*id).expect("whole"))).collect::<BTreeMap<_, _>>();
        assert_eq!(read_back(), newest);
        // Of the closed segments, only those at the front may be compacted yet.
        let (front, back) = segments.split_at(compacted.min(segments.len()));
        let mut after = vec![compact(&directory, front, &index).expect("whole")];
        after.extend_from_slice(back);
        assert_eq!(found(&directory.store, &head), after);
        assert_eq!(sum(&after), expected);
        assert_eq!(read_back(), newest);
        // Nothing of what was replaced is left.
        let files = OsFiles.list(&directory.store).expect("readable");
        assert_eq!(files.iter().filter(|(name, _)| head::numbers(name).is_some()).count(), after.len());
        let all = compact(&directory, &after, &index).expect("whole");
        assert_eq!(found(&directory.store, &head), std::slice::from_ref(&all));
        assert_eq!(sum(std::slice::from_ref(&all)), expected);
        // And once more, of what was compacted.
        let again = compact(&directory, &[all], &index).expect("whole");
        assert_eq!(found(&directory.store, &head), std::slice::from_ref(&again));
        assert_eq!(sum(&[again]), expected);
        assert_eq!(read_back(), newest);
    }
}

/// How executions ended at last, if they did, but for those that are forgotten.
fn newest_ends(entries: &[Entry]) -> BTreeMap<ExecutionId, Option<Box<End>>> {
    let (mut newest, mut begun) = (BTreeMap::new(), BTreeMap::new());
    let records: Vec<&Record> =
        entries.iter().filter(|entry| !is_late(entry, &mut begun)).map(|entry| &entry.record).collect();
    for record in &records {
        match record {
            Record::Ended { id, end, .. } => newest.insert(*id, Some(end.clone())),
            Record::Replayed { id, .. } => newest.insert(*id, None),
            _ => None,
        };
    }
    for record in records {
        if let Record::Forgotten { id } = record {
            newest.remove(id);
        }
    }
    newest
}

/// Segments that nobody looks into: there are none.
fn imagined(lengths: &[u64]) -> Vec<Segment> {
    let segment = |(number, bytes): (u64, &u64)| Segment {
        path: format!("/nowhere/{number}").into(),
        first: number,
        last: number,
        bytes: *bytes,
        expected: Expected::Anything,
        unlinked: false,
    };
    (1..).zip(lengths).map(segment).collect()
}

#[test]
fn a_compaction_is_worthwhile_with_many_segments_or_with_many_bytes() {
    let scratch = Scratch::new("worthwhile");
    const BIG: u64 = 128 << 20;
    for (lengths, compacted_bytes, starts) in [
        (&[1; 15][..], 0, false),
        (&[1; 16], 0, true),
        (&[1; 17], 0, true),
        (&[BIG], 0, false),
        (&[BIG / 2, BIG / 2 - 1], 0, false),
        (&[BIG / 2, BIG / 2], 0, true),
        (&[BIG, BIG, BIG], 0, true),
        (&[0, BIG], BIG / 2, true),
        // Twice as much as the last one left.
        (&[BIG, BIG - 1], BIG, false),
        (&[BIG, BIG], BIG, true),
        (&[BIG, BIG, BIG], BIG, true),
    ] {
        let mut compactor = Compactor::new(Arc::new(scratch.directory()), imagined(lengths), Arc::default());
        compactor.compacted_bytes = compacted_bytes;
        assert_eq!(compactor.bytes(), lengths.iter().sum::<u64>());
        compactor.start_if_worthwhile();
        assert_eq!(
            compactor.running.is_some(),
            starts,
            "{} of {lengths:?} after {compacted_bytes}",
            lengths.len()
        );
        // It fails, and everything stays as it was.
        let began = std::time::Instant::now();
        while compactor.running.is_some() {
            assert!(began.elapsed().as_secs() < 60, "it was not taken over");
            compactor.take_over();
        }
        assert_eq!(compactor.closed, imagined(lengths));
    }
}

#[test]
fn what_a_compaction_made_takes_the_place_of_what_it_was_made_of() {
    let scratch = Scratch::new("replaced");
    let mut compactor = Compactor::new(Arc::new(scratch.directory()), imagined(&[1, 2, 3]), Arc::default());
    let [fourth, fifth] = imagined(&[1, 2, 3, 4, 5]).split_off(3).try_into().expect("two");
    compactor.closed(fourth.clone());
    compactor.closed(fifth.clone());
    assert_eq!(compactor.bytes(), 15);
    let by = Segment { last: 3, bytes: 4, ..imagined(&[1]).remove(0) };
    let made = by.clone();
    compactor.running = Some(thread::spawn(move || Some(made)));
    compactor.wait();
    assert_eq!(compactor.closed, [by, fourth, fifth]);
    assert_eq!((compactor.bytes(), compactor.compacted_bytes), (13, 4));
}

/// What is left of these records, by its kind.
fn left(name: &str, records: &[Record], parts: usize) -> Vec<u8> {
    let entries: Vec<Entry> = records.iter().cloned().map(owned).collect();
    left_of(name, &entries, parts)
}

fn left_of(name: &str, entries: &[Entry], parts: usize) -> Vec<u8> {
    let scratch = Scratch::new(name);
    let directory = scratch.directory();
    let (segments, head) = log(&directory.store, entries, parts);
    let mut compactor = Compactor::new(Arc::new(directory), segments, Arc::default());
    compactor.run(|_, _| true);
    let all = found(&scratch.0, &head);
    assert_eq!(all, compactor.closed);
    assert_eq!(all.len(), 1);
    let mut kinds = Vec::new();
    let taken = each_record(&OsFiles, &all, |record, _| {
        kinds.push(codec::head(record).expect("a record").kind);
        Ok(())
    });
    taken.expect("whole");
    kinds
}

#[test]
fn what_is_forgotten_and_what_was_replaced_is_not_copied() {
    let forgotten = |number| Record::Forgotten { id: disk::id(number) };
    let name = disk::name;
    // Of what was forgotten nothing is left, not even that.
    assert_eq!(left("forgotten", &[accepted(1), ended(1), accepted(2), forgotten(1)], 2), [kind::ACCEPTED]);
    assert_eq!(left("forgotten", &[accepted(1), ended(1), forgotten(1)], 3), [0; 0]);
    // Of registrations the last one counts.
    let records = [
        Record::Registered { spec: spec(name()) },
        Record::Registered { spec: spec(name()) },
        accepted(1),
        Record::Registered { spec: spec(name()) },
    ];
    assert_eq!(left("registered", &records, 2), [kind::ACCEPTED, kind::REGISTERED]);
    // A removal ends what stands before it, and else it need not be known.
    let records = [Record::Registered { spec: spec(name()) }, Record::Removed { name: name() }];
    assert_eq!(left("removed", &records, 2), [0; 0]);
    let records = [Record::Registered { spec: spec(name()) }, accepted(1), Record::Removed { name: name() }];
    assert_eq!(left("removed", &records, 3), [kind::ACCEPTED, kind::REMOVED]);
}

#[test]
fn of_epochs_the_last_one_is_copied_and_nothing_that_was_written_too_late() {
    let partition = disk::name().partition();
    let begins = |epoch| Entry::of(Epoch(epoch), Record::Started { partition, epoch: Epoch(epoch) });
    let other = Partition(partition.0.wrapping_add(1));
    let elsewhere = Entry::of(Epoch(9), Record::Started { partition: other, epoch: Epoch(9) });
    let of = |epoch, record| Entry::of(Epoch(epoch), record);
    let entries = [begins(1), elsewhere, of(1, accepted(1)), begins(2), of(2, accepted(2))];
    assert_eq!(left_of("begun", &entries, 2), [kind::BEGUN, kind::ACCEPTED, kind::BEGUN, kind::ACCEPTED]);
    let forgotten = Record::Forgotten { id: disk::id(1) };
    let entries = [begins(1), of(1, accepted(1)), begins(2), of(1, forgotten), begins(1)];
    assert_eq!(left_of("late", &entries, 3), [kind::ACCEPTED, kind::BEGUN]);
}

#[test]
fn one_segment_is_not_compacted_by_itself() {
    let scratch = Scratch::new("alone");
    let directory = scratch.directory();
    let (segments, _) = log(&directory.store, &[accepted(1), ended(1)].map(owned), 1);
    let mut compactor = Compactor::new(Arc::new(directory), segments.clone(), Arc::default());
    compactor.run(|_, _| panic!("nobody is asked"));
    assert_eq!(compactor.closed, segments);
}

#[test]
fn frames_of_a_compacted_segment_are_neither_small_nor_endless() {
    let scratch = Scratch::new("frames");
    let directory = scratch.directory();
    let Record::Ended { id, end, dead } = ended(1) else { panic!("another") };
    let body = vec![b'1'; 300 << 10].into();
    let end = Box::new(End { result: EndResult::Output(Output { body, ..Output::null() }), ..*end });
    let large = Record::Ended { id, end, dead };
    let (segments, _) = log(&directory.store, &vec![owned(large); 10], 2);
    let all = compact(&directory, &segments, &Index::default()).expect("whole");
    // Four of them are more than a megabyte.
    let Expected::Exactly(end) = all.expected else { panic!("{all:?}") };
    assert_eq!(end.frames, 3);
}
