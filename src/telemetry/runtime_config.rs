//! Metrics of the runtime configuration.

use std::fmt::Write;

/// Appends them: the revision, and changes that succeeded and failed.
pub fn render(text: &mut String, revision: u64, (succeeded, failed): (u64, u64)) {
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "# HELP controlplane_runtime_config_revision Revision of the runtime configuration.\n\
         # TYPE controlplane_runtime_config_revision gauge\n\
         controlplane_runtime_config_revision {revision}\n\
         # HELP controlplane_runtime_config_updates_total Changes of the runtime configuration.\n\
         # TYPE controlplane_runtime_config_updates_total counter\n\
         controlplane_runtime_config_updates_total{{status=\"success\"}} {succeeded}\n\
         controlplane_runtime_config_updates_total{{status=\"failure\"}} {failed}\n"
    );
}
