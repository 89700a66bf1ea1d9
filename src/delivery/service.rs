//! The thread that delivers: takes orders, keeps receivers apart, and ends when told.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use shard_core::{DeliveryStatus, ExecutionId, Input};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, Id, JoinError, JoinSet},
};

use super::{
    DeliveryOrder, ShutdownPhase,
    attempts::{DeliveryContext, DeliveryEnding, deliver},
    failed,
    load::DeliveryPermit,
    target::CallbackTarget,
    untried,
};

/// See the module.
pub(super) struct Service {
    context: Rc<DeliveryContext>,
    receivers: Rc<Receivers>,
    /// Deliveries that are not over; an execution has one at a time.
    running: HashMap<ExecutionId, AbortHandle>,
    tasks: JoinSet<ExecutionId>,
}

/// Receivers with deliveries that are not over, by host and port.
#[derive(Default)]
struct Receivers {
    table: RefCell<HashMap<Box<str>, Receiver>>,
}

struct Receiver {
    /// Tries that may run at once.
    permits: Rc<Semaphore>,
    /// Deliveries that are not over.
    pending: usize,
}

/// A delivery's place with its receiver. Dropping it gives it back, however the delivery ends.
struct ReceiverPermit {
    receivers: Rc<Receivers>,
    authority: Box<str>,
    permits: Rc<Semaphore>,
}

impl Service {
    pub(super) fn new(context: DeliveryContext) -> Service {
        Service {
            context: Rc::new(context),
            receivers: Rc::default(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Takes orders until nobody can give one any more, or time is up.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<(DeliveryOrder, DeliveryPermit)>) {
        let mut phase = self.context.phase.clone();
        loop {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == ShutdownPhase::Over) => return,
                Some(done) = self.tasks.join_next_with_id() => self.forget(done),
                order = orders.recv() => match order {
                    Some((order, place)) => self.take(order, place),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, order: DeliveryOrder, place: DeliveryPermit) {
        let (shard, id, number, options) = (order.shard, order.id, order.number, &self.context.options);
        let reject = |input: Input| self.context.inbox.post(shard, input);
        // It was checked when it was accepted, perhaps with other settings than today's.
        let target = match CallbackTarget::parse(&order.url, options.permit) {
            Ok(target) => target,
            Err(error) => {
                let reason = format!("the address {error}");
                tracing::warn!(execution = %id, %error, "result not delivered");
                return reject(untried(id, number, DeliveryStatus::Refused, &reason));
            }
        };
        let Some(seat) = Receivers::seat(&self.receivers, &target.authority, options) else {
            tracing::warn!(execution = %id, host = %target.authority, "result not delivered, its receiver is behind");
            return reject(failed(
                id,
                number,
                "too many results wait for this receiver; read this one from its status",
            ));
        };
        let context = Rc::clone(&self.context);
        let task = self.tasks.spawn_local(async move {
            // It ends with the task, also with one that is aborted.
            let seat = seat;
            match deliver(&context, &seat.permits, &target, &order).await {
                DeliveryEnding::Decided => drop(place),
                DeliveryEnding::GivenUp => place.give_up(),
            }
            id
        });
        // An execution that was replayed ends a second time. Its first result must not arrive after its last.
        if let Some(former) = self.running.insert(id, task) {
            former.abort();
        }
    }

    fn forget(&mut self, done: Result<(Id, ExecutionId), JoinError>) {
        match done {
            Ok((task, id)) => {
                if self.running.get(&id).is_some_and(|running| running.id() == task) {
                    self.running.remove(&id);
                }
            }
            // Replaced by another one, which has its entry; or it panicked, which is said on standard error.
            Err(error) => self.running.retain(|_, running| running.id() != error.id()),
        }
    }
}

impl Receivers {
    /// A place with a receiver. `None` when too much waits for it.
    fn seat(
        receivers: &Rc<Self>,
        authority: &str,
        options: &super::DeliveryOptions,
    ) -> Option<ReceiverPermit> {
        let mut table = receivers.table.borrow_mut();
        let receiver = table.entry(authority.into()).or_insert_with(|| Receiver {
            permits: Rc::new(Semaphore::new(options.active_per_host_max)),
            pending: 0,
        });
        if receiver.pending >= options.pending_per_host_max {
            return None;
        }
        receiver.pending += 1;
        let permits = Rc::clone(&receiver.permits);
        Some(ReceiverPermit { receivers: Rc::clone(receivers), authority: authority.into(), permits })
    }
}

impl Drop for ReceiverPermit {
    fn drop(&mut self) {
        let mut table = self.receivers.table.borrow_mut();
        if let Some(receiver) = table.get_mut(&self.authority) {
            receiver.pending -= 1;
            if receiver.pending == 0 {
                table.remove(&self.authority);
            }
        }
    }
}
