//! One execution, as the auditor knows it.

use bytes::Bytes;
use shard_core::{ExecutionId, Failure, Invoke, Name, Now, State, Ticket, journal::EndResult, payload::code};

use super::{Verdict, crash::OnRecord, status::Status};
use crate::functions::{BROKEN, origin};

/// What is known of a call, and of the execution that it created if it did.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) name: Name,
    /// The registration that runs it.
    pub(super) epoch: u64,
    pub(super) key: Option<Box<str>>,
    /// What the key was sent with, and where the result goes.
    pub(super) digest: Option<[u8; 16]>,
    pub(super) url: Option<Box<str>>,
    pub(super) status: Status,
    /// When its last attempt has to be over.
    pub(super) attempt_until_us: u64,
    /// When it was accepted for this life, on the clock that people read, and until when it may wait.
    pub(super) queued_ms: u64,
    pub(super) expires_us: Option<u64>,
    /// Nothing is kept of it any more.
    pub(super) is_gone: bool,
    pub(super) offered_us: u64,
    pub(super) payload: Bytes,
    /// A record says that it was accepted.
    pub(super) accepted: bool,
    /// It lives, by its records.
    pub(super) on_record: bool,
    /// A caller was told so.
    pub(super) promised: bool,
    pub(super) ended: Option<End>,
    pub(super) dead: bool,
    /// How it had ended before it was replayed, and who wanted that: a crash may undo it until that caller was told.
    pub(super) died: Option<(Ticket, End)>,
    pub(super) attempts: u32,
    /// The last of them that went out: one with a job is made before.
    pub(super) sent: u32,
    /// Attempts that do not count against those that it may have.
    pub(super) attempts_before: u32,
    /// Crashes since the last one, and attempts that count by then, until it is known which number comes next.
    pub(super) crashes: u32,
    pub(super) counted: Option<u32>,
    /// An attempt was made, as far as records say.
    pub(super) is_tried: bool,
    /// The same before the current attempt.
    pub(super) was_tried: bool,
    /// Somebody was told how it ended.
    pub(super) is_told: bool,
    /// It was a dead letter, and whoever gave it up was told that it is none any more.
    pub(super) is_given_up: bool,
    /// A record that says that it is there may be missing.
    pub(super) is_unsure: bool,
    /// Replicas that ended with it.
    pub(super) replicas_ended: u32,
    /// When it was accepted for this life, and how old it may become, in microseconds.
    pub(super) queued_us: u64,
    pub(super) max_age_us: Option<u64>,
    pub(super) running: bool,
    /// The attempt that goes on after a crash, because it has a job, and when its time is over.
    pub(super) job: Option<(u32, u64)>,
    /// It was accepted when it had ended.
    pub(super) kept: bool,
    /// Its acceptance could not be written down.
    pub(super) withdrawn: bool,
    /// Who waited for it left, or was sent away: it may be gone without a trace.
    pub(super) muddy: bool,
    /// A callback about it did not say which attempt it meant.
    pub(super) vague: bool,
    /// How long its function asked to be left alone, and when it said so.
    pub(super) pause: Option<(u64, u64)>,
    pub(super) not_before_us: u64,
    pub(super) ended_us: u64,
    /// Its result is to be delivered; how often it was, and how often it ended.
    pub(super) delivers: bool,
    pub(super) delivered: u32,
    /// It was given back after a crash.
    pub(super) recovered: bool,
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

    pub(super) fn state(&self) -> State {
        match self {
            End::Output(_) => State::Success,
            End::Failed(_) => State::Error,
            End::TimedOut => State::Timeout,
        }
    }
}

impl Run {
    pub(super) fn new(call: &Invoke, key: Option<Box<str>>, epoch: u64, now: Now) -> Run {
        let now_us = now.mono_us;
        let extra = call.extra.as_deref();
        Run {
            name: call.name,
            epoch,
            key,
            digest: None,
            url: extra.and_then(|extra| extra.callback_url.clone()),
            status: Status::new(now),
            attempt_until_us: 0,
            queued_ms: now.unix_ms,
            expires_us: extra
                .and_then(|extra| extra.max_age_ms)
                .map(|max_age_ms| now_us + u64::from(max_age_ms) * 1000),
            is_gone: false,
            offered_us: now_us,
            payload: call.payload.input.clone(),
            accepted: false,
            on_record: false,
            promised: false,
            ended: None,
            dead: false,
            died: None,
            attempts: 0,
            sent: 0,
            attempts_before: 0,
            crashes: 0,
            counted: None,
            is_tried: false,
            was_tried: false,
            is_told: false,
            is_given_up: false,
            is_unsure: false,
            replicas_ended: 0,
            queued_us: now_us,
            max_age_us: extra.and_then(|extra| extra.max_age_ms).map(|ms| u64::from(ms) * 1000),
            running: false,
            job: None,
            kept: false,
            withdrawn: false,
            muddy: false,
            vague: false,
            pause: None,
            not_before_us: 0,
            ended_us: 0,
            delivers: extra.is_some_and(|extra| extra.callback_url.is_some()),
            delivered: 0,
            recovered: false,
            ends: 0,
        }
    }

