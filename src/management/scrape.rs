//! Gathers from all shards what a scrape shows, and tells them when a period of the metrics ends.
//!
//! A shard is asked for a slice of its functions at a time: between two slices it turns its loop and serves calls. All
//! shards copy at the same time, each on its own thread. Counters of one function are from one moment, those of different
//! functions need not be.

use std::{sync::Arc, time::Duration};

use shard_runtime::Workers;

use crate::host::ShardHost;
use crate::telemetry::shard::ShardCopy;

/// Functions of one slice. Copying this many takes a shard well under a millisecond (see `benches/scrape.rs`).
pub const SLICE_FUNCTIONS: usize = 128;
/// A period: what is called recent in the metrics is the current one and the one before.
const RECENT_PERIOD: Duration = Duration::from_secs(60);

/// Copies everything. `None` when a shard is gone.
pub async fn gather(workers: &Workers<ShardHost>) -> Option<Vec<ShardCopy>> {
    let mut copies: Vec<ShardCopy> = (0..workers.shards()).map(|_| ShardCopy::default()).collect();
    let mut left: Vec<(u16, usize)> = (0..workers.shards()).map(|shard| (shard, 0)).collect();
    while !left.is_empty() {
        let ask = |(shard, from): (u16, usize)| {
            let answer = workers.ask(shard, move |core, host| {
                let slice = host.copy_metrics(core, from, SLICE_FUNCTIONS);
                // Totals walk over all functions: once is enough.
                let totals = slice.next.is_none().then(|| core.totals());
                (slice, totals)
            });
            (shard, answer)
        };
        let questions: Vec<_> = left.drain(..).map(ask).collect();
        for (shard, answer) in questions {
            let (slice, totals) = answer.await.ok()?;
            let copy = copies.get_mut(usize::from(shard))?;
            copy.functions.extend(slice.functions);
            copy.totals = totals.unwrap_or_default();
            left.extend(slice.next.map(|next| (shard, next)));
        }
    }
    Some(copies)
}

/// Ends periods, for ever.
pub async fn keep_time(workers: Arc<Workers<ShardHost>>) {
    loop {
        tokio::time::sleep(RECENT_PERIOD).await;
        for shard in 0..workers.shards() {
            // Nobody waits for the answer: there is nothing in it.
            drop(workers.ask(shard, |_, host| host.rotate_metrics()));
        }
    }
}
