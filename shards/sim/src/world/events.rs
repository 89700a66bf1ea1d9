//! What happens by itself: requests, messages, answers of functions, disks, deadlines.

use shard_core::{
    Answer, Control, DispatchEvent, EndpointId, ExecutionId, FunctionKey, Input, JournalEvent, Outcome,
    Output, ReadFailure, Refusal, Report, Request, Seating, Ticket,
};

use super::World;
use crate::{
    clients::{Act, Open, Outgoing},
    functions::{Callback, ExchangeKey, ExchangeStep},
    network::Message,
    random::{Random, Stream},
    sabotage::Sabotage,
    storage::COMMIT_US_MAX,
};

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next request is made.
    Request,
    /// The next message of a lane arrives.
    Message { lane: usize },
    /// A client has waited long enough.
    Leave { ticket: Ticket },
    /// Something on a shard's thread reports to it.
    Input { shard: u16, input: Box<Input> },
    /// A shard looks at its deadlines.
    Turn { shard: u16, at_us: u64 },
    /// A disk is done with a group of records.
    Commit { shard: u16 },
    /// A result is read from where records are kept.
    Read { shard: u16, ticket: Ticket, id: ExecutionId },
    /// A commit of a store that is not played is done, or takes too long.
    Stored { commit: u64, hangs: bool },
    /// An exchange with a function goes on.
    Exchange { exchange: ExchangeKey, step: ExchangeStep },
    /// A connection to an address that is probed is open, or not.
    Probed { shard: u16, function: FunctionKey, endpoint: EndpointId },
    /// A function calls back.
    Callback(Box<Callback>),
    /// The job of an attempt ends.
    JobEnds { id: ExecutionId, number: u32 },
    /// Nothing is left of a job.
    JobCollected { id: ExecutionId, number: u32 },
    /// A server that has started knows which jobs there are.
    JobsListed,
    /// A server that is going away gives up on callers that still wait.
    GiveUp,
    /// It ends.
    Exit,
}

