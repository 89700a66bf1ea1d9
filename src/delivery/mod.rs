//! Delivers results to the addresses that callers gave with `X-Callback-Url`.
//!
//! A thread of its own takes orders from all shards and sends them with retries; [`target`] says what an address may
//! look like, [`address`] which ones are public, [`resolve`] where a connection may go, [`signature`] how a receiver
//! knows the sender, `attempts` what one delivery does, and `load` how much may wait. The shard keeps where a delivery
//! stands; what is not delivered when a server ends is for the next one on its data directory.
//!
//! Every connection is new and goes to an address that was just checked, so there is no pool, no proxy and no redirect.

pub mod address;
mod attempts;
mod load;
mod post;
pub mod resolve;
mod service;
pub mod signature;
pub mod target;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use shard_core::{Delivery, DeliveryStatus, ExecutionId, ExecutionView, Input};
use shard_runtime::Inbox;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::LocalSet,
};

use crate::config;
use address::Permit;
use attempts::DeliveryContext;
use load::{DeliveryPermit, Load};
use resolve::{Resolver, SystemResolver};
use service::Service;
use signature::Signer;

/// Threads that may wait for the operating system's resolver.
const RESOLVERS_MAX: usize = 64;
/// What a delivery keeps in memory besides its result, roughly.
const ORDER_BYTES: u64 = 2048;

/// Bounds and rules of deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// Where results may go.
    pub permit: Permit,
    /// Tries per result, at least 1.
    pub attempts_max: u32,
    /// Time for one try, from looking the name up to the head of the answer.
    pub timeout: Duration,
    /// Pause after the first try; it doubles with every further one.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Deliveries that are not over.
    pub pending_max: usize,
    /// Of these, deliveries to one receiver.
    pub pending_per_host_max: usize,
    /// Bytes of their results.
    pub pending_bytes_max: u64,
    /// Tries at the same time.
    pub active_max: usize,
    /// Of these, tries of one receiver: as many as a slow one can hold up.
    pub active_per_host_max: usize,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        DeliveryOptions {
            permit: address::is_public,
            attempts_max: 5,
            timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            pending_max: 20_000,
            pending_per_host_max: 10_000,
            pending_bytes_max: 256 << 20,
            active_max: 64,
            active_per_host_max: 8,
        }
    }
}

/// A result to deliver.
#[derive(Debug)]
pub struct DeliveryOrder {
    /// The shard that owns the execution.
    pub shard: u16,
    /// The execution.
    pub id: ExecutionId,
    /// Which of its results; its shard is told.
    pub number: u32,
    /// Where to.
    pub url: Box<str>,
    /// What to say.
    pub view: Box<ExecutionView>,
}

/// How far the server is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownPhase {
    /// It runs.
    Open,
    /// It ends: each delivery has one more try, without a pause.
    Draining,
    /// Time is up.
    Over,
}

/// The way to the thread that delivers. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct Deliveries {
    orders: mpsc::Sender<(DeliveryOrder, DeliveryPermit)>,
    load: Arc<Load>,
    phase: Arc<watch::Sender<ShutdownPhase>>,
}

impl Deliveries {
    /// Starts the thread, when there is a key to sign with.
    ///
    /// # Errors
    /// When the thread or its event queue cannot be had.
    pub fn of(config: &config::Delivery, inbox: Inbox) -> io::Result<Option<Deliveries>> {
        let Some(secret) = &config.secret else { return Ok(None) };
        let options = DeliveryOptions {
            permit: address::permit(config.allow_private),
            attempts_max: config.max_attempts,
            timeout: config.timeout,
            ..DeliveryOptions::default()
        };
        let signer = Signer::new(secret.expose().as_bytes());
        Deliveries::start(options, signer, SystemResolver, inbox).map(Some)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread or its event queue cannot be had.
    pub fn start(
        options: DeliveryOptions,
        signer: Signer,
        resolver: impl Resolver,
        inbox: Inbox,
    ) -> io::Result<Deliveries> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVERS_MAX)
            .build()?;
        let (orders, waiting) = mpsc::channel(options.pending_max.max(1));
        let load = Load::new(options.pending_max, options.pending_bytes_max);
        let (phase, phases) = watch::channel(ShutdownPhase::Open);
        let context = DeliveryContext {
            permits: Semaphore::new(options.active_max),
            options,
            signer,
            resolver: Box::new(resolver),
            inbox,
            phase: phases,
        };
        std::thread::Builder::new().name("delivery".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, Service::new(context).run(waiting));
            // A name that nobody knows yet must not keep the thread.
            runtime.shutdown_background();
        })?;
        Ok(Deliveries { orders, load, phase: Arc::new(phase) })
    }

    /// Takes an order, or returns what to tell its shard when there is no room for it. Never blocks.
    pub fn deliver(&self, mut order: DeliveryOrder) -> Option<Input> {
        let (id, number) = (order.id, order.number);
        // What arrives says nothing about how it arrived.
        order.view.delivery = None;
        let output = order.view.output.as_ref().map_or(0, |output| output.bytes());
        let error = order.view.error.as_ref().map_or(0, |error| error.bytes());
        let Some(place) = self.load.admit(ORDER_BYTES + output + error) else {
            return Some(failed(
                id,
                number,
                "too many results wait for delivery; read this one from its status",
            ));
        };
        match self.orders.try_send((order, place)) {
            Ok(()) => None,
            Err(_) => Some(failed(id, number, "the server ends; read the result from its status")),
        }
    }

    /// Gives every delivery that waits one more try, until `deadline`. Returns how many results were not delivered.
    pub async fn drain(&self, deadline: Instant) -> usize {
        self.phase.send_replace(ShutdownPhase::Draining);
        while self.load.count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = self.load.count();
        self.phase.send_replace(ShutdownPhase::Over);
        left + self.load.given_up()
    }
}

/// What a shard is told about a delivery that was not tried.
pub fn failed(id: ExecutionId, number: u32, reason: &str) -> Input {
    untried(id, number, DeliveryStatus::Failed, reason)
}

fn untried(id: ExecutionId, number: u32, status: DeliveryStatus, reason: &str) -> Input {
    let delivery = Delivery { status, attempts: 0, last_error: Some(reason.into()) };
    Input::Delivered { id, number, delivery }
}
