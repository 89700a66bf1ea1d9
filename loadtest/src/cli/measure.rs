//! One run of a scenario, for commands that make several.

use super::{failure::Failure, progress::Progress};
use crate::{monitor::Monitor, plan::Scenario, report::Summary, run::run};

/// Runs the scenario and sums it up.
pub(super) fn measure(scenario: &Scenario, monitor: Option<Monitor>) -> Result<Summary, Failure> {
    let progress = Progress::new();
    let (plan, outcome) = run(scenario.plan()?, monitor, None, |row, length| progress.show(row, length))?;
    progress.clear();
    Ok(Summary::new(&plan, &outcome))
}
