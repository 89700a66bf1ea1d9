//! Records survive the way to bytes and back, bytes that are none are noticed, and the bytes of every format are read for ever.

use std::{collections::BTreeMap, fs, path::Path};

use shard_core::{FunctionSpec as CoreSpec, Policy, Target};

use super::*;
use crate::{
    directory::FORMAT,
    files::OsFiles,
    function::Mode,
    recovery::{self, Progress},
    segment::{
        Mark,
        tests::{Scratch, write},
    },
};

#[path = "codec_tests/functions.rs"]
mod functions;

use functions::{full, other_names, plain, with_pods};

/// Functions whose documents are what is on disk.
pub(crate) struct Plain;

impl Functions for Plain {
    fn to_disk(&self, spec: &CoreSpec) -> Option<Function> {
        Function::from_bytes(&spec.document).ok()
    }

    fn to_core(&self, function: Function) -> Option<CoreSpec> {
        let document = function.to_bytes().into();
        let name = Name::new(&function.name)?;
        Some(CoreSpec { name, policy: Policy::default(), target: Target::Local, scaling: None, document })
    }
}

/// For tests of the store, to which functions are their documents.
pub(crate) fn codec() -> Codec {
    Codec::new(&Plain)
}

/// A record as a server writes it.
pub(crate) fn owned(record: Record) -> Entry {
    Entry::of(Epoch(1), record)
}

fn spec(function: &Function) -> Box<CoreSpec> {
    Box::new(Plain.to_core(function.clone()).expect("a name"))
}

pub(crate) fn id() -> ExecutionId {
    ExecutionId::new(*b"0123456789abcdef", 0xbeef)
}

/// One of every kind, with and without what may be absent.
fn records() -> Vec<Record> {
    let [file, hpa] = other_names().map(|function| spec(&function));
    let mut all = vec![
        Record::Registered { spec: spec(&plain()) },
        Record::Registered { spec: spec(&full()) },
        Record::Registered { spec: file },
        Record::Registered { spec: hpa },
        Record::Reinstated { spec: spec(&Function { max_retries: Some(1), ..plain() }) },
    ];
    all.extend(records_of_executions());
    all.push(ended_encoded());
    all.push(Record::Registered { spec: spec(&with_pods()) });
    // Attempts with jobs, since these outlive the server.
    all.push(Record::JobOrdered { id: id(), attempt: 2, until_ms: 0x0102_0304_0506_0708 });
    all.push(Record::JobLost { id: id() });
    all
}

/// A kind of output that came during format 2.
fn ended_encoded() -> Record {
    let media = Media { content_type: "a/b; c=d".into(), encoding: Some("br, gzip".into()) };
    let output = Output { body: "x".into(), kind: OutputKind::Other(Box::new(media)) };
    let result = EndResult::Output(output);
    let end = End { result, dispatched_ms: 5, finished_ms: 6, cold_start: false, init_ms: None };
    Record::Ended { id: id(), end: Box::new(end), dead: false }
}

fn records_of_executions() -> Vec<Record> {
    let name = Name::new("f").expect("a name");
    let failure = Failure {
        code: Cow::Borrowed("FAILED"),
        message: "It failed".into(),
        body: Some(Output { body: "no".into(), kind: OutputKind::other("text/html") }),
    };
    let end = |result| {
        Box::new(End { result, dispatched_ms: 5, finished_ms: 6, cold_start: true, init_ms: Some(9) })
    };
    let output = |kind| EndResult::Output(Output { body: "[1]".into(), kind });
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
        Record::Removed { name },
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
    ];
    all.extend([OutputKind::Json, OutputKind::Text, OutputKind::other("a/b")].map(|kind| {
        let end = End { init_ms: None, cold_start: false, ..*end(output(kind)) };
        Record::Ended { id: id(), end: Box::new(end), dead: false }
    }));
    all.extend(STAGES.map(|stage| Record::Ended {
        id: id(),
        end: end(EndResult::TimedOut { stage, limit_ms: 4 }),
        dead: true,
    }));
    all.extend(DELIVERY_STATUSES.map(|status| Record::Delivered {
        id: id(),
        delivery: Delivery { status, attempts: 2, last_error: Some("refused".into()) },
    }));
    all
}

/// The same as servers write them, and that epochs begin.
fn entries() -> Vec<Entry> {
    let epochs = [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX].into_iter().cycle().map(Epoch);
    let mut all: Vec<Entry> = epochs.zip(records()).map(|(epoch, record)| Entry::of(epoch, record)).collect();
    for (partition, epoch) in [(0, 1), (255, u64::MAX)] {
        let (partition, epoch) = (Partition(partition), Epoch(epoch));
        all.push(Entry::of(epoch, Record::Started { partition, epoch }));
    }
    all
}

/// As versions before epochs wrote it.
pub(crate) fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(codec().encode_old(record, &mut bytes), "{record:?}");
    bytes
}

