//! What a shard tells a caller.

use bytes::Bytes;

use crate::{
    id::ExecutionId,
    payload::{Failure, Output},
    scaling::ScalingReport,
};

/// State of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for a slot, or for its next attempt.
    Queued,
    /// An attempt is in flight.
    Running,
    /// The function answered.
    Success,
    /// It failed for good.
    Error,
    /// The caller's deadline passed first.
    Timeout,
}

impl State {
    /// Whether nothing can change the execution any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, State::Queued | State::Running)
    }

    /// The word for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Success => "success",
            State::Error => "error",
            State::Timeout => "timeout",
        }
    }
}

/// Where an execution was when a deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waited for a slot.
    Queue,
    /// It waited in the queue, and the function had no replica.
    Replica,
    /// It was being sent.
    Dispatch,
    /// The function had it.
    Function,
}

impl Stage {
    /// The word for it on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Queue | Stage::Replica => "queue",
            Stage::Dispatch => "dispatch",
            Stage::Function => "function",
        }
    }

    /// Says which deadline passed, where the execution was, and what to do.
    pub fn timeout_message(self, limit_ms: u32) -> String {
        let place = match self {
            Stage::Queue => {
                "while the call waited in the function's queue; raise `concurrency` or the timeout"
            }
            Stage::Replica => {
                "while no replica of the function was ready; when none is wanted, start one with `nanofaas fn scale`, \
                 or turn the autoscaler on"
            }
            Stage::Dispatch => "while connecting to the function; check that its endpoint is up",
            Stage::Function => {
                "while the function was running; raise the timeout or make the function faster"
            }
        };
        format!("The deadline of {limit_ms} ms passed {place}")
    }
}

/// The answer to one ticket. Exactly one is given to each.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The execution ended with a result.
    Finished {
        /// Which execution.
        id: ExecutionId,
        /// Output, or why there is none.
        result: Result<Output, Box<Failure>>,
    },
    /// The caller's deadline passed.
    TimedOut {
        /// Which execution.
        id: ExecutionId,
        /// Where it was.
        stage: Stage,
        /// The deadline in milliseconds.
        limit_ms: u32,
    },
    /// The call was accepted; its result is fetched later.
    Accepted {
        /// Which execution.
        id: ExecutionId,
    },
    /// Nothing was done.
    Refused(Refusal),
    /// A function's document.
    Function(Bytes),
    /// The function is registered; its document.
    Registered(Bytes),
    /// The function is gone.
    Removed,
    /// Replicas of a function.
    Replicas {
        /// How many are wanted.
        desired: u32,
        /// How many are ready.
        ready: u32,
    },
    /// How a function is scaled.
    Scaling(Box<ScalingReport>),
    /// The wanted number of replicas was set.
    Scaled {
        /// How many are wanted.
        replicas: u32,
    },
    /// An execution.
    Execution(Box<ExecutionView>),
    /// Dead letters of a function, newest first.
    DeadLetters(Vec<DeadLetterView>),
    /// An execution was dispatched and its attempt recorded, or there was none to dispatch.
    Drained {
        /// Whether there was one.
        dispatched: bool,
    },
    /// A callback was read, and applied or not.
    Callback {
        /// Whether it decided the attempt.
        applied: bool,
    },
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No function of this name.
    FunctionNotFound,
    /// No execution of this id, or none any more.
    ExecutionNotFound,
    /// The function has no dead letter of this id.
    DeadLetterNotFound,
    /// The name is taken.
    FunctionExists,
    /// More calls this second than allowed.
    RateLimited {
        /// `true`: the function's own limit; `false`: the server's.
        function: bool,
        /// The limit.
        limit_per_second: u32,
        /// Seconds until the next window, at least 1.
        retry_after_s: u32,
    },
    /// No free place in the function's queue.
    QueueFull {
        /// Executions that wait.
        queue_depth: u32,
        /// Expected wait of the last one, in microseconds; `None` when nothing is known that it could follow from.
        est_wait_us: Option<u64>,
        /// Seconds until a place is expected to be free, at least 1.
        retry_after_s: u32,
    },
    /// The sync queue is on, and the call would wait too long or has.
    SyncQueueRejected {
        /// Which bound.
        reason: SyncQueueReason,
        /// Executions that wait.
        queue_depth: u32,
        /// Expected wait, in microseconds; `None` when nothing is known that it could follow from.
        est_wait_us: Option<u64>,
        /// Seconds until trying again is expected to help, at least 1.
        retry_after_s: u32,
    },
    /// The idempotency key was used with another payload.
    KeyReused,
    /// The idempotency key of a dead letter is bound to another execution, which goes on.
    KeyInUse {
        /// That one.
        id: ExecutionId,
    },
    /// A bound of the server was reached.
    Overloaded {
        /// Which one, for the message.
        what: &'static str,
        /// Seconds until trying again makes sense, at least 1.
        retry_after_s: u32,
    },
    /// What was to be accepted could not be written down.
    StoreUnavailable,
    /// How the execution ended is on disk, and was not read.
    ResultUnread(ReadFailure),
    /// The server is going away.
    ShuttingDown,
    /// The function's replicas are not ours to count.
    NotScalable,
    /// The execution runs or has ended.
    NotCancellable(State),
    /// The backend could not do it.
    Backend(BackendFailure),
}

