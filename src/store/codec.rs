//! Records as bytes: version 1 of the store's format.
//!
//! A record is its length (4 bytes), its kind (1 byte), its key (the 16 bytes of an execution's id, or a function's
//! name; none when it concerns the server) and what belongs to the kind. Numbers are little endian; texts and bodies have their length (4 bytes) in
//! front; what may be absent has a byte 0 or 1 in front. A function is stored as the document that clients read,
//! which says everything about it but one number.
//!
//! Whatever changes here needs another [`super::directory::FORMAT`].

use std::borrow::Cow;

use bytes::Bytes;
use shard_core::{
    Delivery, DeliveryStatus, ExecutionId, Failure, Name, Output, OutputKind, Payload, Record,
    answer::Stage,
    input::{Extra, Idempotency},
    journal::{End, EndResult},
};

use crate::api::spec::{FunctionSpec, default_max_retries};

/// Kinds of records, by their byte.
pub(super) mod kind {
    pub(in crate::store) const REGISTERED: u8 = 1;
    pub(in crate::store) const REMOVED: u8 = 2;
    pub(in crate::store) const REINSTATED: u8 = 3;
    pub(in crate::store) const ACCEPTED: u8 = 4;
    pub(in crate::store) const ATTEMPTED: u8 = 5;
    pub(in crate::store) const REQUEUED: u8 = 6;
    pub(in crate::store) const ENDED: u8 = 7;
    pub(in crate::store) const REPLAYED: u8 = 8;
    pub(in crate::store) const PURGED: u8 = 9;
    pub(in crate::store) const DELIVERED: u8 = 10;
    pub(in crate::store) const FORGOTTEN: u8 = 11;
    pub(in crate::store) const KEPT: u8 = 12;
    pub(in crate::store) const STARTED: u8 = 13;
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Function(Name),
    Execution(ExecutionId),
    /// The server itself.
    Server,
}

impl Subject {
    /// Picks the shard that owns it. `None`: it concerns all of them.
    pub(super) fn owner_hash(&self) -> Option<u16> {
        match self {
            Subject::Function(name) => Some(name.owner_hash()),
            Subject::Execution(id) => Some(id.owner_hash()),
            Subject::Server => None,
        }
    }
}

/// Appends a record with its length. A record of more than 4 GiB cannot come up: requests and answers are bounded.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    match record {
        Record::Registered { spec } => {
            function(out, kind::REGISTERED, &spec.name);
            put_spec(out, spec);
        }
        Record::Reinstated { spec } => {
            function(out, kind::REINSTATED, &spec.name);
            put_spec(out, spec);
        }
        Record::Removed { name } => function(out, kind::REMOVED, name),
        Record::Accepted { id, function, created_ms, payload, extra, callback_url } => {
            execution(out, kind::ACCEPTED, *id);
            text(out, function.as_str());
            number(out, *created_ms);
            put_payload(out, payload);
            option(out, extra.as_deref(), put_extra);
            option(out, callback_url.as_deref(), text);
        }
        Record::Kept { id, function, created_ms, attempt, payload, extra, last_failure, end, dead } => {
            execution(out, kind::KEPT, *id);
            text(out, function.as_str());
            number(out, *created_ms);
            small(out, *attempt);
            put_payload(out, payload);
            option(out, extra.as_deref(), put_extra);
            option(out, last_failure.as_deref(), put_failure);
            put_end(out, end);
            out.push(u8::from(*dead));
        }
        Record::Attempted { id, attempt } => {
            execution(out, kind::ATTEMPTED, *id);
            small(out, *attempt);
        }
        Record::Requeued { id, failure } => {
            execution(out, kind::REQUEUED, *id);
            put_failure(out, failure);
        }
        Record::Ended { id, end, dead } => {
            execution(out, kind::ENDED, *id);
            put_end(out, end);
            out.push(u8::from(*dead));
        }
        Record::Replayed { id, at_ms } => {
            execution(out, kind::REPLAYED, *id);
            number(out, *at_ms);
        }
        Record::Purged { id } => execution(out, kind::PURGED, *id),
        Record::Delivered { id, delivery } => {
            execution(out, kind::DELIVERED, *id);
            out.push(status_code(delivery.status));
            small(out, delivery.attempts);
            option(out, delivery.last_error.as_deref(), text);
        }
        Record::Forgotten { id } => execution(out, kind::FORGOTTEN, *id),
        Record::Started { start } => {
            out.push(kind::STARTED);
            number(out, *start);
        }
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Splits a run of records. `None` in the iteration: the rest is no record.
pub(super) fn split(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let record = after.split_at_checked(u32::from_le_bytes(*length) as usize);
        rest = record.map_or(&[][..], |(_, after)| after);
        Some(record.map(|(record, _)| record))
    })
}

