//! Histograms of the functions of one shard, and the copy that a scrape takes.

use shard_core::{Counters, FunctionKey, Shard, Totals};

use super::histogram::Histogram;

/// Histograms of one function. Made with its first finished execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// Dispatch to end.
    pub latency: Histogram,
    /// Last queueing to dispatch.
    pub queue_wait: Histogram,
    /// Acceptance to end.
    pub e2e: Histogram,
    /// Start of the instance, of cold starts that say so.
    pub init: Histogram,
    /// Queueing to dispatch of synchronous calls, while the sync queue is on.
    pub sync_wait: Histogram,
}

impl Durations {
    /// Adds another function's.
    pub fn merge(&mut self, other: &Durations) {
        self.latency.merge(&other.latency);
        self.queue_wait.merge(&other.queue_wait);
        self.e2e.merge(&other.e2e);
        self.init.merge(&other.init);
        self.sync_wait.merge(&other.sync_wait);
    }
}

/// Histograms of a shard's functions, by the position of their keys.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    functions: Vec<Option<(FunctionKey, Box<Durations>)>>,
}

impl ShardMetrics {
    /// The histograms of a function, made if need be.
    pub fn of(&mut self, function: FunctionKey) -> &mut Durations {
        let index = function.index();
        if self.functions.len() <= index {
            self.functions.resize_with(index + 1, || None);
        }
        let place = &mut self.functions[index];
        // Another function may have had this position.
        if place.as_ref().is_some_and(|(key, _)| *key != function) {
            *place = None;
        }
        &mut place.get_or_insert_with(|| (function, Box::default())).1
    }

    /// Forgets a function.
    pub fn remove(&mut self, function: FunctionKey) {
        if let Some(place) = self.functions.get_mut(function.index()) {
            place.take_if(|(key, _)| *key == function);
        }
    }

    fn get(&self, function: FunctionKey) -> Option<&Durations> {
        let (key, durations) = self.functions.get(function.index())?.as_ref()?;
        (*key == function).then_some(durations)
    }

    /// Copies everything that a scrape shows.
    pub fn copy(&self, shard: &Shard) -> ShardCopy {
        let functions = shard.functions().map(|(key, view)| FunctionCopy {
            name: view.name.into(),
            counters: *view.counters,
            queue_depth: view.queue_depth,
            in_flight: view.in_flight,
            concurrency: view.concurrency,
            replicas: view.replicas,
            durations: self.get(key).cloned().map(Box::new),
        });
        ShardCopy { functions: functions.collect(), totals: shard.totals() }
    }
}

/// What a scrape shows of one shard.
#[derive(Debug, Clone)]
pub struct ShardCopy {
    /// Its visible functions.
    pub functions: Vec<FunctionCopy>,
    /// Its totals.
    pub totals: Totals,
}

/// What a scrape shows of one function.
#[derive(Debug, Clone)]
pub struct FunctionCopy {
    /// Its name.
    pub name: Box<str>,
    /// Its counters.
    pub counters: Counters,
    /// Executions that wait.
    pub queue_depth: u32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts that may be in flight at once.
    pub concurrency: u32,
    /// Wanted and ready replicas, when a backend runs it.
    pub replicas: Option<(u32, u32)>,
    /// Its histograms, once anything finished.
    pub durations: Option<Box<Durations>>,
}
