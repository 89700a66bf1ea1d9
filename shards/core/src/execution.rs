//! An execution: the record that outlives it, and what it needs only while it lives.

use std::sync::Arc;

use crate::{
    answer::{Answer, Delivery, ExecutionView, Stage, State},
    call::{Extra, Ticket},
    dead_letters::DeadLetter,
    id::ExecutionId,
    id_table::TableNumber,
    journal::EndResult,
    keys::{AttemptKey, FunctionKey},
    payload::{Failure, Output, Payload, code},
    spec::Policy,
    timers::TimerKey,
};

/// A caller that waits for an execution to end.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) timer: TimerKey,
    pub(crate) limit_ms: u32,
    /// It left while an attempt was in flight: it gets no answer, but its deadline still ends the execution, so
    /// that retries of what nobody waits for end as well.
    pub(crate) gone: bool,
}

/// A reader that waits for an execution to end.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) ticket: Ticket,
    pub(crate) timer: TimerKey,
}

/// Parts that an execution needs until it ends.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) payload: Payload,
    pub(crate) extra: Option<Box<Extra>>,
    /// The first caller; most executions have one.
    pub(crate) waiter: Option<Waiter>,
    /// Callers that joined by an idempotency key.
    pub(crate) joined: Vec<Waiter>,
    /// Readers that wait for its end, and those who cancelled it and wait for the record of that: they have no timer.
    pub(crate) watchers: Vec<Watcher>,
    /// It waits in its function's backlog, not in the queue.
    pub(crate) in_backlog: bool,
    /// When it may no longer wait, and the timer for that; 0 is never. Monotonic.
    pub(crate) expires_us: u64,
    pub(crate) expiry: TimerKey,
    /// An attempt was made, as far as anybody knows: the idempotency key went with that one.
    pub(crate) is_tried: bool,
    /// The same before the current attempt.
    pub(crate) was_tried: bool,
    /// Attempts made before it was replayed: they do not count against the attempts it may have.
    pub(crate) attempts_before: u32,
    /// Its place among what waited for its function, also while it runs.
    pub(crate) order: u64,
    /// Replicas that ended while they ran it, since it was accepted or last replayed.
    pub(crate) crashes: u32,
    /// Until when it is not to go to the last replica, after it was in one that ended; monotonic.
    pub(crate) careful_until_us: u64,
    /// The record that has to be safe before it is dispatched, as long as it is beside its queue for that; the record
    /// of its end once it has ended.
    pub(crate) record: u64,
    /// How it had ended before it was replayed, should that come to nothing.
    pub(crate) died: Option<Box<Death>>,
    /// The timer that ends its wait in the sync queue, while it waits there.
    pub(crate) sync_wait: Option<TimerKey>,
    /// The timer of a retry that waits for its time.
    pub(crate) backoff: Option<TimerKey>,
    /// When the execution was accepted, and when it was last queued; monotonic.
    pub(crate) accepted_us: u64,
    pub(crate) queued_us: u64,
    /// When the current attempt was dispatched; monotonic.
    pub(crate) dispatched_us: u64,
    /// The latest deadline of all callers so far. Tells the function how long it may take, unless the execution
    /// was accepted for later.
    pub(crate) deadline_us: u64,
    /// Bytes that it holds of the budget for waiting payloads.
    pub(crate) queued_bytes: u64,
}

impl Live {
    /// Of an execution that starts to wait now.
    pub(crate) fn new(payload: Payload, extra: Option<Box<Extra>>, now_us: u64) -> Live {
        Live {
            payload,
            extra,
            waiter: None,
            joined: Vec::new(),
            watchers: Vec::new(),
            in_backlog: false,
            expires_us: 0,
            expiry: TimerKey::NONE,
            is_tried: false,
            was_tried: false,
            attempts_before: 0,
            order: 0,
            crashes: 0,
            careful_until_us: 0,
            record: 0,
            died: None,
            sync_wait: None,
            backoff: None,
            accepted_us: now_us,
            queued_us: now_us,
            dispatched_us: 0,
            deadline_us: 0,
            queued_bytes: 0,
        }
    }

    /// Callers that wait, and those that left during a run.
    pub(crate) fn waiter_count(&self) -> usize {
        usize::from(self.waiter.is_some()) + self.joined.len()
    }

