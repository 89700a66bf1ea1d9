//! Histograms of the functions of one shard, and the copies that a scrape takes.
//!
//! What calls took goes to their functions' histograms in batches. A function's histograms are made with its first event
//! and go with it. A scrape copies the functions in slices, each in a turn of its own of the shard's thread, so that
//! calls never wait for more than one slice.

use std::hint::black_box;

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
    /// Start of the replica, of cold starts that say so.
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

    /// Counts what one execution took.
    fn finished(&mut self, finished: Finished) {
        self.record(Measure::QueueWait, finished.queue_wait_us);
        self.record(Measure::Latency, finished.latency_us);
        self.record(Measure::EndToEnd, finished.e2e_us);
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

/// What an execution took that ended with an attempt, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finished {
    /// Last queueing to last dispatch.
    pub queue_wait_us: u64,
    /// Dispatch to end.
    pub latency_us: u64,
    /// Acceptance to end.
    pub e2e_us: u64,
}

/// Histograms of a shard's functions.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// By the position of the functions' keys.
    functions: Vec<Option<Box<DurationBuffer>>>,
    /// Number of the period.
    period: u32,
    /// What has yet to reach its function, at most [`LATEST_MAX`].
    latest: Vec<(FunctionKey, Finished)>,
}

/// Executions that go to their functions' entries together: their lines are fetched together, too.
const LATEST_MAX: usize = 64;

/// Executions of a function whose durations have yet to be counted. An entry fills two cache lines with them.
const FRESH_MAX: usize = 8;

/// What is measured of one function.
///
/// Three histograms are a dozen cache lines that are cold when ten thousand functions are called in turn. So the newest
/// durations lie in the order in which they came, and are counted together when there are enough of them, when somebody
/// looks, and when a period ends.
#[derive(Debug)]
#[repr(align(64))]
struct DurationBuffer {
    function: FunctionKey,
    /// The period in which it was last touched.
    period: u32,
    fresh_count: u32,
    durations: Box<Durations>,
    fresh: [Fresh; FRESH_MAX],
}

// Checked when it is compiled.
const _: () = assert!(size_of::<DurationBuffer>() == 128);

/// A [`Finished`] of less than an hour.
#[derive(Debug, Clone, Copy, Default)]
struct Fresh {
    queue_wait_us: u32,
    latency_us: u32,
    e2e_us: u32,
}

impl Fresh {
    /// `None`: one of them is too long.
    fn of(finished: Finished) -> Option<Fresh> {
        Some(Fresh {
            queue_wait_us: u32::try_from(finished.queue_wait_us).ok()?,
            latency_us: u32::try_from(finished.latency_us).ok()?,
            e2e_us: u32::try_from(finished.e2e_us).ok()?,
        })
    }
}

impl From<Fresh> for Finished {
    fn from(fresh: Fresh) -> Finished {
        Finished {
            queue_wait_us: fresh.queue_wait_us.into(),
            latency_us: fresh.latency_us.into(),
            e2e_us: fresh.e2e_us.into(),
        }
    }
}

impl DurationBuffer {
    fn new(function: FunctionKey, period: u32) -> DurationBuffer {
        DurationBuffer {
            function,
            period,
            fresh_count: 0,
            durations: Box::default(),
            fresh: Default::default(),
        }
    }

    fn finished(&mut self, finished: Finished) {
        let Some(fresh) = Fresh::of(finished) else {
            return self.durations.finished(finished);
        };
        if self.fresh_count as usize == FRESH_MAX {
            self.count_fresh();
        }
        self.fresh[self.fresh_count as usize] = fresh;
        self.fresh_count += 1;
    }

    /// Counts what has yet to be counted.
    fn count_fresh(&mut self) {
        for fresh in &self.fresh[..std::mem::take(&mut self.fresh_count) as usize] {
            self.durations.finished(Finished::from(*fresh));
        }
    }

    /// Ends the periods that are over. More than two leave nothing recent behind, so two are enough.
    fn settle(&mut self, period: u32) {
        if self.period == period {
            return;
        }
        self.count_fresh();
        for _ in 0..period.wrapping_sub(self.period).min(2) {
            self.durations.rotate();
        }
        self.period = period;
    }
}

impl ShardMetrics {
    /// Counts what an execution took.
    pub fn finished(&mut self, function: FunctionKey, finished: Finished) {
        self.latest.push((function, finished));
        if self.latest.len() == LATEST_MAX {
            self.hand_out();
        }
    }

