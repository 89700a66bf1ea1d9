//! Whether room for what has ended is shared as it has to be: none of it is lost or made, nothing is kept without, and who
//! has less than its share gets it from those who have more.

use shard_core::{Room, Shard};
use shard_runtime::{Budgets, room::share};

use crate::swarm::Swarm;

/// Executions are forgotten in batches, which follow each other after this time.
const BATCH_PAUSE_US: u64 = 1000;
/// Keys that may stay although others have to go: those behind keys of executions that go on, which are looked at in turn.
const KEYS_BEHIND: u64 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Rooms {
    total: Room,
    shards: u16,
    /// Within which time others give up what a shard needs for its share.
    patience_us: u64,
    /// Within which time more it takes what they gave up.
    sweeps_us: u64,
    /// What shards have not had of what they need for their share, part by part.
    turned_away: Vec<[Option<TurnedAway>; 4]>,
}

/// A shard with less than its share was told that there is no more, and has as much since.
#[derive(Debug, Clone, Copy)]
struct TurnedAway {
    held: u64,
    since_us: u64,
    /// Since when nothing is free for it.
    short_since_us: Option<u64>,
}

impl Rooms {
    pub(super) fn new(swarm: &Swarm) -> Rooms {
        Rooms {
            total: swarm.room,
            shards: swarm.shards,
            // To hear of it, to look, and to forget some.
            patience_us: 60 * swarm.network.delay_us + 2 * swarm.turn_late_us + 50 * BATCH_PAUSE_US,
            sweeps_us: 3 * swarm.limits.sweep_interval_us,
            turned_away: vec![[None; 4]; usize::from(swarm.shards)],
        }
    }

    /// What is leased and what is free are all there is.
    pub(super) fn add_up<'a>(
        &self,
        shards: impl Iterator<Item = &'a Shard>,
        budgets: &Budgets,
    ) -> Result<(), String> {
        let mut sum = budgets.free_room().amounts();
        for shard in shards {
            for (sum, held) in sum.iter_mut().zip(shard.room_held().amounts()) {
                *sum += held;
            }
        }
        match Room::of(sum) == self.total {
            true => Ok(()),
            false => {
                Err(format!("there is {:?}, and {:?} of it is leased or free", self.total, Room::of(sum)))
            }
        }
    }

    /// A shard has taken a step.
    pub(super) fn stepped(
        &mut self,
        number: u16,
        shard: &Shard,
        budgets: &Budgets,
        now_us: u64,
    ) -> Result<(), String> {
        let (used, held) = (shard.room_used(), shard.room_held());
        // It takes its time to forget much.
        let goes_on = shard.next_deadline_us().is_some_and(|at_us| at_us <= now_us + BATCH_PAUSE_US);
        let fits = used.executions <= held.executions
            && used.bytes <= held.bytes
            && used.disk_bytes <= held.disk_bytes;
        if !fits && !goes_on {
            return Err(format!("shard {number} keeps {used:?} in {held:?}"));
        }
        if used.keys > held.keys + KEYS_BEHIND {
            let totals = shard.totals();
            let going_on = (totals.executions - totals.finished) as u64;
            if used.keys > held.keys + KEYS_BEHIND + going_on && !goes_on {
                return Err(format!(
                    "shard {number} has room for {} keys, and keeps {}",
                    held.keys, used.keys
                ));
            }
        }
        self.judge_share(number, shard, budgets, now_us)
    }

    fn judge_share(
        &mut self,
        number: u16,
        shard: &Shard,
        budgets: &Budgets,
        now_us: u64,
    ) -> Result<(), String> {
        let (short, free, total) = (shard.room_short(), budgets.free_room().amounts(), self.total.amounts());
        let (held, used) = (shard.room_held().amounts(), shard.room_used().amounts());
        // Whoever steps: what is free now may be gone when the one steps that it is for.
        for (part, turned_away) in self.turned_away.iter_mut().flat_map(|parts| parts.iter_mut().enumerate())
        {
            if let Some(turned_away) = turned_away.as_mut().filter(|_| free[part] > 0) {
                turned_away.short_since_us = None;
            }
        }
        let Some(turned_away) = self.turned_away.get_mut(usize::from(number)) else { return Ok(()) };
        // Of keys, others may have none that they could forget.
        for (part, turned_away) in turned_away.iter_mut().enumerate().take(3) {
            let is_poor =
                held[part] < share(total[part], self.shards) && total[part] >= u64::from(self.shards);
            if !is_poor || turned_away.as_ref().is_some_and(|before| before.held != held[part]) {
                *turned_away = None;
            }
            if !short[part] && (used[part] < held[part] || used[part] == 0) {
                *turned_away = None;
            }
            if is_poor && short[part] && turned_away.is_none() {
                *turned_away = Some(TurnedAway { held: held[part], since_us: now_us, short_since_us: None });
            }
            let Some(turned_away) = turned_away else { continue };
            let is_given_nothing = short[part] && free[part] == 0;
            turned_away.short_since_us =
                is_given_nothing.then(|| turned_away.short_since_us.unwrap_or(now_us));
            let is_late =
                turned_away.short_since_us.is_some_and(|since_us| now_us > since_us + self.patience_us);
            let has_starved = now_us > turned_away.since_us + self.patience_us + self.sweeps_us;
            if is_late || has_starved {
                return Err(format!(
                    "shard {number} has {} of {} that are its share, and was turned away {} us ago (part {part})",
                    held[part],
                    share(total[part], self.shards),
                    now_us - turned_away.since_us
                ));
            }
        }
        Ok(())
    }
}
