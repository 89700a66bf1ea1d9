//! The result of an accepted execution goes to the address that its caller gave. The shard says when, and keeps
//! where it stands; trying is done elsewhere.

use crate::{
    answer::{Delivery, DeliveryStatus},
    call::Ticket,
    effect::{Effect, Effects},
    execution::ResultDelivery,
    id::ExecutionId,
    journal::Record,
    keys::ExecutionKey,
    sabotage::Sabotage,
    shard::Shard,
};

impl ResultDelivery {
    /// A delivery that was not tried yet.
    pub(crate) fn new(url: Box<str>) -> Box<ResultDelivery> {
        Box::new(ResultDelivery { url, state: pending(), number: 0, brought_by: None })
    }

    /// The same, to an address that somebody brings who joins.
    pub(super) fn brought(url: Box<str>, by: Ticket) -> Box<ResultDelivery> {
        Box::new(ResultDelivery { brought_by: Some(by), ..*ResultDelivery::new(url) })
    }

    /// There is no result yet, or another one than before.
    pub(super) fn starts_anew(&mut self) {
        self.state = pending();
        self.number = self.number.wrapping_add(1);
    }
}

fn pending() -> Delivery {
    Delivery { status: DeliveryStatus::Pending, attempts: 0, last_error: None }
}

impl Shard {
    /// Has the result of an execution that has ended delivered, when somebody asked for that. An address that is not on
    /// record yet has to wait: whoever brought it may still be refused.
    pub(super) fn deliver(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        let Some(delivery) = execution.delivery.as_mut().filter(|delivery| delivery.brought_by.is_none())
        else {
            // Nobody asked for that, as far as is on record.
            return;
        };
        delivery.starts_anew();
        let url = match self.sabotaged.by(Sabotage::DeliveredElsewhere) {
            true => Box::from("elsewhere"),
            false => delivery.url.clone(),
        };
        let number = delivery.number;
        if execution.is_on_disk() {
            return self.read_and_deliver(key, number, fx);
        }
        let (id, view) = (execution.id, Box::new(execution.view()));
        fx.push(Effect::Deliver { id, number, url, view });
    }

    /// The address that somebody brought is on record. What has ended in the meantime goes there now.
    pub(super) fn address_is_safe(&mut self, id: ExecutionId, ticket: Ticket, fx: &mut Effects) {
        // This caller brought none, or one had been given before.
        let Some(key) = self.addressed_by(id, ticket) else { return };
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        if let Some(delivery) = execution.delivery.as_mut() {
            delivery.brought_by = None;
        }
        if execution.live.is_none() {
            self.deliver(key, fx);
        }
    }

    /// The address that somebody brought is on no record, and that caller is refused: whoever brings one next gives it.
    pub(super) fn take_address_back(&mut self, id: ExecutionId, ticket: Ticket) {
        // This caller brought none, or one had been given before.
        let Some(key) = self.addressed_by(id, ticket) else { return };
        let stays = self.sabotaged.by(Sabotage::RefusedAddressStays);
        let Some(execution) = self.executions.get_mut(key) else { return self.impossible() };
        match execution.delivery.as_mut().filter(|_| stays) {
            Some(delivery) => delivery.brought_by = None,
            None => execution.delivery = None,
        }
    }

    /// The execution that this caller brought an address to which is not on record yet: no result was handed over for it.
    fn addressed_by(&self, id: ExecutionId, ticket: Ticket) -> Option<ExecutionKey> {
        let key = self.find_key(id)?;
        let delivery = self.executions.get(key)?.delivery.as_ref()?;
        (delivery.brought_by == Some(ticket)).then_some(key)
    }

    /// Takes note of how the delivery of a result goes. What is said of the one before a replay does not count: its
    /// record would stand behind that of the new one, and the next server would not deliver that any more.
    pub(super) fn delivered(&mut self, id: ExecutionId, number: u32, state: Delivery, fx: &mut Effects) {
        // Stale: a delivery may take longer than an execution is kept.
        let Some(key) = self.find_key(id) else { return };
        let execution = self.executions.get_mut(key).filter(|execution| execution.has_ended());
        let delivery = execution.and_then(|execution| execution.delivery.as_mut());
        let any_counts = self.sabotaged.by(Sabotage::OldDeliveryCounts);
        if let Some(delivery) = delivery.filter(|delivery| delivery.number == number || any_counts) {
            // What a server that goes away gave up is tried again by the next one.
            let given_up = self.phase.watches_ended && state.status == DeliveryStatus::Failed;
            let is_over = state.status != DeliveryStatus::Pending && !given_up;
            delivery.state = state.clone();
            if is_over {
                self.write(Record::Delivered { id, delivery: state }, fx);
            }
        }
    }
}
