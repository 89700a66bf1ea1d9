//! What a step caused, taken into the accounts in its order.

use shard_core::{
    Answer, Destination, Dispatch, Effect, ExecutionId, ExecutionView, Name, Note, Now, Record, Refusal,
    Target, Ticket, payload::code,
};

use super::{Asked, Auditor, Cause, Verdict, promptness, registrations::Registration, run::End};

impl Auditor {
    /// A shard did this.
    pub(crate) fn effects(&mut self, shard: u16, now: Now, effects: &[Effect]) -> Verdict {
        self.judge_cause(now, effects)?;
        self.judge_probes(shard, now, effects)?;
        self.hear(shard, now, effects);
        for effect in effects {
            match effect {
                Effect::Reply { ticket, answer } => self.answered(shard, now, *ticket, answer)?,
                Effect::Dispatch(dispatch) => self.dispatched(shard, now, dispatch)?,
                Effect::AdoptJob { attempt, id, number, .. } => {
                    self.goes_on((shard, *attempt), now, *id, *number)?;
                }
                Effect::Abort { attempt } => {
                    self.stats.aborted += 1;
                    self.slots.aborted((shard, *attempt), now.mono_us)?;
                    self.scales.is_over(shard, *attempt, false);
                }
                Effect::Journal { number, entry } => {
                    self.records.written(shard, *number)?;
                    self.partitions.recorded(shard, *number, entry)?;
                    self.recorded(shard, now, *number, &entry.record)?;
                }
                Effect::Scale { function, replicas, first_to_go, .. } => {
                    self.stats.scaled_down += u64::from(!first_to_go.is_empty());
                    let known = (&self.endpoints, &self.crashes.probes);
                    self.scales.scaled(shard, (*function, *replicas), first_to_go, known)?;
                }
                Effect::Deliver { id, number, url, view } => {
                    self.stats.delivered += 1;
                    self.is_told(*id)?;
                    self.executions.delivers(*id, *number, url)?;
                    self.viewed(now, view)?;
                }
                Effect::ReadResult { ticket, id } => self.reads(shard, *ticket, *id)?,
                Effect::Note(Note::NotRun { id, attempt }) => self.not_run(*id, *attempt)?,
                Effect::Note(Note::JobLost { id, attempt }) => self.job_is_lost(*id, *attempt)?,
                Effect::OpenEndpoint { endpoint, address, .. } => {
                    self.crashes.opened(shard, *endpoint, address);
                    self.endpoints.opened(shard, *endpoint, address)?;
                }
                Effect::CloseEndpoint { endpoint } => {
                    self.crashes.closed(shard, *endpoint);
                    self.endpoints.closed(shard, *endpoint)?;
                }
                Effect::Note(Note::Retry { id, attempt, code }) => {
                    self.is_rightly_tried_again(now, *id, code)?;
                    // The report of an attempt whose time was over in the same step came too late to ask for a pause.
                    let reported = code != code::FUNCTION_TIMEOUT;
                    promptness::is_over(now, *id, self.executions.get_mut(*id)?, code)?;
                    self.retried(now, *id, *attempt, reported)?;
                    self.executions.get_mut(*id)?.status.requeued(code);
                }
                Effect::Note(Note::DeadLetterDropped { id }) => self.executions.get_mut(*id)?.dead = false,
                Effect::Note(Note::Late { .. }) => self.stats.late += 1,
                _ => {}
            }
        }
        if let Some(shard) = self.adopting.take() {
            self.all_go_on(shard)?;
        }
        self.crashes.step_is_over(shard, now.mono_us, &self.endpoints);
        self.endpoints.settle();
        self.caution.settle(shard);
        self.slots.are_enough(now.mono_us)?;
        self.judge_waiting(effects)?;
        self.judge_turns(shard)
    }

