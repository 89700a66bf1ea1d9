//! The result of an accepted execution goes to the address that its caller gave. The shard says when, and keeps
//! where it stands; trying is done elsewhere.

use crate::{
    answer::{Delivery, DeliveryStatus},
    effect::{Effect, Effects},
    execution::ResultDelivery,
    id::ExecutionId,
    journal::Record,
    sabotage::Sabotage,
    shard::{ExecutionKey, Shard},
};

impl ResultDelivery {
    /// A delivery that was not tried yet.
    pub(crate) fn new(url: Box<str>) -> Box<ResultDelivery> {
        Box::new(ResultDelivery { url, state: pending() })
    }

    /// There is no result yet, or another one than before.
    pub(super) fn starts_anew(&mut self) {
        self.state = pending();
    }
}

fn pending() -> Delivery {
    Delivery { status: DeliveryStatus::Pending, attempts: 0, last_error: None }
}

impl Shard {
    /// Has the result of an execution that just ended delivered, when somebody asked for that.
    pub(super) fn deliver(&mut self, key: ExecutionKey, fx: &mut Effects) {
        let Some(execution) = self.executions.get_mut(key) else { return };
        let Some(delivery) = execution.delivery.as_mut() else { return };
        delivery.starts_anew();
        let url = match self.sabotaged.by(Sabotage::DeliveredElsewhere) {
            true => Box::from("elsewhere"),
            false => delivery.url.clone(),
        };
        let (id, view) = (execution.id, Box::new(execution.view()));
        fx.push(Effect::Deliver { id, url, view });
    }

    /// Takes note of how a delivery goes.
    pub(super) fn delivered(&mut self, id: ExecutionId, state: Delivery, fx: &mut Effects) {
        let Some(key) = self.find_key(id) else { return };
        let execution = self.executions.get_mut(key).filter(|execution| execution.state.is_terminal());
        if let Some(delivery) = execution.and_then(|execution| execution.delivery.as_mut()) {
            // What a server that goes away gave up is tried again by the next one.
            let given_up = self.watches_ended && state.status == DeliveryStatus::Failed;
            let is_over = state.status != DeliveryStatus::Pending && !given_up;
            delivery.state = state.clone();
            if is_over {
                self.write(Record::Delivered { id, delivery: state }, fx);
            }
        }
    }
}
