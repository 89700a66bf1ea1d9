//! How a function is scaled: what its registration asks for. `decision` says how many replicas there should be,
//! `concurrency` how many attempts may be in flight; both are pure. `state` remembers. The shard takes the readings and acts.

mod concurrency;
mod decision;
mod state;

pub(crate) use concurrency::{Load, PerReplica};
pub use decision::{Cooldowns, Decision, Reading, Readings, Rule, decide};
pub(crate) use state::ScalingState;

/// Scaling of a function whose replicas the shard decides about.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// What it looks at.
    pub metrics: Vec<MetricTarget>,
    /// What follows for attempts in flight.
    pub control: ConcurrencyControl,
}

/// A number that a shard knows of a function, as a total over its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Executions that wait.
    QueueDepth,
    /// Attempts in flight.
    InFlight,
    /// Dispatches per second.
    Rps,
}

/// A metric and how much of it one replica is to have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricTarget {
    /// Which metric.
    pub metric: Metric,
    /// Per replica; a metric whose target is not positive is ignored.
    pub target: f64,
}

/// How the number of attempts in flight follows the replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConcurrencyControl {
    /// Not at all.
    Fixed,
    /// A fixed number per replica.
    StaticPerPod {
        /// Attempts in flight per replica.
        target: u32,
    },
    /// A number per replica that adapts to the load.
    AdaptivePerPod {
        /// Attempts in flight per replica to start from.
        target: u32,
        /// Fewest.
        target_min: u32,
        /// Most.
        target_max: u32,
        /// Least time between two increases, in microseconds.
        upscale_cooldown_us: u64,
        /// Least time between two decreases, in microseconds.
        downscale_cooldown_us: u64,
        /// Load ratio from which the number goes down.
        high_load: f64,
        /// Load ratio up to which the number goes up.
        low_load: f64,
    },
}

/// How a function is scaled, as read by metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingView {
    /// What it asks for.
    pub scaling: Scaling,
    /// Attempts in flight per replica that hold now; 0 with [`ConcurrencyControl::Fixed`].
    pub target_per_replica: u32,
}

/// What scaling is doing for a function, as read from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingReport {
    /// What the registration asks for; `None` when the shard does not decide about its replicas.
    pub scaling: Option<Scaling>,
    /// The autoscaler is on.
    pub enabled: bool,
    /// Replicas wanted and ready.
    pub replicas: (u32, u32),
    /// Attempts that may be in flight now, and at most.
    pub concurrency: (u32, u32),
    /// Attempts in flight per replica that hold now; 0 with [`ConcurrencyControl::Fixed`].
    pub target_per_replica: u32,
    /// The last decision, and when it was made in milliseconds since the Unix epoch.
    pub decision: Option<(Decision, u64)>,
    /// Why the backend did not do what was decided last.
    pub failure: Option<Box<str>>,
    /// Milliseconds until the next decision.
    pub next_ms: Option<u64>,
}
