//! Records as bytes.
//!
//! A record is its length (4 bytes), its kind (1 byte), its key (the 16 bytes of an execution's id, or a function's
//! name; none when it concerns a partition or the server) and what belongs to the kind. Numbers are little endian; texts and bodies have their length (4 bytes) in
//! front; what may be absent has a byte 0 or 1 in front. A function is JSON (`function`).
//!
//! Since partitions have epochs, a record stands behind the one in which it was written: the kind `OWNED`, the epoch in as few bytes
//! as it needs (seven bits each, the lowest first, the eighth says that more follow), and the record itself from its kind on. Its
//! partition follows from its key. A record of an earlier version stands alone, and is of the epoch that had begun by then.
//!
//! The bytes of a kind never change: `tests/fixtures/records` has them, of each format. What has to be said in another way is
//! another kind, and the one before is read for ever. A kind or a value that is not known here was written by a newer version,
//! for a frame is what was written, by its checksum: the store is not opened, and nothing of it is called corrupt. Compaction
//! copies records as they are.

use std::borrow::Cow;

use bytes::Bytes;
use shard_core::{
    Delivery, DeliveryStatus, Entry, Epoch, ExecutionId, Extra, Failure, FunctionSpec, Idempotency, Media,
    Name, Output, OutputKind, Partition, Payload, Record,
    answer::Stage,
    journal::{End, EndResult},
};

use Unreadable::{Broken, Newer};

use super::{
    encoding::{put, varint},
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
    /// A server of a version without partitions started.
    pub(crate) const STARTED: u8 = 13;
    pub(crate) const OWNED: u8 = 14;
    /// An epoch begins in a partition.
    pub(crate) const BEGUN: u8 = 15;
    pub(crate) const JOB_ORDERED: u8 = 16;
    pub(crate) const JOB_LOST: u8 = 17;
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Function(Name),
    Execution(ExecutionId),
    Partition(Partition),
    /// The server itself.
    Server,
}

