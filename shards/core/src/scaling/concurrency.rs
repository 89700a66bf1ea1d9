//! How many attempts may be in flight, by the number of replicas: fixed, so many each, or a number each that adapts.

use super::ConcurrencyControl;

/// What the number per replica adapts to. Times on the shard's monotonic clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) now_us: u64,
    /// The most loaded metric, in parts of what all replicas are to have.
    pub(crate) ratio: f64,
    /// Nothing waits, runs or was dispatched since the last time.
    pub(crate) idle: bool,
    /// As many replicas as there may be.
    pub(crate) at_max: bool,
    /// Fewer replicas are wanted.
    pub(crate) shrinking: bool,
}

/// State of the number per replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerReplica {
    pub(crate) target: u32,
    increased_us: Option<u64>,
    decreased_us: Option<u64>,
    shrunk_us: Option<u64>,
}

impl PerReplica {
    /// What a registration starts with.
    pub(crate) fn new(control: &ConcurrencyControl) -> PerReplica {
        let target = match *control {
            ConcurrencyControl::Fixed => 0,
            ConcurrencyControl::StaticPerPod { target } => target.max(1),
            ConcurrencyControl::AdaptivePerPod { target, target_min, target_max, .. } => {
                let least = target_min.max(1);
                target.clamp(least, target_max.max(least))
            }
        };
        PerReplica { target, increased_us: None, decreased_us: None, shrunk_us: None }
    }

    /// Adapts to the load: one less per replica when all replicas there may be are busy, one more when they are not,
    /// each not too soon after the last. Untouched while nothing happens: an idle function would drift to its
    /// maximum.
    pub(crate) fn adapt(&mut self, control: &ConcurrencyControl, load: &Load) {
        let ConcurrencyControl::AdaptivePerPod {
            target_min,
            target_max,
            upscale_cooldown_us,
            downscale_cooldown_us,
            high_load,
            low_load,
            ..
        } = *control
        else {
            return;
        };
        if load.shrinking {
            self.shrunk_us = Some(load.now_us);
        }
        if load.idle {
            return;
        }
        let least = target_min.max(1);
        let most = target_max.max(least);
        let over = |since_us: Option<u64>, cooldown_us: u64| {
            since_us.is_none_or(|since_us| load.now_us - since_us >= cooldown_us)
        };
        if load.at_max && load.ratio >= high_load {
            if over(self.decreased_us, downscale_cooldown_us) {
                self.target = self.target.saturating_sub(1).max(least);
                self.decreased_us = Some(load.now_us);
            }
        } else if load.ratio <= low_load
            && over(self.shrunk_us, downscale_cooldown_us)
            && over(self.increased_us, upscale_cooldown_us)
        {
            self.target = (self.target + 1).min(most);
            self.increased_us = Some(load.now_us);
        }
    }

    /// Attempts that may be in flight over this many replicas, at most what the function asks for.
    pub(crate) fn effective(&self, control: &ConcurrencyControl, replicas: u32, configured: u32) -> u32 {
        match control {
            ConcurrencyControl::Fixed => configured,
            ConcurrencyControl::StaticPerPod { .. } | ConcurrencyControl::AdaptivePerPod { .. } => {
                replicas.max(1).saturating_mul(self.target).clamp(1, configured.max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;
    const ADAPTIVE: ConcurrencyControl = ConcurrencyControl::AdaptivePerPod {
        target: 4,
        target_min: 1,
        target_max: 8,
        upscale_cooldown_us: 30 * S,
        downscale_cooldown_us: 60 * S,
        high_load: 0.85,
        low_load: 0.35,
    };

    fn load(now_s: u64, ratio: f64) -> Load {
        Load { now_us: now_s * S, ratio, idle: false, at_max: true, shrinking: false }
    }

    #[test]
    fn slots_follow_replicas() {
        let fixed = ConcurrencyControl::Fixed;
        assert_eq!(PerReplica::new(&fixed).effective(&fixed, 3, 20), 20);
        let per_pod = ConcurrencyControl::StaticPerPod { target: 3 };
        for (replicas, configured, expected) in [(0, 20, 3), (1, 20, 3), (4, 20, 12), (4, 10, 10), (4, 1, 1)]
        {
            assert_eq!(PerReplica::new(&per_pod).effective(&per_pod, replicas, configured), expected);
        }
    }

    #[test]
    fn the_worked_example_of_high_load() {
        let mut state = PerReplica::new(&ADAPTIVE);
        state.adapt(&ADAPTIVE, &load(0, 0.95));
        assert_eq!((state.target, state.effective(&ADAPTIVE, 4, 20)), (3, 12));
        state.adapt(&ADAPTIVE, &load(59, 0.95));
        assert_eq!(state.target, 3, "too soon");
        for now_s in [60, 120, 180, 240] {
            state.adapt(&ADAPTIVE, &load(now_s, 0.95));
        }
        assert_eq!(state.target, 1, "not below its least");
    }

    #[test]
    fn low_load_raises_it_and_idleness_does_not() {
        let mut state = PerReplica::new(&ADAPTIVE);
        state.adapt(&ADAPTIVE, &Load { idle: true, ..load(0, 0.0) });
        assert_eq!(state.target, 4);
        state.adapt(&ADAPTIVE, &load(0, 0.2));
        assert_eq!(state.target, 5);
        state.adapt(&ADAPTIVE, &load(29, 0.2));
        assert_eq!(state.target, 5, "too soon");
        state.adapt(&ADAPTIVE, &Load { shrinking: true, ..load(30, 0.2) });
        assert_eq!(state.target, 5, "replicas are being taken away");
        state.adapt(&ADAPTIVE, &load(90, 0.2));
        assert_eq!(state.target, 6);
        state.adapt(&ADAPTIVE, &Load { at_max: false, ..load(200, 0.95) });
        assert_eq!(state.target, 6, "there may be more replicas first");
        state.adapt(&ADAPTIVE, &load(300, 0.5));
        assert_eq!(state.target, 6, "neither high nor low");
    }
}
