//! Executions: attempts in sequence and within their number, one end each, and results that are their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use shard_core::{
    Dispatch, ExecutionId, ExecutionView, Failure, Invoke, Name, Now, Outcome, Policy, State,
    journal::EndResult,
};

use super::{Verdict, keys::is_crowded};
use crate::{
    functions::{BROKEN, origin},
    swarm::Swarm,
};

/// What is known of a call, and of the execution that it created if it did.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) name: Name,
    /// The registration that runs it.
    pub(super) epoch: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) offered_us: u64,
    pub(super) payload: Bytes,
    /// A record says that it was accepted.
    pub(super) accepted: bool,
    /// A caller was told so.
    pub(super) promised: bool,
    pub(super) ended: Option<End>,
    pub(super) dead: bool,
    pub(super) attempts: u32,
    /// Attempts that do not count against those that it may have.
    attempts_before: u32,
    /// When it was accepted for this life, and how old it may become, in microseconds.
    queued_us: u64,
    max_age_us: Option<u64>,
    running: bool,
    /// Its acceptance could not be written down.
    withdrawn: bool,
    /// Who waited for it left, or was sent away: it may be gone without a trace.
    muddy: bool,
    /// A callback about it did not say which attempt it meant.
    vague: bool,
    /// How long its function asked to be left alone, and when it said so.
    pause: Option<(u64, u64)>,
    not_before_us: u64,
    ended_us: u64,
    /// Its result is to be delivered; how often it was, and how often it ended.
    delivers: bool,
    delivered: u32,
    pub(super) ends: u32,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Output(Bytes),
    Failed(String),
    TimedOut,
}

impl End {
    pub(super) fn of(result: &EndResult) -> End {
        match result {
            EndResult::Output(output) => End::Output(output.body.clone()),
            EndResult::Failed(failure) => End::failed(failure),
            EndResult::TimedOut { .. } => End::TimedOut,
        }
    }

    pub(super) fn failed(failure: &Failure) -> End {
        End::Failed(format!("{}: {}", failure.code, failure.message))
    }

    fn state(&self) -> State {
        match self {
            End::Output(_) => State::Success,
            End::Failed(_) => State::Error,
            End::TimedOut => State::Timeout,
        }
    }
}

impl Run {
    pub(super) fn new(call: &Invoke, key: Option<Box<str>>, epoch: u64, now_us: u64) -> Run {
        let extra = call.extra.as_deref();
        Run {
            name: call.name,
            epoch,
            key,
            offered_us: now_us,
            payload: call.payload.input.clone(),
            accepted: false,
            promised: false,
            ended: None,
            dead: false,
            attempts: 0,
            attempts_before: 0,
            queued_us: now_us,
            max_age_us: extra.and_then(|extra| extra.max_age_ms).map(|ms| u64::from(ms) * 1000),
            running: false,
            withdrawn: false,
            muddy: false,
            vague: false,
            pause: None,
            not_before_us: 0,
            ended_us: 0,
            delivers: extra.is_some_and(|extra| extra.callback_url.is_some()),
            delivered: 0,
            ends: 0,
        }
    }

    /// Whether it may be gone without a trace.
    pub(super) fn is_muddy(&self) -> bool {
        self.muddy || self.withdrawn
    }

