//! The end of a server, in order: listeners close, requests end, then accepted executions, replicas and deliveries.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use shard_core::{Control, Input};
use tokio::task::JoinHandle;

use super::Server;
use crate::{host::ShardHost, http::connection::Connections};

/// Time that replicas get to finish, at least, when the rest of the shutdown took all there was.
pub(super) const REPLICAS_GRACE_MIN: Duration = Duration::from_secs(2);
/// Time for requests that are on their way over open connections, at most. It passes only while connections are open.
const IDLE_GRACE_MAX: Duration = Duration::from_secs(1);
/// Time for deliveries that the next server would make again: enough for a receiver that answers.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);
/// Part of the shutdown time after which what still waits in a queue is refused.
const QUEUE_PATIENCE: f64 = 0.8;

impl Server {
    /// Refuses traffic, lets what is in progress end, stops replicas. Returns the exit code.
    pub(super) async fn shut_down(&self, listeners: Vec<JoinHandle<()>>) -> ExitCode {
        let started = Instant::now();
        let config = &self.config.shutdown;
        self.ready.store(false, Ordering::Relaxed);
        tracing::info!(connections = self.open_connections(), "draining");
        tokio::time::sleep(config.delay).await;
        let deadline = Instant::now() + config.timeout;
        if let Some(resources) = self.resources.get() {
            // It ends within a moment. What it was asked for is refused.
            resources.end();
        }
        for shard in 0..self.workers.shards() {
            self.workers.post(shard, Input::Control(Control::EndWatches));
            if self.durable.journal().is_durable() {
                self.workers.post(shard, Input::Control(Control::Hold));
            }
        }
        self.each_listening(|connections| connections.drain());
        self.stopping.send_replace(true);
        for listener in listeners {
            // What has connected so far must be counted before anything is waited for.
            let _ = listener.await;
        }
        if !self.connections_ended(Instant::now() + IDLE_GRACE_MAX.min(config.timeout / 4)).await {
            self.each_listening(|connections| connections.close_idle());
        }
        if !self.connections_ended(started + config.delay + config.timeout.mul_f64(QUEUE_PATIENCE)).await {
            for shard in 0..self.workers.shards() {
                self.workers.post(shard, Input::Control(Control::Drain { finally: true }));
            }
        }
        let mut cut_off = 0;
        if !self.connections_ended(deadline).await {
            self.each_listening(|connections| connections.cut_off());
            self.connections_ended(Instant::now() + Duration::from_secs(1)).await;
            cut_off = self.connections.cut_off.load(Ordering::Relaxed);
        }
        let lost = self.accepted_left(deadline).await;
        let grace = deadline.saturating_duration_since(Instant::now()).max(REPLICAS_GRACE_MIN);
        let deployments = Arc::clone(&self.deployments);
        let stopping = tokio::task::spawn_blocking(move || deployments.shut_down(grace));
        let undelivered = self.undelivered(deadline).await;
        let stopped = stopping.await;
        if let Err(error) = stopped {
            tracing::error!(%error, "stopping replicas failed");
        }
        let seconds = started.elapsed().as_secs_f64();
        if cut_off > 0 || lost > 0 || undelivered > 0 {
            tracing::error!(
                requests = cut_off,
                executions = lost,
                results = undelivered,
                seconds,
                "ended with requests cut off, or with accepted executions unfinished or results undelivered that nothing keeps; raise shutdown.timeout"
            );
            return ExitCode::FAILURE;
        }
        tracing::info!(seconds, "ended");
        ExitCode::SUCCESS
    }

    /// Gives results that wait for their delivery another try. Those that nobody has taken then are lost with a server
    /// that keeps nothing, which therefore waits as long as it may; how many those are.
    async fn undelivered(&self, deadline: Instant) -> usize {
        let Some(deliveries) = &self.deliveries else { return 0 };
        if !self.durable.journal().is_durable() {
            return deliveries.drain(deadline).await;
        }
        let left = deliveries.drain(deadline.min(Instant::now() + DELIVERY_GRACE)).await;
        if left > 0 {
            tracing::info!(results = left, "results are left for the next server to deliver");
        }
        0
    }

    /// Waits for accepted executions. In memory they end with the server: all of them, and those that are left are
    /// lost. On disk they wait for the next one: only attempts in flight, which would be made again.
    async fn accepted_left(&self, deadline: Instant) -> usize {
        let is_durable = self.durable.journal().is_durable();
        loop {
            let mut left = 0;
            for shard in 0..self.workers.shards() {
                let count = move |shard: &shard_core::Shard, _: &mut ShardHost| {
                    let totals = shard.totals();
                    if is_durable { totals.attempts } else { totals.accepted }
                };
                left += self.workers.ask(shard, count).await.unwrap_or(0);
            }
            // Nobody will ask for what waits to be drained by hand.
            let patience = is_durable || self.config.background_scheduler.enabled;
            if left == 0 || !patience || Instant::now() >= deadline {
                return if is_durable { 0 } else { left };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn open_connections(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }

    async fn connections_ended(&self, deadline: Instant) -> bool {
        while self.open_connections() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    fn each_listening(&self, work: impl Fn(&Connections) + Clone + Send + 'static) {
        for thread in self.workers.plan().listening() {
            let work = work.clone();
            self.workers.run_on(thread, move |_| {
                Connections::on_this_thread(|connections| work(connections));
            });
        }
    }
}
