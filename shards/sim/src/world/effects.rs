//! Carries out what shards decide.

use shard_core::{Delivery, DeliveryStatus, Destination, Effect, Input, JournalEvent};

use super::{Event, World};
use crate::{
    network::Message,
    random::{Random, Stream},
    sabotage::Sabotage,
};

impl World {
    pub(super) fn perform(&mut self, shard: u16, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Reply { ticket, answer } => {
                let Some(thread) = self.clients.thread_of(ticket) else { return Ok(()) };
                if thread == shard {
                    return self.answer(ticket, &answer);
                }
                if self.is_broken(Sabotage::AnswerLost) && ticket.0.is_multiple_of(50) {
                    return Ok(());
                }
                let message = Message::Answer(ticket, answer);
                self.network.send_control(shard, thread, message, &mut self.agenda);
            }
            Effect::Dispatch(dispatch) => {
                if let Destination::Endpoint(endpoint) = dispatch.destination
                    && self.functions.address_of(shard, endpoint).is_none()
                {
                    return Err(format!("execution {} went to an address that is not open", dispatch.id));
                }
                let known = self.functions.dispatch(shard, &dispatch, &mut self.agenda);
                self.follow_up.extend(known.map(|input| (shard, input)));
            }
            Effect::AdoptJob { attempt, id, number, .. } => {
                self.functions.adopt((shard, attempt), (id, number))
            }
            Effect::Abort { attempt } => self.functions.abort((shard, attempt), self.agenda.now_us())?,
            Effect::OpenEndpoint { endpoint, address, .. } => self.functions.open(shard, endpoint, address),
            Effect::CloseEndpoint { endpoint } => self.functions.close(shard, endpoint),
            Effect::Probe { function, endpoint } => {
                let wait_us = self.functions.connect_us(shard, endpoint, self.agenda.now_us());
                self.agenda.after(wait_us, Event::Probed { shard, function, endpoint });
            }
            Effect::Provision { function, spec } => {
                self.backend.provision((shard, function), &spec, &mut self.agenda);
            }
            Effect::Teardown { .. } if self.is_broken(Sabotage::TeardownLost) => {}
            Effect::Teardown { function, .. } => {
                self.backend.tear_down((shard, function), &mut self.agenda);
            }
            Effect::Scale { function, replicas, .. } => {
                self.backend.scale((shard, function), replicas, &mut self.agenda);
            }
            Effect::Journal { number, entry } if self.storage.is_some() => {
                let storage = self.storage.as_mut();
                if let Some(told) = storage.and_then(|storage| storage.append(shard, number, entry)) {
                    self.auditor.told(shard, told);
                    self.follow_up.push_back((shard, told.input()));
                }
                self.write_storage();
            }
            Effect::Journal { number, entry } => {
                let disk = self.disks.get_mut(usize::from(shard));
                let told = disk.and_then(|disk| disk.append(number, entry, &mut self.agenda));
                if told.is_none() && self.is_broken(Sabotage::DiskLies) {
                    self.follow_up.push_back((shard, Input::Journal(JournalEvent::Safe { through: number })));
                }
                if let Some(told) = told {
                    self.auditor.told(shard, told);
                    self.follow_up.push_back((shard, told.input()));
                }
            }
            Effect::Deliver { id, number, .. } => {
                let mut random = Random::of(self.options.seed, Stream::Attempt, (id, "delivery"));
                let status = match random.below(3) {
                    0 => DeliveryStatus::Failed,
                    1 => DeliveryStatus::Pending,
                    _ => DeliveryStatus::Delivered,
                };
                let delivery = Delivery { status, attempts: 1, last_error: None };
                let input = Box::new(Input::Delivered { id, number, delivery });
                self.agenda.after(random.around(1000), Event::Input { shard, input });
            }
            Effect::ReadResult { ticket, id } => {
                let wait_us = self.disks.get_mut(usize::from(shard)).map_or(0, |disk| disk.read_us());
                self.agenda.after(wait_us, Event::Read { shard, ticket, id });
            }
            Effect::ReturnBytes(_)
                if self.is_broken(Sabotage::BytesNotReturned)
                    || self.is_broken(Sabotage::BudgetsOfItsOwn) => {}
            Effect::ReturnBytes(bytes) => self.budgets.return_bytes(bytes),
            Effect::ReturnRoom(_) if self.is_broken(Sabotage::RoomLost) => {}
            Effect::ReturnRoom(room) => self.budgets.return_room(room),
            Effect::Note(_) => {}
        }
        Ok(())
    }
}
