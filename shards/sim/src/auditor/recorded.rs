//! What shards write down, taken into the accounts in its order.

use shard_core::{ExecutionId, Now, Record, Ticket, journal::EndResult, payload::code};

use super::{Auditor, Cause, Verdict, run::End};

impl Auditor {
    pub(super) fn recorded(&mut self, shard: u16, now: Now, number: u64, record: &Record) -> Verdict {
        match record {
            Record::Accepted { id, callback_url, .. } => {
                let (is_addressed, is_doubtful) = (self.is_addressed(*id), self.records.is_doubtful(*id));
                self.records.accepts(shard, number, *id, self.enqueuer());
                if callback_url.is_some() && is_addressed {
                    // Who joins it brings an address along.
                    return Ok(());
                }
                self.stats.accepted += 1;
                let run = self.executions.get_mut(*id)?;
                // Once more if the record before could not be written.
                if std::mem::replace(&mut run.accepted, true) && !is_doubtful {
                    return Err(format!("{id} was accepted twice"));
                }
                run.on_record = true;
                run.is_unsure = false;
                if let Some(key) = run.key.clone() {
                    let name = run.name;
                    self.keys.runs(*id, name, &key, &self.executions)?;
                }
                let run = self.executions.get_mut(*id)?;
                let (name, bytes) = (run.name, run.payload.len() as u64);
                // A call that another one joined was there before, and waits or runs already.
                let new = matches!(self.cause, Cause::Call { id: of, accepted: true, .. } if of == *id);
                match self.registrations.current(&name).filter(|_| new) {
                    Some(to) => self.queues.enter(*id, (to.epoch, to.policy.queue_size), true, bytes, true),
                    None => Ok(()),
                }
            }
            Record::Attempted { id, attempt } => {
                let run = self.executions.get_mut(*id)?;
                match run.attempts == *attempt {
                    true => Ok(()),
                    false => Err(format!("attempt {attempt} of {id} is on record, not {}", run.attempts)),
                }
            }
            Record::JobOrdered { id, attempt, .. } => self.ordered(shard, now, number, (*id, *attempt)),
            Record::Requeued { id, .. } => {
                // What went before its acceptance is written down with that.
                if self.executions.get_mut(*id)?.accepted && !self.records.is_unwritten(*id) {
                    self.records.requeues(shard, number, *id);
                }
                Ok(())
            }
            Record::Ended { id, end, dead } => {
                let run = self.executions.get_mut(*id)?;
                // It ends as if it had not been accepted.
                run.is_unsure |= self.records.is_unwritten(*id);
                let is_broken = |asker| self.records.replay_has_failed(asker);
                let known = run.is_known_to_end(&End::of(&end.result), is_broken);
                self.records.ends(shard, number, *id, known);
                self.end_of_accepted(now, *id, &end.result, *dead)
            }
            Record::Kept { id, end, dead, .. } => {
                let run = self.executions.get_mut(*id)?;
                let again = std::mem::replace(&mut run.accepted, true);
                if again && !self.records.is_doubtful(*id) {
                    return Err(format!("{id} was accepted twice"));
                }
                // How it ended was shown when its acceptance had failed.
                run.is_unsure |= again;
                let enqueuer = self.enqueuer();
                self.records.accepts(shard, number, *id, enqueuer);
                self.records.keeps(shard, number);
                let run = self.executions.get_mut(*id)?;
                run.on_record = false;
                run.kept = true;
                // One that is being given up is on record as none, and is one until who wanted that is told.
                run.dead |= *dead;
                run.ends = run.ends.max(1);
                let known = run.ended.is_some();
                self.executions.ended(now, *id, End::of(&end.result))?;
                if !known {
                    self.executions.get_mut(*id)?.status.had_ended();
                }
                Ok(())
            }
            Record::Replayed { id, at_ms } => {
                let Cause::Replay(asker) = self.cause else {
                    return Err(format!("{id} is replayed, and nobody asked for that"));
                };
                if *at_ms != now.unix_ms {
                    return Err(format!("{id} is replayed at {} ms, and {at_ms} is on record", now.unix_ms));
                }
                self.records.replays(shard, number, *id, asker);
                self.stats.replayed += 1;
                let name = self.executions.get_mut(*id)?.name;
                let Some(to) = self.registrations.current(&name) else {
                    return Err(format!("{id} is replayed, and {name} is not registered"));
                };
                let (epoch, queue_size) = (to.epoch, to.policy.queue_size);
                let key = self.executions.get_mut(*id)?.key.clone();
                if let Some(key) = key {
                    self.keys.replays(*id, name, &key, &self.executions)?;
                }
                self.executions.replayed(now, *id, epoch, asker)?;
                self.caution.begins_anew(*id);
                self.queues.enter(*id, (epoch, queue_size), true, 0, true)
            }
            Record::Purged { .. } => {
                // Else it was one too many, which a note says.
                if let Cause::Purge(asker) = self.cause {
                    self.records.purges(shard, number, asker);
                }
                Ok(())
            }
            Record::Forgotten { id } => {
                self.records.forgets(*id);
                self.executions.forgotten(*id)
            }
            Record::Registered { .. }
            | Record::Removed { .. }
            | Record::Reinstated { .. }
            | Record::JobLost { .. }
            | Record::Started { .. } => Ok(()),
            Record::Delivered { id, delivery } => self
                .executions
                .get(*id)
                .map_or(Ok(()), |run| run.status.is_delivery_recorded(delivery.status)),
        }
    }

    /// Whether an enqueue that gives an address joins an execution that was accepted before.
    fn is_addressed(&self, id: ExecutionId) -> bool {
        let Cause::Call { id: own, accepted: true, .. } = self.cause else { return false };
        let joins = self.executions.get(own).is_some_and(|call| call.key.is_some() && call.url.is_some());
        let accepted = self.executions.get(id).is_some_and(|run| run.accepted && run.on_record);
        own != id && joins && accepted && !self.records.is_unwritten(id)
    }

    /// Who wants something accepted in this step.
    fn enqueuer(&self) -> Option<Ticket> {
        match self.cause {
            Cause::Call { ticket, accepted: true, .. } => Some(ticket),
            _ => None,
        }
    }

    fn end_of_accepted(&mut self, now: Now, id: ExecutionId, result: &EndResult, dead: bool) -> Verdict {
        self.queues.leave(id);
        self.slots.release(id);
        let run = self.executions.get_mut(id)?;
        let again = run.dead && run.ended.as_ref().is_some_and(|end| *end == End::of(result));
        if again && dead {
            // A purge of it could not be written down: it is a dead letter as before.
            return Ok(());
        }
        // What fails can be tried again, also when its function was removed.
        let is_cancelled = matches!(result, EndResult::Failed(failure) if failure.code == code::CANCELLED);
        if dead != (!matches!(result, EndResult::Output(_)) && !is_cancelled) {
            return Err(format!("{id} ended as {:?}, and is a dead letter: {dead}", End::of(result)));
        }
        if !std::mem::replace(&mut run.on_record, false) {
            return Err(format!("{id} ends on record, and was not alive on record"));
        }
        run.dead = dead;
        run.ends += 1;
        self.executions.ended(now, id, End::of(result))
    }
}