impl Subject {
    /// What it belongs to. `None`: it concerns all of them.
    pub(super) fn partition(&self) -> Option<Partition> {
        match self {
            Subject::Function(name) => Some(name.partition()),
            Subject::Execution(id) => Some(id.partition()),
            Subject::Partition(partition) => Some(*partition),
            Subject::Server => None,
        }
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decoded {
    /// With its epoch.
    Owned(Entry),
    /// Of a version that did not write epochs.
    Old(Record),
    /// Such a version's server started; how many had, with it.
    OldStart(Epoch),
}

impl Decoded {
    /// The record alone.
    pub(super) fn into_record(self) -> Option<Record> {
        match self {
            Decoded::Owned(Entry { record, .. }) | Decoded::Old(record) => Some(record),
            Decoded::OldStart(_) => None,
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
    pub(super) fn encode(self, entry: &Entry, out: &mut Vec<u8>) -> bool {
        let Entry { epoch, record, .. } = entry;
        let begins = matches!(record, Record::Started { .. });
        self.append(record, Some(*epoch).filter(|_| !begins), out)
    }

    /// Appends a record as versions before epochs did.
    #[must_use]
    pub(super) fn encode_old(self, record: &Record, out: &mut Vec<u8>) -> bool {
        self.append(record, None, out)
    }

    fn append(self, record: &Record, epoch: Option<Epoch>, out: &mut Vec<u8>) -> bool {
        let function = match record {
            Record::Registered { spec } | Record::Reinstated { spec } => match self.functions.to_disk(spec) {
                Some(function) => function.to_bytes(),
                None => return false,
            },
            _ => Vec::new(),
        };
        let start = out.len();
        out.extend([0; 4]);
        if let Some(epoch) = epoch {
            out.push(kind::OWNED);
            varint(out, epoch.0);
        }
        put(record, &function, out);
        // A record of more than 4 GiB cannot come up: requests and answers are bounded.
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        true
    }

    /// Reads a record without its length.
    pub(super) fn decode(self, record: &[u8]) -> Reading<Decoded> {
        let mut reader = RecordReader(record);
        let (epoch, kind) = reader.head()?;
        let record = match reader.subject(kind)? {
            Subject::Function(name) => match kind {
                kind::REGISTERED => Record::Registered { spec: self.spec(&mut reader)? },
                kind::REINSTATED => Record::Reinstated { spec: self.spec(&mut reader)? },
                _ => Record::Removed { name },
            },
            Subject::Execution(id) => reader.of_execution(kind, id)?,
            Subject::Partition(partition) => Record::Started { partition, epoch: Epoch(reader.number()?) },
            Subject::Server => {
                let start = Epoch(reader.number()?);
                return if reader.0.is_empty() { Ok(Decoded::OldStart(start)) } else { Err(Broken) };
            }
        };
        // A kind never becomes longer.
        if !reader.0.is_empty() {
            return Err(Broken);
        }
        let epoch = match record {
            Record::Started { epoch, .. } => Some(epoch),
            _ => epoch,
        };
        Ok(match epoch {
            Some(epoch) => Decoded::Owned(Entry::of(epoch, record)),
            None => Decoded::Old(record),
        })
    }

    fn spec(self, reader: &mut RecordReader) -> Reading<Box<FunctionSpec>> {
        let function = Function::from_bytes(reader.bytes()?)?;
        self.functions.to_core(function).map(Box::new).ok_or(Broken)
    }
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

/// What can be told of a record without reading all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    /// The epoch in which it was written, or which it says has begun. `None`: it is of a version that did not write any.
    pub(super) epoch: Option<Epoch>,
    pub(super) kind: u8,
    pub(super) subject: Subject,
}

/// The head of a record without its length.
pub(super) fn head(record: &[u8]) -> Reading<RecordHead> {
    let mut reader = RecordReader(record);
    let (epoch, kind) = reader.head()?;
    let subject = reader.subject(kind)?;
    let epoch = match kind {
        kind::BEGUN => reader.number().ok().map(Epoch),
        _ => epoch,
    };
    Ok(RecordHead { epoch, kind, subject })
}

/// The kind of a record without its length, whether or not the rest is one. The commit of every call asks for it.
pub(super) fn kind_of(record: &[u8]) -> Option<u8> {
    match *record {
        [kind::OWNED, epoch, kind, ..] if epoch < 0x80 => Some(kind),
        [kind, ..] if kind != kind::OWNED => Some(kind),
        _ => RecordReader(record).head().ok().map(|(_, kind)| kind),
    }
}

/// Whether a record without its length says that an execution was accepted.
pub(super) fn is_acceptance(record: &[u8]) -> bool {
    kind_of(record) == Some(kind::ACCEPTED)
}

/// The function of an execution, from the record of its acceptance.
pub(super) fn function_of(record: &[u8]) -> Option<Name> {
    let mut reader = RecordReader(record);
    let (_, kind) = reader.head().ok()?;
    reader.subject(kind).ok()?;
    reader.name().ok()
}

/// By their bytes.
const STAGES: [Stage; 4] = [Stage::Queue, Stage::Replica, Stage::Dispatch, Stage::Function];
/// By their bytes.
const DELIVERY_STATUSES: [DeliveryStatus; 4] =
    [DeliveryStatus::Pending, DeliveryStatus::Delivered, DeliveryStatus::Failed, DeliveryStatus::Refused];

/// Bytes that are left to read. Every method takes what it reads off the front.
struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
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

    /// A number in as few bytes as it needs. Written in more, it is not what anybody wrote.
    fn varint(&mut self) -> Reading<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(Broken);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// The epoch, if it is there, and the kind.
    fn head(&mut self) -> Reading<(Option<Epoch>, u8)> {
        let kind = self.byte()?;
        if kind != kind::OWNED {
            return Ok((None, kind));
        }
        let epoch = Epoch(self.varint()?);
        match self.byte()? {
            kind::STARTED..=kind::BEGUN => Err(Broken),
            kind => Ok((Some(epoch), kind)),
        }
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

    fn option<T>(&mut self, read: impl FnOnce(&mut RecordReader<'a>) -> Reading<T>) -> Reading<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn subject(&mut self, kind: u8) -> Reading<Subject> {
        match kind {
            kind::REGISTERED..=kind::REINSTATED => self.name().map(Subject::Function),
            kind::ACCEPTED..=kind::KEPT | kind::JOB_ORDERED | kind::JOB_LOST => {
                let bytes: [u8; 16] = self.array()?;
                let owner_hash = u16::from_be_bytes([bytes[14], bytes[15]]);
                let id = ExecutionId::new(bytes, owner_hash);
                // Other bytes than those of an id would become another one.
                if id.bytes() == bytes { Ok(Subject::Execution(id)) } else { Err(Broken) }
            }
            kind::STARTED => Ok(Subject::Server),
            kind::BEGUN => self.byte().map(|partition| Subject::Partition(Partition(partition))),
            0 | kind::OWNED => Err(Broken),
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
                extra: self.option(RecordReader::extra)?.map(Box::new),
                callback_url: self.option(RecordReader::boxed_text)?,
            },
            kind::KEPT => Record::Kept {
                id,
                function: self.name()?,
                created_ms: self.number()?,
                attempt: self.small()?,
                payload: self.payload()?,
                extra: self.option(RecordReader::extra)?.map(Box::new),
                last_failure: self.option(RecordReader::failure)?.map(Box::new),
                end: Box::new(self.end()?),
                dead: self.flag()?,
            },
            kind::ATTEMPTED => Record::Attempted { id, attempt: self.small()? },
            kind::JOB_ORDERED => Record::JobOrdered { id, attempt: self.small()?, until_ms: self.number()? },
            kind::JOB_LOST => Record::JobLost { id },
            kind::REQUEUED => Record::Requeued { id, failure: self.failure()? },
            kind::ENDED => Record::Ended { id, end: Box::new(self.end()?), dead: self.flag()? },
            kind::REPLAYED => Record::Replayed { id, at_ms: self.number()? },
            kind::PURGED => Record::Purged { id },
            kind::DELIVERED => {
                let status = self.one_of("a delivery that stands at", &DELIVERY_STATUSES)?;
                let (attempts, last_error) = (self.small()?, self.option(RecordReader::boxed_text)?);
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
            content_type: self.option(RecordReader::boxed_text)?,
        })
    }

    fn extra(&mut self) -> Reading<Extra> {
        Ok(Extra {
            trace_id: self.option(RecordReader::boxed_text)?,
            traceparent: self.option(RecordReader::boxed_text)?,
            idempotency: self
                .option(|reader| Ok(Idempotency { key: reader.boxed_text()?, digest: reader.array()? }))?,
            max_age_ms: self.option(RecordReader::small)?,
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
        Ok(Failure { code, message: self.boxed_text()?, body: self.option(RecordReader::output)? })
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
            init_ms: self.option(RecordReader::small)?,
        })
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(super) mod tests;