/// Why the result of an execution was not read from disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailure {
    /// There is none of this execution.
    Missing,
    /// The disk fails, or what it gives is not what was written.
    Unreadable,
}

/// Bounds of the sync queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncQueueReason {
    /// Too many wait.
    Depth,
    /// The wait is expected to be too long.
    EstimatedWait,
    /// It waited too long.
    Timeout,
}

impl SyncQueueReason {
    /// The word for it on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SyncQueueReason::Depth => "depth",
            SyncQueueReason::EstimatedWait => "est_wait",
            SyncQueueReason::Timeout => "timeout",
        }
    }
}

/// What a backend could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendFailure {
    /// Which kind of failure, for status and code.
    pub kind: BackendFailureKind,
    /// What happened and what to do, for a person.
    pub message: Box<str>,
}

/// Kinds of backend failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendFailureKind {
    /// No backend can run the function.
    NoBackend,
    /// The replicas did not become ready.
    Provisioning,
    /// The backend could not be reached.
    Unavailable,
    /// The replicas could not be removed.
    Teardown,
    /// The registry does not have the function's image.
    ImageNotFound,
    /// The registry wants credentials for it, or others.
    ImagePullAuthRequired,
    /// The registry does not answer, or not with an image.
    ImageRegistryUnavailable,
    /// Somebody else has what the function would be called at the backend.
    Conflict,
}

/// An execution, as read from outside. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionView {
    /// Its id.
    pub id: ExecutionId,
    /// Its function's name.
    pub function: Box<str>,
    /// Its state.
    pub state: State,
    /// Number of the current or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Output of a success whose payload is still kept.
    pub output: Option<Output>,
    /// Why it ended badly.
    pub error: Option<Failure>,
    /// Newest failure of an earlier attempt.
    pub last_error: Option<Failure>,
    /// The replica that ran it had just started.
    pub cold_start: bool,
    /// How long that replica took to start.
    pub init_ms: Option<u32>,
    /// When it was accepted.
    pub created_ms: u64,
    /// When the current attempt was dispatched.
    pub dispatched_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// Where the delivery of its result stands, when its caller asked for one.
    pub delivery: Option<Delivery>,
}

/// A dead letter, as read from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterView {
    /// Its execution.
    pub execution: ExecutionView,
    /// When it became one, in milliseconds since the Unix epoch.
    pub dead_ms: u64,
    /// Size of what would be sent again.
    pub payload_bytes: u64,
}

/// Where the delivery of a result stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whether it arrived.
    pub status: DeliveryStatus,
    /// Tries so far.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<Box<str>>,
}

/// States of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// Not yet, or still being tried.
    Pending,
    /// The receiver took it.
    Delivered,
    /// Every try failed.
    Failed,
    /// The address may not be delivered to.
    Refused,
}

impl DeliveryStatus {
    /// The word for it on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Failed => "failed",
            DeliveryStatus::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_late_is_told_where_the_call_was() {
        for (stage, place) in [
            (Stage::Queue, "waited in the function's queue"),
            (Stage::Replica, "no replica of the function was ready"),
            (Stage::Dispatch, "connecting to the function"),
            (Stage::Function, "the function was running"),
        ] {
            let message = stage.timeout_message(70);
            assert!(message.contains("70 ms") && message.contains(place), "{message}");
        }
    }
}
