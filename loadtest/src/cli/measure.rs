//! Runs of scenarios, for commands that make several.

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

/// Measures each of `count` things in each round. The order is turned round every other round. A signal ends it with what
/// has been measured.
pub(super) fn in_rounds(
    rounds: u32,
    count: usize,
    mut measure: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for round in 0..rounds {
        for place in 0..count {
            match measure(if round % 2 == 0 { place } else { count - 1 - place }) {
                Err(Failure::Interrupted) => return Ok(()),
                measured => measured?,
            }
        }
    }
    Ok(())
}