impl World {
    pub(super) fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Request => self.request(),
            Event::Message { lane } => match self.network.arrive(lane) {
                Some((shard, Message::Input(input))) => self.feed(shard, input),
                Some((_, Message::Answer(ticket, answer))) => self.answer(ticket, &answer),
                None => Ok(()),
            },
            Event::Leave { ticket } => match self.clients.leave(ticket) {
                Some(open) => {
                    let shard = Seating::of(self.swarm.shards).owner_of(open.hash);
                    self.send(open.thread, shard, Input::Abandon { ticket, id: open.id })
                }
                None => Ok(()),
            },
            Event::Input { shard, input } => self.feed(shard, *input),
            Event::Turn { shard, at_us } => {
                let seat = self.seats.get_mut(usize::from(shard)).filter(|seat| seat.armed_us == at_us);
                let Some(seat) = seat else { return Ok(()) };
                seat.armed_us = u64::MAX;
                self.feed(shard, Input::Turn)
            }
            Event::Commit { shard } => {
                let disk = self.disks.get_mut(usize::from(shard));
                let Some(told) = disk.and_then(|disk| disk.commit(&mut self.agenda)) else { return Ok(()) };
                self.auditor.told(shard, told);
                self.feed(shard, told.input())
            }
            Event::Read { shard, ticket, id } => {
                let result = match (&mut self.storage, self.disks.get_mut(usize::from(shard))) {
                    (Some(storage), _) => storage.read(id),
                    (None, Some(disk)) => disk.read(id),
                    (None, None) => Err(ReadFailure::Missing),
                };
                self.feed(shard, Input::Journal(JournalEvent::Read { ticket, id, result }))
            }
            Event::Stored { commit, hangs } => self.stored(commit, hangs),
            Event::Exchange { exchange, step } => {
                if self.is_broken(Sabotage::ReportedEarly) && matches!(step, ExchangeStep::Sent) {
                    let report = Report::warm(Outcome::Success(Output::null()));
                    self.feed(exchange.0, Input::Dispatch(exchange.1, DispatchEvent::Finished(report)))?;
                }
                match self.functions.step(exchange, step, &mut self.agenda) {
                    Some(input) => self.feed(exchange.0, input),
                    None => Ok(()),
                }
            }
            Event::Probed { shard, function, endpoint } => {
                let reachable = self.functions.is_reachable(shard, endpoint, self.agenda.now_us());
                self.feed(shard, Input::Probed { function, endpoint, reachable })
            }
            Event::Callback(callback) => self.call_back(*callback),
            Event::JobEnds { id, number } => match self.functions.job_ends((id, number), &mut self.agenda) {
                Some((shard, input)) => self.feed(shard, input),
                None => Ok(()),
            },
            Event::JobCollected { id, number } => {
                self.functions.jobs.collected((id, number));
                Ok(())
            }
            Event::JobsListed => {
                self.functions.jobs.listed(self.options.sabotage, self.calm, &mut self.agenda);
                Ok(())
            }
            Event::GiveUp => self.give_up(),
            Event::Exit => self.exit(),
        }
    }

    /// Starts on the next commit, unless one is on its way.
    pub(super) fn write_storage(&mut self) {
        let Some(storage) = self.storage.as_mut().filter(|_| !self.committing) else { return };
        if let Some(time_us) = storage.begin() {
            self.committing = true;
            self.commits += 1;
            let commit = self.commits;
            if time_us > COMMIT_US_MAX {
                self.agenda.after(COMMIT_US_MAX, Event::Stored { commit, hangs: true });
            }
            self.agenda.after(time_us, Event::Stored { commit, hangs: false });
        }
    }

    fn stored(&mut self, commit: u64, hangs: bool) -> Result<(), String> {
        let Some(storage) = self.storage.as_mut().filter(|_| commit == self.commits) else { return Ok(()) };
        let told = if hangs { storage.give_up() } else { storage.commit() };
        self.committing &= hangs;
        told.iter().for_each(|(shard, told)| self.auditor.told(*shard, *told));
        for (shard, told) in told {
            self.feed(shard, told.input())?;
        }
        self.write_storage();
        Ok(())
    }

    /// The next request is made, and the one after it planned.
    fn request(&mut self) -> Result<(), String> {
        if self.calm || self.requests >= self.options.requests_max {
            return Ok(());
        }
        let number = self.requests;
        self.requests += 1;
        self.agenda.after(self.pace.around(self.swarm.gap_us), Event::Request);
        if self.options.skip.contains(&number) {
            return Ok(());
        }
        match self.clients.act(self.options.seed, number, &self.swarm) {
            Some(Act::Ask(request)) => self.ask(request),
            Some(Act::Configure(settings)) => {
                self.budgets.set_calls_per_second(settings.calls_per_second);
                self.auditor.configured(settings.calls_per_second);
                for shard in 0..self.swarm.shards {
                    let message = Message::Input(Input::Control(Control::Configure(settings.clone())));
                    self.network.send_control(0, shard, message, &mut self.agenda);
                }
                Ok(())
            }
            Some(Act::SetClock(shift_ms)) => {
                self.clock_shift_ms = shift_ms;
                Ok(())
            }
            Some(Act::Crash) => self.crash(),
            Some(Act::Restart(time_us)) => self.shut_down(time_us),
            Some(Act::Flap { pick, ready }) => {
                if let Some(deployment) = self.backend.pick(pick) {
                    self.backend.flap(deployment, ready, 0, &mut self.agenda);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A client asks and waits.
    fn ask(&mut self, asked: Outgoing) -> Result<(), String> {
        let Outgoing { thread, hash, ticket, request, id, leaves_after_us } = asked;
        let disagrees = self.is_broken(Sabotage::OwnersDiffer) && thread > 0;
        let shard = Seating::of(self.swarm.shards - u16::from(disagrees)).owner_of(hash);
        self.clients.wait(ticket, Open { thread, hash, id });
        if let Some(wait_us) = leaves_after_us {
            self.agenda.after(wait_us, Event::Leave { ticket });
        }
        self.send(thread, shard, Input::Ask(ticket, request))
    }

    /// A function calls back on some thread.
    fn call_back(&mut self, callback: Callback) -> Result<(), String> {
        let Callback { id, attempt, outcome } = callback;
        let ticket = self.clients.callback();
        let mut random = Random::of(self.options.seed, Stream::Request, ticket.0);
        let thread = random.below(u64::from(self.swarm.shards)) as u16;
        let request = Request::Complete { id, attempt, outcome };
        let hash = id.owner_hash();
        self.ask(Outgoing { thread, hash, ticket, request, id: None, leaves_after_us: None })
    }

    /// Takes an input from a thread to a shard.
    fn send(&mut self, thread: u16, shard: u16, input: Input) -> Result<(), String> {
        if thread == shard {
            return self.feed(shard, input);
        }
        let refused = self.network.send(thread, shard, input, &mut self.agenda);
        if self.is_broken(Sabotage::RefusalLost) {
            return Ok(());
        }
        match refused {
            Some(Input::Ask(ticket, _)) => {
                let what = "calls on their way to the function's shard";
                let refusal = Refusal::Overloaded { what, retry_after_s: 1 };
                self.answer(ticket, &Answer::Refused(refusal))
            }
            _ => Ok(()),
        }
    }

    /// An answer reaches its client, if that still waits.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: &Answer) -> Result<(), String> {
        self.clients.answered(ticket, answer);
        Ok(())
    }
}
