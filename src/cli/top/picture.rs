//! What two looks at a server say together: rates, quantiles of the time between them, and the gauges of the newer.

use std::{collections::BTreeMap, time::Duration};

use super::{
    buckets::{Buckets, Quantile},
    scrape::{Function, Process, Replicas, Scrape},
};

/// A server at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) process: Process,
    /// Processors that were busy, 1 being one of them; unknown after a first look.
    pub(super) cpus: Option<f64>,
    /// One for every function, by name.
    pub(super) rows: Vec<Row>,
    /// All of them together.
    pub(super) total: Row,
}

/// A function at a moment. Rates are per second and unknown after a first look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Its effective execution mode, once the server has told.
    pub(super) mode: Option<String>,
    /// New executions.
    pub(super) rate: Option<f64>,
    /// From acceptance to end; unknown when nothing ended.
    pub(super) p50: Option<Quantile>,
    pub(super) p99: Option<Quantile>,
    /// Executions that failed, and callers that waited in vain.
    pub(super) errors: Option<f64>,
    pub(super) retries: Option<f64>,
    pub(super) queue_depth: f64,
    pub(super) in_flight: f64,
    pub(super) concurrency: f64,
    pub(super) replicas: Option<Replicas>,
}

impl Picture {
    /// Puts two looks together, the older one `elapsed` before the newer one.
    pub(super) fn of(
        now: &Scrape,
        before: Option<(&Scrape, Duration)>,
        modes: &BTreeMap<String, String>,
    ) -> Picture {
        // Another process counts from 0: nothing can be said about the time between.
        let before = before
            .filter(|(scrape, _)| scrape.process.started_seconds == now.process.started_seconds)
            .map(|(scrape, elapsed)| (scrape, elapsed.as_secs_f64().max(1e-3)));
        let mut total = Row { rate: before.map(|_| 0.0), ..Row::default() };
        (total.errors, total.retries) = (total.rate, total.rate);
        let mut latency = Buckets::default();
        let mut rows = Vec::with_capacity(now.functions.len());
        for (name, function) in &now.functions {
            // A function that was not there has done all of it since.
            let unseen = Function::default();
            let before =
                before.map(|(scrape, elapsed)| (scrape.functions.get(name).unwrap_or(&unseen), elapsed));
            let mut row = Row::of(function, before, &mut latency);
            total.add(&row);
            row.name.clone_from(name);
            row.mode = modes.get(name).cloned();
            rows.push(row);
        }
        (total.p50, total.p99) = (latency.quantile(0.5), latency.quantile(0.99));
        let cpus = before.map(|(scrape, elapsed)| {
            (now.process.cpu_seconds - scrape.process.cpu_seconds).max(0.0) / elapsed
        });
        Picture { process: now.process.clone(), cpus, rows, total }
    }
}

impl Row {
    /// `latency` adds up what all functions took.
    fn of(now: &Function, before: Option<(&Function, f64)>, latency: &mut Buckets) -> Row {
        let rate = |read: fn(&Function) -> f64| {
            let (before, elapsed) = before?;
            let (old, new) = (read(before), read(now));
            // A function that was deleted and registered again counts from 0.
            Some(if new < old { new } else { new - old } / elapsed)
        };
        let took = before.map(|(before, _)| now.latency.since(&before.latency)).unwrap_or_default();
        latency.add(&took);
        Row {
            name: String::new(),
            mode: None,
            rate: rate(|function| function.invocations),
            p50: took.quantile(0.5),
            p99: took.quantile(0.99),
            errors: rate(|function| function.errors + function.timeouts),
            retries: rate(|function| function.retries),
            queue_depth: now.queue_depth,
            in_flight: now.in_flight,
            concurrency: now.concurrency,
            replicas: now.replicas,
        }
    }

