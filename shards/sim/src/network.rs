//! Messages between threads, as the runtime's mailboxes carry them: from one thread to another in order, in two lanes.
//! Control (answers, settings) is never refused; data (new work) is, when too much of it is on its way to one thread,
//! except for callers that leave, which must neither be lost nor overtake their own call.

use std::collections::VecDeque;

use shard_core::{Answer, Input, Ticket};

use crate::{
    agenda::Agenda,
    random::{Random, Stream},
    swarm::NetworkFaults,
    world::Event,
};

/// What travels.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something for the receiver's shard.
    Input(Input),
    /// A caller's answer.
    Answer(Ticket, Answer),
}

#[derive(Debug)]
struct Lane {
    random: Random,
    /// When the newest message arrives.
    last_us: u64,
    waiting: VecDeque<Message>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    faults: NetworkFaults,
    threads: usize,
    lanes: Vec<Lane>,
    /// Data on its way to each thread.
    depth: Vec<usize>,
}

impl Network {
    pub(crate) fn new(seed: u64, threads: u16, faults: NetworkFaults) -> Network {
        let threads = usize::from(threads);
        let lane = |number| Lane {
            random: Random::of(seed, Stream::Link, number),
            last_us: 0,
            waiting: VecDeque::new(),
        };
        Network {
            faults,
            threads,
            lanes: (0..threads * threads * 2).map(lane).collect(),
            depth: vec![0; threads],
        }
    }

    /// Sends new work. Gives it back when the receiver has too much of it.
    pub(crate) fn send(
        &mut self,
        from: u16,
        to: u16,
        input: Input,
        agenda: &mut Agenda<Event>,
    ) -> Option<Input> {
        let is_bound = matches!(input, Input::Abandon { .. });
        let depth = &mut self.depth[usize::from(to)];
        if *depth >= self.faults.mailbox_max && !is_bound {
            return Some(input);
        }
        *depth += 1;
        self.post(from, to, false, Message::Input(input), agenda);
        None
    }

    /// Sends what must arrive.
    pub(crate) fn send_control(&mut self, from: u16, to: u16, message: Message, agenda: &mut Agenda<Event>) {
        self.post(from, to, true, message, agenda);
    }

    /// Takes the next message out of a lane. Returns whom it is for.
    pub(crate) fn arrive(&mut self, lane: usize) -> Option<(u16, Message)> {
        let message = self.lanes.get_mut(lane)?.waiting.pop_front()?;
        let to = lane / 2 % self.threads;
        if lane.is_multiple_of(2) {
            self.depth[to] -= 1;
        }
        Some((to as u16, message))
    }

    fn post(&mut self, from: u16, to: u16, control: bool, message: Message, agenda: &mut Agenda<Event>) {
        let number = (usize::from(from) * self.threads + usize::from(to)) * 2 + usize::from(control);
        let lane = &mut self.lanes[number];
        let arrives_us = agenda.now_us() + lane.random.around(self.faults.delay_us);
        // In order: whatever is sent later arrives later.
        lane.last_us = lane.last_us.max(arrives_us);
        lane.waiting.push_back(message);
        agenda.at(lane.last_us, Event::Message { lane: number });
    }
}
