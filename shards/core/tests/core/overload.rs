//! Overload in virtual time: clients that come at a multiple of what a function can serve, whatever it answers,
//! and obey `Retry-After` when they are refused.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use bytes::Bytes;
use shard_core::{
    Answer, AttemptKey, DispatchEvent, Effect, Effects, ExecutionId, FunctionSpec, Input, Invoke,
    JournalEvent, Lease, Limits, Name, Now, Outcome, Output, Payload, Policy, Refusal, Report, Request, Room,
    Settings, Shard, Target, Ticket, invariant, settings::SyncQueue,
};

const SECOND_US: u64 = 1_000_000;

/// A function and those who call it.
#[derive(Debug, Clone, Copy)]
struct Case {
    slots: u32,
    /// Mean time of a call.
    service_us: u64,
    queue_size: u32,
    /// Offered load ÷ what the slots can serve.
    overload: f64,
    /// How long new clients come.
    seconds: u64,
    /// Whether refused clients come back.
    retry: bool,
    /// A client is late by up to this when it comes back.
    late_us: u64,
}

#[derive(Debug, Default)]
struct Outcomes {
    /// Clients that were refused at first, and those of them that got a result by their first retry.
    refused: u64,
    retried_well: u64,
    /// Results in the time that new clients came.
    served: u64,
    /// Clients that came back while new ones came, and those of them that were refused again.
    back_in_time: u64,
    back_in_vain: u64,
    /// Longest `Retry-After`.
    latest_s: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finish(usize),
    New,
    Return(usize),
}

struct Simulation {
    case: Case,
    shard: Shard,
    now_us: u64,
    random: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    steps: u64,
    attempts: Vec<AttemptKey>,
    /// Calls made by each client.
    clients: Vec<u32>,
    outcomes: Outcomes,
}

impl Simulation {
    fn run(case: Case) -> Outcomes {
        let sync_queue = SyncQueue {
            admission_enabled: true,
            max_depth: 200,
            max_estimated_wait_us: 2 * SECOND_US,
            max_queue_wait_us: 2 * SECOND_US,
            retry_after_s_min: 2,
            throughput_window_us: 30 * SECOND_US,
            min_samples: 50,
        };
        let settings = Settings { sync_queue: Some(sync_queue), ..Settings::default() };
        let room = Room { executions: 1000, ..Limits::default().room };
        let limits = Limits { room, ..Limits::default() };
        let mut simulation = Simulation {
            case,
            shard: Shard::new(limits, 1, settings),
            now_us: 0,
            random: 42,
            events: BinaryHeap::new(),
            number: 0,
            steps: 0,
            attempts: Vec::new(),
            clients: Vec::new(),
            outcomes: Outcomes::default(),
        };
        let policy = Policy {
            concurrency: case.slots,
            queue_size: case.queue_size,
            rate_limit_per_second: None,
            ..Policy::default()
        };
        let spec = FunctionSpec {
            name: name(),
            policy,
            target: Target::Endpoint(Arc::from("http://f")),
            scaling: None,
            document: Bytes::new(),
        };
        simulation.handle(Input::Ask(Ticket(u64::MAX), Request::Register(Box::new(spec))));
        simulation.at(0, Event::New);
        while let Some(at_us) = simulation.next_us() {
            simulation.now_us = at_us;
            simulation.step();
        }
        simulation.outcomes
    }

    fn next_us(&self) -> Option<u64> {
        let event_us = self.events.peek().map(|Reverse((at_us, ..))| *at_us)?;
        Some(
            self.shard
                .next_deadline_us()
                .map_or(event_us, |at_us| (at_us - EPOCH_US).min(event_us))
                .max(self.now_us),
        )
    }

    fn step(&mut self) {
        match self.events.peek() {
            Some(Reverse((at_us, ..))) if *at_us <= self.now_us => {}
            _ => return self.handle(Input::Turn),
        }
        let Some(Reverse((.., event))) = self.events.pop() else { return };
        match event {
            Event::New => {
                self.clients.push(0);
                self.call(self.clients.len() - 1);
                let mean_us = self.case.service_us as f64 / f64::from(self.case.slots) / self.case.overload;
                let wait_us = self.exponential(mean_us);
                if self.now_us + wait_us < self.case.seconds * SECOND_US {
                    self.at(self.now_us + wait_us, Event::New);
                }
            }
            Event::Return(client) => {
                self.outcomes.back_in_time += u64::from(self.is_overloaded());
                self.call(client);
            }
            Event::Finish(attempt) => {
                let report = Report::warm(Outcome::Success(Output::null()));
                self.handle(Input::Dispatch(self.attempts[attempt], DispatchEvent::Finished(report)));
            }
        }
        self.steps += 1;
        if self.steps.is_multiple_of(5000) {
            invariant::check(&self.shard).expect("every invariant");
        }
    }

