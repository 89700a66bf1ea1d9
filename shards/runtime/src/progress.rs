//! Whether a shard takes up its ready work: the half of liveness that a loop which turns does not show.
//!
//! Once a second the thread looks at all functions of its shard, some at a time. A function that has work and a free
//! slot, and has sent nothing since it was seen like that before, is unserved from that first sight on. A function
//! whose turn comes late under load sends something now and then, and starts afresh.

use shard_core::{FunctionKey, Shard};

/// From the end of one round of looks to the beginning of the next, in microseconds.
const ROUND_US: u64 = 1_000_000;
/// Between two looks of a round.
const LOOK_US: u64 = 10_000;
/// Functions of one look: a fraction of a millisecond.
const LOOK_FUNCTIONS: usize = 1024;

/// A function that was ready when it was looked at.
#[derive(Debug, Clone, Copy)]
struct Ready {
    function: FunctionKey,
    dispatches: u64,
    since_us: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// When the next look is due, on the workers' clock.
    pub(crate) next_us: u64,
    /// Position of the next function.
    from: usize,
    /// Those of this round so far, and those of the one before, by position.
    ready: Vec<Ready>,
    before: Vec<Ready>,
}

impl Progress {
    /// Looks at the next functions. At the end of a round: since when the oldest ready work has been left alone, if
    /// there is any.
    pub(crate) fn look(&mut self, shard: &Shard, now_us: u64) -> Option<Option<u64>> {
        let mut functions = shard.readiness_from(self.from);
        for seen in functions.by_ref().take(LOOK_FUNCTIONS) {
            self.from = seen.function.index() + 1;
            if let Some(dispatches) = seen.ready {
                let before = self.before.binary_search_by_key(&seen.function.index(), |r| r.function.index());
                let same = before
                    .ok()
                    .and_then(|place| self.before.get(place))
                    .filter(|before| before.function == seen.function && before.dispatches == dispatches);
                let since_us = same.map_or(now_us, |before| before.since_us);
                self.ready.push(Ready { function: seen.function, dispatches, since_us });
            }
        }
        if functions.next().is_some() {
            self.next_us = now_us + LOOK_US;
            return None;
        }
        self.next_us = now_us + ROUND_US;
        self.from = 0;
        std::mem::swap(&mut self.before, &mut self.ready);
        self.ready.clear();
        Some(self.before.iter().map(|ready| ready.since_us).min())
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{
        AttemptKey, DispatchEvent, Effect, Effects, ExecutionId, FunctionSpec, Input, Invoke, JournalEvent,
        Lease, Limits, Name, Now, Outcome, Output, Payload, Policy, Report, Request, Settings, Target,
        Ticket,
    };

    use super::*;

    const NOW: Now = Now { mono_us: 0, unix_ms: 1_700_000_000_000 };

    /// One input; what it writes to the journal is safe at once. The attempt that it sent off, if any.
    fn step(shard: &mut Shard, input: Input) -> Option<AttemptKey> {
        let mut effects = Effects::default();
        shard.handle(NOW, input, &mut effects);
        let (mut sent, mut written) = (None, None);
        for effect in effects.drain() {
            match effect {
                Effect::Dispatch(dispatch) => sent = Some(dispatch.attempt),
                Effect::Journal { number, .. } => written = Some(number),
                _ => {}
            }
        }
        match written {
            Some(through) => step(shard, Input::Journal(JournalEvent::Safe { through })).or(sent),
            None => sent,
        }
    }

    /// A shard whose functions have work and slots, and that takes nothing from a queue.
    fn wedged(functions: u64) -> Shard {
        let limits = Limits { batch_max: 0, ..Limits::default() };
        let mut shard = Shard::new(limits, 1, Settings::default());
        step(&mut shard, Input::Lease(Lease::Calls { second: NOW.second(), calls: u32::MAX }));
        step(&mut shard, Input::Lease(Lease::Bytes(1 << 30)));
        for number in 0..functions {
            let name = Name::new(&format!("f{number}")).expect("a name");
            let spec = FunctionSpec {
                name,
                policy: Policy { concurrency: 1, ..Policy::default() },
                target: Target::Local,
                scaling: None,
                document: Default::default(),
            };
            step(&mut shard, Input::Ask(Ticket(1), Request::Register(Box::new(spec))));
            // The first call takes the slot, the second waits; when the first ends, the second is ready.
            let sent = [2 * number, 2 * number + 1].map(|call| {
                let mut random = [0; 16];
                random[..8].copy_from_slice(&(call + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                let call = Invoke {
                    id: ExecutionId::new(random, name.owner_hash()),
                    name,
                    payload: Payload::json(Vec::from(*b"1")),
                    timeout_ms: None,
                    extra: None,
                };
                step(&mut shard, Input::Ask(Ticket(1), Request::Enqueue(call)))
            });
            assert_eq!(sent[1], None, "there is one slot");
            let report = Report::warm(Outcome::Success(Output::null()));
            let attempt = sent[0].expect("a free slot");
            step(&mut shard, Input::Dispatch(attempt, DispatchEvent::Finished(report)));
        }
        shard
    }

    #[test]
    fn work_that_stays_ages_and_a_round_sees_every_function() {
        let shard = wedged(LOOK_FUNCTIONS as u64 + 1);
        let mut progress = Progress::default();
        assert_eq!(progress.look(&shard, 5), None, "the first look is not a whole round");
        assert_eq!(progress.next_us, 5 + LOOK_US);
        assert_eq!(progress.look(&shard, 20_000), Some(Some(5)));
        assert_eq!(progress.look(&shard, 1_000_000), None);
        assert_eq!(progress.look(&shard, 1_010_000), Some(Some(5)), "nothing was taken up");
    }

    #[test]
    fn nothing_is_ready_where_nothing_waits() {
        let mut progress = Progress::default();
        let idle = Shard::new(Limits::default(), 1, Settings::default());
        assert_eq!(progress.look(&idle, 5), Some(None));
        let wedged = wedged(1);
        assert_eq!(progress.look(&wedged, 7), Some(Some(7)));
        assert_eq!(progress.look(&idle, 9), Some(None), "what is gone is forgotten");
    }
}
