//! What it costs to find the route of a request: its path, and whether it takes the method.
//!
//! `cargo bench --bench routing` measures; the test suite runs everything once.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hyper::Method;
use nanofaas::http::measured::is_served;

fn routes(criterion: &mut Criterion) {
    for (name, method, path, expected) in [
        ("invoke", Method::POST, "/v1/functions/word-stats:invoke", true),
        ("enqueue", Method::POST, "/v1/functions/word-stats:enqueue", true),
        ("invoke, percent-encoded", Method::POST, "/v1/functions/word%2Dstats%3Ainvoke", true),
        ("execution", Method::GET, "/v1/executions/30313233-3435-4637-b839-616263640007", true),
        ("dead letter", Method::POST, "/v1/functions/f/dead-letters/30313233-3435:replay", true),
        ("other method", Method::DELETE, "/v1/functions/word-stats:invoke", false),
        ("no such path", Method::GET, "/v2/functions/word-stats", false),
    ] {
        assert_eq!(is_served(path, &method), expected, "{path}");
        criterion.bench_function(&format!("route/{name}"), |bencher| {
            bencher.iter(|| is_served(black_box(path), black_box(&method)));
        });
    }
}

criterion_group!(benches, routes);
criterion_main!(benches);
