//! Nothing comes before its time: deadlines, waits for an end, ages, and attempts that are given up.

use std::collections::BTreeSet;

use shard_core::{Answer, ExecutionId, Now, answer::Stage, payload::code};

use super::{Asked, Verdict, run::Run};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Promptness {
    /// Shards that do not let anybody wait for the end of an execution any more.
    watches_ended: BTreeSet<u16>,
}

impl Promptness {
    /// A shard was told to let nobody wait.
    pub(super) fn watches_end(&mut self, shard: u16) {
        self.watches_ended.insert(shard);
    }

    /// Other shards begin.
    pub(super) fn forget(&mut self) {
        self.watches_ended.clear();
    }

    /// Somebody is answered. `run`: of the execution that the answer is about.
    pub(super) fn answered(
        &self,
        shard: u16,
        now: Now,
        asked: &Asked,
        answer: &Answer,
        run: Option<&Run>,
    ) -> Verdict {
        match (asked, answer) {
            // Who repeats a key is told of what had ended before.
            (Asked::Call { id: own, due_us: Some(due_us), .. }, Answer::TimedOut { id, stage, .. })
                if own == id =>
            {
                // Its last attempt may have been over without a word before.
                let attempt_is_over =
                    *stage == Stage::Function && run.is_some_and(|run| run.attempt_until_us <= now.mono_us);
                let has_ended = run.is_some_and(|run| run.ended.is_some());
                match now.mono_us < *due_us && !attempt_is_over && !has_ended {
                    true => Err(format!("{id} timed out {} µs too early", due_us - now.mono_us)),
                    false => Ok(()),
                }
            }
            (Asked::Read { due_us, .. }, Answer::Execution(view)) => {
                let early = !view.state.is_terminal() && now.mono_us < *due_us;
                match early && !self.watches_ended.contains(&shard) {
                    true => Err(format!("who waits for the end of {} was answered before that", view.id)),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Checks that an attempt of an execution is not given up while it has time.
pub(super) fn is_over(now: Now, id: ExecutionId, run: &Run, failed_as: &str) -> Verdict {
    match failed_as == code::FUNCTION_TIMEOUT && now.mono_us < run.attempt_until_us {
        true => Err(format!("attempt {} of {id} was given up before its time was over", run.attempts)),
        false => Ok(()),
    }
}

/// Checks that an execution does not end for its age before it is old enough.
pub(super) fn is_old_enough(now: Now, id: ExecutionId, run: &Run, failed_as: &str) -> Verdict {
    if failed_as != code::EXPIRED {
        return Ok(());
    }
    match run.expires_us {
        Some(expires_us) if now.mono_us < expires_us => {
            Err(format!("{id} ended for its age {} µs too early", expires_us - now.mono_us))
        }
        Some(_) => Ok(()),
        None => Err(format!("{id} ended for its age, and may wait for ever")),
    }
}
