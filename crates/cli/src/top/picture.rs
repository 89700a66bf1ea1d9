//! What two looks at a server say together: rates of the time between them, and quantiles and gauges of the newer.

use std::{collections::BTreeMap, time::Duration};

use super::scrape::{Answers, FunctionFigures, Process, Quantiles, ReplicaCounts, Scrape};

/// A server at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) process: Process,
    /// Processors that were busy, 1 being one of them; unknown after a first look.
    pub(super) cpus: Option<f64>,
    /// Unknown after a first look, and from a server that counts none.
    pub(super) answers: Option<AnswerRates>,
    /// One for every function, by name.
    pub(super) rows: Vec<FunctionRow>,
    /// All of them together. Its quantiles are the server's own: what all calls took together does not follow from
    /// what those of each function took.
    pub(super) total: FunctionRow,
}

/// What callers were answered, per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AnswerRates {
    /// By class of their status, ascending.
    pub(super) classes: Vec<(String, f64)>,
    /// Requests that were refused, by reason, the most frequent first; only reasons that there were.
    pub(super) refusals: Vec<(String, f64)>,
}

/// A function at a moment. Rates are per second and unknown after a first look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FunctionRow {
    pub(super) name: String,
    /// Its effective execution mode, once the server has told.
    pub(super) mode: Option<String>,
    /// New executions.
    pub(super) rate: Option<f64>,
    /// From acceptance to end, in seconds, of what is recent; unknown when nothing ended.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Executions that failed, and callers that waited in vain.
    pub(super) errors: Option<f64>,
    pub(super) retries: Option<f64>,
    pub(super) queue_depth: f64,
    pub(super) in_flight: f64,
    pub(super) concurrency: f64,
    pub(super) replicas: Option<ReplicaCounts>,
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
        let Quantiles { p50, p99 } = now.all;
        let mut total = FunctionRow { rate: before.map(|_| 0.0), p50, p99, ..FunctionRow::default() };
        (total.errors, total.retries) = (total.rate, total.rate);
        let mut rows = Vec::with_capacity(now.functions.len());
        for (name, function) in &now.functions {
            // A function that was not there has done all of it since.
            let unseen = FunctionFigures::default();
            let before =
                before.map(|(scrape, elapsed)| (scrape.functions.get(name).unwrap_or(&unseen), elapsed));
            let mut row = FunctionRow::of(function, before);
            total.add(&row);
            row.name.clone_from(name);
            row.mode = modes.get(name).cloned();
            rows.push(row);
        }
        let cpus = before.map(|(scrape, elapsed)| {
            (now.process.cpu_seconds - scrape.process.cpu_seconds).max(0.0) / elapsed
        });
        let answers = before.and_then(|(scrape, elapsed)| {
            let (now, before) = (now.answers.as_ref()?, scrape.answers.as_ref()?);
            Some(AnswerRates::of(now, before, elapsed))
        });
        Picture { process: now.process.clone(), cpus, answers, rows, total }
    }
}

impl AnswerRates {
    /// Counters of the server do not go back while it runs.
    fn of(now: &Answers, before: &Answers, elapsed: f64) -> AnswerRates {
        let rates = |now: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>| -> Vec<(String, f64)> {
            let since = |(of, count): (&String, &f64)| {
                let before = before.get(of).copied().unwrap_or(0.0);
                (of.clone(), (count - before).max(0.0) / elapsed)
            };
            now.iter().map(since).collect()
        };
        let mut refusals = rates(&now.refusals, &before.refusals);
        refusals.retain(|(_, rate)| *rate > 0.0);
        // Equal ones stay by name, so that they do not jump about.
        refusals.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        AnswerRates { classes: rates(&now.classes, &before.classes), refusals }
    }
}

impl FunctionRow {
    fn of(now: &FunctionFigures, before: Option<(&FunctionFigures, f64)>) -> FunctionRow {
        let rate = |read: fn(&FunctionFigures) -> f64| {
            let (before, elapsed) = before?;
            let (old, new) = (read(before), read(now));
            // A function that was deleted and registered again counts from 0.
            Some(if new < old { new } else { new - old } / elapsed)
        };
        FunctionRow {
            name: String::new(),
            mode: None,
            rate: rate(|function| function.invocations),
            p50: now.quantiles.p50,
            p99: now.quantiles.p99,
            errors: rate(|function| function.errors + function.timeouts),
            retries: rate(|function| function.retries),
            queue_depth: now.queue_depth,
            in_flight: now.in_flight,
            concurrency: now.concurrency,
            replicas: now.replicas,
        }
    }

