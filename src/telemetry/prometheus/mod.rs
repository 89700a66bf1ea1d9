//! The exposition: everything that the server measures, as text.
//!
//! `exposition` knows the format, `functions` and `server` have the tables of metrics. A metric that a module keeps for
//! itself is added to the text that [`render`] returns. docs/metrics.md lists them all, and a test holds the two
//! together.

mod exposition;
mod functions;
mod server;

pub use exposition::{Exposition, Kind, Labels};
use shard_runtime::ThreadView;

use super::{
    process::ProcessView,
    shard::{FunctionCopy, ShardCopy},
};

/// Bytes of the text without functions, about.
const SERVER_BYTES: usize = 24 * 1024;
/// Bytes of what is written about one function that nothing has happened to, about.
const IDLE_BYTES: usize = 1024;
/// Bytes of what is written about one that was called, about.
const CALLED_BYTES: usize = 9 * 1024;

/// Writes everything that shards, threads and process tell. `functions_max`: label values; the functions beyond add up
/// under `_other`.
pub fn render(
    shards: Vec<ShardCopy>,
    threads: &[ThreadView],
    process: &ProcessView,
    functions_max: usize,
) -> Exposition {
    let totals: Vec<_> = shards.iter().map(|shard| shard.totals).collect();
    let functions = sorted(shards);
    // A text that grows is in memory twice while it does.
    let bytes =
        |function: &FunctionCopy| if function.durations.is_some() { CALLED_BYTES } else { IDLE_BYTES };
    let bytes: usize = functions.iter().take(functions_max).map(bytes).sum();
    let mut text = Exposition::with_capacity(SERVER_BYTES + bytes);
    functions::render(&mut text, &functions::rows(&functions, functions_max));
    server::render(&mut text, &totals, threads, process);
    text
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