    /// Every function has its turn.
    fn judge_turns(&mut self, shard: u16) -> Verdict {
        if self.restoring.contains(&shard) {
            return Ok(());
        }
        let seating = self.partitions.seating();
        let on_shard = |name: &Name| seating.owner_of(name.owner_hash()) == shard;
        for (name, registration) in self.registrations.all().filter(|(name, _)| on_shard(name)) {
            let Registration { epoch, policy, target, .. } = registration;
            let waits = *target != Target::Backend && self.queues.somebody_waits(*epoch);
            let ready = waits
                && self.slots.held_by(*epoch) < policy.concurrency
                && !self.refusals.is_changing(name, None);
            self.fairness.is_ready(*epoch, name.as_str(), ready)?;
        }
        Ok(())
    }

    /// What the input itself led to, which counts before everything else that the step caused.
    fn judge_cause(&mut self, now: Now, effects: &[Effect]) -> Verdict {
        let answer_to = |asker: Ticket| {
            effects.iter().find_map(|effect| match effect {
                Effect::Reply { ticket, answer } if *ticket == asker => Some(answer),
                _ => None,
            })
        };
        match self.cause {
            Cause::Call { ticket, name, .. } => {
                let refusal = answer_to(ticket)
                    .and_then(|answer| if let Answer::Refused(r) = answer { Some(r) } else { None });
                match refusal {
                    Some(Refusal::ShuttingDown) => {
                        self.rates.turned_away();
                        return Ok(());
                    }
                    Some(Refusal::RateLimited { function: false, retry_after_s, .. }) => {
                        return self.rates.refused(*retry_after_s);
                    }
                    _ => {}
                }
                self.rates.admitted()?;
                self.stats.admitted += 1;
                let Some(registration) = self.registrations.current(&name) else {
                    return match refusal {
                        Some(Refusal::FunctionNotFound) => Ok(()),
                        _ => Err(format!("a call of {name} went on, which is not registered")),
                    };
                };
                let (epoch, limit) = (registration.epoch, registration.policy.rate_limit_per_second);
                match refusal {
                    Some(Refusal::FunctionNotFound) => Ok(()),
                    Some(Refusal::RateLimited { retry_after_s, .. }) => {
                        self.rates.refused_to(epoch, limit, now, *retry_after_s)
                    }
                    _ => self.rates.admitted_to(epoch, limit, now),
                }
            }
            Cause::JobEnded(id) | Cause::JobLost(id) => is_decided(id, effects),
            Cause::Replay(_) | Cause::DrainOnce | Cause::Purge(_) | Cause::NotRun(_) | Cause::Other => Ok(()),
        }
    }

    /// A call that was neither answered nor dispatched waits.
    fn judge_waiting(&mut self, effects: &[Effect]) -> Verdict {
        let Cause::Call { ticket, id, name, accepted: false } = self.cause else { return Ok(()) };
        let decided = effects.iter().any(|effect| match effect {
            Effect::Reply { ticket: to, .. } => *to == ticket,
            Effect::Dispatch(dispatch) => dispatch.id == id,
            _ => false,
        });
        let Some(run) = self.executions.get(id).filter(|_| !decided) else { return Ok(()) };
        self.stats.waited += 1;
        if run.key.is_some() {
            self.queues.may_wait(id);
            return Ok(());
        }
        let Some(registration) = self.registrations.current(&name) else { return Ok(()) };
        let queue = (registration.epoch, registration.policy.queue_size);
        self.queues.enter(id, queue, false, run.payload.len() as u64, false)
    }

