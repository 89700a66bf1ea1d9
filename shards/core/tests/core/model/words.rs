//! Between the words of a script and those of the shard.

use std::sync::Arc;

use bytes::Bytes;
use shard_core::{
    Answer, DispatchEvent, ExecutionId, Extra, Failure, Idempotency, Invoke, Name, Outcome, Output,
    OutputKind, Payload, Provisioned, Refusal, ReplicaAddress, Report, Target,
    answer::{BackendFailure, BackendFailureKind},
};

use super::{
    drive::LARGE_BYTES,
    registry::PROVISIONED_REPLICAS,
    step::{Call, Provisioning, Result},
};

pub(super) fn invoke(ticket: u64, call: &Call) -> Invoke {
    let idempotency =
        call.key.map(|(key, digest)| Idempotency { key: key.to_string().into(), digest: [digest; 16] });
    let extra =
        Extra { idempotency, max_age_ms: call.max_age_ms.filter(|_| call.accepted), ..Extra::default() };
    Invoke {
        id: id(ticket),
        name: name(call.name),
        payload: Payload::json(vec![0; usize::from(call.bytes)]),
        timeout_ms: call.timeout_ms,
        extra: (extra != Extra::default()).then(|| Box::new(extra)),
    }
}

/// What an accepted execution comes to.
pub(super) fn output_of(ticket: u64) -> Output {
    Output { body: Bytes::from(format!("{ticket:0>0$}", LARGE_BYTES)), kind: OutputKind::Json }
}

/// Whether it may be what this execution came to.
pub(super) fn is_output_of(output: &Output, ticket: u64) -> bool {
    *output == Output::null() || *output == output_of(ticket)
}

pub(super) fn outcome(result: Result) -> Outcome {
    let failure = Box::new(Failure::new("FAILED", "It failed"));
    match result {
        Result::Ok => Outcome::Success(Output::null()),
        Result::Fail(after_ms) => {
            Outcome::Failure { failure, retryable: true, retry_after_ms: Some(after_ms) }
        }
        Result::Refuse => Outcome::Failure { failure, retryable: false, retry_after_ms: None },
        Result::Promise => Outcome::Deferred,
        Result::NotRun => Outcome::NotRun(failure),
        Result::Crash => Outcome::Crashed(failure),
        Result::Created | Result::Ended | Result::Lost => unreachable!("these are events of their own"),
    }
}

/// What the dispatcher says of an attempt; `output` is what it comes to when it goes well, if that is of a kind of its own.
pub(super) fn dispatch_event(result: Result, output: Option<Output>) -> DispatchEvent {
    let outcome = match (result, output) {
        (Result::Created, _) => return DispatchEvent::JobCreated,
        (Result::Lost, _) => return DispatchEvent::JobLost,
        (Result::Ended, _) => {
            return DispatchEvent::JobEnded(Box::new(Failure::new("JOB_FAILED", "It ended")));
        }
        (Result::Ok, Some(output)) => Outcome::Success(output),
        (result, _) => outcome(result),
    };
    DispatchEvent::Finished(Report::warm(outcome))
}

pub(super) fn provisioned(provisioning: Provisioning) -> std::result::Result<Provisioned, BackendFailure> {
    let (target, endpoints) = match provisioning {
        Provisioning::Failed => return Err(backend_failure()),
        Provisioning::Degraded => (Target::Endpoint(Arc::from("fixed")), Vec::new()),
        Provisioning::Endpoints(ready) => (Target::Backend, addresses(ready)),
    };
    Ok(Provisioned { document: Bytes::new(), target, endpoints, desired: PROVISIONED_REPLICAS })
}

pub(super) fn addresses(ready: u8) -> Vec<ReplicaAddress> {
    let is_ready = |bit: &u64| ready & (1 << bit) != 0;
    let of = |bit| ReplicaAddress { replica: bit, address: Arc::from(format!("e{bit}")) };
    (0..3).filter(is_ready).map(of).collect()
}

pub(super) fn backend_failure() -> BackendFailure {
    BackendFailure { kind: BackendFailureKind::Unavailable, message: "away".into() }
}

pub(super) fn answer_text(answer: Answer) -> String {
    match answer {
        Answer::Finished { id, result: Ok(_) } => format!("success {}", ticket_of(id)),
        Answer::Finished { id, result: Err(failure) } => format!("error {} {}", ticket_of(id), failure.code),
        Answer::TimedOut { id, stage, limit_ms } => {
            format!("timeout {} {} {limit_ms}", ticket_of(id), stage.as_str())
        }
        Answer::Accepted { id } => format!("accepted {}", ticket_of(id)),
        Answer::Refused(refusal) => format!("refused {}", refusal_text(&refusal)),
        Answer::Registered(_) => "registered".to_owned(),
        Answer::Removed => "removed".to_owned(),
        Answer::Scaled { replicas } => format!("scaled {replicas}"),
        Answer::Execution(_) => "execution".to_owned(),
        Answer::Callback { applied } => if applied { "applied" } else { "ignored" }.to_owned(),
        other => format!("{other:?}"),
    }
}

/// The name of the refusal, without its numbers.
fn refusal_text(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

pub(super) fn name(which: u8) -> Name {
    Name::new(&format!("f{which}")).expect("a function name")
}

pub(super) fn id(ticket: u64) -> ExecutionId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(ticket as u32).to_be_bytes());
    ExecutionId::new(bytes, 0)
}

pub(super) fn ticket_of(id: ExecutionId) -> u64 {
    u64::from_str_radix(&id.to_string()[..8], 16).expect("hexadecimal")
}