    /// Whether a caller waits that could still be told something.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiter.iter().chain(&self.joined).any(|waiter| !waiter.gone)
    }

    /// Finds a caller.
    pub(crate) fn waiter_mut(&mut self, ticket: Ticket) -> Option<&mut Waiter> {
        self.waiter.iter_mut().chain(&mut self.joined).find(|waiter| waiter.ticket == ticket)
    }

    /// Takes all callers out.
    pub(crate) fn take_waiters(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        std::mem::take(&mut self.joined).into_iter().chain(self.waiter.take())
    }

    /// Takes a caller out.
    pub(crate) fn remove_waiter(&mut self, ticket: Ticket) -> Option<Waiter> {
        if self.waiter.as_ref().is_some_and(|waiter| waiter.ticket == ticket) {
            return self.waiter.take();
        }
        let position = self.joined.iter().position(|waiter| waiter.ticket == ticket)?;
        Some(self.joined.remove(position))
    }
}

/// What an execution does until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It waits for a slot, or for its next attempt.
    Queued,
    /// An attempt is in flight.
    Running,
}

/// Where an execution stands: what it does, or how it ended, never both.
#[derive(Debug)]
pub(crate) enum Course {
    Active(Activity),
    Ended(Ending),
}

// An ending is what an execution holds of its size.
const _: () = assert!(size_of::<Course>() == size_of::<Ending>());

/// How an execution ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Success, with its output while that is kept.
    Output(Option<Output>),
    /// Error.
    Failed(Box<Failure>),
    /// The deadline passed.
    TimedOut { stage: Stage, limit_ms: u32 },
    /// As its record on disk says: only the state and what it counts for there is in memory.
    OnDisk { state: State, bytes: u64 },
}

impl Activity {
    fn state(self) -> State {
        match self {
            Activity::Queued => State::Queued,
            Activity::Running => State::Running,
        }
    }
}

impl Ending {
    /// Bytes of it in memory.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Ending::Output(Some(output)) => output.bytes(),
            Ending::Failed(failure) => failure.bytes(),
            Ending::Output(None) | Ending::TimedOut { .. } | Ending::OnDisk { .. } => 0,
        }
    }

    /// The state that an execution has which ended like this.
    pub(crate) fn state(&self) -> State {
        match self {
            Ending::Output(_) => State::Success,
            Ending::Failed(_) => State::Error,
            Ending::TimedOut { .. } => State::Timeout,
            Ending::OnDisk { state, .. } => *state,
        }
    }
}

impl From<EndResult> for Ending {
    fn from(result: EndResult) -> Ending {
        match result {
            EndResult::Output(output) => Ending::Output(Some(output)),
            EndResult::Failed(failure) => Ending::Failed(failure),
            EndResult::TimedOut { stage, limit_ms } => Ending::TimedOut { stage, limit_ms },
        }
    }
}

/// How a dead letter had ended.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) ending: Ending,
    pub(crate) last_failure: Option<Box<Failure>>,
    pub(crate) dispatched_ms: u64,
    pub(crate) cold_start: bool,
    pub(crate) init_ms: Option<u32>,
}

/// The delivery of a result to an address of the caller's.
#[derive(Debug)]
pub(crate) struct ResultDelivery {
    pub(crate) url: Box<str>,
    pub(crate) state: Delivery,
    /// Number of the result that this is about. What is said of an earlier one comes too late.
    pub(crate) number: u32,
    /// Who brought the address by joining, until it is on record.
    pub(crate) brought_by: Option<Ticket>,
}

// Times a million, that is what retention costs.
const _: () = assert!(size_of::<Execution>() == 192);

/// See the module.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) id: ExecutionId,
    /// Where the id is kept.
    pub(crate) id_table: TableNumber,
    pub(crate) function: FunctionKey,
    pub(crate) label: Arc<str>,
    pub(crate) course: Course,
    /// It ended, and is shown as this until the record of that is safe.
    pub(crate) shown: Option<Activity>,
    /// Number of the current attempt; 0 before the first.
    pub(crate) attempt: u32,
    /// Accepted with 202: no waiter ends it.
    pub(crate) accepted: bool,
    /// It is accepted, but that could not be written down: nobody else may be told.
    pub(crate) unwritten: bool,
    /// The record of its end is safe.
    pub(crate) end_is_safe: bool,
    /// An idempotency key refers to it: its payload is kept as long as the record.
    pub(crate) keyed: bool,
    pub(crate) cold_start: bool,
    pub(crate) init_ms: Option<u32>,
    pub(crate) created_ms: u64,
    /// 0 before the first dispatch of the current attempt.
    pub(crate) dispatched_ms: u64,
    pub(crate) finished_ms: u64,
    /// When it ended; monotonic. Retention counts from it.
    pub(crate) finished_us: u64,
    pub(crate) last_failure: Option<Box<Failure>>,
    /// Where its result goes, when its caller gave an address.
    pub(crate) delivery: Option<Box<ResultDelivery>>,
    /// It is a dead letter.
    pub(crate) dead: Option<Box<DeadLetter>>,
    /// The current attempt, from its dispatch until nothing can come of it any more.
    pub(crate) in_flight: Option<AttemptKey>,
    /// `None` once it has ended, and that is shown.
    pub(crate) live: Option<Box<Live>>,
}