    /// Whether this call, or another one that it is known to have joined, waits for its first attempt.
    pub(super) fn is_new(&self) -> bool {
        self.attempts == 0
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Executions {
    runs: BTreeMap<ExecutionId, Run>,
    late_us_max: u64,
    pause_us_max: u64,
    kept_us: u64,
    crowded: bool,
}

impl Executions {
    pub(super) fn new(swarm: &Swarm) -> Executions {
        Executions {
            runs: BTreeMap::new(),
            late_us_max: swarm.turn_late_us,
            pause_us_max: swarm.limits.retry_wait_us_max,
            kept_us: swarm.limits.executions_ttl_us,
            crowded: is_crowded(swarm),
        }
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Run> {
        self.runs.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ExecutionId) -> Result<&mut Run, String> {
        self.runs.get_mut(&id).ok_or_else(|| format!("nobody asked for execution {id}"))
    }

    pub(super) fn offered(&mut self, id: ExecutionId, run: Run) -> Verdict {
        match self.runs.insert(id, run) {
            None => Ok(()),
            Some(_) => Err(format!("the world used the id {id} twice")),
        }
    }

    /// A call was refused before anything came of it.
    pub(super) fn refused(&mut self, id: ExecutionId) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.withdrawn = run.accepted;
            run.muddy = true;
        }
    }

    pub(super) fn muddy(&mut self, id: ExecutionId) {
        // A call with a key may have joined another one: all that it could have are in doubt.
        let Some(run) = self.runs.get(&id) else { return };
        let (name, key) = (run.name, run.key.clone());
        let shares = |run: &&mut Run| run.name == name && run.key == key && run.ended.is_none();
        match key {
            Some(_) => self.runs.values_mut().filter(shares).for_each(|run| run.muddy = true),
            None => self.runs.get_mut(&id).into_iter().for_each(|run| run.muddy = true),
        }
    }

    /// A function said how an attempt went.
    pub(super) fn reported(&mut self, now: Now, id: ExecutionId, number: Option<u32>, outcome: &Outcome) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let pause_ms = match outcome {
            Outcome::Failure { retry_after_ms: Some(ms), .. } => u64::from(*ms),
            _ => 0,
        };
        run.vague |= number.is_none();
        if number.is_none_or(|number| number == run.attempts) {
            run.pause = Some((now.mono_us, (pause_ms * 1000).min(self.pause_us_max)));
        }
    }

    /// An attempt goes out.
    pub(super) fn dispatched(&mut self, now_us: u64, dispatch: &Dispatch, policy: &Policy) -> Verdict {
        let (id, late_us_max) = (dispatch.id, self.late_us_max);
        let run = self.get_mut(id)?;
        let fail = |what: String| Err(format!("attempt {} of {id}: {what}", dispatch.number));
        if let Some(end) = &run.ended {
            return fail(format!("it ended before, as {end:?}"));
        }
        if run.running {
            return fail("the one before goes on".to_owned());
        }
        if dispatch.number != run.attempts + 1 {
            return fail(format!("comes after {}", run.attempts));
        }
        if dispatch.number - run.attempts_before > policy.attempts_max {
            return fail(format!("only {} are allowed", policy.attempts_max));
        }
        if dispatch.payload.input != run.payload {
            return fail(format!("it has another payload: {:?}", dispatch.payload.input));
        }
        let key = dispatch.extra.as_ref().and_then(|extra| extra.idempotency.as_ref());
        if key.is_some() && dispatch.number > 1 {
            return fail("a retry carries the idempotency key".to_owned());
        }
        if now_us < run.not_before_us {
            return fail(format!("its function asked to wait {} µs more", run.not_before_us - now_us));
        }
        let oldest_us = run.max_age_us.filter(|_| run.accepted).map(|age_us| run.queued_us + age_us);
        if oldest_us.is_some_and(|oldest_us| now_us > oldest_us + late_us_max) {
            return fail("it is older than it may become".to_owned());
        }
        run.attempts = dispatch.number;
        run.running = true;
        Ok(())
    }

    /// Another attempt will follow.
    pub(super) fn requeued(&mut self, now_us: u64, id: ExecutionId, number: u32) -> Verdict {
        let run = self.get_mut(id)?;
        if !run.running || run.attempts != number {
            return Err(format!("attempt {number} of {id} is to be followed by another, and does not run"));
        }
        run.running = false;
        if let Some((_, pause_us)) = run.pause.take_if(|(at_us, _)| *at_us == now_us) {
            run.not_before_us = now_us + pause_us;
        }
        Ok(())
    }

    /// It ended, or somebody was told how it ended.
    pub(super) fn ended(&mut self, now_us: u64, id: ExecutionId, end: End) -> Verdict {
        let run = self.get_mut(id)?;
        match &run.ended {
            None => {
                is_own(id, run, &end)?;
                run.running = false;
                run.ended = Some(end);
                run.ended_us = now_us;
                Ok(())
            }
            Some(before) if same(before, &end) => Ok(()),
            Some(before) => Err(format!("{id} ended as {before:?} and then as {end:?}")),
        }
    }

    /// A dead letter lives again.
    pub(super) fn replayed(&mut self, now_us: u64, id: ExecutionId, epoch: u64) -> Verdict {
        let run = self.get_mut(id)?;
        if !run.dead {
            return Err(format!("{id} is tried again and was no dead letter"));
        }
        run.dead = false;
        run.ended = None;
        run.epoch = epoch;
        run.attempts_before = run.attempts;
        run.queued_us = now_us;
        Ok(())
    }

