//! How many replicas there should be: a pure function of what is asked for and what is measured.

use super::{Metric, Scaling};

/// Most replicas that a metric can ask for: a target next to zero must not overflow.
const WANTED_MAX: f64 = 1_000_000.0;

/// What is measured of a function, as totals over its replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// Executions that wait, synchronous and asynchronous.
    pub queue_depth: u32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Dispatches per second since the last decision.
    pub rps: f64,
    /// Replicas wanted so far.
    pub replicas: u32,
}

impl Readings {
    fn of(&self, metric: Metric) -> f64 {
        match metric {
            Metric::QueueDepth => self.queue_depth.into(),
            Metric::InFlight => self.in_flight.into(),
            Metric::Rps => self.rps,
        }
    }

    /// Whether anything waits or runs.
    pub fn has_work(&self) -> bool {
        self.queue_depth > 0 || self.in_flight > 0
    }
}

/// Time since the last changes, and how long they hold further ones back. Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cooldowns {
    /// Since replicas were last added, other than from zero; `None` when never.
    pub since_up_us: Option<u64>,
    /// Since replicas were last added or taken away; `None` when never.
    pub since_change_us: Option<u64>,
    /// After adding, no more are added for this long. Scaling from zero neither waits for it nor begins it.
    pub up_us: u64,
    /// After any change, none are taken away for this long.
    pub down_us: u64,
}

impl Cooldowns {
    fn left_us(since_us: Option<u64>, cooldown_us: u64) -> u64 {
        since_us.map_or(0, |since_us| cooldown_us.saturating_sub(since_us))
    }
}

/// What one metric asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Which metric.
    pub metric: Metric,
    /// Its total.
    pub value: f64,
    /// Per replica.
    pub target: f64,
    /// Replicas that it asks for; `None` when its target is not positive.
    pub wanted: Option<u32>,
}

/// Which rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// More replicas.
    ScaleUp,
    /// The first replica, for work that waits.
    FromZero,
    /// Fewer replicas.
    ScaleDown,
    /// As many as there are.
    Hold,
    /// More were wanted too soon after the last were added.
    UpCooldown,
    /// Fewer were wanted too soon after the last change.
    DownCooldown,
}

impl Rule {
    /// The word for it on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::ScaleUp => "scale_up",
            Rule::FromZero => "from_zero",
            Rule::ScaleDown => "scale_down",
            Rule::Hold => "hold",
            Rule::UpCooldown => "up_cooldown",
            Rule::DownCooldown => "down_cooldown",
        }
    }
}

/// A decision, with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What the metrics ask for.
    pub readings: Vec<Reading>,
    /// Replicas wanted so far.
    pub before: u32,
    /// What the metrics ask for together, within the bounds of the registration.
    pub wanted: u32,
    /// Replicas wanted from now on.
    pub result: u32,
    /// The rule that made the result of it.
    pub rule: Rule,
    /// Something waits or runs, and nothing else kept the last replica.
    pub kept_for_work: bool,
    /// Microseconds until a cooldown ends that held this back; else 0.
    pub cooldown_left_us: u64,
    /// The most loaded metric: its total, in parts of what all replicas are to have.
    pub load: f64,
}