    fn dispatched(&mut self, shard: u16, now: Now, dispatch: &Dispatch) -> Verdict {
        self.stats.dispatched += 1;
        let id = dispatch.id;
        if let Destination::Endpoint(endpoint) = dispatch.destination {
            self.risks_the_last(shard, now.mono_us, id, endpoint)?;
        }
        let Some(run) = self.executions.get(id) else {
            return Err(format!("{id} was dispatched, and nobody asked for it"));
        };
        let Some(registration) = self.registrations.current(&run.name) else {
            return Err(format!("{id} was dispatched to {}, which is not registered", run.name));
        };
        self.endpoints.chosen(shard, dispatch.destination, (run.name, registration))?;
        let is_job = matches!(dispatch.destination, Destination::Job(_));
        let (attempt, of) = ((shard, dispatch.attempt), (id, dispatch.number));
        if is_job && run.accepted {
            self.records.may_be_ordered(id)?;
            if !self.slots.is_reserved(of) {
                return Err(format!("the job of {id} is ordered, and holds no slot"));
            }
            let (epoch, policy) = (registration.epoch, &registration.policy);
            self.executions.dispatched(now, dispatch, policy)?;
            return self.slots.taken(attempt, of, (epoch, policy), (now.mono_us, true));
        }
        self.attempted(now, id, dispatch.number)?;
        self.crashes.dispatched(shard, now.mono_us, dispatch)?;
        self.scales.dispatched(shard, dispatch);
        let Some(run) = self.executions.get(id) else { return Ok(()) };
        let Some(registration) = self.registrations.current(&run.name) else { return Ok(()) };
        let (epoch, policy) = (registration.epoch, &registration.policy);
        self.executions.dispatched(now, dispatch, policy)?;
        self.slots.taken(attempt, of, (epoch, policy), (now.mono_us, is_job))
    }

    /// An attempt is made, which leaves its queue.
    pub(super) fn attempted(&mut self, now: Now, id: ExecutionId, number: u32) -> Verdict {
        let Some(run) = self.executions.get(id) else {
            return Err(format!("nobody asked for execution {id}"));
        };
        let Some(registration) = self.registrations.current(&run.name) else {
            return Err(format!("an attempt of {id} is made for {}, which is not registered", run.name));
        };
        if run.is_new() || self.queues.is_given_back(id) {
            let in_turn = !matches!(self.cause, Cause::DrainOnce);
            let fresh = matches!(self.cause, Cause::Call { id: of, .. } if of == id);
            self.queues.dispatched(id, registration.epoch, (run.accepted, fresh), in_turn)?;
            if let Some(key) = run.key.as_deref().filter(|_| run.is_new()) {
                self.keys.runs(id, run.name, key, &self.executions)?;
            }
        } else {
            self.queues.leave(id);
        }
        let (epoch, policy) = (registration.epoch, &registration.policy);
        if run.accepted {
            self.records.may_be_tried_again(id)?;
        }
        self.executions.attempted(now, id, number, policy)?;
        self.refusals.starts(epoch);
        if !matches!(self.cause, Cause::DrainOnce) {
            self.fairness.is_served(epoch);
        }
        Ok(())
    }

    fn retried(&mut self, now: Now, id: ExecutionId, number: u32, reported: bool) -> Verdict {
        self.stats.retried += 1;
        self.executions.requeued(now.mono_us, id, number, reported)?;
        let Some(run) = self.executions.get(id) else { return Ok(()) };
        if run.is_muddy() {
            // It takes a place, and is not counted.
            let name = run.name;
            self.is_unsure_of_queue(&name);
            return Ok(());
        }
        let Some(registration) = self.registrations.current(&run.name) else {
            return Err(format!("{id} is tried again, and {} is not registered", run.name));
        };
        let places = registration.policy.queue_size.max(registration.restored);
        self.queues.again(id, (registration.epoch, places))
    }

    /// From now on it is not known how many wait for the function that has this name.
    pub(super) fn is_unsure_of_queue(&mut self, name: &Name) {
        if let Some(registration) = self.registrations.current(name) {
            self.queues.is_unsure(registration.epoch);
        }
    }