    fn call(&mut self, client: usize) {
        self.clients[client] += 1;
        let second = self.now().second();
        let ticket = Ticket(client as u64);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(client as u64).to_le_bytes());
        bytes[8] = self.clients[client] as u8;
        if self.shard.wants_calls(self.now()) {
            self.handle(Input::Lease(Lease::Calls { second, calls: 1_000_000 }));
        }
        self.handle(Input::Ask(
            ticket,
            Request::Invoke(Invoke {
                id: ExecutionId::new(bytes, 0),
                name: name(),
                payload: Payload::json(Bytes::new()),
                timeout_ms: None,
                extra: None,
            }),
        ));
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.shard.handle(self.now(), input, &mut effects);
        while self.shard.room_request().is_some() {
            // All there is it has.
            let answer = Input::Lease(Lease::Room { granted: Room::default(), recalled: Room::default() });
            self.shard.handle(self.now(), answer, &mut effects);
        }
        for effect in effects.drain() {
            match effect {
                Effect::Dispatch(dispatch) => {
                    self.attempts.push(dispatch.attempt);
                    // Half of it fixed, half of it by chance.
                    let half_us = self.case.service_us / 2;
                    let end_us = self.now_us + half_us + self.exponential(half_us as f64);
                    self.at(end_us, Event::Finish(self.attempts.len() - 1));
                }
                Effect::Reply { ticket: Ticket(client), answer } if client != u64::MAX => {
                    self.answered(client as usize, answer);
                }
                // Only the registration is written down.
                Effect::Journal { number, .. } => {
                    self.handle(Input::Journal(JournalEvent::Safe { through: number }))
                }
                _ => {}
            }
        }
    }

    fn answered(&mut self, client: usize, answer: Answer) {
        let first = self.clients[client] == 1;
        let retry_after_s = match answer {
            Answer::Finished { .. } => {
                self.outcomes.served += u64::from(self.is_overloaded());
                self.outcomes.retried_well += u64::from(!first);
                return;
            }
            Answer::Refused(
                Refusal::SyncQueueRejected { retry_after_s, .. } | Refusal::QueueFull { retry_after_s, .. },
            ) => retry_after_s,
            other => panic!("{other:?}"),
        };
        self.outcomes.back_in_vain += u64::from(!first && self.is_overloaded());
        self.outcomes.refused += u64::from(first);
        if first && self.case.retry {
            self.outcomes.latest_s = self.outcomes.latest_s.max(retry_after_s);
            let late_us = self.random() % self.case.late_us.max(1);
            self.at(self.now_us + u64::from(retry_after_s) * SECOND_US + late_us, Event::Return(client));
        }
    }

    /// Whether new clients still come.
    fn is_overloaded(&self) -> bool {
        self.now_us < self.case.seconds * SECOND_US
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at_us, self.number, event)));
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us + EPOCH_US, unix_ms: (self.now_us + EPOCH_US) / 1000 }
    }

    fn exponential(&mut self, mean_us: f64) -> u64 {
        let uniform = (self.random() % 1_000_000 + 1) as f64 / 1e6;
        (-uniform.ln() * mean_us) as u64
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Some time since the clock's zero.
const EPOCH_US: u64 = 77_123_456;

fn name() -> Name {
    Name::new("f").expect("a function name")
}

const CASE: Case = Case {
    slots: 4,
    service_us: 20_000,
    queue_size: 100,
    overload: 3.0,
    seconds: 20,
    retry: true,
    late_us: 5000,
};

#[test]
fn clients_that_obey_are_admitted_at_their_first_retry() {
    let cases = [
        CASE,
        // Longer queues, which the estimated wait bounds; a single slot; late clients; less overload.
        Case { service_us: 100_000, seconds: 60, ..CASE },
        Case { slots: 16, queue_size: 1000, seconds: 15, ..CASE },
        Case { slots: 1, service_us: 50_000, seconds: 60, ..CASE },
        Case { late_us: 20_000, ..CASE },
        Case { overload: 1.3, seconds: 40, ..CASE },
    ];
    for case in cases {
        let outcomes = Simulation::run(case);
        let percent = 100.0 * outcomes.retried_well as f64 / outcomes.refused as f64;
        assert!(outcomes.refused > 500 && percent >= 95.0, "{case:?}: {percent} % {outcomes:?}");
        // Not only those who come back when all is over.
        let in_vain = 100.0 * outcomes.back_in_vain as f64 / outcomes.back_in_time as f64;
        assert!(outcomes.back_in_time > 100 && in_vain <= 5.0, "{case:?}: {in_vain} % {outcomes:?}");
    }
}

#[test]
fn overload_costs_no_goodput() {
    for (overload, retry) in [(3.0, true), (3.0, false), (10.0, true), (10.0, false)] {
        let case = Case { overload, retry, seconds: 15, ..CASE };
        let outcomes = Simulation::run(case);
        let most = case.seconds * SECOND_US * u64::from(case.slots) / case.service_us;
        let percent = 100.0 * outcomes.served as f64 / most as f64;
        assert!(percent >= 90.0, "{case:?}: {percent} % of what the slots can serve, {outcomes:?}");
    }
}

#[test]
fn a_short_overload_is_over_soon() {
    let outcomes = Simulation::run(Case { seconds: 2, ..CASE });
    assert!(outcomes.refused > 100 && outcomes.latest_s <= 25, "{outcomes:?}");
}
