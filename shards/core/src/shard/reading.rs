//! Results that are on disk and no longer in memory are read when somebody wants them.
//!
//! Every read has one answer, also while the server goes away. How many are on their way is bounded: who wants one more is
//! refused, and what is to be delivered waits. An execution may be forgotten while it is read.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    answer::{Answer, Delivery, DeliveryStatus, ReadFailure, Refusal},
    call::Ticket,
    effect::{Effect, Effects},
    execution::Ending,
    id::ExecutionId,
    journal::EndResult,
    keys::ExecutionKey,
    sabotage::Sabotage,
    shard::Shard,
};

/// One of so many reads may be for a delivery: callers must not be refused for those.
const DELIVERIES_PART: usize = 4;

/// Who wants a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody reads the execution.
    View(Ticket),
    /// Somebody calls with its key.
    Call(Ticket),
    /// It is to be delivered, as the result of this number.
    Delivery(u32),
    /// Who wanted it is gone.
    Nobody,
}

/// A read that is on its way.
#[derive(Debug)]
struct Read {
    execution: ExecutionKey,
    reader: Reader,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    open: BTreeMap<Ticket, Read>,
    /// How many of them are for deliveries.
    deliveries: usize,
    /// Executions whose result is to be read and delivered, with its number.
    waiting: VecDeque<(ExecutionKey, u32)>,
    /// Those of them whose read has failed: they are read again with the next sweep.
    failed_deliveries: VecDeque<(ExecutionKey, u32)>,
    /// Reads so far.
    count: u64,
}

impl Reads {
    /// Reads that are on their way, and those that are to follow.
    pub(crate) fn pending(&self) -> usize {
        self.open.len() + self.waiting.len() + self.failed_deliveries.len()
    }

    /// Whether the accounts are right, so many are on their way at most, and something will go on with what waits.
    pub(crate) fn is_sound(&self, reads_max: usize) -> bool {
        let deliveries = self.open.values().filter(|read| matches!(read.reader, Reader::Delivery(_))).count();
        let (callers_max, deliveries_max) = shares(reads_max);
        deliveries == self.deliveries
            && deliveries <= deliveries_max
            && self.open.len() - deliveries <= callers_max
            && (self.waiting.is_empty() || deliveries > 0)
    }
}

/// Reads for callers, and for deliveries, that may be on their way.
fn shares(reads_max: usize) -> (usize, usize) {
    let deliveries = (reads_max / DELIVERIES_PART).max(1);
    (reads_max.saturating_sub(deliveries).max(1), deliveries)
}

impl Shard {
    /// Whether one more result may be read for somebody who waits.
    pub(super) fn may_read(&self) -> Result<(), Refusal> {
        match self.retention.reads.open.len() - self.retention.reads.deliveries
            < shares(self.limits.reads_max).0
        {
            true => Ok(()),
            false => Err(Refusal::Overloaded { what: "results that are read from disk", retry_after_s: 1 }),
        }
    }

    /// Has the result of an execution read for somebody who waits.
    pub(super) fn read_for(&mut self, key: ExecutionKey, reader: Reader, fx: &mut Effects) {
        let Some(execution) = self.executions.get(key) else { return self.impossible() };
        let id = execution.id;
        self.retention.reads.count += 1;
        let ticket = Ticket(self.retention.reads.count);
        if let Reader::Delivery(_) = reader {
            self.retention.reads.deliveries += 1;
        }
        self.retention.reads.open.insert(ticket, Read { execution: key, reader });
        fx.push(Effect::ReadResult { ticket, id });
    }

    /// Has a result read and delivered as soon as that may be.
    pub(super) fn read_and_deliver(&mut self, key: ExecutionKey, number: u32, fx: &mut Effects) {
        self.retention.reads.waiting.push_back((key, number));
        self.read_for_deliveries(fx);
    }

