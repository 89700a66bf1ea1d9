//! The world: real shards, and around them everything that a run invents. One event after the other, on a clock that only
//! moves from one to the next.
//!
//! What is real: `shard-core` with all that it decides, the hash that says which shard a request is for, the budgets and
//! the way in which a step leases from them. What is played: threads and their mailboxes (`network`), disks, functions,
//! backends, clients, clocks.
//!
//! `events` says what happens, `effects` carries out what shards decide, `calm` ends a run: faults stop, and everything
//! has to come home. `rooms` judges how shards share what the server has room for. `crash` ends all shards, with warning or
//! without, and starts others with what disks have kept.

mod calm;
mod crash;
mod effects;
mod events;
mod rooms;

use std::collections::VecDeque;

use bytes::Bytes;
use shard_core::{Effects, Input, Invoke, Lease, Limits, Now, Payload, Request, Shard, invariant};
use shard_runtime::Budgets;

use crate::{
    Options,
    agenda::Agenda,
    auditor::{Auditor, Stats},
    backend::Backend,
    clients::Clients,
    disk::Disk,
    functions::Functions,
    network::{Message, Network},
    random::{Random, Stream},
    run::MakeStorage,
    sabotage::Sabotage,
    storage::Storage,
    swarm::Swarm,
    trace::Trace,
};

pub(crate) use events::Event;
use rooms::Rooms;

/// When runs begin: some second in 2023, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A shard and when it looks at its deadlines next.
#[derive(Debug)]
struct Seat {
    shard: Shard,
    effects: Effects,
    armed_us: u64,
    turns: Random,
}

/// What a server admits in all.
fn budgets(swarm: &Swarm) -> Budgets {
    Budgets::new(swarm.calls_per_second, swarm.queued_bytes_max, swarm.room, swarm.shards)
}

/// Shards that know of nothing.
fn seats(options: &Options, swarm: &Swarm) -> Vec<Seat> {
    let seed = options.seed;
    let seats = (0..swarm.shards).map(|number| {
        let mut settings = swarm.settings.clone();
        settings.calls_per_second = swarm.calls_per_second;
        let mut shard = Shard::new(swarm.limits.clone(), seed.wrapping_add(u64::from(number)), settings);
        if let Some(Sabotage::Core(sabotage)) = options.sabotage {
            shard.sabotage(sabotage);
        }
        Seat {
            shard,
            effects: Effects::default(),
            armed_us: u64::MAX,
            turns: Random::of(seed, Stream::Turn, number),
        }
    });
    seats.collect()
}

/// Leases for a call once more, and uses nothing of it.
fn waste_a_lease(budgets: &Budgets, shard: &Shard, now: Now, input: &Input) {
    let Input::Ask(ticket, Request::Invoke(call) | Request::Enqueue(call)) = input else { return };
    let (id, name, payload) = (call.id, call.name, Payload::json(Bytes::new()));
    let call = Invoke { id, name, payload, timeout_ms: None, extra: None };
    let mut another = Shard::new(Limits::default(), 0, shard.settings().clone());
    let another_input = Input::Ask(*ticket, Request::Invoke(call));
    budgets.step(0, &mut another, now, another_input, &mut Effects::default());
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    options: Options,
    swarm: Swarm,
    agenda: Agenda<Event>,
    seats: Vec<Seat>,
    budgets: Budgets,
    /// One for each shard, when the world is broken that way.
    budgets_apart: Vec<Budgets>,
    rooms: Rooms,
    network: Network,
    clients: Clients,
    functions: Functions,
    backend: Backend,
    disks: Vec<Disk>,
    /// What keeps records instead of them.
    storage: Option<Box<dyn Storage>>,
    /// Which commit of it is on its way.
    commits: u64,
    committing: bool,
    auditor: Auditor,
    trace: Trace,
    /// Requests made so far, those that are left out included.
    requests: u64,
    pace: Random,
    /// What the clock that people read is off by.
    clock_shift_ms: i64,
    /// Inputs that are known at once.
    follow_up: VecDeque<(u16, Input)>,
    /// The server is going away.
    stopping: bool,
    /// Faults have stopped.
    calm: bool,
}

impl World {
    pub(crate) fn new(options: &Options, text_from: u64, storage: Option<MakeStorage<'_>>) -> World {
        let seed = options.seed;
        let mut swarm = Swarm::of(seed);
        swarm.disk.ephemeral &= storage.is_none();
        World {
            options: options.clone(),
            agenda: Agenda::new(),
            seats: seats(options, &swarm),
            budgets: budgets(&swarm),
            budgets_apart: (0..swarm.shards).map(|_| budgets(&swarm)).collect(),
            rooms: Rooms::new(&swarm),
            network: Network::new(seed, swarm.shards, swarm.network.clone()),
            clients: Clients::new(swarm.names),
            functions: Functions::new(seed, swarm.functions.clone(), &swarm.backend),
            backend: Backend::new(seed, swarm.backend.clone()),
            disks: (0..swarm.shards).map(|shard| Disk::new(seed, shard, swarm.disk.clone())).collect(),
            storage: storage.map(|make| make(&swarm)),
            commits: 0,
            committing: false,
            auditor: Auditor::new(&swarm),
            trace: Trace::new(options.hashed, text_from),
            requests: 0,
            pace: Random::of(seed, Stream::Pace, 0),
            clock_shift_ms: 0,
            follow_up: VecDeque::new(),
            stopping: false,
            calm: false,
            swarm,
        }
    }

