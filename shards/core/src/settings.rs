//! What may change while a shard runs, in one struct that is replaced as a whole.

/// Settings of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Calls per second that the server admits; 0: any number. Only reported: the leases decide.
    pub calls_per_second: u32,
    /// Accepted executions are dispatched on their own; else they wait for [`crate::Request::DrainOnce`].
    pub background_scheduler: bool,
    /// How synchronous calls are refused early; `None` lets them wait to their own deadlines.
    pub sync_queue: Option<SyncQueue>,
    /// When and how fast replicas follow the load; `None` leaves them as they are.
    pub autoscaler: Option<Autoscaler>,
}

/// When the replicas of functions are decided about. Microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscaler {
    /// Time between two decisions.
    pub poll_interval_us: u64,
    /// After adding replicas, no more are added for this long. Not applied from zero.
    pub upscale_cooldown_us: u64,
    /// After any change, no replicas are taken away for this long.
    pub downscale_cooldown_us: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { calls_per_second: 1000, background_scheduler: true, sync_queue: None, autoscaler: None }
    }
}

/// Bounds on waiting synchronous calls, per function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncQueue {
    /// Refuse by estimated wait as well.
    pub admission_enabled: bool,
    /// Most that may wait.
    pub max_depth: u32,
    /// Longest estimated wait that is admitted, in microseconds.
    pub max_estimated_wait_us: u64,
    /// Longest time in the queue, in microseconds.
    pub max_queue_wait_us: u64,
    /// The least that a refusal says in `Retry-After`, in seconds.
    pub retry_after_s_min: u32,
    /// Time over which the drain rate is observed, in microseconds.
    pub throughput_window_us: u64,
    /// Dispatches in that time from which on the observed rate is trusted.
    pub min_samples: u32,
}