    fn read_for_deliveries(&mut self, fx: &mut Effects) {
        let (_, most) = shares(self.limits.reads_max);
        while self.retention.reads.deliveries < most
            && let Some((key, number)) = self.retention.reads.waiting.pop_front()
        {
            if self.executions.get(key).is_some() {
                self.read_for(key, Reader::Delivery(number), fx);
            }
        }
    }

    /// What is to be delivered and could not be read is tried again.
    pub(super) fn read_again(&mut self, fx: &mut Effects) {
        let mut failed = std::mem::take(&mut self.retention.reads.failed_deliveries);
        self.retention.reads.waiting.append(&mut failed);
        self.read_for_deliveries(fx);
    }

    /// A reader is gone. `false`: it was none.
    pub(super) fn leave_read(&mut self, ticket: Ticket) -> bool {
        let of_it =
            |read: &&mut Read| matches!(read.reader, Reader::View(of) | Reader::Call(of) if of == ticket);
        match self.retention.reads.open.values_mut().find(of_it) {
            Some(read) => {
                read.reader = Reader::Nobody;
                true
            }
            None => false,
        }
    }

    /// A read has come to its end.
    pub(super) fn result_read(
        &mut self,
        ticket: Ticket,
        id: ExecutionId,
        result: Result<EndResult, ReadFailure>,
        fx: &mut Effects,
    ) {
        let Some(Read { execution: key, reader }) = self.retention.reads.open.remove(&ticket) else {
            return self.impossible();
        };
        self.retention.reads.deliveries -= usize::from(matches!(reader, Reader::Delivery(_)));
        let key = match self.sabotaged.by(Sabotage::AnotherResultRead) {
            true => self.retention.reads.open.values().next().map_or(key, |other| other.execution),
            false => key,
        };
        if !self.sabotaged.by(Sabotage::ReadForgotten) || !self.retention.reads.count.is_multiple_of(4) {
            self.answer_reader(key, id, reader, result, fx);
        }
        self.read_for_deliveries(fx);
    }

    fn answer_reader(
        &mut self,
        key: ExecutionKey,
        id: ExecutionId,
        reader: Reader,
        result: Result<EndResult, ReadFailure>,
        fx: &mut Effects,
    ) {
        let Some(execution) = self.executions.get_mut(key) else {
            // It was forgotten meanwhile.
            match reader {
                Reader::View(asker) | Reader::Call(asker) => {
                    fx.reply(asker, Answer::Refused(Refusal::ExecutionNotFound));
                }
                Reader::Delivery(_) | Reader::Nobody => {}
            }
            return;
        };
        match (reader, result.map(Ending::from)) {
            (Reader::Nobody, _) => {}
            (Reader::View(asker), Ok(ending)) => {
                fx.reply(asker, Answer::Execution(Box::new(execution.view_of(Some(&ending)))));
            }
            (Reader::Call(asker), Ok(ending)) => {
                let missing = Answer::Refused(Refusal::ResultUnread(ReadFailure::Missing));
                fx.reply(asker, execution.answer_of(&ending).unwrap_or(missing));
            }
            (Reader::View(asker) | Reader::Call(asker), Err(failure)) => {
                fx.reply(asker, Answer::Refused(Refusal::ResultUnread(failure)));
            }
            (Reader::Delivery(number), Ok(ending)) => {
                let view = Box::new(execution.view_of(Some(&ending)));
                if let Some(delivery) = execution.delivery.as_ref().filter(|known| known.number == number) {
                    fx.push(Effect::Deliver { id, number, url: delivery.url.clone(), view });
                }
            }
            (Reader::Delivery(number), Err(ReadFailure::Unreadable)) => {
                self.retention.reads.failed_deliveries.push_back((key, number));
                self.arm_sweep();
            }
            (Reader::Delivery(number), Err(ReadFailure::Missing)) => {
                if let Some(delivery) = execution.delivery.as_mut().filter(|known| known.number == number) {
                    delivery.state = Delivery {
                        status: DeliveryStatus::Failed,
                        attempts: 0,
                        last_error: Some("the result is no longer on disk".into()),
                    };
                }
            }
        }
    }
}
