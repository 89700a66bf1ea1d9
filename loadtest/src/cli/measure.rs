//! One run of a scenario, for commands that make several.

use super::{failure::Failure, progress::Progress};
use crate::{interrupt::Interrupt, monitor::Monitor, plan::Scenario, report::Summary, run::run};

/// Catches the signals that end a command early.
pub(super) fn catch_signals() -> Result<Interrupt, Failure> {
    Interrupt::catch().map_err(|error| Failure::Failed(format!("cannot catch signals: {error}")))
}

/// Runs the scenario and sums it up; fails with [`Failure::Interrupted`] when a signal comes.
pub(super) fn measure(
    scenario: &Scenario,
    monitor: Option<Monitor>,
    interrupt: &Interrupt,
) -> Result<Summary, Failure> {
    let progress = Progress::new();
    let (plan, outcome) =
        run(scenario.plan()?, monitor, None, interrupt, |row, length| progress.show(row, length))?;
    progress.clear();
    if outcome.is_interrupted {
        // Half a measurement is not to be mixed with whole ones.
        return Err(Failure::Interrupted);
    }
    Ok(Summary::new(&plan, &outcome))
}
