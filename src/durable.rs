//! The server's end of its journal: opened before anything else, read while readiness says how far that is, closed last.

pub mod functions;
mod pods;

use std::{
    io, iter,
    sync::Arc,
    time::{Duration, Instant},
};

use nanofaas_store::{Ephemeral, FileJournal, Journal, Progress, StoreError};
use shard_core::{Control, Input, Recovery, Stored};
use shard_runtime::Workers;
use tokio::sync::oneshot;

use self::functions::ApiFunctions;
use crate::{config::Config, host::ShardHost};

/// Time between two log entries about recovery.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two looks at a data directory that another server uses.
const DIRECTORY_INTERVAL: Duration = Duration::from_millis(100);

/// Things handed to a shard before it has its turn again.
const BATCH: usize = 256;

/// Time before something that failed is tried again for the first time, and at most.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// The server's journal, and how far it is.
pub struct Durable {
    journal: Arc<dyn Journal>,
    /// How far recovery has come.
    pub progress: Arc<Progress>,
}

impl Durable {
    /// Takes the data directory, unless nothing is to be kept.
    ///
    /// # Errors
    /// When the directory is not to be had.
    pub fn open(config: &Config, workers: &Arc<Workers<ShardHost>>) -> Result<Arc<Durable>, StoreError> {
        if config.ephemeral {
            return Ok(Durable::of(Arc::new(Ephemeral)));
        }
        let inbox = workers.inbox();
        let report = Arc::new(move |shard, input| inbox.post(shard, input));
        let journal = FileJournal::take(&config.data_dir, &ApiFunctions, workers.shards(), report)?;
        Ok(Durable::of(Arc::new(journal)))
    }

    /// Waits for a server that still uses the data directory, as long as the configuration says.
    pub async fn wait_for_directory(config: &Config) {
        let (data_dir, wait) = (&config.data_dir, config.data_dir_wait);
        let until = Instant::now() + wait;
        let mut told = false;
        while !config.ephemeral && Instant::now() < until && nanofaas_store::is_in_use(data_dir) {
            if !told {
                let data_dir = data_dir.display();
                tracing::info!(%data_dir, ?wait, "another server uses the data directory, waiting for its end");
                told = true;
            }
            tokio::time::sleep(DIRECTORY_INTERVAL).await;
        }
    }

    /// Any journal.
    pub fn of(journal: Arc<dyn Journal>) -> Arc<Durable> {
        Arc::new(Durable { journal, progress: Arc::default() })
    }

