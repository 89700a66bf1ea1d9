//! Metrics of the runtime configuration.

use super::prometheus::{Exposition, Kind, Labels};

/// Appends them: the revision, and changes that succeeded and failed.
pub fn render(text: &mut Exposition, revision: u64, (succeeded, failed): (u64, u64)) {
    let name = "controlplane_runtime_config_revision";
    text.family(name, Kind::Gauge, "Revision of the runtime configuration.");
    text.sample(name, &Labels::NONE, revision);
    let name = "controlplane_runtime_config_updates_total";
    text.family(name, Kind::Counter, "Changes of the runtime configuration.");
    for (status, count) in [("success", succeeded), ("failure", failed)] {
        text.sample(name, &Labels::of(&[("status", status)]), count);
    }
}
