//! The server's end of its store: opened before anything else, read while readiness says how far that is, closed last.

use std::{io, sync::Arc, time::Duration};

use shard_runtime::Fabric;

use crate::{
    config::Config,
    host::ShardHost,
    store::{
        Ephemeral, Store, StoreError,
        recovery::{self, Opened, Progress},
        writer::{Figures, Writer},
    },
};

/// Time between two log entries about recovery.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A store in use. Without one the server forgets everything when it ends.
pub struct Durable {
    opened: Opened,
    writer: Writer,
    /// How far recovery has come.
    pub progress: Arc<Progress>,
}

impl Durable {
    /// Takes the data directory and starts writing, unless nothing is to be kept.
    ///
    /// # Errors
    /// When the directory is not to be had.
    pub fn open(
        config: &Config,
        fabric: &Arc<Fabric<ShardHost>>,
    ) -> Result<Option<Arc<Durable>>, StoreError> {
        if config.ephemeral {
            return Ok(None);
        }
        let opened = recovery::open(&config.data_dir)?;
        let shards = Arc::clone(fabric);
        let report = Box::new(move |shard, input| shards.post(shard, input));
        let writer = opened.start_writer(fabric.shards(), report)?;
        Ok(Some(Arc::new(Durable { opened, writer, progress: Arc::default() })))
    }

    /// Where a shard writes to.
    pub fn store(durable: Option<&Arc<Durable>>, shard: u16) -> Box<dyn Store> {
        match durable {
            Some(durable) => Box::new(durable.writer.shard(shard)),
            None => Box::new(Ephemeral),
        }
    }

    /// Gives the shards back what was there before.
    ///
    /// # Errors
    /// When the log is corrupt or cannot be read.
    pub async fn recover(self: &Arc<Durable>, fabric: &Arc<Fabric<ShardHost>>) -> Result<(), StoreError> {
        let progress = Arc::clone(&self.progress);
        let telling = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(PROGRESS_INTERVAL).await;
                tracing::info!("{}", progress.text());
            }
        });
        let (durable, shards) = (Arc::clone(self), fabric.shards());
        let read = move || durable.opened.read(shards, &durable.progress);
        let recovered = match tokio::task::spawn_blocking(read).await {
            Ok(recovered) => recovered?,
            Err(error) => return Err(StoreError::Thread(io::Error::other(error))),
        };
        self.writer.log_was_read();
        let functions: usize = recovered.iter().map(shard_core::Recovery::functions).sum();
        let executions: usize = recovered.iter().map(shard_core::Recovery::executions).sum();
        recovery::give_back(fabric, recovered, &self.progress).await;
        telling.abort();
        tracing::info!(functions, executions, "recovered");
        Ok(())
    }

    /// What was written so far. Without a store that is nothing.
    pub fn figures(durable: Option<&Arc<Durable>>) -> Figures {
        durable.map(|durable| durable.writer.figures()).unwrap_or_default()
    }

    /// Writes what is pending. Call it when no shard takes anything any more.
    pub fn close(&self) {
        self.writer.stop();
    }
}