    /// Whether it needs nothing in memory once its end is safe: no failure went before it.
    pub(super) fn leaves_memory(&self) -> bool {
        matches!(self.ended, Some(End::Output(_))) && !self.kept && (self.attempts, self.ends) == (1, 1)
    }

    /// Whether it may be gone without a trace.
    pub(super) fn is_muddy(&self) -> bool {
        self.muddy || self.withdrawn
    }

    /// Whether it goes on unless it has ended, whoever left.
    pub(super) fn is_known_to_live(&self) -> bool {
        !self.is_muddy() || (self.on_record && !self.withdrawn)
    }

    /// When it took its key for the last time, at the earliest: a crash may undo a replay.
    pub(super) fn claims_us(&self) -> u64 {
        if self.recovered { self.offered_us } else { self.queued_us }
    }

    /// Until when it is surely kept after its end, if that is for so long.
    pub(super) fn kept_until_us(&self, kept_us: u64, clock_steps_us_max: u64) -> u64 {
        (self.ended_us + kept_us).saturating_sub(self.older_us_max(clock_steps_us_max))
    }

    /// By how much its shard may hold it for older than it is: after a crash its age is on a clock that may have been set, and
    /// the times that are on record are whole milliseconds.
    pub(super) fn older_us_max(&self, clock_steps_us_max: u64) -> u64 {
        if self.recovered { clock_steps_us_max + 1000 } else { 0 }
    }

    /// It may wait as long again.
    pub(super) fn queued(&mut self, now: Now) {
        (self.queued_us, self.queued_ms) = (now.mono_us, now.unix_ms);
        self.expires_us = self.max_age_us.map(|max_us| now.mono_us + max_us);
    }

    /// Who asked for a replay is told that it is safe.
    pub(super) fn told_of_replay(&mut self, asker: Ticket) {
        self.died.take_if(|(of, _)| *of == asker);
    }

    /// Whether it is safe already that it ends like this: it had died of that before it was tried again, which came to
    /// nothing, or its function is removed.
    pub(super) fn is_known_to_end(&self, end: &End, is_broken: impl Fn(Ticket) -> bool) -> bool {
        let died = self.died.as_ref().is_some_and(|(asker, died)| died == end && is_broken(*asker));
        let dead = self.dead && self.ended.as_ref() == Some(end);
        let removed = matches!(end, End::Failed(words) if words.starts_with(code::FUNCTION_REMOVED));
        died || dead || removed
    }

    /// Whether it was a dead letter at that time, and is tried again.
    pub(super) fn is_replayed_since(&self, at_us: u64) -> bool {
        self.queued_us > at_us.max(self.offered_us)
    }

    /// Whether this call, or another one that it is known to have joined, waits for its first attempt.
    pub(super) fn is_new(&self) -> bool {
        self.attempts == 0
    }
}

impl Run {
    /// Goes on as its records say.
    pub(super) fn go_on(&mut self, kept: &OnRecord) {
        self.accepted = true;
        self.on_record = kept.end.is_none();
        let ended_so = self.ended.is_some() && self.ended == kept.end;
        // Without an address that is on record, it is one of somebody who was refused.
        let delivery = kept.delivery.filter(|_| kept.url.is_some());
        self.status.crashed(kept.end.is_none(), ended_so, delivery);
        self.ended = kept.end.clone();
        // Delivered once more, unless a record says that it was.
        self.ends = u32::from(kept.end.is_some());
        self.delivered = u32::from(kept.delivery.is_some()).min(self.ends);
        self.delivers &= !kept.is_late || kept.url.is_some();
        self.dead = kept.dead;
        self.died = None;
        self.is_tried = kept.attempts > 0;
        self.is_unsure = false;
        // What was sent, on record or not.
        self.attempts = self.sent.max(kept.attempts);
        self.replicas_ended = kept.replicas_ended;
        self.crashes += 1;
        self.counted = Some(kept.attempts - kept.uncounted());
        self.running = false;
        self.job = kept.job();
        self.withdrawn = false;
        self.muddy = false;
        // A crash may undo the last replay and leave the one before: its age counts from what is on record.
        self.queued_ms = kept.queued_ms;
        // The pause is not kept, and its age goes on when it is given back.
        (self.pause, self.not_before_us, self.expires_us) = (None, 0, None);
        self.recovered = true;
    }
}

/// Checks that a result is of this execution and of its last attempt.
pub(super) fn is_own(id: ExecutionId, run: &Run, end: &End) -> Verdict {
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