impl Execution {
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.course, Course::Active(Activity::Queued))
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.course, Course::Active(Activity::Running))
    }

    /// Whether nothing can change it any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.course, Course::Ended(_))
    }

    /// How it ended, shown or not.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        match &self.course {
            Course::Active(_) => None,
            Course::Ended(ending) => Some(ending),
        }
    }

    /// What those outside see of how it ended.
    fn shown_ending(&self) -> Option<&Ending> {
        self.ending().filter(|_| self.shown.is_none())
    }

    /// What it is, for those outside.
    pub(crate) fn shown_state(&self) -> State {
        match (self.shown, &self.course) {
            (Some(activity), _) | (None, &Course::Active(activity)) => activity.state(),
            (None, Course::Ended(ending)) => ending.state(),
        }
    }

    /// Attempts that count against those that it may have.
    pub(crate) fn attempts_made(&self) -> u32 {
        self.attempt - self.live.as_ref().map_or(0, |live| live.attempts_before)
    }

    /// Attempts that it may have.
    pub(crate) fn attempts_of(&self, policy: &Policy) -> u32 {
        policy.attempts_of(self.accepted)
    }

    /// Bytes that it holds of the retention budget.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.ending().map_or(0, Ending::bytes)
            + self.last_failure.as_ref().map_or(0, |failure| failure.bytes())
    }

    /// Bytes of it that are on disk only.
    pub(crate) fn disk_bytes(&self) -> u64 {
        match self.course {
            Course::Ended(Ending::OnDisk { bytes, .. }) => bytes,
            _ => 0,
        }
    }

    /// Whether it has ended, and how is to be read from disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self.course, Course::Ended(Ending::OnDisk { .. }))
    }

    /// What a caller of a finished execution is told. `None` while it lives, its end is not shown, or how it ended is on disk only.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.answer_of(self.shown_ending()?)
    }

    /// The same with this ending.
    pub(crate) fn answer_of(&self, ending: &Ending) -> Option<Answer> {
        let id = self.id;
        Some(match ending {
            Ending::OnDisk { .. } => return None,
            Ending::Output(output) => {
                Answer::Finished { id, result: Ok(output.clone().unwrap_or_else(Output::null)) }
            }
            Ending::Failed(failure) => Answer::Finished { id, result: Err(failure.clone()) },
            Ending::TimedOut { stage, limit_ms } => {
                Answer::TimedOut { id, stage: *stage, limit_ms: *limit_ms }
            }
        })
    }

    /// What a reader is told.
    pub(crate) fn view(&self) -> ExecutionView {
        self.view_of(self.shown_ending())
    }

    /// The same with this ending.
    pub(crate) fn view_of(&self, ending: Option<&Ending>) -> ExecutionView {
        let known = |ms: u64| (ms != 0).then_some(ms);
        let (output, error) = match ending {
            None | Some(Ending::OnDisk { .. }) => (None, None),
            Some(Ending::Output(output)) => (output.clone(), None),
            Some(Ending::Failed(failure)) => (None, Some((**failure).clone())),
            Some(Ending::TimedOut { stage, limit_ms }) => {
                (None, Some(Failure::new(code::TIMEOUT, stage.timeout_message(*limit_ms))))
            }
        };
        ExecutionView {
            id: self.id,
            function: Box::from(&*self.label),
            state: self.shown_state(),
            attempt: self.attempt,
            output,
            error,
            last_error: self.last_failure.as_deref().cloned(),
            cold_start: self.cold_start,
            init_ms: self.init_ms,
            created_ms: self.created_ms,
            dispatched_ms: known(self.dispatched_ms),
            finished_ms: known(self.finished_ms).filter(|_| self.shown.is_none()),
            delivery: self.delivery.as_deref().map(|delivery| delivery.state.clone()),
        }
    }
}
