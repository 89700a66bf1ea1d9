//! Reads metrics of single functions off their shards. A rate needs two readings: who asks for one for the first time gets none.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use nanofaas_kubernetes::{
    external_metrics::{Metric, MetricValue, Refused},
    names::label_value,
};
use shard_core::Name;
use shard_runtime::Workers;
use tokio::time::timeout;

use crate::host::ShardHost;

/// Time for a shard to answer.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two readings for a rate.
const RATE_INTERVAL: Duration = Duration::from_secs(5);
/// What a rate is taken over, at least and at most.
const RATE_OVER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Rates are kept of functions that were asked for within this time.
const RATE_TTL: Duration = Duration::from_secs(300);
/// Functions whose rate is kept.
const RATES_MAX: usize = 10_000;
/// Time between two looks for functions whose label is not their name.
const NAMES_INTERVAL: Duration = Duration::from_secs(10);

/// A function at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    waiting: u32,
    in_flight: u32,
    /// Calls wait for a replica, and there is none.
    is_asleep: bool,
    dispatches: u64,
}

/// How often a function was called, over time.
#[derive(Debug, Default)]
struct Rate {
    readings: VecDeque<(Instant, u64)>,
    asked: Option<Instant>,
}

/// See the module.
pub(super) struct Readings {
    workers: Arc<Workers<ShardHost>>,
    rates: RefCell<BTreeMap<Name, Rate>>,
    /// Functions by labels that are not their names, and when these were looked for.
    renamed: RefCell<(BTreeMap<String, Name>, Option<Instant>)>,
}

impl Readings {
    pub(super) fn new(workers: Arc<Workers<ShardHost>>) -> Readings {
        Readings { workers, rates: RefCell::default(), renamed: RefCell::default() }
    }

    /// The value of a metric for the function with this label. `None`: there is no such function, or no rate yet.
    pub(super) async fn read(&self, label: String, metric: Metric) -> Result<Option<MetricValue>, Refused> {
        let Some(name) = self.name_of(&label).await? else { return Ok(None) };
        let Some(reading) = self.look_at(vec![name]).await?.pop().flatten() else { return Ok(None) };
        let thousandths = match metric {
            Metric::QueueDepth => Some(u64::from(reading.waiting) * 1000),
            // An autoscaler that follows nothing but calls that run would never wake it.
            Metric::InFlight if reading.is_asleep => Some(u64::from(reading.waiting) * 1000),
            Metric::InFlight => Some(u64::from(reading.in_flight) * 1000),
            Metric::Rps => match self.rate_of(name, reading.dispatches) {
                rate if reading.is_asleep => Some(rate.unwrap_or_default().max(1000)),
                rate => rate,
            },
        };
        Ok(thousandths.map(|thousandths| MetricValue { function: label, thousandths }))
    }

    /// Takes readings for rates that somebody asks for, for ever.
    pub(super) async fn keep(&self) {
        loop {
            tokio::time::sleep(RATE_INTERVAL).await;
            let names: Vec<Name> = {
                let mut rates = self.rates.borrow_mut();
                rates.retain(|_, rate| rate.asked.is_some_and(|asked| asked.elapsed() < RATE_TTL));
                rates.keys().copied().collect()
            };
            // Those of one shard are read together. What cannot be read now is read next time.
            for shard in 0..self.workers.shards() {
                let of_shard: Vec<Name> =
                    names.iter().copied().filter(|name| self.shard_of(name) == shard).collect();
                let Ok(readings) = self.look_at(of_shard.clone()).await else { continue };
                let mut rates = self.rates.borrow_mut();
                for (name, reading) in of_shard.into_iter().zip(readings) {
                    match (rates.get_mut(&name), reading) {
                        (Some(rate), Some(reading)) => rate.add(reading.dispatches),
                        _ => drop(rates.remove(&name)),
                    }
                }
            }
        }
    }

    fn rate_of(&self, name: Name, dispatches: u64) -> Option<u64> {
        let mut rates = self.rates.borrow_mut();
        if rates.len() >= RATES_MAX && !rates.contains_key(&name) {
            return None;
        }
        let rate = rates.entry(name).or_default();
        rate.asked = Some(Instant::now());
        let known = rate.now(dispatches);
        if rate.readings.is_empty() {
            rate.add(dispatches);
        }
        known
    }

    fn shard_of(&self, name: &Name) -> u16 {
        self.workers.plan().seating.owner_of(name.owner_hash())
    }

    /// Looks at functions of one shard. `None`: it is not there.
    async fn look_at(&self, names: Vec<Name>) -> Result<Vec<Option<Reading>>, Refused> {
        let Some(first) = names.first() else { return Ok(Vec::new()) };
        let asked = self.workers.ask(self.shard_of(first), move |core, _| {
            let read = |name: &Name| {
                core.function(name).map(|function| Reading {
                    waiting: function.queue_depth,
                    in_flight: function.in_flight,
                    is_asleep: function.queue_depth > 0
                        && function.replicas.is_some_and(|(_, ready)| ready == 0),
                    dispatches: function.counters.dispatches,
                })
            };
            names.iter().map(read).collect()
        });
        in_time(asked).await
    }

    async fn name_of(&self, label: &str) -> Result<Option<Name>, Refused> {
        if let Some(name) = Name::new(label).filter(|name| label_value(name.as_str()) == label) {
            return Ok(Some(name));
        }
        let is_old = {
            let renamed = self.renamed.borrow();
            if let Some(name) = renamed.0.get(label) {
                return Ok(Some(*name));
            }
            renamed.1.is_none_or(|since| since.elapsed() > NAMES_INTERVAL)
        };
        if is_old {
            let mut found = BTreeMap::new();
            for shard in 0..self.workers.shards() {
                let asked = self.workers.ask(shard, |core, _| {
                    let names = core.functions().filter_map(|(_, function)| Name::new(function.name));
                    let labels = names.map(|name| (label_value(name.as_str()), name));
                    labels.filter(|(label, name)| label != name.as_str()).collect::<Vec<_>>()
                });
                found.extend(in_time(asked).await?);
            }
            *self.renamed.borrow_mut() = (found, Some(Instant::now()));
        }
        Ok(self.renamed.borrow().0.get(label).copied())
    }
}

async fn in_time<T>(asked: tokio::sync::oneshot::Receiver<T>) -> Result<T, Refused> {
    let answered = timeout(SHARD_TIMEOUT, asked).await;
    answered
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Refused::Unavailable("the server is too busy to read metrics".to_owned()))
}

impl Rate {
    fn add(&mut self, dispatches: u64) {
        let now = Instant::now();
        if self.readings.back().is_some_and(|(_, last)| *last > dispatches) {
            // Another function of the same name.
            self.readings.clear();
        }
        self.readings.push_back((now, dispatches));
        while self.readings.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_OVER[1]) {
            self.readings.pop_front();
        }
    }

    /// Per second, in thousandths.
    fn now(&self, dispatches: u64) -> Option<u64> {
        let (since, first) = self.readings.front()?;
        let over = since.elapsed();
        let calls = dispatches.checked_sub(*first).filter(|_| over >= RATE_OVER[0])?;
        u64::try_from(u128::from(calls) * 1_000_000 / over.as_millis().max(1)).ok()
    }
}
