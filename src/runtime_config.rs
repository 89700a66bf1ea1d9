//! The configuration that changes while the server runs: one snapshot, and changes that reach every shard or none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nanofaas_wire::{
    function::Registration,
    runtime_config::{Patch, Rejection, Snapshot},
};
use parking_lot::RwLock;
use shard_core::{
    Control, Input, Settings,
    settings::{Autoscaler, SyncQueue},
};
use shard_runtime::{Host, Workers};
use tokio::{sync::oneshot, time::timeout};

use crate::config::{BackendKind, Config, quantity::micros};

/// How long a shard may take to take a change.
const APPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes so far, by what became of them.
#[derive(Debug, Default)]
pub struct Updates {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Updates {
    /// Changes that were made, and those that were refused or rolled back.
    pub fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// What the server starts with.
pub fn initial(config: &Config) -> Snapshot {
    Snapshot {
        revision: 0,
        rate_max_per_second: config.rate.max_per_second,
        default_timeout_ms: u32::try_from(config.defaults.timeout.as_millis()).unwrap_or(u32::MAX),
        default_concurrency: config.defaults.concurrency,
        default_queue_size: config.defaults.queue_size,
        default_max_retries: config.defaults.max_retries,
        sync_queue_enabled: config.sync_queue.enabled,
        sync_queue_admission_enabled: config.sync_queue.admission_enabled,
        sync_queue_max_estimated_wait: config.sync_queue.max_estimated_wait,
        sync_queue_max_queue_wait: config.sync_queue.max_queue_wait,
        sync_queue_retry_after_seconds: config.sync_queue.retry_after_seconds,
    }
}

/// What shards have to know of a snapshot, with what cannot be changed taken from `config`.
pub fn settings(snapshot: &Snapshot, config: &Config) -> Settings {
    Settings {
        calls_per_second: snapshot.rate_max_per_second,
        background_scheduler: config.background_scheduler.enabled,
        autoscaler: config.autoscaler.enabled.then(|| Autoscaler {
            poll_interval_us: micros(config.scaling.poll_interval),
            upscale_cooldown_us: micros(config.scaling.upscale_cooldown),
            downscale_cooldown_us: micros(config.scaling.downscale_cooldown),
        }),
        sync_queue: snapshot.sync_queue_enabled.then(|| SyncQueue {
            admission_enabled: snapshot.sync_queue_admission_enabled,
            max_depth: config.sync_queue.max_depth,
            max_estimated_wait_us: micros(snapshot.sync_queue_max_estimated_wait),
            max_queue_wait_us: micros(snapshot.sync_queue_max_queue_wait),
            retry_after_s_min: snapshot.sync_queue_retry_after_seconds,
            throughput_window_us: micros(config.sync_queue.throughput_window),
            min_samples: config.sync_queue.per_function_min_samples,
        }),
    }
}

/// See the module.
pub struct RuntimeConfig<H: 'static> {
    workers: Arc<Workers<H>>,
    config: Config,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held by the change that is being made.
    changing: tokio::sync::Mutex<()>,
    /// Counts them, for metrics.
    pub updates: Updates,
}

impl<H: Host> RuntimeConfig<H> {
    /// What the server starts with.
    pub fn new(workers: &Arc<Workers<H>>, config: Config) -> RuntimeConfig<H> {
        RuntimeConfig {
            workers: Arc::clone(workers),
            snapshot: RwLock::new(Arc::new(initial(&config))),
            config,
            changing: tokio::sync::Mutex::default(),
            updates: Updates::default(),
        }
    }

    /// What holds now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// What registrations are resolved against now.
    pub fn registration(&self) -> Registration {
        let on = self.config.deployment.backends_on();
        self.snapshot().registration(on.contains(&BackendKind::Process), on.contains(&BackendKind::K8s))
    }

    /// Says whether a change could be made.
    ///
    /// # Errors
    /// What speaks against it, the revision left aside.
    pub fn validate(&self, patch: &Patch) -> Result<(), Rejection> {
        let mut patch = patch.clone();
        patch.expected_revision = None;
        patch.merge(&self.snapshot()).map(|_| ())
    }

    /// Makes a change, on every shard or on none. Returns the new snapshot and warnings. A change that is dropped
    /// half-way is rolled back.
    ///
    /// # Errors
    /// What speaks against it; nothing has changed then.
    pub async fn change(&self, patch: &Patch) -> Result<(Arc<Snapshot>, Vec<String>), Rejection> {
        let _changing = self.changing.lock().await;
        let current = self.snapshot();
        let (merged, warnings) = patch.merge(&current).inspect_err(|_| {
            self.updates.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        let rollback = Rollback { config: self, current: &current };
        // At any time one of the two limits holds, so no second admits more than the higher one.
        self.workers.set_calls_per_second(merged.rate_max_per_second);
        self.configure(&settings(&merged, &self.config)).await.map_err(|shard| {
            tracing::error!(shard, "a shard did not take the runtime configuration in time");
            Rejection::RolledBack { shard }
        })?;
        std::mem::forget(rollback);
        let merged = Arc::new(merged);
        *self.snapshot.write() = Arc::clone(&merged);
        self.updates.succeeded.fetch_add(1, Ordering::Relaxed);
        tracing::info!(revision = merged.revision, "runtime configuration changed");
        Ok((merged, warnings))
    }

    /// Gives all shards these settings; the first shard that does not take them in time.
    async fn configure(&self, settings: &Settings) -> Result<(), u16> {
        let mut taken = Vec::new();
        for shard in 0..self.workers.shards() {
            let (sender, receiver) = oneshot::channel();
            let settings = settings.clone();
            self.workers.run_on(self.workers.plan().thread_of(shard), move |worker| {
                worker.submit(Input::Control(Control::Configure(settings)));
                // Whoever asked may have lost patience.
                let _ = sender.send(());
            });
            taken.push((shard, receiver));
        }
        let deadline = tokio::time::Instant::now() + APPLY_TIMEOUT;
        for (shard, receiver) in taken {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !matches!(timeout(left, receiver).await, Ok(Ok(()))) {
                return Err(shard);
            }
        }
        Ok(())
    }
}

/// Puts back what held before, when it is dropped: a shard was late, or the client left and its request was dropped
/// between the first shard and the last.
struct Rollback<'a, H: Host> {
    config: &'a RuntimeConfig<H>,
    current: &'a Snapshot,
}

impl<H: Host> Drop for Rollback<'_, H> {
    fn drop(&mut self) {
        let RuntimeConfig { workers, config, updates, .. } = self.config;
        workers.set_calls_per_second(self.current.rate_max_per_second);
        // Control messages to a thread arrive in the order in which they were sent, and the next change is not sent
        // before this one is done: a shard that is late takes the change and then this, and ends with what held
        // before. Nobody needs to wait for it.
        for shard in 0..workers.shards() {
            workers.post(shard, Input::Control(Control::Configure(settings(self.current, config))));
        }
        updates.failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(revision = self.current.revision, "runtime configuration rolled back");
    }
}

#[cfg(test)]
mod tests;
