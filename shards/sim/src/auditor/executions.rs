//! Executions: attempts in sequence and within their number, one end each, and results that are their own.

use std::collections::{BTreeMap, BTreeSet};

use shard_core::{
    DeliveryStatus, Dispatch, ExecutionId, ExecutionView, Name, Now, Outcome, Policy, Report, State, Ticket,
    payload::code,
};

use super::{
    Verdict,
    crash::OnRecord,
    promptness,
    rooms::RoomBounds,
    run::{End, Run, is_own},
    status,
};
use crate::swarm::Swarm;

/// See the module.
#[derive(Debug)]
pub(super) struct Executions {
    runs: BTreeMap<ExecutionId, Run>,
    /// Calls by their key, until they have ended.
    keyed: BTreeMap<(Name, Box<str>), Vec<ExecutionId>>,
    /// Payloads that were sent with a key, and addresses that were given with one.
    digests: BTreeMap<(Name, Box<str>), BTreeSet<[u8; 16]>>,
    urls: BTreeMap<(Name, Box<str>), BTreeSet<Box<str>>>,
    /// How long an output is kept.
    payload_us: u64,
    late_us_max: u64,
    pause_us_max: u64,
    kept_us: u64,
    clock_steps_us_max: u64,
    rooms: RoomBounds,
    /// Calls that were ever made: each may be a finished execution.
    offered: usize,
}

impl Executions {
    pub(super) fn new(swarm: &Swarm) -> Executions {
        Executions {
            runs: BTreeMap::new(),
            keyed: BTreeMap::new(),
            digests: BTreeMap::new(),
            urls: BTreeMap::new(),
            payload_us: swarm.limits.payload_ttl_us,
            late_us_max: swarm.turn_late_us,
            pause_us_max: swarm.limits.retry_wait_us_max,
            kept_us: swarm.limits.accepted_ttl_us,
            clock_steps_us_max: swarm.clock_steps_us_max(),
            rooms: RoomBounds::new(swarm),
            offered: 0,
        }
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Run> {
        self.runs.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ExecutionId) -> Result<&mut Run, String> {
        self.runs.get_mut(&id).ok_or_else(|| format!("nobody asked for execution {id}"))
    }

    pub(super) fn offered(&mut self, id: ExecutionId, run: Run) -> Verdict {
        self.offered += 1;
        if let Some(key) = &run.key {
            let scope = || (run.name, key.clone());
            self.digests.entry(scope()).or_default().extend(run.digest);
            if let Some(url) = &run.url {
                self.urls.entry(scope()).or_default().insert(url.clone());
            }
            self.keyed.entry((run.name, key.clone())).or_default().push(id);
        }
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
            // An address that it brought is nobody's.
            let urls = run.key.clone().and_then(|key| self.urls.get_mut(&(run.name, key)));
            if let (Some(urls), Some(url)) = (urls, &run.url) {
                urls.remove(url);
            }
        }
    }