    fn answered(&mut self, shard: u16, now: Now, ticket: Ticket, answer: &Answer) -> Verdict {
        let asked = self.callers.answered(ticket, now.mono_us)?;
        let about = match answer {
            Answer::TimedOut { id, .. } => self.executions.get(*id),
            _ => None,
        };
        self.promptness.answered(shard, now, &asked, answer, about)?;
        if let Answer::Refused(refusal) = answer {
            self.has_reason(shard, ticket, &asked, refusal, self.asker == Some(ticket))?;
        }
        self.refusals.answered(ticket);
        match answer {
            Answer::Finished { id, result } => {
                self.belongs(&asked, *id)?;
                self.is_told(*id)?;
                self.queues.leave(*id);
                let end = match result {
                    Ok(output) => End::Output(output.body.clone()),
                    Err(failure) => End::failed(failure),
                };
                let run = self.executions.get_mut(*id)?;
                // Who repeats a key may be told of what had ended before.
                let unknown = run.ended.is_none() && run.key.is_some();
                self.executions.ended(now, *id, end)?;
                if unknown {
                    self.executions.get_mut(*id)?.status.had_ended();
                }
                Ok(())
            }
            Answer::TimedOut { id, .. } => {
                self.belongs(&asked, *id)?;
                self.stats.timed_out += 1;
                self.timed_out(now, *id)
            }
            Answer::Accepted { id } => {
                self.belongs(&asked, *id)?;
                match asked {
                    Asked::Replay(_) => {
                        self.records.is_replayed(*id, ticket)?;
                        self.executions.get_mut(*id)?.told_of_replay(ticket);
                    }
                    _ => self.records.is_accepted(*id, ticket)?,
                }
                let run = self.executions.get_mut(*id)?;
                run.promised = true;
                // Who had enqueued it before it died is told of that, not of its replay.
                if run.died.is_none() {
                    self.queues.queue(*id);
                }
                Ok(())
            }
            Answer::Registered(_) => {
                self.stats.registered += 1;
                self.specs.registered(ticket)?;
                self.registrations.registered(ticket)
            }
            Answer::Removed => match asked {
                Asked::Remove(name) => {
                    self.stats.removed += 1;
                    if let Some(registration) = self.registrations.current(&name) {
                        self.slots.have_no_job(registration.epoch)?;
                        self.specs.removed(name, registration.epoch);
                    }
                    self.registrations.removed(&name)
                }
                Asked::Purge(id) => {
                    self.records.is_purged(ticket)?;
                    let run = self.executions.get_mut(id)?;
                    (run.dead, run.is_given_up) = (false, true);
                    Ok(())
                }
                _ => Ok(()),
            },
            Answer::Callback { applied } => {
                self.stats.called_back += u64::from(*applied);
                self.slots.called_back();
                Ok(())
            }
            Answer::Execution(view) => {
                if matches!(asked, Asked::Cancel) && !view.state.is_terminal() {
                    return Err(format!("{} was cancelled, and is {}", view.id, view.state.as_str()));
                }
                self.viewed(now, view)
            }
            Answer::DeadLetters(letters) => {
                letters.iter().try_for_each(|letter| self.viewed(now, &letter.execution))
            }
            Answer::Refused(refusal) => self.refused(now, ticket, &asked, refusal),
            _ => Ok(()),
        }
    }

    /// Somebody read an execution. How it ended is read when that is safe, and not before.
    fn viewed(&mut self, now: Now, view: &ExecutionView) -> Verdict {
        let id = view.id;
        let run = self.executions.get_mut(id)?;
        let is_written = run.accepted && !run.is_unsure && !self.records.is_unwritten(id);
        if run.ended.is_some()
            && run.accepted
            && !self.records.end_is_known_to_be_safe(id)
            && !view.state.is_terminal()
        {
            return match &view.output.is_some() {
                true => Err(format!("{id} reads wrong: it goes on, and has an output")),
                false => Ok(()),
            };
        }
        if view.state.is_terminal() && is_written {
            self.is_told(id)?;
        }
        self.executions.viewed(now, view)
    }

    /// Somebody is told how an execution ended.
    fn is_told(&mut self, id: ExecutionId) -> Verdict {
        let run = self.executions.get_mut(id)?;
        if !run.accepted || run.is_unsure || self.records.is_unwritten(id) {
            return Ok(());
        }
        run.is_told = true;
        match self.records.end_is_safe(id) {
            true => Ok(()),
            false => Err(format!("how {id} ended was told before that was safe")),
        }
    }