    /// Brings what is latest to its functions.
    fn hand_out(&mut self) {
        let mut latest = std::mem::take(&mut self.latest);
        // The processor fetches many of these lines at once. In the loop below it would come to wait for each.
        for (function, _) in &latest {
            if let Some(Some(entry)) = self.functions.get(function.index()) {
                black_box((entry.period, entry.fresh[FRESH_MAX - 1].queue_wait_us));
            }
        }
        latest.drain(..).for_each(|(function, finished)| self.of(function).finished(finished));
        self.latest = latest;
    }

    /// Counts one duration.
    pub fn record(&mut self, function: FunctionKey, measure: Measure, duration_us: u64) {
        self.of(function).durations.record(measure, duration_us);
    }

    /// What is measured of a function, from now on if need be.
    fn of(&mut self, function: FunctionKey) -> &mut DurationBuffer {
        let index = function.index();
        if self.functions.len() <= index {
            self.functions.resize_with(index + 1, || None);
        }
        let place = &mut self.functions[index];
        // Another function may have had this position.
        place.take_if(|entry| entry.function != function);
        let period = self.period;
        let entry = place.get_or_insert_with(|| Box::new(DurationBuffer::new(function, period)));
        entry.settle(period);
        entry
    }

    /// Forgets a function.
    pub fn remove(&mut self, function: FunctionKey) {
        // Later it would bring the function back.
        self.hand_out();
        if let Some(place) = self.functions.get_mut(function.index()) {
            place.take_if(|entry| entry.function == function);
        }
    }

    /// Ends a period: what was recorded before the one that ends is no longer recent. Takes the same time however many
    /// functions there are; each is brought up to date when it is touched.
    pub fn rotate(&mut self) {
        self.hand_out();
        self.period = self.period.wrapping_add(1);
    }

    /// Copies what a scrape shows of up to `functions_max` functions from a position on.
    pub fn copy(&mut self, shard: &Shard, from: usize, functions_max: usize) -> Slice {
        self.hand_out();
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
        entry.count_fresh();
        Some((*entry.durations).clone())
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

#[cfg(test)]
mod tests {
    use shard_core::{
        Effects, FunctionSpec, Input, JournalEvent, Limits, Name, Now, Policy, Request, Settings, Target,
        Ticket,
    };

    use super::*;

    /// A shard with one function.
    fn shard() -> Shard {
        let mut shard = Shard::new(Limits::default(), 1, Settings::default());
        let spec = FunctionSpec {
            name: Name::new("f").expect("a name"),
            policy: Policy::default(),
            target: Target::Local,
            scaling: None,
            document: Default::default(),
        };
        let now = Now { mono_us: 0, unix_ms: 1_700_000_000_000 };
        let register = Input::Ask(Ticket(1), Request::Register(Box::new(spec)));
        for input in [register, Input::Journal(JournalEvent::Safe { through: 1 })] {
            shard.handle(now, input, &mut Effects::default());
        }
        shard
    }

    #[test]
    fn everything_that_finished_is_in_the_next_copy_and_in_the_period_in_which_it_came() {
        const HOUR_US: u64 = 3_600_000_000;
        let (shard, mut metrics) = (shard(), ShardMetrics::default());
        let (key, _) = shard.functions().next().expect("a function");
        // What is gone stays gone.
        metrics.finished(key, Finished::default());
        metrics.remove(key);
        assert_eq!(metrics.copy(&shard, 0, 1).functions[0].durations, None);
        let mut alike: Vec<Histogram> = vec![Histogram::default(); 3];
        for round in 0..4 * FRESH_MAX as u64 {
            if round % 5 == 4 {
                metrics.rotate();
                alike.iter_mut().for_each(|histogram| histogram.rotate());
            }
            for call in 0..round {
                // Some of them are longer than what is kept for later.
                let e2e_us = (round * 977 + call * 13_331) * if call % 7 == 6 { HOUR_US } else { 1 };
                let finished = Finished { queue_wait_us: call, latency_us: call * round, e2e_us };
                metrics.finished(key, finished);
                let durations = [finished.queue_wait_us, finished.latency_us, finished.e2e_us];
                alike.iter_mut().zip(durations).for_each(|(histogram, us)| histogram.record(us));
            }
            let slice = metrics.copy(&shard, 0, 1);
            let copied = slice.functions[0].durations.as_ref();
            for (measure, alike) in
                [Measure::QueueWait, Measure::Latency, Measure::EndToEnd].iter().zip(&alike)
            {
                let histogram = copied.and_then(|durations| durations.get(*measure));
                // Nothing was there before the first call.
                assert_eq!(histogram.is_some(), alike.count() > 0, "{measure:?}, round {round}");
                assert!(histogram.is_none_or(|histogram| histogram == alike), "{measure:?}, round {round}");
            }
        }
    }
}
