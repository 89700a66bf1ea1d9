//! The exposition: everything that the server measures, as text.
//!
//! `exposition` knows the format, `functions` and `server` have the tables of metrics, `families` writes those of
//! functions. A metric that a module keeps for itself is added to the text that [`of_server`] returns. docs/metrics.md
//! lists them all, and a test holds the two together.

mod exposition;
mod families;
mod functions;
mod server;

pub use exposition::{Exposition, Kind, Labels};
use shard_core::Totals;
use shard_runtime::ThreadView;

use super::{
    process::ProcessView,
    shard::{FunctionCopy, ShardCopy},
};

/// Everything about the server itself.
pub fn of_server(totals: &[Totals], threads: &[ThreadView], process: &ProcessView) -> Exposition {
    let mut text = Exposition::default();
    server::render(&mut text, totals, threads, process);
    text
}

/// Everything about functions, in chunks. `functions_max`: label values; the functions beyond add up under `_other`.
pub fn of_functions(shards: Vec<ShardCopy>, functions_max: usize) -> impl Iterator<Item = String> + 'static {
    let functions = sorted(shards);
    std::iter::once(families::of_all(&functions)).chain(families::Chunks::new(functions, functions_max))
}

/// All functions by name, each once. A function that was replaced while its shard was being copied may be there
/// twice: the one that was copied last is the new one.
fn sorted(shards: Vec<ShardCopy>) -> Vec<FunctionCopy> {
    let mut functions: Vec<FunctionCopy> = shards.into_iter().flat_map(|shard| shard.functions).collect();
    functions.reverse();
    functions.sort_by(|one, other| one.name.cmp(&other.name));
    functions.dedup_by(|later, first| later.name == first.name);
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_replaced_during_the_scrape_is_told_once() {
        let copy = |name: &str, queue_depth| FunctionCopy {
            name: name.into(),
            counters: shard_core::Counters::default(),
            queue_depth,
            sync_queue_depth: 0,
            in_flight: 0,
            concurrency: 1,
            dead_letters: 0,
            replicas: None,
            scaling: None,
            durations: None,
        };
        let functions = vec![copy("b", 1), copy("a", 2), copy("b", 3)];
        let shards = vec![ShardCopy { functions, ..ShardCopy::default() }, ShardCopy::default()];
        let told: Vec<_> = sorted(shards)
            .into_iter()
            .map(|function| (function.name.into_string(), function.queue_depth))
            .collect();
        assert_eq!(told, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    }
}
