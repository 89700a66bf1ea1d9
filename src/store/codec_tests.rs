//! Records survive the way to bytes and back, and bytes that are none are noticed.

use shard_core::{FunctionSpec as CoreSpec, Policy, Target};

use super::*;

const DOCUMENT: &str = r#"{"name":"f","command":[],"env":{"A":"b"},"timeoutMs":7,"concurrency":2,"queueSize":3,
    "maxRetries":4,"retryBackoffMs":5,"executionMode":"LOCAL","requestedExecutionMode":"LOCAL",
    "effectiveExecutionMode":"LOCAL"}"#;

fn spec() -> Box<CoreSpec> {
    Box::new(FunctionSpec::from_document(DOCUMENT.as_bytes()).expect("a document").core_spec())
}

fn id() -> ExecutionId {
    ExecutionId::new(*b"0123456789abcdef", 0xbeef)
}

/// One of every kind, with and without what may be absent.
fn records() -> Vec<Record> {
    let name = Name::new("f").expect("a name");
    let failure = Failure {
        code: Cow::Borrowed("FAILED"),
        message: "It failed".into(),
        body: Some(Output { body: "no".into(), kind: OutputKind::Other("text/html".into()) }),
    };
    let end = |result| {
        Box::new(End { result, dispatched_ms: 5, finished_ms: 6, cold_start: true, init_ms: Some(9) })
    };
    let output = |kind| EndResult::Output(Output { body: "[1]".into(), kind });
    let stages = [Stage::Queue, Stage::Instance, Stage::Dispatch, Stage::Function];
    let statuses =
        [DeliveryStatus::Pending, DeliveryStatus::Delivered, DeliveryStatus::Failed, DeliveryStatus::Refused];
    let extra = Extra {
        trace_id: Some("t".into()),
        traceparent: Some("p".into()),
        idempotency: Some(Idempotency { key: "k".into(), digest: [7; 16] }),
        max_age_ms: Some(8),
        callback_url: None,
    };
    let accepted = |payload, extra, callback_url| Record::Accepted {
        id: id(),
        function: name,
        created_ms: u64::MAX,
        payload,
        extra,
        callback_url,
    };
    let raw = Payload {
        input: vec![0, 255].into(),
        metadata: Some("{}".into()),
        content_type: Some("image/png".into()),
    };
    let mut all = vec![
        Record::Registered { spec: spec() },
        Record::Removed { name },
        Record::Reinstated { spec: spec() },
        accepted(Payload::json("1"), None, None),
        accepted(raw.clone(), Some(Box::new(extra.clone())), Some("http://h/".into())),
        Record::Kept {
            id: id(),
            function: name,
            created_ms: 1,
            attempt: 2,
            payload: raw,
            extra: Some(Box::new(extra)),
            last_failure: Some(Box::new(failure.clone())),
            end: end(output(OutputKind::Json)),
            dead: true,
        },
        Record::Attempted { id: id(), attempt: u32::MAX },
        Record::Requeued { id: id(), failure: Failure { body: None, ..failure.clone() } },
        Record::Ended { id: id(), end: end(EndResult::Failed(Box::new(failure))), dead: true },
        Record::Replayed { id: id(), at_ms: 3 },
        Record::Purged { id: id() },
        Record::Forgotten { id: id() },
        Record::Started { start: u64::MAX },
    ];
    all.extend([OutputKind::Json, OutputKind::Text, OutputKind::Other("a/b".into())].map(|kind| {
        let end = End { init_ms: None, cold_start: false, ..*end(output(kind)) };
        Record::Ended { id: id(), end: Box::new(end), dead: false }
    }));
    all.extend(stages.map(|stage| Record::Ended {
        id: id(),
        end: end(EndResult::TimedOut { stage, limit_ms: 4 }),
        dead: true,
    }));
    all.extend(statuses.map(|status| Record::Delivered {
        id: id(),
        delivery: Delivery { status, attempts: 2, last_error: Some("refused".into()) },
    }));
    all
}

#[test]
fn every_record_comes_back() {
    let mut run = Vec::new();
    for record in records() {
        encode(&record, &mut run);
    }
    let read: Vec<Record> =
        split(&run).map(|record| record.and_then(decode).unwrap_or_else(|| panic!("{record:?}"))).collect();
    assert_eq!(read, records());
    let mut subjects = split(&run).map(|record| record.and_then(subject).expect("a subject").1.owner_hash());
    let name = Name::new("f").expect("a name");
    assert!(subjects.all(|hash| [Some(name.owner_hash()), Some(0xbeef), None].contains(&hash)));
}

#[test]
fn a_function_keeps_its_numbers() {
    let spec = spec();
    assert_eq!(spec.target, Target::Local);
    let policy = Policy {
        timeout_ms: 7,
        concurrency: 2,
        queue_size: 3,
        attempts_max: 4,
        sync_attempts_max: 4,
        retry_backoff_ms: 5,
        rate_limit_per_second: None,
    };
    assert_eq!(spec.policy, policy);
}

#[test]
fn attempts_that_no_document_names_are_kept() {
    let document = DOCUMENT.replace(r#""maxRetries":4,"#, "");
    for (attempts, policy) in [(0, (1, 1)), (1, (1, 1)), (3, (3, 1)), (7, (7, 1))] {
        let mut spec = FunctionSpec::from_document(document.as_bytes()).expect("a document");
        spec.default_max_retries = attempts;
        let spec = Box::new(spec.core_spec());
        let mut bytes = Vec::new();
        encode(&Record::Registered { spec: spec.clone() }, &mut bytes);
        let Some(Record::Registered { spec: read }) = decode(&bytes[4..]) else { panic!("{bytes:?}") };
        assert_eq!((read.policy.attempts_max, read.policy.sync_attempts_max), policy);
        assert_eq!(read, spec, "clients read something else");
        assert!(!String::from_utf8_lossy(&read.document).contains("axRetries"));
    }
}

#[test]
fn what_is_cut_or_too_long_is_no_record() {
    for record in records() {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        let record = &bytes[4..];
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "{length} of {record:?}");
        }
        assert_eq!(decode(&[record, &[0]].concat()), None);
        assert_eq!(split(&bytes[..bytes.len() - 1]).last(), Some(None));
        // Whatever a byte is changed to, reading ends: with a record, or without one.
        for at in 0..record.len() {
            let mut changed = record.to_vec();
            changed[at] ^= 0xff;
            let _ = decode(&changed);
        }
    }
}

/// The bytes of format 1 are on disks: should this fail, the format is another one, and needs another number.
#[test]
fn the_format_is_what_it_was() {
    let mut bytes = Vec::new();
    records()
        .iter()
        // Documents are the API's, and `Started` came with format 2.
        .filter(|record| {
            !matches!(record, Record::Registered { .. } | Record::Reinstated { .. } | Record::Started { .. })
        })
        .for_each(|record| encode(record, &mut bytes));
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (1086, 964_339_732));
}
