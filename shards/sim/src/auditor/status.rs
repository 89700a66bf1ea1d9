//! Every field of a status, by the auditor's own account of what happened to the execution.
//!
//! What it cannot know is not judged: how an execution ended that its only caller had left, which of two callers with one key
//! came first, and what exactly failed before a crash that took part of it along.

use shard_core::{DeliveryStatus, ExecutionView, Now, payload::code};

use super::{
    Verdict,
    run::{End, Run},
};
use crate::functions::BROKEN;

/// What a reader has to see. `None`: the auditor does not know.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    created_ms: u64,
    dispatched_ms: Option<Option<u64>>,
    finished_ms: Option<u64>,
    /// It ended as it had before, which a crash may undo.
    is_repeated: bool,
    /// Code of the newest failure of an earlier attempt.
    last_error: Option<Option<String>>,
    /// What the report of the last attempt said of the replica.
    cold: Option<(bool, Option<u32>)>,
    /// Where the delivery of its result stands, once it was handed over.
    delivery: Option<DeliveryStatus>,
    /// Number of the result that is being delivered.
    handed_over: Option<u32>,
}

impl Status {
    /// Of a call that arrives.
    pub(super) fn new(now: Now) -> Status {
        Status {
            created_ms: now.unix_ms,
            dispatched_ms: Some(None),
            last_error: Some(None),
            ..Status::default()
        }
    }

    /// An attempt goes out.
    pub(super) fn dispatched(&mut self, now: Now) {
        (self.dispatched_ms, self.cold) = (Some(Some(now.unix_ms)), None);
    }

    /// An attempt that went out before a crash goes on.
    pub(super) fn goes_on(&mut self, since_ms: u64) {
        (self.dispatched_ms, self.cold) = (Some(Some(since_ms)), None);
    }

    /// The dispatcher reports on the attempt.
    pub(super) fn reported(&mut self, cold_start: bool, init_ms: Option<u32>) {
        self.cold = Some((cold_start, init_ms.filter(|_| cold_start)));
    }

    /// The attempt was not run.
    pub(super) fn not_run(&mut self) {
        (self.dispatched_ms, self.cold) = (Some(None), None);
    }

    /// The attempt failed, and another one follows.
    pub(super) fn requeued(&mut self, failed_as: &str) {
        (self.dispatched_ms, self.cold) = (Some(None), None);
        self.last_error = Some(Some(failed_as.to_owned()));
    }

    /// It ended.
    pub(super) fn ended(&mut self, now: Now, end: &End, accepted: bool, running: bool) {
        self.finished_ms = Some(now.unix_ms);
        match end {
            // Of one that was accepted, only a missing callback says that.
            End::TimedOut if accepted => self.last_error = Some(Some(code::FUNCTION_TIMEOUT.to_owned())),
            End::TimedOut => self.last_error = None,
            // Its attempt failed, and it was too old for another one.
            End::Failed(words) if running && words.starts_with(code::EXPIRED) => self.last_error = None,
            _ => {}
        }
    }

    /// A dead letter is tried again.
    pub(super) fn replayed(&mut self, died: Option<&End>) {
        (self.dispatched_ms, self.finished_ms, self.cold) = (Some(None), None, None);
        self.last_error = match died {
            Some(End::Failed(words)) => words.split(':').next().map(|code| Some(code.to_owned())),
            Some(End::TimedOut) => Some(Some(code::TIMEOUT.to_owned())),
            Some(End::Output(_)) | None => None,
        };
        self.awaits_a_result();
    }

    /// What was delivered is the result before: there is none yet.
    fn awaits_a_result(&mut self) {
        self.delivery = self.delivery.map(|_| DeliveryStatus::Pending);
        self.handed_over = None;
    }

    /// A replay came to nothing: it had ended as before.
    pub(super) fn died_again(&mut self) {
        (self.dispatched_ms, self.last_error, self.cold) = (None, None, None);
        self.is_repeated = true;
    }

    /// It had ended some time before.
    pub(super) fn had_ended(&mut self) {
        self.died_again();
        self.finished_ms = None;
    }

    /// A crash leaves an execution that goes on, or one that had ended, of which the end may be the one before.
    pub(super) fn crashed(&mut self, goes_on: bool, ended_so: bool, delivery: Option<DeliveryStatus>) {
        (self.delivery, self.handed_over) = (delivery, None);
        if std::mem::take(&mut self.is_repeated) {
            self.finished_ms = None;
        }
        if goes_on {
            self.awaits_a_result();
            (self.dispatched_ms, self.finished_ms, self.last_error) = (Some(None), None, None);
        } else if !ended_so {
            (self.dispatched_ms, self.finished_ms, self.last_error) = (None, None, None);
            self.cold = None;
        }
    }

    /// Its result is handed over for delivery.
    pub(super) fn delivers(&mut self, number: u32) {
        self.delivery = Some(DeliveryStatus::Pending);
        self.handed_over = Some(number);
    }

    /// The delivery of a result made progress. Of one before a replay nobody wants to know.
    pub(super) fn delivered(&mut self, number: u32, status: DeliveryStatus) {
        if self.handed_over == Some(number) {
            self.delivery = Some(status);
        }
    }

    /// A record says where its delivery stands: that is what was said of its newest result.
    pub(super) fn is_delivery_recorded(&self, recorded: DeliveryStatus) -> Verdict {
        match self.delivery {
            Some(known) if known != recorded => {
                Err(format!("a delivery that is {known:?} is written down as {recorded:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with what a reader sees of an execution, if anything.
pub(super) fn is_wrong(run: &Run, view: &ExecutionView) -> Option<String> {
    let status = &run.status;
    let of = |what: &str, seen: &dyn std::fmt::Debug, known: &dyn std::fmt::Debug| {
        Some(format!("{what} {seen:?} instead of {known:?}"))
    };
    if view.created_ms != status.created_ms {
        return of("created at", &view.created_ms, &status.created_ms);
    }
    if let Some(known) = status.dispatched_ms.filter(|known| *known != view.dispatched_ms) {
        return of("dispatched at", &view.dispatched_ms, &known);
    }
    let finished = view.state.is_terminal();
    if view.finished_ms.is_some() != finished {
        return of("finished at", &view.finished_ms, &finished);
    }
    if let Some(known) = status.finished_ms.filter(|known| finished && Some(*known) != view.finished_ms) {
        return of("finished at", &view.finished_ms, &known);
    }
    let last_error = view.last_error.as_ref().map(|failure| failure.code.to_string());
    let settled = finished || run.ended.is_none();
    if let Some(known) = status.last_error.as_ref().filter(|known| settled && **known != last_error) {
        return of("last error", &last_error, known);
    }
    let of_its_own = match &run.ended {
        Some(End::Output(_)) => true,
        Some(End::Failed(words)) => words.starts_with(BROKEN),
        Some(End::TimedOut) | None => false,
    };
    if let Some(known) = status
        .cold
        .filter(|known| finished && of_its_own && !run.vague && *known != (view.cold_start, view.init_ms))
    {
        return of("cold start", &(view.cold_start, view.init_ms), &known);
    }
    let delivery = view.delivery.as_ref().map(|delivery| delivery.status);
    let known = match (&status.delivery, run.delivers) {
        (Some(status), _) => Some(Some(*status)),
        (None, true) if !finished => Some(Some(DeliveryStatus::Pending)),
        (None, false) if run.key.is_none() => Some(None),
        _ => None,
    };
    if let Some(known) = known.filter(|known| *known != delivery) {
        return of("delivery", &delivery, &known);
    }
    None
}
