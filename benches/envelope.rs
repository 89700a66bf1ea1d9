//! What reading and writing a call costs: the caller's envelope in, the function's request out, the function's answer
//! in, the caller's answer out. Bytes in memory, no connection.
//!
//! `cargo bench --bench envelope` measures; the test suite runs everything once.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hyper::Uri;
use nanofaas::dispatch::measured::{head_bytes, writer};
use nanofaas_wire::{envelope, result};
use shard_core::{AttemptKey, Destination, Dispatch, EndpointId, ExecutionId, Output, OutputKind, Payload};

/// Bytes of an input: as most are, as some are, and one that is not copied behind its head any more.
const INPUT_BYTES: [usize; 3] = [16, 1 << 10, 64 << 10];
const METADATA: &str = r#"{"tenant":"a","locale":"de"}"#;
const ID: [u8; 16] = *b"0123456789abcdef";

/// A JSON object of so many bytes.
fn input(bytes: usize) -> String {
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - 11));
    assert_eq!(text.len(), bytes);
    text
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for bytes in INPUT_BYTES {
        let plain = format!(r#"{{"input":{}}}"#, input(bytes));
        let full = format!(r#"{{"input":{},"metadata":{METADATA}}}"#, input(bytes));
        for (name, body) in [("input", plain), ("input and metadata", full)] {
            let body = Bytes::from(body);
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                bencher.iter(|| envelope::parse(black_box(&body)).expect("an envelope"));
            });
        }
    }
    group.finish();
}

/// The request to the function.
fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    for bytes in INPUT_BYTES {
        let metadata = Some(Bytes::from_static(METADATA.as_bytes()));
        let dispatch = Dispatch {
            attempt: AttemptKey::default(),
            id: ExecutionId::new(ID, 7),
            number: 1,
            destination: Destination::Endpoint(EndpointId::default()),
            payload: Payload { metadata, ..Payload::json(input(bytes)) },
            remaining_ms: 30_000,
            extra: None,
        };
        let address = Uri::from_static("http://127.0.0.1:8080/invoke");
        let written_bytes = writer(&address);
        group.bench_function(BenchmarkId::new("request", bytes), |bencher| {
            bencher.iter(|| written_bytes(black_box(&dispatch)));
        });
        let output = Output { body: Bytes::from(input(bytes)), kind: OutputKind::Json };
        group.bench_function(BenchmarkId::new("answer", bytes), |bencher| {
            bencher.iter(|| result::success(&dispatch.id, black_box(&output)));
        });
    }
    group.finish();
}

/// The head of the function's answer.
fn head(criterion: &mut Criterion) {
    let answer = b"HTTP/1.1 200 OK\r\nserver: nginx\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
        content-type: application/json\r\ncontent-length: 11\r\nconnection: keep-alive\r\n\r\n";
    assert_eq!(head_bytes(answer), Some(answer.len()));
    criterion.bench_function("parse/head", |bencher| bencher.iter(|| head_bytes(black_box(answer))));
}

criterion_group!(benches, parse, write, head);
criterion_main!(benches);