    /// Nothing is kept of it any more.
    pub(super) fn forgotten(&mut self, id: ExecutionId) -> Verdict {
        let run = self.get_mut(id)?;
        let lives = run.promised && run.ended.is_none();
        if lives || run.dead {
            return Err(format!("{id} was accepted, and is forgotten while it lives or is a dead letter"));
        }
        Ok(())
    }

    /// Its result is delivered: once for every end.
    pub(super) fn delivers(&mut self, id: ExecutionId) -> Verdict {
        let run = self.get_mut(id)?;
        run.delivered += 1;
        // Who joins with an address of its own gives it to an execution that had none.
        if run.delivered <= run.ends && (run.delivers || run.key.is_some()) {
            return Ok(());
        }
        Err(format!("the result of {id} is delivered {} times after {} ends", run.delivered, run.ends))
    }

    /// Somebody read it.
    pub(super) fn viewed(&mut self, now_us: u64, view: &ExecutionView) -> Verdict {
        let id = view.id;
        let run = self.get_mut(id)?;
        if run.withdrawn {
            return Ok(());
        }
        let fail = |what: String| Err(format!("{id} reads wrong: {what}"));
        if *view.function != *run.name.as_str() {
            return fail(format!("it is of {}", view.function));
        }
        if view.attempt != run.attempts {
            return fail(format!("attempt {} instead of {}", view.attempt, run.attempts));
        }
        match (&run.ended, view.state.is_terminal()) {
            (Some(end), _) if end.state() != view.state => {
                return fail(format!("{} after {end:?}", view.state.as_str()));
            }
            (None, true) if run.accepted => return fail("no record says that it ended".to_owned()),
            (None, false) if run.running != (view.state == State::Running) => {
                return fail(format!("{} is not what it does", view.state.as_str()));
            }
            _ => {}
        }
        let end = match (&view.output, &view.error) {
            (Some(output), _) => End::Output(output.body.clone()),
            (None, Some(failure)) if view.state == State::Error => End::failed(failure),
            (None, Some(_)) => End::TimedOut,
            (None, None) => return Ok(()),
        };
        self.ended(now_us, id, end)
    }

    /// Nobody finds it.
    pub(super) fn missed(&self, now_us: u64, id: ExecutionId) -> Verdict {
        let Some(run) = self.runs.get(&id).filter(|run| run.promised && !run.is_muddy()) else {
            return Ok(());
        };
        let kept = run.dead || (!self.crowded && now_us < run.ended_us + self.kept_us);
        match run.ended {
            None => Err(format!("{id} was accepted, has not ended, and nobody finds it")),
            Some(_) if kept && !self.crowded => Err(format!("{id} ended a while ago, and nobody finds it")),
            Some(_) => Ok(()),
        }
    }

    /// Checks that every accepted execution ended.
    pub(super) fn all_ended(&self) -> Verdict {
        for (id, run) in &self.runs {
            if run.promised && run.ended.is_none() {
                return Err(format!("{id} was accepted and never ended"));
            }
            if run.delivers && run.accepted && run.delivered != run.ends {
                return Err(format!("{id} ended {} times, delivered {} times", run.ends, run.delivered));
            }
        }
        Ok(())
    }
}

/// Checks that a result is of this execution and of its last attempt.
fn is_own(id: ExecutionId, run: &Run, end: &End) -> Verdict {
    let said = match end {
        End::Output(body) if *body == run.payload => return Ok(()),
        End::Output(body) => std::str::from_utf8(body).unwrap_or_default(),
        End::Failed(words) => match words.strip_prefix(BROKEN) {
            Some(rest) => rest.trim_start_matches(": "),
            None => return Ok(()),
        },
        End::TimedOut => return Ok(()),
    };
    match origin(said) {
        Some((of, attempt)) if of == id && (attempt == run.attempts || run.vague) => Ok(()),
        _ => Err(format!("{id} ends in attempt {} with a result that is not its own: {said}", run.attempts)),
    }
}

/// Whether two readers were told the same. An output is dropped before its record is.
fn same(one: &End, other: &End) -> bool {
    let dropped = |end: &End| matches!(end, End::Output(body) if body == "null");
    one == other || (one.state() == other.state() && (dropped(one) || dropped(other)))
}
