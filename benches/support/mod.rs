//! What several benchmarks need.

#![allow(dead_code, reason = "a toolbox: not every tool is in use at every place")]

pub(crate) mod function;
pub(crate) mod shard;

/// Whether everything is to run once, on little: in the test suite, which gives no `--bench`.
pub(crate) fn once() -> bool {
    let has = |wanted: &str| std::env::args().any(|word| word == wanted);
    has("--test") || !has("--bench")
}