    /// Runs until so many events have happened, then until everything has come home.
    ///
    /// # Errors
    /// The first thing that is not as it has to be.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        if !self.swarm.disk.ephemeral {
            (0..self.swarm.shards).try_for_each(|shard| self.recover(shard, None))?;
        }
        self.agenda.after(0, Event::Request);
        while self.trace.steps() < self.options.events {
            let Some(event) = self.agenda.next() else { break };
            self.happen(event)?;
        }
        self.calm_down()
    }

    /// Requests made so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What happened how often.
    pub(crate) fn stats(&self) -> &Stats {
        &self.auditor.stats
    }

    pub(crate) fn into_text(self) -> Vec<String> {
        self.trace.into_text()
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.agenda.now_us()
    }

    fn now(&self) -> Now {
        let mono_us = self.agenda.now_us();
        Now { mono_us, unix_ms: (EPOCH_MS + mono_us / 1000).saturating_add_signed(self.clock_shift_ms) }
    }

    /// Whether the world is broken in this way.
    fn is_broken(&self, sabotage: Sabotage) -> bool {
        self.options.sabotage == Some(sabotage)
    }

    /// Hands a shard an input, and everything that comes of it at once.
    fn feed(&mut self, shard: u16, input: Input) -> Result<(), String> {
        self.step(shard, input)?;
        while let Some((shard, input)) = self.follow_up.pop_front() {
            self.step(shard, input)?;
        }
        Ok(())
    }

    fn step(&mut self, shard: u16, input: Input) -> Result<(), String> {
        let now = self.now();
        self.trace.input(now.mono_us, shard, &input);
        self.auditor.input(shard, now, &input)?;
        let Some(seat) = self.seats.get_mut(usize::from(shard)) else { return Ok(()) };
        let mut effects = std::mem::take(&mut seat.effects);
        let budgets = match self.options.sabotage {
            Some(Sabotage::BudgetsOfItsOwn) => &self.budgets_apart[usize::from(shard)],
            _ => &self.budgets,
        };
        if self.options.sabotage == Some(Sabotage::CallsCountedTwice) {
            waste_a_lease(budgets, &seat.shard, now, &input);
        }
        let others_should_look = budgets.step(shard, &mut seat.shard, now, input, &mut effects);
        if self.trace.steps().is_multiple_of(self.options.check_every.max(1)) {
            invariant::check(&seat.shard).map_err(|broken| format!("invariant: {broken}"))?;
        }
        self.trace.effects(effects.as_slice());
        self.auditor.effects(shard, now, effects.as_slice())?;
        if others_should_look {
            for other in (0..self.swarm.shards).filter(|other| *other != shard) {
                self.network.send_control(
                    shard,
                    other,
                    Message::Input(Input::Lease(Lease::CheckRoom)),
                    &mut self.agenda,
                );
            }
        }
        for effect in effects.drain() {
            self.perform(shard, effect)?;
        }
        self.seats[usize::from(shard)].effects = effects;
        self.arm(shard);
        self.judge_room(shard)?;
        Ok(())
    }

    /// Judges how room is shared, after a step of this shard.
    fn judge_room(&mut self, number: u16) -> Result<(), String> {
        self.rooms.add_up(self.seats.iter().map(|seat| &seat.shard), &self.budgets)?;
        let Some(seat) = self.seats.get(usize::from(number)) else { return Ok(()) };
        self.rooms.stepped(number, &seat.shard, &self.budgets, self.agenda.now_us())
    }

    /// Makes sure that a shard looks at its deadlines in time.
    fn arm(&mut self, shard: u16) {
        let Some(seat) = self.seats.get_mut(usize::from(shard)) else { return };
        let now_us = self.agenda.now_us();
        let due_us = match seat.shard.next_deadline_us() {
            _ if seat.shard.has_ready() => now_us,
            Some(due_us) => due_us.max(now_us),
            None => return,
        };
        let oversleeps = self.options.sabotage == Some(Sabotage::DeadlineOverslept);
        if due_us < seat.armed_us && !(oversleeps && seat.armed_us < u64::MAX) {
            let late_us = if due_us > now_us { seat.turns.below(self.swarm.turn_late_us + 1) } else { 0 };
            seat.armed_us = due_us + late_us;
            self.agenda.at(seat.armed_us, Event::Turn { shard, at_us: seat.armed_us });
        }
    }
}
