//! What the sync queue remembers of a function: how fast its queue drains, and who was told to come back.

use crate::{drain_rate::DrainRate, retry_plan::RetryPlan, settings::SyncQueue};

/// What is known of a function's queue while the sync queue is on.
#[derive(Debug)]
pub(crate) struct SyncHistory {
    pub(crate) rate: DrainRate,
    pub(crate) plan: Option<RetryPlan>,
    /// When the last caller that was refused without a plan is expected to find a place.
    pub(crate) spread_us: u64,
}

impl SyncHistory {
    pub(crate) fn new(settings: &SyncQueue) -> SyncHistory {
        SyncHistory { rate: DrainRate::new(settings.throughput_window_us), plan: None, spread_us: 0 }
    }
}
