//! Arrival rates: how many calls should have begun at a given time, and when the n-th begins.
//!
//! A rate is a sequence of stages in which it changes linearly. The number of calls due at time t is the area under the
//! rate up to t; the n-th call is due when that area reaches n. Calls come evenly, or as a Poisson process: then the
//! area between two of them is not 1 but exponentially distributed with mean 1, which is the same process whatever the
//! shape of the rate.

use std::time::Duration;

/// A rate as a scenario gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Rate {
    /// The same all the time, in calls per second.
    Constant(f64),
    /// The same all the time, in percent of the saturation.
    Percent(f64),
    /// From one rate to another over the measured time, in calls per second.
    Ramp(f64, f64),
    /// One after the other.
    Stages(Vec<Stage>),
}

/// A time during which the rate changes linearly.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Names it in reports; empty: its rates.
    pub name: String,
    /// Calls per second at its beginning.
    pub from: f64,
    /// Calls per second at its end.
    pub to: f64,
    /// How long it is.
    pub length: Duration,
}

/// How calls are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Uniform,
    /// At random, as from many independent callers.
    Poisson,
}

/// Stages of the whole run. The first is the warm-up, at the rate at which the others begin; it may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages(Vec<Stage>);

impl Stages {
    pub(super) fn new(warm_up: Duration, stages: Vec<Stage>) -> Stages {
        let rate = stages.first().map_or(0.0, |stage| stage.from);
        let first = Stage { name: "warm-up".to_owned(), from: rate, to: rate, length: warm_up };
        Stages([vec![first], stages].concat())
    }

    /// Names of the stages without the warm-up.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().skip(1).map(Stage::label).collect()
    }

    /// Lengths of the stages, the warm-up first.
    pub fn lengths(&self) -> Vec<Duration> {
        self.0.iter().map(|stage| stage.length).collect()
    }

    /// Mean rate without the warm-up, in calls per second.
    pub fn mean_rate(&self) -> f64 {
        let seconds: f64 = self.0.iter().skip(1).map(|stage| stage.length.as_secs_f64()).sum();
        self.0.iter().skip(1).map(Stage::calls).sum::<f64>() / seconds
    }

    /// The phase at a time since the start in nanoseconds: 0 is the warm-up.
    pub(crate) fn phase_at(&self, time_ns: u64) -> usize {
        let mut end = 0;
        for (index, stage) in self.0.iter().enumerate() {
            end += stage.length.as_nanos() as u64;
            if time_ns < end {
                return index;
            }
        }
        self.0.len() - 1
    }
}

impl Stage {
    /// Calls of the whole stage.
    fn calls(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.length.as_secs_f64()
    }

    /// Seconds from its beginning until `calls` calls are due, which must not be more than all of its calls.
    fn seconds_until(&self, calls: f64) -> f64 {
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        // from·t + slope·t²/2 = calls, in the form that stays exact when the slope is small.
        let root = (self.from * self.from + 2.0 * slope * calls).max(0.0).sqrt();
        if self.from + root > 0.0 { 2.0 * calls / (self.from + root) } else { 0.0 }
    }

    fn label(&self) -> String {
        match (&self.name, self.from, self.to) {
            (name, ..) if !name.is_empty() => name.clone(),
            (_, from, to) if from == to => format!("{from}/s"),
            (_, from, to) => format!("{from} to {to}/s"),
        }
    }
}

/// The times at which calls of one load should begin, on one of several threads.
#[derive(Debug)]
pub(crate) struct Schedule {
    stages: Vec<Stage>,
    arrivals: Arrivals,
    /// Calls between two of this thread, over all threads.
    step: f64,
    /// Calls that are due before the next one.
    due: f64,
    /// Stage of the next call, calls before it, and its beginning in seconds.
    stage: usize,
    calls_before: f64,
    start_s: f64,
    random: fastrand::Rng,
    next_ns: Option<u64>,
}

impl Schedule {
    /// The share of thread number `thread` of `threads`: every `threads`-th call, or a process of its own.
    pub(crate) fn new(
        stages: &Stages,
        arrivals: Arrivals,
        thread: usize,
        threads: usize,
        seed: u64,
    ) -> Schedule {
        let mut schedule = Schedule {
            stages: stages.0.clone(),
            arrivals,
            step: threads as f64,
            due: match arrivals {
                Arrivals::Uniform => thread as f64,
                Arrivals::Poisson => 0.0,
            },
            stage: 0,
            calls_before: 0.0,
            start_s: 0.0,
            random: fastrand::Rng::with_seed(seed),
            next_ns: None,
        };
        if arrivals == Arrivals::Poisson {
            schedule.due = schedule.gap();
        }
        schedule.find();
        schedule
    }

    /// When the next call should begin, in nanoseconds since the start; `None` when there is none.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Goes on to the call after the next.
    pub(crate) fn advance(&mut self) {
        self.due += self.gap();
        self.find();
    }

    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Uniform => self.step,
            Arrivals::Poisson => -self.step * (1.0 - self.random.f64()).ln(),
        }
    }

    fn find(&mut self) {
        self.next_ns = loop {
            let Some(stage) = self.stages.get(self.stage) else { break None };
            let (calls, seconds) = (stage.calls(), stage.length.as_secs_f64());
            // A call that falls on the boundary belongs to the next stage.
            if self.due - self.calls_before < calls - 1e-9 {
                let time_s = self.start_s + stage.seconds_until(self.due - self.calls_before);
                break Some((time_s * 1e9) as u64);
            }
            self.calls_before += calls;
            self.start_s += seconds;
            self.stage += 1;
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(stages: &Stages, arrivals: Arrivals, thread: usize, threads: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(stages, arrivals, thread, threads, 7);
        std::iter::from_fn(|| {
            let next = schedule.next_ns()?;
            schedule.advance();
            Some(next)
        })
        .collect()
    }

    fn stage(from: f64, to: f64, length_s: u64) -> Stage {
        Stage { name: String::new(), from, to, length: Duration::from_secs(length_s) }
    }

    #[test]
    fn a_constant_rate_is_even_and_shared_by_threads() {
        let stages = Stages::new(Duration::from_secs(1), vec![stage(10.0, 10.0, 2)]);
        let all = times(&stages, Arrivals::Uniform, 0, 1);
        assert_eq!(all.len(), 30);
        for (index, time) in all.iter().enumerate() {
            assert!(time.abs_diff(index as u64 * 100_000_000) < 1000, "{index}: {time}");
        }
        let mut shared =
            [times(&stages, Arrivals::Uniform, 0, 2), times(&stages, Arrivals::Uniform, 1, 2)].concat();
        shared.sort_unstable();
        assert_eq!(shared, all);
    }

    #[test]
    fn a_ramp_has_the_area_under_it() {
        let stages = Stages::new(Duration::ZERO, vec![stage(0.0, 100.0, 2), stage(100.0, 0.0, 2)]);
        let all = times(&stages, Arrivals::Uniform, 0, 1);
        assert_eq!(all.len(), 200);
        assert_eq!(all.iter().filter(|time| **time < 1_000_000_000).count(), 25);
        assert!(all.is_sorted());
        assert_eq!([1, 2].map(|second| stages.phase_at(second * 1_000_000_000)), [1, 2]);
    }

    #[test]
    fn a_poisson_process_has_the_rate_and_its_spread() {
        let stages = Stages::new(Duration::ZERO, vec![stage(1000.0, 1000.0, 20)]);
        let all = times(&stages, Arrivals::Poisson, 0, 2);
        assert!((9500..10_500).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.9..1.1).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
    }
}