    /// Its caller left, or was sent away. With a key, it may have joined another call: all that it could have are in
    /// doubt.
    pub(super) fn muddy(&mut self, id: ExecutionId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.muddy = true;
        let Some(key) = run.key.clone() else { return };
        let Some(sharers) = self.keyed.get_mut(&(run.name, key)) else { return };
        sharers.retain(|id| self.runs.get(id).is_some_and(|run| run.ended.is_none()));
        for id in sharers {
            if let Some(run) = self.runs.get_mut(id) {
                run.muddy = true;
            }
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

    /// The dispatcher says what the report of an attempt said of the replica.
    pub(super) fn reported_cold(&mut self, id: ExecutionId, number: Option<u32>, report: &Report) {
        if let Some(run) = self.runs.get_mut(&id).filter(|run| number == Some(run.attempts) && run.running) {
            run.status.reported(report.cold_start, report.init_ms);
        }
    }

    /// The delivery of a result made progress.
    pub(super) fn is_delivered(&mut self, id: ExecutionId, number: u32, status: DeliveryStatus) {
        if let Some(run) = self.runs.get_mut(&id).filter(|run| run.ended.is_some()) {
            run.status.delivered(number, status);
        }
    }

    /// A shard is given an execution back: its age goes on by the clock that people read.
    pub(super) fn given_back(&mut self, now: Now, id: ExecutionId) {
        if let Some(run) = self.runs.get_mut(&id) {
            let age_us = now.unix_ms.saturating_sub(run.queued_ms).saturating_mul(1000);
            run.expires_us = run.max_age_us.map(|max_us| now.mono_us + max_us.saturating_sub(age_us));
        }
    }

    /// Whether somebody used a key for another payload.
    pub(super) fn key_has_another_digest(&self, id: ExecutionId) -> bool {
        let Some(run) = self.runs.get(&id) else { return true };
        let Some(key) = run.key.clone() else { return false };
        let digests = self.digests.get(&(run.name, key));
        digests.is_some_and(|digests| digests.iter().any(|digest| Some(*digest) != run.digest))
    }

    /// An attempt is made: it goes out, or will when it is on record.
    pub(super) fn attempted(&mut self, now: Now, id: ExecutionId, number: u32, policy: &Policy) -> Verdict {
        let (late_us_max, now_us) = (self.late_us_max, now.mono_us);
        let run = self.get_mut(id)?;
        let fail = |what: String| Err(format!("attempt {number} of {id}: {what}"));
        if let Some(end) = &run.ended {
            return fail(format!("it ended before, as {end:?}"));
        }
        if run.running {
            return fail("the one before goes on".to_owned());
        }
        // Every crash may leave one out, for it may have been used.
        if !(run.attempts + 1..=run.attempts + 1 + run.crashes).contains(&number) {
            return fail(format!("comes after {}, and {} crashes", run.attempts, run.crashes));
        }
        if let Some(counted) = run.counted.take() {
            run.attempts_before = number - 1 - counted;
        }
        // Once it is on record as accepted it may have as many as those have; a record that could not be written changes
        // nothing about that.
        let allowed = policy.attempts_of(run.accepted);
        if number - run.attempts_before > allowed {
            return fail(format!("only {allowed} are allowed"));
        }
        if run.replicas_ended > 1 {
            return fail(format!("{} replicas ended with it before", run.replicas_ended));
        }
        if now_us < run.not_before_us {
            return fail(format!("its function asked to wait {} µs more", run.not_before_us - now_us));
        }
        let expires_us = run.expires_us.filter(|_| run.accepted);
        if expires_us.is_some_and(|expires_us| now_us > expires_us + late_us_max) {
            return fail("it is older than it may become".to_owned());
        }
        run.attempts = number;
        run.was_tried = run.is_tried;
        (run.running, run.is_tried, run.attempt_until_us) = (true, true, u64::MAX);
        run.status.dispatched(now);
        Ok(())
    }

    /// An attempt goes out: its time begins.
    pub(super) fn dispatched(&mut self, now: Now, dispatch: &Dispatch, policy: &Policy) -> Verdict {
        let id = dispatch.id;
        let run = self.get_mut(id)?;
        let fail = |what: String| Err(format!("attempt {} of {id}: {what}", dispatch.number));
        if run.attempts != dispatch.number || !run.running {
            return fail(format!("attempt {} was made", run.attempts));
        }
        if dispatch.payload.input != run.payload {
            return fail(format!("it has another payload: {:?}", dispatch.payload.input));
        }
        let key = dispatch.extra.as_ref().and_then(|extra| extra.idempotency.as_ref());
        if key.is_some() && run.was_tried {
            return fail("a retry carries the idempotency key".to_owned());
        }
        // A crash before this takes the number along.
        (run.sent, run.crashes) = (dispatch.number, 0);
        run.attempt_until_us = now.mono_us + u64::from(policy.timeout_ms) * 1000;
        Ok(())
    }

    /// An attempt that was made before a crash goes on. Returns when its time is over.
    pub(super) fn goes_on(
        &mut self,
        now: Now,
        id: ExecutionId,
        number: u32,
        policy: &Policy,
    ) -> Result<u64, String> {
        let run = self.get_mut(id)?;
        let timeout_ms = u64::from(policy.timeout_ms);
        let Some((_, until_ms)) = run.job.take_if(|(of, _)| *of == number) else {
            return Err(format!("attempt {number} of {id} goes on, and no record says that it has a job"));
        };
        if let Some(counted) = run.counted.take() {
            run.attempts_before = number - 1 - counted;
        }
        (run.crashes, run.attempts, run.running) = (0, number, true);
        // The clock may have been set.
        let left_ms = until_ms.saturating_sub(now.unix_ms).min(timeout_ms);
        run.attempt_until_us = now.mono_us + left_ms * 1000;
        run.status.goes_on(until_ms.saturating_sub(timeout_ms));
        Ok(run.attempt_until_us)
    }

    /// The job of an attempt is not there: it counts for nothing, and its number is not used again.
    pub(super) fn lost_job(&mut self, id: ExecutionId, number: u32) -> Verdict {
        let run = self.get_mut(id)?;
        if !std::mem::take(&mut run.running) || run.attempts != number {
            return Err(format!("attempt {number} of {id} is said to have no job, and does not run"));
        }
        run.attempts_before += 1;
        run.status.not_run();
        Ok(())
    }

    /// Checks that every attempt goes on whose job may be there.
    pub(super) fn all_go_on(&self, is_to: impl Fn(&Run, ExecutionId) -> bool) -> Verdict {
        match self.runs.iter().find(|(id, run)| run.job.is_some() && run.ended.is_none() && is_to(run, **id))
        {
            None => Ok(()),
            Some((id, _)) => Err(format!("{id} has a job, and is made again")),
        }
    }

    /// A replica ended with it, and it is tried again, not before this time.
    pub(super) fn crashed_with(&mut self, id: ExecutionId, not_before_us: u64) -> Verdict {
        let run = self.get_mut(id)?;
        run.replicas_ended += 1;
        run.not_before_us = run.not_before_us.max(not_before_us);
        Ok(())
    }

    /// An attempt was not run: as if it had not been.
    pub(super) fn not_run(&mut self, id: ExecutionId, number: u32) -> Verdict {
        let run = self.get_mut(id)?;
        if !run.running || run.attempts != number {
            return Err(format!("attempt {number} of {id} is said not to have been run, and does not run"));
        }
        (run.running, run.is_tried) = (false, run.was_tried);
        run.attempts -= 1;
        run.status.not_run();
        Ok(())
    }

    /// Another attempt will follow. `reported`: because of what the function said.
    pub(super) fn requeued(&mut self, now_us: u64, id: ExecutionId, number: u32, reported: bool) -> Verdict {
        let run = self.get_mut(id)?;
        if !run.running || run.attempts != number {
            return Err(format!("attempt {number} of {id} is to be followed by another, and does not run"));
        }
        run.running = false;
        if let Some((_, pause_us)) = run.pause.take_if(|(at_us, _)| reported && *at_us == now_us) {
            run.not_before_us = now_us + pause_us;
        }
        Ok(())
    }

    /// It ended, or somebody was told how it ended.
    pub(super) fn ended(&mut self, now: Now, id: ExecutionId, end: End) -> Verdict {
        let run = self.get_mut(id)?;
        match &run.ended {
            None => {
                is_own(id, run, &end)?;
                let again = run.died.as_ref().is_some_and(|(_, died)| *died == end);
                match &end {
                    _ if again => run.status.died_again(),
                    End::Failed(words) => {
                        let failed_as = words.split(':').next().unwrap_or_default();
                        promptness::is_over(now, id, run, failed_as)?;
                        promptness::is_old_enough(now, id, run, failed_as)?;
                    }
                    End::Output(_) | End::TimedOut => {}
                }
                run.status.ended(now, &end, run.accepted, run.running);
                run.running = false;
                run.ended = Some(end);
                run.ended_us = now.mono_us;
                Ok(())
            }
            Some(before) if *before == end => Ok(()),
            Some(before) => Err(format!("{id} ended as {before:?} and then as {end:?}")),
        }
    }

    /// A dead letter lives again.
    pub(super) fn replayed(&mut self, now: Now, id: ExecutionId, epoch: u64, asker: Ticket) -> Verdict {
        let run = self.get_mut(id)?;
        if !run.dead {
            return Err(format!("{id} is tried again and was no dead letter"));
        }
        run.dead = false;
        run.on_record = true;
        run.is_told = false;
        run.status.replayed(run.ended.as_ref());
        run.died = run.ended.take().map(|end| (asker, end));
        run.epoch = epoch;
        run.attempts_before = run.attempts;
        run.replicas_ended = 0;
        // Whoever wants it back need not wait as long as its function asked for before it died.
        (run.pause, run.not_before_us) = (None, 0);
        run.counted = (run.crashes > 0).then_some(0);
        run.queued(now);
        Ok(())
    }

    /// Nothing is kept of it any more.
    pub(super) fn forgotten(&mut self, id: ExecutionId) -> Verdict {
        let run = self.get_mut(id)?;
        let lives = run.promised && run.ended.is_none();
        run.is_gone = true;
        if lives || run.dead {
            return Err(format!("{id} was accepted, and is forgotten while it lives or is a dead letter"));
        }
        Ok(())
    }

    /// Its result is delivered: once for every end.
    pub(super) fn delivers(&mut self, id: ExecutionId, number: u32, url: &str) -> Verdict {
        let run = self.runs.get_mut(&id).ok_or_else(|| format!("nobody asked for execution {id}"))?;
        run.delivered += 1;
        run.status.delivers(number);
        // Who joins with an address of its own gives it to an execution that had none.
        let of_key = run.key.as_ref().and_then(|key| self.urls.get(&(run.name, key.clone())));
        let is_its_own = run.url.as_deref() == Some(url);
        if !is_its_own && of_key.is_none_or(|urls| !urls.contains(url)) {
            return Err(format!("the result of {id} is delivered to {url}, which nobody asked for"));
        }
        if run.delivered <= run.ends {
            return Ok(());
        }
        Err(format!("the result of {id} is delivered {} times after {} ends", run.delivered, run.ends))
    }

    /// Somebody read it.
    pub(super) fn viewed(&mut self, now: Now, view: &ExecutionView) -> Verdict {
        let id = view.id;
        let run = self.get_mut(id)?;
        if run.withdrawn {
            return Ok(());
        }
        let fail = |what: String| Err(format!("{id} reads wrong: {what}"));
        if *view.function != *run.name.as_str() {
            return fail(format!("it is of {}", view.function));
        }
        if !(run.attempts..=run.attempts + run.crashes).contains(&view.attempt) {
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
        if !run.is_muddy()
            && let Some(what) = status::is_wrong(run, view)
        {
            return fail(what);
        }
        let end = match (&view.output, &view.error) {
            (Some(output), _) => End::Output(output.body.clone()),
            (None, Some(failure)) if view.state == State::Error => End::failed(failure),
            (None, Some(_)) => End::TimedOut,
            (None, None) => return self.output_is_dropped(now, id),
        };
        let known = run.ended.is_some();
        self.ended(now, id, end)?;
        if !known {
            self.get_mut(id)?.status.had_ended();
        }
        Ok(())
    }

    /// It is told without an output. That of an accepted execution stays as long as the record, and so does that of one with
    /// a key, which answers whoever repeats it.
    fn output_is_dropped(&self, now: Now, id: ExecutionId) -> Verdict {
        let Some(run) = self.runs.get(&id).filter(|run| !run.is_muddy()) else { return Ok(()) };
        let may_be = !run.promised
            && run.key.is_none()
            && now.mono_us >= run.kept_until_us(self.payload_us, self.clock_steps_us_max);
        match &run.ended {
            Some(End::Output(body)) if body != "null" && !may_be => {
                Err(format!("{id} has lost its output before its time"))
            }
            _ => Ok(()),
        }
    }

    /// Nobody finds it.
    pub(super) fn missed(&self, now_us: u64, id: ExecutionId) -> Verdict {
        let Some(run) = self.runs.get(&id).filter(|run| run.promised && !run.is_muddy()) else {
            return Ok(());
        };
        let leaves_memory = self.rooms.disks_have_room() && run.leaves_memory();
        let crowded =
            self.rooms.may_lack_executions(self.offered) || self.rooms.may_lack_bytes() && !leaves_memory;
        let kept =
            run.dead || (!crowded && now_us < run.kept_until_us(self.kept_us, self.clock_steps_us_max));
        match run.ended {
            None => Err(format!("{id} was accepted, has not ended, and nobody finds it")),
            Some(_) if kept && !crowded => Err(format!("{id} ended a while ago, and nobody finds it")),
            Some(_) => Ok(()),
        }
    }

    /// Whether neither an execution nor its key has to go before its time.
    pub(super) fn have_room_for_keys(&self) -> bool {
        !self.rooms.may_lack_executions(self.offered)
            && !self.rooms.may_lack_bytes()
            && !self.rooms.may_lack_keys(self.digests.len())
    }

    /// Shards are gone: what is on record goes on as it says, the rest is gone too.
    pub(super) fn crashed(&mut self, on_record: &BTreeMap<ExecutionId, OnRecord>) -> Verdict {
        for (id, run) in &self.runs {
            let kept = on_record.get(id).filter(|kept| !kept.forgotten);
            let may_be_gone = run.ended.is_some() && on_record.get(id).is_some_and(|kept| kept.forgotten);
            if run.promised && kept.is_none() && !may_be_gone {
                return Err(format!("{id} was accepted, and the crash has undone that"));
            }
            let is_removed =
                matches!(&run.ended, Some(End::Failed(words)) if words.starts_with(code::FUNCTION_REMOVED));
            if run.is_told && !is_removed && kept.is_some_and(|kept| kept.end.is_none()) {
                return Err(format!("how {id} ended was told, and the crash has undone that"));
            }
            if run.is_given_up && kept.is_some_and(|kept| kept.dead) {
                return Err(format!("{id} was given up, and the crash has made it a dead letter again"));
            }
            let changed = kept.and_then(|kept| kept.end.as_ref()).zip(run.ended.as_ref());
            let undone = |kept: &End| run.died.as_ref().is_some_and(|(_, died)| *kept == *died);
            if let Some((kept, ended)) = changed.filter(|(kept, ended)| *kept != *ended && !undone(kept)) {
                return Err(format!("{id} ended as {ended:?}, and the crash has made that {kept:?}"));
            }
        }
        self.runs.retain(|id, _| on_record.get(id).is_some_and(|kept| !kept.forgotten));
        for (id, run) in &mut self.runs {
            let Some(kept) = on_record.get(id) else { continue };
            run.go_on(kept);
            // Also of somebody who was refused: what could not be written may be there.
            if let (Some(key), Some(url)) = (&run.key, &kept.url) {
                self.urls.entry((run.name, key.clone())).or_default().insert(url.clone());
            }
        }
        Ok(())
    }

    /// Checks that every accepted execution ended.
    pub(super) fn all_ended(&self) -> Verdict {
        for (id, run) in &self.runs {
            if run.promised && run.ended.is_none() {
                return Err(format!("{id} was accepted and never ended"));
            }
            if run.delivers && run.accepted && !run.is_gone && run.delivered != run.ends {
                return Err(format!("{id} ended {} times, delivered {} times", run.ends, run.delivered));
            }
        }
        Ok(())
    }
}