/// As it is written today. `None`: it is read only.
fn encoded_again(decoded: &Decoded) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let is_written = match decoded {
        Decoded::Owned(entry) => codec().encode(entry, &mut bytes),
        Decoded::Old(record) => codec().encode_old(record, &mut bytes),
        Decoded::OldStart(_) => return None,
    };
    assert!(is_written, "{decoded:?}");
    Some(bytes)
}

/// What the fixtures of a format say: its records by kind. Format 1 had no starts and no epochs, and its functions said fewer things.
fn written_in(format: u32) -> BTreeMap<u8, Vec<Decoded>> {
    let mut by_kind: BTreeMap<u8, Vec<Decoded>> = BTreeMap::new();
    let mut all = records();
    if format > 1 {
        by_kind.insert(kind::STARTED, vec![Decoded::OldStart(Epoch(u64::MAX))]);
        for decoded in entries().into_iter().map(Decoded::Owned) {
            let kind = encoded_again(&decoded).expect("it is written")[4];
            by_kind.entry(kind).or_default().push(decoded);
        }
    }
    if format == 1 {
        all = records_of_executions();
        let old = Function { name: "old".to_owned(), max_retries: Some(3), retry_backoff_ms: 0, ..plain() };
        let pool = Function {
            name: "pool".to_owned(),
            max_retries: Some(1),
            endpoint_url: Some("http://127.0.0.1:39039".to_owned()),
            execution_mode: Mode::Pool,
            requested_execution_mode: Mode::Pool,
            effective_execution_mode: Mode::Pool,
            ..old.clone()
        };
        all.extend([&old, &pool].map(|function| Record::Registered { spec: spec(function) }));
        all.push(Record::Reinstated {
            spec: spec(&Function { name: "again".to_owned(), concurrency: 7, ..old }),
        });
    }
    for record in all {
        by_kind.entry(encoded(&record)[4]).or_default().push(Decoded::Old(record));
    }
    by_kind
}

/// The fixtures of a format by kind: records as they are on disk, with their length, a line each.
fn fixtures(format: u32) -> BTreeMap<u8, Vec<Vec<u8>>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/records/format-{format}"));
    let files = fs::read_dir(&folder).expect("a folder of each format").map(|file| {
        let path = file.expect("an entry").path();
        let kind = path.file_stem().and_then(|name| name.to_str()?.split('-').next()?.parse().ok());
        let text = fs::read_to_string(&path).expect("readable");
        (kind.expect("the number of a kind"), text.lines().map(bytes_of).collect())
    });
    files.collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

#[test]
fn every_kind_of_record_has_fixtures() {
    let known: Vec<u8> =
        (1..=u8::MAX).filter(|kind| !matches!(codec().decode(&[*kind]), Err(Newer(_)))).collect();
    let fixtures = fixtures(FORMAT);
    assert_eq!(fixtures.keys().copied().collect::<Vec<u8>>(), known, "kinds with fixtures, and all");
    assert_eq!(written_in(FORMAT).into_keys().collect::<Vec<u8>>(), known, "kinds that are tried, and all");
    assert!(fixtures.values().all(|lines| !lines.is_empty()));
}

