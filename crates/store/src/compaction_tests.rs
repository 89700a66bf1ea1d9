//! A compacted log adds up to the same as before.

use std::path::Path;

use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use shard_core::journal::{End, EndResult};
use shard_core::{Failure, FunctionSpec, Output, Payload, Policy, Record, Recovery, Stored, Target};

use super::*;
use crate::{
    codec::tests::codec,
    files::OsFiles,
    head::Head,
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
            Box::new(End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None })
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
    let recovered = recovery::read(&OsFiles, codec(), segments, 1, &Progress::default()).expect("whole");
    let stored = recovered.into_iter().flat_map(Recovery::into_stored);
    let said = stored.map(|stored| match stored {
        Stored::Start(starts) => format!("started {starts}"),
        Stored::Function(spec) => format!("{spec:?}"),
        Stored::Execution(execution) => {
            let text = format!("{execution:?}");
            text.split(", order:").next().unwrap_or_default().to_owned()
        }
    });
    said.collect()
}

/// Ids are used once: the second acceptance of one is the same again, and nothing follows its end.
fn sensible(records: Vec<Record>) -> Vec<Record> {
    let mut over = HashSet::new();
    let keep = |record: &Record| match record {
        Record::Forgotten { id } => {
            over.insert(*id);
            true
        }
        Record::Accepted { id, .. } => !over.contains(id),
        _ => true,
    };
    records.into_iter().filter(keep).collect()
}

/// The segments, and what `HEAD` says of them.
fn log(scratch: &Path, records: &[Record], parts: usize) -> (Vec<Segment>, Head) {
    let part = records.len().div_ceil(parts).max(1);
    let (mut segments, mut head) = (Vec::new(), Head { closed: true, ..Head::default() });
    for (number, records) in (1..).zip(records.chunks(part)) {
        let frames: Vec<Vec<u8>> = records
            .chunks(3)
            .map(|records| {
                let mut frame = Vec::new();
                records.iter().for_each(|record| assert!(codec().encode(record, &mut frame)));
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
        records in proptest::collection::vec(record(), 1..80),
        parts in 1..5usize,
        compacted in 1..5usize,
    ) {
        let scratch = Scratch::new("compaction");
        let directory = scratch.directory();
        let records = sensible(records);
        let (segments, head) = log(&directory.store, &records, parts);
        let expected = sum(&segments);
        // Of the closed segments, only those at the front may be compacted yet.
        let (front, back) = segments.split_at(compacted.min(segments.len()));
        let mut after = vec![compact(&directory, front).expect("whole")];
        after.extend_from_slice(back);
        assert_eq!(found(&directory.store, &head), after);
        assert_eq!(sum(&after), expected);
        let all = compact(&directory, &after).expect("whole");
        assert_eq!(found(&directory.store, &head), std::slice::from_ref(&all));
        assert_eq!(sum(std::slice::from_ref(&all)), expected);
        // And once more, of what was compacted.
        let again = compact(&directory, &[all]).expect("whole");
        assert_eq!(found(&directory.store, &head), std::slice::from_ref(&again));
        assert_eq!(sum(&[again]), expected);
    }
}