    /// Adds what can be added up.
    fn add(&mut self, more: &FunctionRow) {
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

    fn function(invocations: f64, errors: f64, p99: Option<f64>) -> FunctionFigures {
        let quantiles = Quantiles { p50: p99.map(|p99| p99 / 2.0), p99 };
        FunctionFigures { invocations, errors, quantiles, queue_depth: 1.0, ..FunctionFigures::default() }
    }

    fn scrape(started_seconds: f64, functions: &[(&str, FunctionFigures)]) -> Scrape {
        let functions = functions.iter().map(|(name, function)| ((*name).to_owned(), function.clone()));
        let process = Process { started_seconds, cpu_seconds: 2.0 * started_seconds, ..Process::default() };
        Scrape { process, functions: functions.collect(), ..Scrape::default() }
    }

    fn picture(now: &Scrape, before: Option<&Scrape>) -> Picture {
        let before = before.map(|scrape| (scrape, Duration::from_secs(2)));
        Picture::of(now, before, &[("a".to_owned(), "POOL".to_owned())].into())
    }

    #[test]
    fn rates_of_the_time_between_and_quantiles_as_the_server_tells_them() {
        let before = scrape(5.0, &[("a", function(10.0, 1.0, Some(9.0))), ("b", function(4.0, 0.0, None))]);
        let mut now =
            scrape(5.0, &[("a", function(30.0, 2.0, Some(0.012))), ("b", function(4.0, 0.0, None))]);
        now.functions.insert("c".to_owned(), function(6.0, 0.0, Some(0.01)));
        now.process.cpu_seconds += 3.0;
        now.all = Quantiles { p50: Some(0.005), p99: Some(0.011) };
        let picture = picture(&now, Some(&before));
        let [a, b, c] = &picture.rows[..] else { panic!("{picture:?}") };
        assert_eq!((a.rate, a.errors, a.p50), (Some(10.0), Some(0.5), Some(0.006)));
        assert_eq!((a.mode.as_deref(), b.mode.as_deref()), (Some("POOL"), None));
        assert_eq!((b.rate, b.p50, b.p99), (Some(0.0), None, None));
        assert_eq!((c.rate, c.p50), (Some(3.0), Some(0.005)));
        let total = &picture.total;
        assert_eq!((total.rate, total.errors, total.queue_depth), (Some(13.0), Some(0.5), 3.0));
        assert_eq!((total.p50, total.p99), (Some(0.005), Some(0.011)), "of all calls");
        assert_eq!(picture.cpus, Some(1.5));
    }

    #[test]
    fn counters_that_went_back_start_at_zero() {
        let before = scrape(5.0, &[("a", function(10.0, 5.0, Some(0.1)))]);
        let again = scrape(5.0, &[("a", function(4.0, 0.0, None))]);
        let row = &picture(&again, Some(&before)).rows[0];
        assert_eq!((row.rate, row.errors, row.p50), (Some(2.0), Some(0.0), None));
    }

    #[test]
    fn no_rate_is_known_after_a_first_look_and_after_a_restart() {
        let now = scrape(6.0, &[("a", function(10.0, 5.0, Some(0.1)))]);
        for before in [None, Some(scrape(5.0, &[("a", function(9.0, 5.0, None))]))] {
            let picture = picture(&now, before.as_ref());
            let row = &picture.rows[0];
            assert_eq!((row.rate, row.errors, row.retries, row.p99), (None, None, None, Some(0.1)));
            assert_eq!((picture.total.rate, picture.cpus, row.queue_depth), (None, None, 1.0));
            assert_eq!(picture.answers, None);
        }
        let empty = picture(&scrape(5.0, &[]), Some(&scrape(5.0, &[])));
        assert_eq!((empty.total.rate, empty.rows.len()), (Some(0.0), 0));
    }

    #[test]
    fn answers_by_class_and_refusals_by_reason_the_most_frequent_first() {
        let counts = |counts: &[(&str, f64)]| -> BTreeMap<String, f64> {
            counts.iter().map(|(of, count)| ((*of).to_owned(), *count)).collect()
        };
        let answers = |classes, refusals| Answers { classes: counts(classes), refusals: counts(refusals) };
        let (mut before, mut now) = (scrape(5.0, &[]), scrape(5.0, &[]));
        before.answers = Some(answers(&[("2xx", 1.0), ("4xx", 2.0)], &[("a", 7.0), ("b", 1.0)]));
        assert_eq!(picture(&now, Some(&before)).answers, None, "of a server that counts none");
        now.answers =
            Some(answers(&[("2xx", 5.0), ("4xx", 2.0)], &[("a", 7.0), ("b", 2.0), ("c", 8.0), ("d", 1.0)]));
        let rates = picture(&now, Some(&before)).answers.expect("it counts them");
        let named = |rates: &[(&str, f64)]| -> Vec<(String, f64)> {
            rates.iter().map(|(of, rate)| ((*of).to_owned(), *rate)).collect()
        };
        assert_eq!(rates.classes, named(&[("2xx", 2.0), ("4xx", 0.0)]));
        assert_eq!(rates.refusals, named(&[("c", 4.0), ("b", 0.5), ("d", 0.5)]));
    }
}
