//! The writing half of `codec`: a record as bytes, from its kind on.

use shard_core::{
    DeliveryStatus, ExecutionId, Extra, Failure, Idempotency, Name, Output, OutputKind, Payload, Record,
    answer::Stage,
    journal::{End, EndResult},
};

use super::codec::kind;

/// Appends a record from its kind on.
pub(super) fn put(record: &Record, function_bytes: &[u8], out: &mut Vec<u8>) {
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
        Record::JobOrdered { id, attempt, until_ms } => {
            execution(out, kind::JOB_ORDERED, *id);
            small(out, *attempt);
            number(out, *until_ms);
        }
        Record::JobLost { id } => execution(out, kind::JOB_LOST, *id),
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
        Record::Started { partition, epoch } => {
            out.extend([kind::BEGUN, partition.0]);
            number(out, epoch.0);
        }
    }
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

/// In as few bytes as it needs.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
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

#[cfg(test)]
mod tests {
    use shard_core::{Entry, Epoch};

    use super::*;
    use crate::{
        codec::{
            Decoded,
            tests::{codec, encoded, id},
        },
        unreadable::Unreadable::Broken,
    };

    #[test]
    fn an_epoch_has_one_form_and_stands_in_front_of_a_record_only() {
        let record = &encoded(&Record::Forgotten { id: id() })[4..];
        let behind = |epoch: &[u8]| codec().decode(&[&[kind::OWNED], epoch, record].concat());
        for (epoch, bytes) in [(0, &[0][..]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let entry = Entry::of(Epoch(epoch), Record::Forgotten { id: id() });
            assert_eq!(behind(bytes), Ok(Decoded::Owned(entry)));
        }
        // In more bytes than it needs, or more than there is of it.
        assert_eq!(behind(&[0x80, 0]), Err(Broken));
        assert_eq!(behind(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(Broken));
        assert_eq!(behind(&[0xff; 10]), Err(Broken));
        // In front of another one, or of what says which begins.
        assert_eq!(behind(&[1, kind::OWNED, 1]), Err(Broken));
        for kind in [kind::STARTED, kind::BEGUN] {
            assert_eq!(codec().decode(&[&[kind::OWNED, 1, kind][..], &[0; 9]].concat()), Err(Broken));
        }
    }
}