/// `desired = max over metrics of ceil(total / target)`, within min and max, never 0 while anything waits or runs.
pub fn decide(scaling: &Scaling, readings: &Readings, cooldowns: &Cooldowns) -> Decision {
    let of_metrics: Vec<Reading> = scaling
        .metrics
        .iter()
        .map(|metric| {
            let value = readings.of(metric.metric);
            let usable = metric.target > 0.0 && metric.target.is_finite();
            let wanted = usable.then(|| (value / metric.target).ceil().clamp(0.0, WANTED_MAX) as u32);
            Reading { metric: metric.metric, value, target: metric.target, wanted }
        })
        .collect();
    let asked = of_metrics.iter().filter_map(|reading| reading.wanted).max().unwrap_or(0);
    let least = scaling.min_replicas.max(u32::from(readings.has_work()));
    let most = scaling.max_replicas.max(1);
    let wanted = asked.max(least).min(most);
    let kept_for_work = readings.has_work() && asked == 0 && scaling.min_replicas == 0;
    let before = readings.replicas;
    let up_left_us = Cooldowns::left_us(cooldowns.since_up_us, cooldowns.up_us);
    let down_left_us = Cooldowns::left_us(cooldowns.since_change_us, cooldowns.down_us);
    let (rule, result, cooldown_left_us) = if wanted > before && before == 0 {
        (Rule::FromZero, wanted, 0)
    } else if wanted > before && up_left_us > 0 {
        (Rule::UpCooldown, before, up_left_us)
    } else if wanted > before {
        (Rule::ScaleUp, wanted, 0)
    } else if wanted < before && down_left_us > 0 {
        (Rule::DownCooldown, before, down_left_us)
    } else if wanted < before {
        (Rule::ScaleDown, wanted, 0)
    } else {
        (Rule::Hold, before, 0)
    };
    let loads = of_metrics.iter().filter(|reading| reading.wanted.is_some());
    let load = loads.map(|reading| reading.value / reading.target).fold(0.0, f64::max);
    let load = load / f64::from(before.max(1));
    Decision { readings: of_metrics, before, wanted, result, rule, kept_for_work, cooldown_left_us, load }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::{ConcurrencyControl, MetricTarget};

    const S: u64 = 1_000_000;

    fn check(min: u32, max: u32, targets: &[(Metric, f64)], readings: Readings, expected: (Rule, u32)) {
        let metrics =
            targets.iter().map(|(metric, target)| MetricTarget { metric: *metric, target: *target });
        let scaling = Scaling {
            min_replicas: min,
            max_replicas: max,
            metrics: metrics.collect(),
            control: ConcurrencyControl::Fixed,
        };
        let decision = decide(&scaling, &readings, &Cooldowns::default());
        assert_eq!((decision.rule, decision.result), expected, "{targets:?} {readings:?}");
    }

    fn readings(queue_depth: u32, in_flight: u32, replicas: u32) -> Readings {
        Readings { queue_depth, in_flight, rps: 0.0, replicas }
    }

    #[test]
    fn totals_over_targets() {
        let queue = |target| [(Metric::QueueDepth, target)];
        let flight = |target| [(Metric::InFlight, target)];
        check(1, 10, &queue(5.0), readings(15, 0, 1), (Rule::ScaleUp, 3));
        check(1, 5, &queue(1.0), readings(100, 0, 3), (Rule::ScaleUp, 5));
        check(1, 10, &queue(5.0), readings(5, 0, 1), (Rule::Hold, 1));
        check(0, 10, &flight(2.0), readings(0, 4, 0), (Rule::FromZero, 2));
        check(0, 10, &queue(5.0), readings(0, 0, 2), (Rule::ScaleDown, 0));
        let both = [(Metric::QueueDepth, 10.0), (Metric::InFlight, 5.0)];
        check(1, 5, &both, readings(30, 20, 2), (Rule::ScaleUp, 4));
        // A total above its target asks for the same number whatever runs already: it does not compound.
        check(1, 10, &queue(5.0), readings(15, 0, 3), (Rule::Hold, 3));
        // One call wakes a function, however large the target.
        check(0, 10, &queue(50.0), readings(1, 0, 0), (Rule::FromZero, 1));
        check(0, 10, &queue(5.0), readings(0, 1, 1), (Rule::Hold, 1));
        check(0, 10, &queue(5.0), readings(0, 0, 0), (Rule::Hold, 0));
        check(2, 10, &queue(5.0), readings(0, 0, 5), (Rule::ScaleDown, 2));
        check(2, 10, &queue(5.0), readings(0, 0, 0), (Rule::FromZero, 2));
        // What makes no sense is ignored.
        check(1, 10, &queue(0.0), readings(99, 0, 1), (Rule::Hold, 1));
        check(1, 10, &queue(f64::NAN), readings(99, 0, 1), (Rule::Hold, 1));
        check(1, 10, &queue(1e-300), readings(99, 0, 1), (Rule::ScaleUp, 10));
        check(1, 10, &[(Metric::Rps, 10.0)], Readings { rps: 25.0, ..readings(0, 0, 1) }, (Rule::ScaleUp, 3));
    }

    #[test]
    fn cooldowns() {
        let scaling = Scaling {
            min_replicas: 0,
            max_replicas: 10,
            metrics: vec![MetricTarget { metric: Metric::QueueDepth, target: 1.0 }],
            control: ConcurrencyControl::Fixed,
        };
        let (up_us, down_us) = (30 * S, 60 * S);
        for (replicas, queue, since_up_us, since_change_us, rule, left_s) in [
            (1, 5, None, None, Rule::ScaleUp, 0),
            (1, 5, Some(10 * S), Some(10 * S), Rule::UpCooldown, 20),
            (1, 5, Some(30 * S), Some(10 * S), Rule::ScaleUp, 0),
            (0, 5, Some(S), Some(S), Rule::FromZero, 0),
            (5, 0, None, None, Rule::ScaleDown, 0),
            (5, 0, Some(10 * S), Some(10 * S), Rule::DownCooldown, 50),
            (5, 0, None, Some(59 * S), Rule::DownCooldown, 1),
            (5, 0, Some(90 * S), Some(60 * S), Rule::ScaleDown, 0),
        ] {
            let cooldowns = Cooldowns { since_up_us, since_change_us, up_us, down_us };
            let decision = decide(&scaling, &readings(queue, 0, replicas), &cooldowns);
            assert_eq!(decision.rule, rule, "{cooldowns:?}");
            assert_eq!(decision.cooldown_left_us, left_s * S);
        }
    }

    #[test]
    fn a_decision_says_what_it_was_made_from() {
        let rps = MetricTarget { metric: Metric::Rps, target: 4.0 };
        let queue = MetricTarget { metric: Metric::QueueDepth, target: 10.0 };
        for (min_replicas, readings, kept_for_work, load) in [
            (0, Readings { rps: 0.0, ..readings(0, 1, 1) }, true, 0.0),
            (1, Readings { rps: 0.0, ..readings(0, 1, 1) }, false, 0.0),
            (0, Readings { rps: 0.0, ..readings(0, 0, 1) }, false, 0.0),
            (0, Readings { rps: 1.0, ..readings(0, 1, 1) }, false, 0.25),
            (0, Readings { rps: 24.0, ..readings(5, 1, 2) }, false, 3.0),
            (0, Readings { rps: 24.0, ..readings(90, 1, 3) }, false, 3.0),
            (0, Readings { rps: 2.0, ..readings(5, 0, 0) }, false, 0.5),
        ] {
            let scaling = Scaling {
                min_replicas,
                max_replicas: 10,
                metrics: vec![rps, queue],
                control: ConcurrencyControl::Fixed,
            };
            let decision = decide(&scaling, &readings, &Cooldowns::default());
            assert_eq!((decision.kept_for_work, decision.load), (kept_for_work, load), "{readings:?}");
        }
        // A metric that sees no queue keeps a replica for it all the same.
        let scaling = Scaling {
            min_replicas: 0,
            max_replicas: 10,
            metrics: vec![rps],
            control: ConcurrencyControl::Fixed,
        };
        assert!(decide(&scaling, &readings(1, 0, 1), &Cooldowns::default()).kept_for_work);
        // As many as there are is no change that waits for a cooldown.
        let cooldowns = Cooldowns { since_up_us: Some(0), since_change_us: Some(0), up_us: S, down_us: S };
        assert_eq!(decide(&scaling, &readings(1, 0, 1), &cooldowns).rule, Rule::Hold);
    }

    #[test]
    fn always_within_bounds_and_never_nothing_for_work() {
        for min in [0, 1, 3] {
            for queue in [0, 1, 7, 1000] {
                for in_flight in [0, 1, 50] {
                    for replicas in [0, 1, 4] {
                        let scaling = Scaling {
                            min_replicas: min,
                            max_replicas: 4,
                            metrics: vec![MetricTarget { metric: Metric::QueueDepth, target: 5.0 }],
                            control: ConcurrencyControl::Fixed,
                        };
                        let now = readings(queue, in_flight, replicas);
                        let decision = decide(&scaling, &now, &Cooldowns::default());
                        assert!((min..=4).contains(&decision.result), "{now:?} {decision:?}");
                        assert!(!now.has_work() || decision.result > 0, "{now:?} {decision:?}");
                    }
                }
            }
        }
    }
}