/// What a record without its length is about, and of which kind it is.
pub(super) fn subject(record: &[u8]) -> Option<(u8, Subject)> {
    let mut reader = Reader(record);
    let kind = reader.byte()?;
    Some((kind, reader.subject(kind)?))
}

/// The function of an execution, from the record of its acceptance.
pub(super) fn function_of(record: &[u8]) -> Option<Name> {
    let mut reader = Reader(record);
    let kind = reader.byte()?;
    reader.subject(kind)?;
    Name::new(reader.text()?)
}

/// Reads a record without its length. `None`: it is none that this version writes.
pub(super) fn decode(record: &[u8]) -> Option<Record> {
    let mut reader = Reader(record);
    let kind = reader.byte()?;
    let record = match reader.subject(kind)? {
        Subject::Function(name) => match kind {
            kind::REGISTERED => Record::Registered { spec: reader.spec()? },
            kind::REINSTATED => Record::Reinstated { spec: reader.spec()? },
            _ => Record::Removed { name },
        },
        Subject::Execution(id) => reader.of_execution(kind, id)?,
        Subject::Server => Record::Started { start: reader.number()? },
    };
    reader.0.is_empty().then_some(record)
}

fn function(out: &mut Vec<u8>, kind: u8, name: &Name) {
    out.push(kind);
    text(out, name.as_str());
}

