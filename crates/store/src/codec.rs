//! Records as bytes.
//!
//! A record is its length (4 bytes), its kind (1 byte), its key (the 16 bytes of an execution's id, or a function's
//! name; none when it concerns the server) and what belongs to the kind. Numbers are little endian; texts and bodies have their length (4 bytes) in
//! front; what may be absent has a byte 0 or 1 in front. A function is JSON (`function`).
//!
//! The bytes of a kind never change: `tests/fixtures/records` has them, of each format. What has to be said in another way is
//! another kind, and the one before is read for ever. A kind or a value that is not known here was written by a newer version,
//! for a frame is what was written, by its checksum: the store is not opened, and nothing of it is called corrupt. Compaction
//! copies records as they are.

use std::borrow::Cow;

use bytes::Bytes;
use shard_core::{
    Delivery, DeliveryStatus, ExecutionId, Extra, Failure, FunctionSpec, Idempotency, Media, Name, Output,
    OutputKind, Payload, Record,
    answer::Stage,
    journal::{End, EndResult},
};

use Unreadable::{Broken, Newer};

use super::{
    function::{Function, Functions},
    unreadable::Unreadable,
};

/// Kinds of records, by their byte.
pub(super) mod kind {
    pub(crate) const REGISTERED: u8 = 1;
    pub(crate) const REMOVED: u8 = 2;
    pub(crate) const REINSTATED: u8 = 3;
    pub(crate) const ACCEPTED: u8 = 4;
    pub(crate) const ATTEMPTED: u8 = 5;
    pub(crate) const REQUEUED: u8 = 6;
    pub(crate) const ENDED: u8 = 7;
    pub(crate) const REPLAYED: u8 = 8;
    pub(crate) const PURGED: u8 = 9;
    pub(crate) const DELIVERED: u8 = 10;
    pub(crate) const FORGOTTEN: u8 = 11;
    pub(crate) const KEPT: u8 = 12;
    pub(crate) const STARTED: u8 = 13;
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

type Reading<T> = Result<T, Unreadable>;

/// Turns records into bytes and back.
#[derive(Clone, Copy)]
pub(super) struct Codec {
    functions: &'static dyn Functions,
}

impl Codec {
    pub(super) fn new(functions: &'static dyn Functions) -> Codec {
        Codec { functions }
    }

    /// Appends a record with its length. `false`: it is about a function that cannot be written down, and nothing was appended.
    #[must_use]
    pub(super) fn encode(self, record: &Record, out: &mut Vec<u8>) -> bool {
        let (Record::Registered { spec } | Record::Reinstated { spec }) = record else {
            append(record, &[], out);
            return true;
        };
        let function = self.functions.to_disk(spec).map(|function| function.to_bytes());
        function.inspect(|function| append(record, function, out)).is_some()
    }

    /// Reads a record without its length.
    pub(super) fn decode(self, record: &[u8]) -> Reading<Record> {
        let mut reader = Reader(record);
        let kind = reader.byte()?;
        let record = match reader.subject(kind)? {
            Subject::Function(name) => match kind {
                kind::REGISTERED => Record::Registered { spec: self.spec(&mut reader)? },
                kind::REINSTATED => Record::Reinstated { spec: self.spec(&mut reader)? },
                _ => Record::Removed { name },
            },
            Subject::Execution(id) => reader.of_execution(kind, id)?,
            Subject::Server => Record::Started { start: reader.number()? },
        };
        // A kind never becomes longer.
        if reader.0.is_empty() { Ok(record) } else { Err(Broken) }
    }

    fn spec(self, reader: &mut Reader) -> Reading<Box<FunctionSpec>> {
        let function = Function::from_bytes(reader.bytes()?)?;
        self.functions.to_core(function).map(Box::new).ok_or(Broken)
    }
}

/// A record of more than 4 GiB cannot come up: requests and answers are bounded.
fn append(record: &Record, function_bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    match record {
        Record::Registered { spec } => {
            function(out, kind::REGISTERED, &spec.name);
            bytes(out, function_bytes);
        }
        Record::Reinstated { spec } => {
            function(out, kind::REINSTATED, &spec.name);
            bytes(out, function_bytes);
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
pub(super) fn subject(record: &[u8]) -> Reading<(u8, Subject)> {
    let mut reader = Reader(record);
    let kind = reader.byte()?;
    Ok((kind, reader.subject(kind)?))
}

/// The function of an execution, from the record of its acceptance.
pub(super) fn function_of(record: &[u8]) -> Option<Name> {
    let mut reader = Reader(record);
    let kind = reader.byte().ok()?;
    reader.subject(kind).ok()?;
    reader.name().ok()
}

fn function(out: &mut Vec<u8>, kind: u8, name: &Name) {
    out.push(kind);
    text(out, name.as_str());
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
        OutputKind::Other(media) => {
            out.push(if media.encoding.is_none() { 2 } else { 3 });
            text(out, &media.content_type);
            if let Some(encoding) = &media.encoding {
                text(out, encoding);
            }
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
                Stage::Replica => 1,
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

/// By their bytes.
const STAGES: [Stage; 4] = [Stage::Queue, Stage::Replica, Stage::Dispatch, Stage::Function];
/// By their bytes.
const DELIVERY_STATUSES: [DeliveryStatus; 4] =
    [DeliveryStatus::Pending, DeliveryStatus::Delivered, DeliveryStatus::Failed, DeliveryStatus::Refused];

/// Bytes that are left to read. Every method takes what it reads off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Reading<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Reading<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Broken)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Reading<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A byte that stands for one of these.
    fn one_of<T: Clone>(&mut self, what: &str, all: &[T]) -> Reading<T> {
        let byte = self.byte()?;
        all.get(usize::from(byte)).cloned().ok_or_else(|| Newer(format!("{what} {byte}")))
    }

    fn flag(&mut self) -> Reading<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Broken),
        }
    }

    fn small(&mut self) -> Reading<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn number(&mut self) -> Reading<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Reading<&'a [u8]> {
        let length = self.small()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Reading<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken)
    }

