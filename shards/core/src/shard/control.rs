//! The server starts, changes its settings, or ends.

use crate::{
    effect::Effects,
    input::Control,
    settings::Settings,
    shard::{Shard, chores::Chore, state::Drain},
};

impl Shard {
    /// The server does something with this shard.
    pub(super) fn controlled(&mut self, control: Control, fx: &mut Effects) {
        match control {
            Control::Restore(stored) => self.restore(stored, fx),
            Control::Restored => self.restored(fx),
            Control::Configure(settings) => self.configure(settings),
            Control::EndWatches => self.end_watches(fx),
            Control::Hold => self.hold(),
            Control::Drain { finally } => self.drain(finally, fx),
        }
    }

    /// Other settings hold.
    fn configure(&mut self, settings: Settings) {
        let released = settings.background_scheduler && !self.settings.background_scheduler;
        let before = std::mem::replace(&mut self.settings, settings);
        self.reconfigure_sync_queue(before.sync_queue);
        self.reconfigure_scaling(before.autoscaler.as_ref());
        if released && !self.phase.start.is_being_written() {
            self.release_backlogs();
        }
    }

    /// Refuses what comes, and with `finally` what still waits for a caller.
    fn drain(&mut self, finally: bool, fx: &mut Effects) {
        let drain = if finally { Drain::GivenUp } else { Drain::Draining };
        self.phase.drain = self.phase.drain.max(drain);
        if !finally {
            return;
        }
        self.begin(Chore::Callers(0), fx);
    }
}
