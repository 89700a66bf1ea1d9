//! Histograms of the functions of one shard, and the copies that a scrape takes.
//!
//! A function's histograms are made with its first event and go with it. A scrape copies the functions in slices, each
//! in a turn of its own of the shard's thread, so that calls never wait for more than one slice.

use shard_core::{Counters, FunctionKey, FunctionView, ScalingView, Shard, Totals};

use super::histogram::Histogram;

/// What is measured of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Dispatch to end.
    Latency,
    /// Last queueing to dispatch.
    QueueWait,
    /// Acceptance to end.
    EndToEnd,
    /// Start of the instance, of cold starts that say so.
    Init,
    /// Queueing to dispatch of synchronous calls, while the sync queue is on.
    SyncWait,
}

/// Number of [`Measure`]s.
const MEASURES: usize = 5;

/// Histograms of one function, by what they measure; those without a duration are not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations([Option<Box<Histogram>>; MEASURES]);

impl Durations {
    /// Counts one duration.
    pub fn record(&mut self, measure: Measure, duration_us: u64) {
        self.0[measure as usize].get_or_insert_default().record(duration_us);
    }

    /// The histogram of one measure, if anything was measured.
    pub fn get(&self, measure: Measure) -> Option<&Histogram> {
        self.0[measure as usize].as_deref()
    }

    /// Adds another function's.
    pub fn merge(&mut self, other: &Durations) {
        for (histogram, more) in self.0.iter_mut().zip(&other.0) {
            match (histogram, more) {
                (Some(histogram), Some(more)) => histogram.merge(more),
                (histogram @ None, more) => histogram.clone_from(more),
                (Some(_), None) => {}
            }
        }
    }

    fn rotate(&mut self) {
        self.0.iter_mut().flatten().for_each(|histogram| histogram.rotate());
    }
}

/// Histograms of a shard's functions.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// By the position of the functions' keys.
    functions: Vec<Option<Box<Entry>>>,
    /// Number of the period.
    period: u32,
}

#[derive(Debug)]
struct Entry {
    function: FunctionKey,
    /// The period in which it was last touched.
    period: u32,
    durations: Durations,
}

impl Entry {
    /// Ends the periods that are over. More than two leave nothing recent behind, so two are enough.
    fn settle(&mut self, period: u32) {
        for _ in 0..period.wrapping_sub(self.period).min(2) {
            self.durations.rotate();
        }
        self.period = period;
    }
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
        place.take_if(|entry| entry.function != function);
        let period = self.period;
        let entry = place
            .get_or_insert_with(|| Box::new(Entry { function, period, durations: Durations::default() }));
        entry.settle(period);
        &mut entry.durations
    }

    /// Forgets a function.
    pub fn remove(&mut self, function: FunctionKey) {
        if let Some(place) = self.functions.get_mut(function.index()) {
            place.take_if(|entry| entry.function == function);
        }
    }

    /// Ends a period: what was recorded before the one that ends is no longer recent. Takes the same time however many
    /// functions there are; each is brought up to date when it is touched.
    pub fn rotate(&mut self) {
        self.period = self.period.wrapping_add(1);
    }

    /// Copies what a scrape shows of up to `functions_max` functions from a position on.
    pub fn copy(&mut self, shard: &Shard, from: usize, functions_max: usize) -> Slice {
        let mut functions: Vec<FunctionCopy> = Vec::new();
        for (key, view) in shard.functions_from(from) {
            if functions.len() == functions_max {
                return Slice { functions, next: Some(key.index()) };
            }
            functions.push(FunctionCopy::of(&view, self.copy_durations(key)));
        }
        Slice { functions, next: None }
    }

    fn copy_durations(&mut self, function: FunctionKey) -> Option<Durations> {
        let entry = self.functions.get_mut(function.index())?.as_deref_mut()?;
        if entry.function != function {
            return None;
        }
        entry.settle(self.period);
        Some(entry.durations.clone())
    }
}

/// Some of a shard's functions.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Visible functions, by position.
    pub functions: Vec<FunctionCopy>,
    /// Position to go on from, when there are more.
    pub next: Option<usize>,
}

/// What a scrape shows of one shard.
#[derive(Debug, Clone, Default)]
pub struct ShardCopy {
    /// Its visible functions.
    pub functions: Vec<FunctionCopy>,
    /// Its totals.
    pub totals: Totals,
}

/// What a scrape shows of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCopy {
    /// Its name.
    pub name: Box<str>,
    /// Its counters.
    pub counters: Counters,
    /// Executions that wait.
    pub queue_depth: u32,
    /// Synchronous calls that wait, while the sync queue is on.
    pub sync_queue_depth: u32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Attempts that may be in flight at once.
    pub concurrency: u32,
    /// Dead letters kept.
    pub dead_letters: u32,
    /// Wanted and ready replicas, when a backend runs it.
    pub replicas: Option<(u32, u32)>,
    /// How it is scaled, when the shard decides about that.
    pub scaling: Option<Box<ScalingView>>,
    /// Its histograms, once anything was measured.
    pub durations: Option<Durations>,
}

impl FunctionCopy {
    fn of(view: &FunctionView<'_>, durations: Option<Durations>) -> FunctionCopy {
        FunctionCopy {
            name: view.name.into(),
            counters: *view.counters,
            queue_depth: view.queue_depth,
            sync_queue_depth: view.sync_queue_depth,
            in_flight: view.in_flight,
            concurrency: view.concurrency,
            dead_letters: view.dead_letters,
            replicas: view.replicas,
            scaling: view.scaling.clone().map(Box::new),
            durations,
        }
    }
}