    fn boxed_text(&mut self) -> Reading<Box<str>> {
        self.text().map(Box::from)
    }

    fn name(&mut self) -> Reading<Name> {
        Name::new(self.text()?).ok_or(Broken)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Reading<T>) -> Reading<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn subject(&mut self, kind: u8) -> Reading<Subject> {
        match kind {
            kind::REGISTERED..=kind::REINSTATED => self.name().map(Subject::Function),
            kind::ACCEPTED..=kind::KEPT => {
                let bytes: [u8; 16] = self.array()?;
                let owner_hash = u16::from_be_bytes([bytes[14], bytes[15]]);
                let id = ExecutionId::new(bytes, owner_hash);
                // Other bytes than those of an id would become another one.
                if id.bytes() == bytes { Ok(Subject::Execution(id)) } else { Err(Broken) }
            }
            kind::STARTED => Ok(Subject::Server),
            0 => Err(Broken),
            _ => Err(Newer(format!("a record of kind {kind}"))),
        }
    }

    fn of_execution(&mut self, kind: u8, id: ExecutionId) -> Reading<Record> {
        Ok(match kind {
            kind::ACCEPTED => Record::Accepted {
                id,
                function: self.name()?,
                created_ms: self.number()?,
                payload: self.payload()?,
                extra: self.option(Reader::extra)?.map(Box::new),
                callback_url: self.option(Reader::boxed_text)?,
            },
            kind::KEPT => Record::Kept {
                id,
                function: self.name()?,
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
            kind::DELIVERED => {
                let status = self.one_of("a delivery that stands at", &DELIVERY_STATUSES)?;
                let (attempts, last_error) = (self.small()?, self.option(Reader::boxed_text)?);
                Record::Delivered { id, delivery: Delivery { status, attempts, last_error } }
            }
            kind::FORGOTTEN => Record::Forgotten { id },
            _ => return Err(Broken),
        })
    }

    fn payload(&mut self) -> Reading<Payload> {
        Ok(Payload {
            input: Bytes::copy_from_slice(self.bytes()?),
            metadata: self.option(|reader| reader.bytes().map(Bytes::copy_from_slice))?,
            content_type: self.option(Reader::boxed_text)?,
        })
    }

    fn extra(&mut self) -> Reading<Extra> {
        Ok(Extra {
            trace_id: self.option(Reader::boxed_text)?,
            traceparent: self.option(Reader::boxed_text)?,
            idempotency: self
                .option(|reader| Ok(Idempotency { key: reader.boxed_text()?, digest: reader.array()? }))?,
            max_age_ms: self.option(Reader::small)?,
            callback_url: None,
        })
    }

    fn output(&mut self) -> Reading<Output> {
        let body = Bytes::copy_from_slice(self.bytes()?);
        let kind = match self.byte()? {
            0 => OutputKind::Json,
            1 => OutputKind::Text,
            kind @ (2 | 3) => OutputKind::Other(Box::new(Media {
                content_type: self.boxed_text()?,
                encoding: if kind == 3 { Some(self.boxed_text()?) } else { None },
            })),
            other => return Err(Newer(format!("an output of kind {other}"))),
        };
        Ok(Output { body, kind })
    }

    fn failure(&mut self) -> Reading<Failure> {
        let code = Cow::Owned(self.text()?.to_owned());
        Ok(Failure { code, message: self.boxed_text()?, body: self.option(Reader::output)? })
    }

    fn end(&mut self) -> Reading<End> {
        let result = match self.byte()? {
            0 => EndResult::Output(self.output()?),
            1 => EndResult::Failed(Box::new(self.failure()?)),
            2 => EndResult::TimedOut {
                stage: self.one_of("a deadline of stage", &STAGES)?,
                limit_ms: self.small()?,
            },
            other => return Err(Newer(format!("an end of kind {other}"))),
        };
        Ok(End {
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
pub(super) mod tests;