/// The document that clients read. What it does not say is added to it as one more member: the attempts of accepted calls
/// of a function that names none, unless they are what every reader assumes.
fn put_spec(out: &mut Vec<u8>, spec: &shard_core::FunctionSpec) {
    let attempts = spec.policy.attempts_max;
    match spec.document.strip_suffix(b"}") {
        Some(open) if spec.policy.sync_attempts_max == 1 && attempts != default_max_retries() => {
            bytes(out, &[open, format!(r#","defaultMaxRetries":{attempts}}}"#).as_bytes()].concat());
        }
        _ => bytes(out, &spec.document),
    }
}

fn execution(out: &mut Vec<u8>, kind: u8, id: ExecutionId) {
    out.push(kind);
    out.extend(id.bytes());
}

fn small(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    small(out, value.len() as u32);
    out.extend(value);
}

fn text(out: &mut Vec<u8>, value: &str) {
    bytes(out, value.as_bytes());
}

fn option<T: ?Sized>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_payload(out: &mut Vec<u8>, payload: &Payload) {
    bytes(out, &payload.input);
    option(out, payload.metadata.as_deref(), bytes);
    option(out, payload.content_type.as_deref(), text);
}

fn put_extra(out: &mut Vec<u8>, extra: &Extra) {
    option(out, extra.trace_id.as_deref(), text);
    option(out, extra.traceparent.as_deref(), text);
    option(out, extra.idempotency.as_ref(), |out, idempotency: &Idempotency| {
        text(out, &idempotency.key);
        out.extend(idempotency.digest);
    });
    option(out, extra.max_age_ms.as_ref(), |out, age_ms| small(out, *age_ms));
}

fn put_output(out: &mut Vec<u8>, output: &Output) {
    bytes(out, &output.body);
    match &output.kind {
        OutputKind::Json => out.push(0),
        OutputKind::Text => out.push(1),
        OutputKind::Other(content_type) => {
            out.push(2);
            text(out, content_type);
        }
    }
}

fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    text(out, &failure.code);
    text(out, &failure.message);
    option(out, failure.body.as_ref(), put_output);
}

fn put_end(out: &mut Vec<u8>, end: &End) {
    match &end.result {
        EndResult::Output(output) => {
            out.push(0);
            put_output(out, output);
        }
        EndResult::Failed(failure) => {
            out.push(1);
            put_failure(out, failure);
        }
        EndResult::TimedOut { stage, limit_ms } => {
            out.push(2);
            out.push(match stage {
                Stage::Queue => 0,
                Stage::Instance => 1,
                Stage::Dispatch => 2,
                Stage::Function => 3,
            });
            small(out, *limit_ms);
        }
    }
    number(out, end.dispatched_ms);
    number(out, end.finished_ms);
    out.push(u8::from(end.cold_start));
    option(out, end.init_ms.as_ref(), |out, init_ms| small(out, *init_ms));
}

fn status_code(status: DeliveryStatus) -> u8 {
    match status {
        DeliveryStatus::Pending => 0,
        DeliveryStatus::Delivered => 1,
        DeliveryStatus::Failed => 2,
        DeliveryStatus::Refused => 3,
    }
}

/// Bytes that are left to read. Every method takes what it reads off the front; `None` when that is not there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn small(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.small()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn boxed_text(&mut self) -> Option<Box<str>> {
        self.text().map(Box::from)
    }

    /// The outer `None`: it cannot be read; the inner one: it is absent.
    fn option<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn subject(&mut self, kind: u8) -> Option<Subject> {
        match kind {
            kind::REGISTERED..=kind::REINSTATED => Some(Subject::Function(Name::new(self.text()?)?)),
            kind::ACCEPTED..=kind::KEPT => {
                let bytes: [u8; 16] = self.array()?;
                let owner_hash = u16::from_be_bytes([bytes[14], bytes[15]]);
                let id = ExecutionId::new(bytes, owner_hash);
                // Other bytes than those of an id would become another one.
                (id.bytes() == bytes).then_some(Subject::Execution(id))
            }
            kind::STARTED => Some(Subject::Server),
            _ => None,
        }
    }

    fn spec(&mut self) -> Option<Box<shard_core::FunctionSpec>> {
        let spec = FunctionSpec::from_document(self.bytes()?).ok()?;
        Some(Box::new(spec.core_spec()))
    }

    fn of_execution(&mut self, kind: u8, id: ExecutionId) -> Option<Record> {
        Some(match kind {
            kind::ACCEPTED => Record::Accepted {
                id,
                function: Name::new(self.text()?)?,
                created_ms: self.number()?,
                payload: self.payload()?,
                extra: self.option(Reader::extra)?.map(Box::new),
                callback_url: self.option(Reader::boxed_text)?,
            },
            kind::KEPT => Record::Kept {
                id,
                function: Name::new(self.text()?)?,
                created_ms: self.number()?,
                attempt: self.small()?,
                payload: self.payload()?,
                extra: self.option(Reader::extra)?.map(Box::new),
                last_failure: self.option(Reader::failure)?.map(Box::new),
                end: Box::new(self.end()?),
                dead: self.flag()?,
            },
            kind::ATTEMPTED => Record::Attempted { id, attempt: self.small()? },
            kind::REQUEUED => Record::Requeued { id, failure: self.failure()? },
            kind::ENDED => Record::Ended { id, end: Box::new(self.end()?), dead: self.flag()? },
            kind::REPLAYED => Record::Replayed { id, at_ms: self.number()? },
            kind::PURGED => Record::Purged { id },
            kind::DELIVERED => Record::Delivered {
                id,
                delivery: Delivery {
                    status: match self.byte()? {
                        0 => DeliveryStatus::Pending,
                        1 => DeliveryStatus::Delivered,
                        2 => DeliveryStatus::Failed,
                        3 => DeliveryStatus::Refused,
                        _ => return None,
                    },
                    attempts: self.small()?,
                    last_error: self.option(Reader::boxed_text)?,
                },
            },
            kind::FORGOTTEN => Record::Forgotten { id },
            _ => return None,
        })
    }

    fn payload(&mut self) -> Option<Payload> {
        Some(Payload {
            input: Bytes::copy_from_slice(self.bytes()?),
            metadata: self.option(|reader| reader.bytes().map(Bytes::copy_from_slice))?,
            content_type: self.option(Reader::boxed_text)?,
        })
    }

    fn extra(&mut self) -> Option<Extra> {
        Some(Extra {
            trace_id: self.option(Reader::boxed_text)?,
            traceparent: self.option(Reader::boxed_text)?,
            idempotency: self
                .option(|reader| Some(Idempotency { key: reader.boxed_text()?, digest: reader.array()? }))?,
            max_age_ms: self.option(Reader::small)?,
            callback_url: None,
        })
    }

    fn output(&mut self) -> Option<Output> {
        let body = Bytes::copy_from_slice(self.bytes()?);
        let kind = match self.byte()? {
            0 => OutputKind::Json,
            1 => OutputKind::Text,
            2 => OutputKind::Other(self.boxed_text()?),
            _ => return None,
        };
        Some(Output { body, kind })
    }

    fn failure(&mut self) -> Option<Failure> {
        let code = Cow::Owned(self.text()?.to_owned());
        Some(Failure { code, message: self.boxed_text()?, body: self.option(Reader::output)? })
    }

    fn end(&mut self) -> Option<End> {
        let result = match self.byte()? {
            0 => EndResult::Output(self.output()?),
            1 => EndResult::Failed(Box::new(self.failure()?)),
            2 => EndResult::TimedOut {
                stage: match self.byte()? {
                    0 => Stage::Queue,
                    1 => Stage::Instance,
                    2 => Stage::Dispatch,
                    3 => Stage::Function,
                    _ => return None,
                },
                limit_ms: self.small()?,
            },
            _ => return None,
        };
        Some(End {
            result,
            dispatched_ms: self.number()?,
            finished_ms: self.number()?,
            cold_start: self.flag()?,
            init_ms: self.option(Reader::small)?,
        })
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