    /// A caller's deadline passed. An execution that nobody accepted ends with its only caller.
    fn timed_out(&mut self, now: Now, id: ExecutionId) -> Verdict {
        let run = self.executions.get_mut(id)?;
        if run.accepted {
            return Ok(());
        }
        let alone = run.key.is_none();
        self.queues.leave(id);
        match alone {
            true => {
                self.slots.is_left(id);
                self.executions.ended(now, id, End::TimedOut)
            }
            false => {
                self.executions.muddy(id);
                Ok(())
            }
        }
    }

    fn refused(&mut self, now: Now, ticket: Ticket, asked: &Asked, refusal: &Refusal) -> Verdict {
        let stats = &mut self.stats;
        match refusal {
            Refusal::RateLimited { .. } => stats.rate_limited += 1,
            Refusal::QueueFull { .. } => stats.queue_full += 1,
            Refusal::SyncQueueRejected { .. } => stats.sync_queue += 1,
            Refusal::Overloaded { .. } => stats.overloaded += 1,
            Refusal::StoreUnavailable => stats.unwritten += 1,
            Refusal::KeyReused => stats.key_reused += 1,
            _ => {}
        }
        match asked {
            Asked::Call { id, .. } => {
                // It may have joined another call, which is told the same.
                if !matches!(self.cause, Cause::Call { id: of, .. } if of == *id) {
                    self.executions.muddy(*id);
                }
                self.executions.refused(*id);
                self.queues.leave(*id);
                Ok(())
            }
            Asked::Register => {
                self.registrations.refused(ticket);
                self.specs.refused(ticket, *refusal == Refusal::StoreUnavailable);
                Ok(())
            }
            Asked::Read { id, .. } if *refusal == Refusal::ExecutionNotFound => {
                self.executions.missed(now.mono_us, *id)
            }
            Asked::Replay(id) => {
                if let Ok(run) = self.executions.get_mut(*id) {
                    run.is_unsure |= *refusal == Refusal::StoreUnavailable;
                }
                Ok(())
            }
            Asked::Read { .. } | Asked::Remove(_) | Asked::Purge(_) | Asked::Cancel | Asked::Other => Ok(()),
        }
    }

    /// Checks that a caller is told of its own execution, or of one that its key stands for.
    fn belongs(&mut self, asked: &Asked, id: ExecutionId) -> Verdict {
        let own = match asked {
            Asked::Call { id, .. } | Asked::Replay(id) => *id,
            _ => return Err(format!("{id} was told to somebody who asked for {asked:?}")),
        };
        if own == id {
            return Ok(());
        }
        self.stats.joined += 1;
        let of = |id| self.executions.get(id).map(|run| (run.name, run.key.clone(), run.digest));
        match (of(own), of(id)) {
            (Some(asked), Some(told)) if asked == told && asked.1.is_some() => Ok(()),
            _ => Err(format!("who asked for {own} was told of {id}")),
        }
    }
}

/// Checks that a step has said what became of an execution whose job ended: another attempt follows, or it has ended. When
/// its time was over first, it was given up.
fn is_decided(id: ExecutionId, effects: &[Effect]) -> Verdict {
    let says_so = |effect: &Effect| match effect {
        Effect::Note(Note::Retry { id: of, .. }) => *of == id,
        Effect::Note(Note::JobLost { id: of, .. }) => *of == id,
        Effect::Note(Note::Finished { .. }) | Effect::Abort { .. } => true,
        Effect::Journal { entry, .. } => matches!(&entry.record, Record::Ended { id: of, .. } if *of == id),
        Effect::Reply { answer, .. } => matches!(answer, Answer::Finished { id: of, .. } if *of == id),
        _ => false,
    };
    match effects.iter().any(says_so) {
        true => Ok(()),
        false => Err(format!("the job of {id} ended, and nothing came of that")),
    }
}