    /// What shards write to, and what says how it is.
    pub fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    /// Gives the shards back what was there before, and has everything written behind it. A disk that fails meanwhile is tried
    /// again: a server that ended instead would only be started once more.
    ///
    /// # Errors
    /// When the log is corrupt, or cannot be had for a reason that stays.
    pub async fn recover(&self, workers: &Arc<Workers<ShardHost>>) -> Result<(), StoreError> {
        let progress = Arc::clone(&self.progress);
        let telling = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(PROGRESS_INTERVAL).await;
                tracing::info!("{}", progress.text());
            }
        });
        let (journal, progress) = (Arc::clone(&self.journal), Arc::clone(&self.progress));
        let seating = workers.plan().seating;
        // What a shard would leave on disk is not read into memory for it.
        let share = workers.room().bytes.div_ceil(u64::from(workers.shards()));
        let results_max = workers.limits().results_on_disk.then_some(share);
        let recovered = self.patiently(move || journal.recover(seating, results_max, &progress)).await?;
        let functions: usize = recovered.iter().map(Recovery::functions).sum();
        let executions: usize = recovered.iter().map(Recovery::executions).sum();
        let fenced: u64 = recovered.iter().map(Recovery::fenced).sum();
        if fenced > 0 {
            tracing::warn!(
                records = fenced,
                "the journal has records of an owner that had lost its partitions when it wrote them; they do not count"
            );
        }
        give_back(workers, recovered, &self.progress).await;
        telling.abort();
        tracing::info!(functions, executions, "recovered");
        Ok(())
    }

    /// Does something on a thread that may wait for the disk, until it does not fail.
    async fn patiently<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let work = Arc::new(work);
        let [mut pause, pause_max] = RETRY_AFTER;
        loop {
            let doing = Arc::clone(&work);
            let error = match tokio::task::spawn_blocking(move || doing()).await {
                Ok(Err(error)) if error.is_passing() => error,
                Ok(done) => {
                    self.progress.set_obstacle(None);
                    return done;
                }
                Err(error) => return Err(StoreError::Thread(io::Error::other(error))),
            };
            tracing::error!(%error, again_in = ?pause, "the store could not be opened");
            self.progress.set_obstacle(Some(error.to_string()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
    }
}

/// Gives shards back what was kept, all at the same time, and ends when they have it.
async fn give_back(workers: &Arc<Workers<ShardHost>>, recovered: Vec<Recovery>, progress: &Arc<Progress>) {
    let all: usize = recovered.iter().map(|recovery| recovery.functions() + recovery.executions()).sum();
    progress.has_found(all as u64);
    let mut tasks = Vec::new();
    for (shard, recovery) in (0..).zip(recovered) {
        let (workers, progress) = (Arc::clone(workers), Arc::clone(progress));
        tasks.push(tokio::task::spawn_local(async move {
            let thread = workers.plan().thread_of(shard);
            for batch in batches(recovery) {
                let count = batch.iter().filter(|input| is_counted(input)).count();
                let (done, is_done) = oneshot::channel();
                workers.run_on(thread, move |worker| {
                    batch.into_iter().for_each(|input| worker.submit(input));
                    let _ = done.send(());
                });
                // Without an answer the thread is gone, and the server with it.
                if is_done.await.is_err() {
                    break;
                }
                progress.has_restored(count as u64);
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
    progress.end();
}

/// What a shard is told, a batch at a time: everything that was kept of it, and then that this was all. It goes on with what it has
/// when it hears that.
fn batches(recovery: Recovery) -> impl Iterator<Item = Vec<Input>> {
    let mut inputs =
        recovery.into_stored().map(Control::Restore).chain(iter::once(Control::Restored)).map(Input::Control);
    iter::from_fn(move || {
        let batch: Vec<Input> = inputs.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

/// Whether people are told of it as one of the things that are given back.
fn is_counted(input: &Input) -> bool {
    matches!(input, Input::Control(Control::Restore(Stored::Function(_) | Stored::Execution(_))))
}

#[cfg(test)]
mod tests {
    use shard_core::{ExecutionId, Name, PARTITIONS, Payload, Record};

    use super::*;

    fn id(number: usize) -> ExecutionId {
        ExecutionId::new((number as u128).to_le_bytes(), function().owner_hash())
    }

    fn function() -> Name {
        Name::new("f").expect("a name")
    }

    /// So many executions of one function.
    fn kept(executions: usize) -> Recovery {
        let mut recovery = Recovery::default();
        for number in 0..executions {
            recovery.apply_without_epoch(Record::Accepted {
                id: id(number),
                function: function(),
                created_ms: 1,
                payload: Payload::json("1"),
                extra: None,
                callback_url: None,
            });
        }
        recovery
    }

    #[test]
    fn a_shard_is_told_that_this_was_all_once_and_last_however_much_there_is() {
        // Partitions come first, and `Restored` last.
        for executions in [0, 1, BATCH - 2, BATCH - 1, BATCH, 2 * BATCH - 1, 3 * BATCH + 7] {
            let batches: Vec<Vec<Input>> = batches(kept(executions)).collect();
            let others = usize::from(PARTITIONS) + 1;
            assert_eq!(batches.len(), (executions + others).div_ceil(BATCH), "{executions}");
            assert!(batches.iter().all(|batch| batch.len() <= BATCH), "{executions}");
            let mut inputs: Vec<Input> = batches.into_iter().flatten().collect();
            assert!(matches!(inputs.pop(), Some(Input::Control(Control::Restored))), "{executions}");
            assert!(
                inputs.iter().all(|input| matches!(input, Input::Control(Control::Restore(_)))),
                "{executions}"
            );
            assert_eq!(inputs.iter().filter(|input| is_counted(input)).count(), executions);
            let ids = inputs.iter().filter_map(|input| match input {
                Input::Control(Control::Restore(Stored::Execution(execution))) => Some(execution.id),
                _ => None,
            });
            assert!(ids.eq((0..executions).map(id)), "{executions}");
        }
    }
}