    fn add(&mut self, more: &Row) {
        let add = |sum: &mut Option<f64>, more: Option<f64>| {
            *sum = sum.zip(more).map(|(sum, more)| sum + more);
        };
        add(&mut self.rate, more.rate);
        add(&mut self.errors, more.errors);
        add(&mut self.retries, more.retries);
        self.queue_depth += more.queue_depth;
        self.in_flight += more.in_flight;
        self.concurrency += more.concurrency;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(invocations: f64, errors: f64, fast: f64) -> Function {
        let mut latency = Buckets::default();
        latency.set(0.1, fast);
        latency.set(f64::INFINITY, invocations);
        Function { invocations, errors, latency, queue_depth: 1.0, ..Function::default() }
    }

    fn scrape(started_seconds: f64, functions: &[(&str, Function)]) -> Scrape {
        let functions = functions.iter().map(|(name, function)| ((*name).to_owned(), function.clone()));
        let process = Process { started_seconds, cpu_seconds: 2.0 * started_seconds, ..Process::default() };
        Scrape { process, functions: functions.collect() }
    }

    fn picture(now: &Scrape, before: Option<&Scrape>) -> Picture {
        let before = before.map(|scrape| (scrape, Duration::from_secs(2)));
        Picture::of(now, before, &[("a".to_owned(), "POOL".to_owned())].into())
    }

    #[test]
    fn rates_and_quantiles_of_the_time_between() {
        let before = scrape(5.0, &[("a", function(10.0, 1.0, 0.0)), ("b", function(4.0, 0.0, 4.0))]);
        let mut now = scrape(5.0, &[("a", function(30.0, 2.0, 20.0)), ("b", function(4.0, 0.0, 4.0))]);
        now.functions.insert("c".to_owned(), function(6.0, 0.0, 0.0));
        now.process.cpu_seconds += 3.0;
        let picture = picture(&now, Some(&before));
        let [a, b, c] = &picture.rows[..] else { panic!("{picture:?}") };
        assert_eq!((a.rate, a.errors, a.p50), (Some(10.0), Some(0.5), Some(Quantile::At(0.05))));
        assert_eq!((a.mode.as_deref(), b.mode.as_deref()), (Some("POOL"), None));
        assert_eq!((b.rate, b.p50, b.p99), (Some(0.0), None, None));
        assert_eq!((c.rate, c.p50), (Some(3.0), Some(Quantile::Over(0.1))));
        let total = &picture.total;
        assert_eq!((total.rate, total.errors, total.queue_depth), (Some(13.0), Some(0.5), 3.0));
        assert_eq!((total.p50, total.p99), (Some(Quantile::At(0.065)), Some(Quantile::Over(0.1))));
        assert_eq!(picture.cpus, Some(1.5));
    }

    #[test]
    fn counters_that_went_back_start_at_zero() {
        let before = scrape(5.0, &[("a", function(10.0, 5.0, 10.0))]);
        let again = scrape(5.0, &[("a", function(4.0, 0.0, 4.0))]);
        let row = &picture(&again, Some(&before)).rows[0];
        assert_eq!((row.rate, row.errors, row.p50), (Some(2.0), Some(0.0), Some(Quantile::At(0.05))));
    }

    #[test]
    fn nothing_is_known_after_a_first_look_and_after_a_restart() {
        let now = scrape(6.0, &[("a", function(10.0, 5.0, 10.0))]);
        for before in [None, Some(scrape(5.0, &[("a", function(9.0, 5.0, 9.0))]))] {
            let picture = picture(&now, before.as_ref());
            let row = &picture.rows[0];
            assert_eq!((row.rate, row.errors, row.retries, row.p99), (None, None, None, None));
            assert_eq!((picture.total.rate, picture.cpus, row.queue_depth), (None, None, 1.0));
        }
        let empty = picture(&scrape(5.0, &[]), Some(&scrape(5.0, &[])));
        assert_eq!((empty.total.rate, empty.rows.len()), (Some(0.0), 0));
    }
}