#[test]
fn what_any_format_wrote_is_read_for_ever() {
    for format in 1..=FORMAT {
        let expected = written_in(format);
        let fixtures = fixtures(format);
        assert_eq!(fixtures.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (kind, lines) in fixtures {
            let read: Vec<Decoded> = lines
                .iter()
                .map(|line| {
                    let mut records = split(line);
                    let record = records.next().flatten().expect("a length and a record");
                    assert!(records.next().is_none(), "{record:?} and more");
                    codec().decode(record).unwrap_or_else(|why| panic!("kind {kind} of {format}: {why:?}"))
                })
                .collect();
            assert_eq!(read, expected[&kind], "kind {kind} of format {format}");
        }
    }
}

/// The format is what it was. Should this fail, another one is written, which servers of today do not read: see the module.
#[test]
fn what_is_written_is_what_the_fixtures_say() {
    for (kind, lines) in fixtures(FORMAT) {
        if kind == kind::STARTED {
            continue;
        }
        let written: Vec<Vec<u8>> = written_in(FORMAT)[&kind].iter().filter_map(encoded_again).collect();
        let texts = |lines: &[Vec<u8>]| -> Vec<String> {
            lines.iter().map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
        };
        assert_eq!(texts(&written), texts(&lines), "kind {kind}");
    }
}

#[test]
fn what_a_newer_version_wrote_is_named_and_not_broken() {
    let change = |record: &Record, from: &str, to: &str| {
        let bytes = encoded(record);
        let document = String::from_utf8(bytes[4 + 1 + 4 + 1 + 4..].to_vec()).expect("a function");
        assert!(document.contains(from), "{document}");
        let document = document.replacen(from, to, 1);
        let mut changed = bytes[4..4 + 1 + 4 + 1].to_vec();
        changed.extend((document.len() as u32).to_le_bytes());
        changed.extend(document.into_bytes());
        changed
    };
    let function = Record::Registered { spec: spec(&full()) };
    let last = |record: &Record, back: usize, byte: u8| {
        let mut bytes = encoded(record)[4..].to_vec();
        let at = bytes.len() - back;
        bytes[at] = byte;
        bytes
    };
    let delivered = Record::Delivered {
        id: id(),
        delivery: Delivery { status: DeliveryStatus::Delivered, attempts: 2, last_error: None },
    };
    let timed_out = EndResult::TimedOut { stage: Stage::Queue, limit_ms: 4 };
    let end = End { result: timed_out, dispatched_ms: 5, finished_ms: 6, cold_start: true, init_ms: None };
    let ended = Record::Ended { id: id(), end: Box::new(end), dead: true };
    for (bytes, what) in [
        (vec![18], "a record of kind 18"),
        (vec![kind::OWNED, 1, 18], "a record of kind 18"),
        (vec![255, 1, 2], "a record of kind 255"),
        (change(&function, r#""name""#, r#""colour":1,"name""#), "a function with unknown field `colour`"),
        (change(&function, r#""cpu""#, r#""gpu":1,"cpu""#), "a function with unknown field `gpu`"),
        (change(&function, r#""query""#, r#""per":1,"query""#), "a function with unknown field `per`"),
        (
            change(&function, r#""minReplicas""#, r#""idle":1,"minReplicas""#),
            "a function with unknown field `idle`",
        ),
        (change(&function, r#""highLoad"#, r#""load":1,"highLoad"#), "a function with unknown field `load`"),
        (change(&function, "REMOTE", "WASM"), "a function with unknown variant `WASM`"),
        (last(&delivered, 6, 4), "a delivery that stands at 4"),
        (last(&ended, 25, 3), "an end of kind 3"),
        (last(&ended, 24, 4), "a deadline of stage 4"),
    ] {
        assert_eq!(codec().decode(&bytes), Err(Newer(what.to_owned())));
    }
    // What is no JSON was written by nobody.
    assert_eq!(codec().decode(&change(&function, "{", "")), Err(Broken));
    assert_eq!(codec().decode(&[0]), Err(Broken));
}

#[test]
fn a_store_of_a_newer_version_is_not_called_corrupt() {
    let scratch = Scratch::new("newer");
    let mut records = encoded(&Record::Forgotten { id: id() });
    records.extend([2, 0, 0, 0, 18, 1]);
    let (segment, _) = write(&scratch.0, 1, Mark::default(), &[&records]);
    let read = recovery::read(
        &OsFiles,
        codec(),
        &[segment],
        (shard_core::Seating::of(2), None),
        &Progress::default(),
        None,
    );
    let text = read.map(|_| "it is read").expect_err("it is newer").to_string();
    assert!(
        text.contains(
            "0000000001-0000000001.log was written by a newer version: a record of kind 18 at offset 128"
        ),
        "{text}"
    );
}

#[test]
fn every_record_comes_back() {
    let mut run = Vec::new();
    let all: Vec<Decoded> =
        entries().into_iter().map(Decoded::Owned).chain(records().into_iter().map(Decoded::Old)).collect();
    for decoded in &all {
        run.extend(encoded_again(decoded).expect("it is written"));
    }
    let read: Vec<Decoded> = split(&run)
        .map(|record| codec().decode(record.expect("a record")).unwrap_or_else(|why| panic!("{why:?}")))
        .collect();
    assert_eq!(read, all);
    let mut subjects = split(&run).map(|record| head(record.expect("a record")).expect("a subject").subject);
    let name = Name::new("f").expect("a name");
    assert!(subjects.all(|subject| {
        let of = [name.partition(), id().partition(), Partition(0), Partition(255)];
        subject.partition().is_some_and(|partition| of.contains(&partition))
    }));
}

#[test]
fn a_function_that_cannot_be_written_down_leaves_nothing() {
    let spec = Box::new(CoreSpec { document: "{".into(), ..*spec(&plain()) });
    let mut bytes = b"before".to_vec();
    assert!(!codec().encode(&owned(Record::Registered { spec }), &mut bytes));
    assert_eq!(bytes, b"before");
}

#[test]
fn what_is_cut_or_too_long_is_no_record() {
    let all = entries().into_iter().map(Decoded::Owned).chain(records().into_iter().map(Decoded::Old));
    for bytes in all.filter_map(|decoded| encoded_again(&decoded)) {
        let record = &bytes[4..];
        for length in 0..record.len() {
            assert_eq!(codec().decode(&record[..length]), Err(Broken), "{length} of {record:?}");
        }
        assert_eq!(codec().decode(&[record, &[0]].concat()), Err(Broken));
        assert_eq!(split(&bytes[..bytes.len() - 1]).last(), Some(None));
        // Whatever a byte is changed to, reading ends: with a record, or without one.
        for at in 0..record.len() {
            let mut changed = record.to_vec();
            changed[at] ^= 0xff;
            let _ = codec().decode(&changed);
        }
    }
}
