//! Runs each step on the shard and on the model, and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use bytes::Bytes;
use shard_core::{
    Answer, AttemptKey, BackendEvent, Control, Destination, DispatchEvent, Effect, Effects, EndpointId,
    Entry, ExecutionId, Failure, FunctionKey, FunctionSpec, Input, JournalEvent, Lease, Now, ReadFailure,
    Record, Request, Settings, Shard, Target, Ticket, settings::SyncQueue,
};

use super::{
    crash::SafePoint,
    oracle::{ACCEPTED_TTL_MS, KEYS_TTL_MS, Oracle, SWEEP_MS, TTL_MS},
    registry::Life,
    rooms::{Rooms, limits},
    step::{Op, Result, Step, resolve},
    words::{
        addresses, answer_text, backend_failure, dispatch_event, id, invoke, is_output_of, name, outcome,
        output_of, provisioned, ticket_of,
    },
};

/// The output of an accepted execution: larger than what all others hold together.
pub(super) const LARGE_BYTES: usize = 4000;
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Asks about executions, apart from the callers of the script.
const PROBE: Ticket = Ticket(u64::MAX);

pub(super) struct Drive {
    pub(super) shard: Shard,
    pub(super) oracle: Oracle,
    pub(super) now: Now,
    tickets: u64,
    /// Number of the newest record.
    pub(super) written: u64,
    /// All records that are left of what was written, and what a crash may lose of them.
    pub(super) records: Vec<Entry>,
    pub(super) safe_points: Vec<SafePoint>,
    /// All attempts that ever went out, on record or not, but for those that were not run.
    dispatched: BTreeSet<(u64, u32)>,
    /// Where those of this step went.
    pub(super) addressed: Vec<(u64, u32, Arc<str>)>,
    /// Keys that the model does not know what they stand for.
    pub(super) doubtful_keys: BTreeSet<(u8, u8)>,
    pub(super) attempts: BTreeMap<(u64, u32), AttemptKey>,
    /// Keys of functions that a backend has or had, by their number in the model.
    pub(super) functions: BTreeMap<usize, FunctionKey>,
    pub(super) open: BTreeMap<EndpointId, Arc<str>>,
    /// Addresses that were probed, oldest first.
    pub(super) probes: Vec<(FunctionKey, EndpointId)>,
    /// How many answers each caller got.
    pub(super) answers: BTreeMap<u64, u32>,
    pub(super) left: Vec<u64>,
    pub(super) rooms: Rooms,
    steps: Vec<String>,
    pub(super) trace: String,
}

/// Whether something may wait for a record to be safe.
fn is_waited_for(record: &Record) -> bool {
    !matches!(
        record,
        Record::Attempted { .. }
            | Record::JobLost { .. }
            | Record::Delivered { .. }
            | Record::Forgotten { .. }
            | Record::Reinstated { .. }
    )
}

impl Drive {
    pub(super) fn new(sync_queue: Option<SyncQueue>) -> Drive {
        Drive {
            shard: Shard::new(limits(), 7, Settings { sync_queue, ..Settings::default() }),
            oracle: Oracle::default(),
            // Not 0, which is no deadline.
            now: Now { mono_us: 1000, unix_ms: EPOCH_MS },
            tickets: 0,
            written: 0,
            records: Vec::new(),
            safe_points: Vec::new(),
            dispatched: BTreeSet::new(),
            addressed: Vec::new(),
            doubtful_keys: BTreeSet::new(),
            attempts: BTreeMap::new(),
            functions: BTreeMap::new(),
            open: BTreeMap::new(),
            probes: Vec::new(),
            answers: BTreeMap::new(),
            left: Vec::new(),
            rooms: Rooms::default(),
            steps: Vec::new(),
            trace: String::new(),
        }
    }

    /// Lets time pass; the clock is off by `shift_ms`.
    pub(super) fn pass(&mut self, wait_ms: u64, shift_ms: i64) {
        self.now.mono_us += wait_ms * 1000;
        self.now.unix_ms = (EPOCH_MS + self.now.mono_us / 1000).wrapping_add_signed(shift_ms);
        self.oracle.now_ms = self.now.mono_us / 1000;
        self.oracle.second = self.now.second();
        self.oracle.unix_ms = self.now.unix_ms;
    }

    pub(super) fn op(&mut self, op: &Op) {
        // What is due changes what there is to choose from, and which records are kept.
        self.step(Step::Turn);
        self.tickets += 1;
        if let Op::Elsewhere(executions) = op {
            return self.change_elsewhere(*executions);
        }
        if let Some(mut step) = resolve(op, &self.oracle, self.tickets) {
            if let Step::Call { call, .. } = &mut step
                && call.key.is_some_and(|(key, _)| {
                    self.oracle.key_is_uncertain(call.name, key)
                        || self.doubtful_keys.contains(&(call.name, key))
                })
            {
                call.key = None;
            }
            self.step(step);
        }
    }

    /// Answers everything that is open and lets all time pass; nothing may be left.
    pub(super) fn drain(&mut self) {
        for _ in 0..1000 {
            self.step(Step::Turn);
            if let Some((execution, number)) = self.oracle.exchanges().first().copied() {
                self.step(Step::Answer { execution, number, result: Result::Ok });
            } else if let Some((function, bit)) = self.oracle.probes().first().copied() {
                self.step(Step::Probed { function, bit, reachable: true });
            } else if let Some(function) = self.oracle.busy_functions().first().copied() {
                self.step(self.oracle.backend_step(function, true, 1));
            } else if self
                .oracle
                .executions
                .values()
                .all(|execution| execution.is_terminal() || execution.discarded)
                && self.oracle.attempts.is_empty()
            {
                break;
            } else {
                // What waits for a first endpoint gets one; else a back-off has to pass.
                let idle = self.oracle.provisioned_functions().into_iter().find(|at| {
                    let function = &self.oracle.functions[*at];
                    function.life == Life::Live && function.managed && function.replicas.is_empty()
                });
                match idle {
                    Some(function) => self.step(Step::Endpoints { function, ready: 1, desired: 1 }),
                    None => self.pass(100, 0),
                }
            }
        }
        let totals = self.shard.totals();
        let rest = (totals.attempts, totals.queued_bytes, totals.drift, totals.impossible);
        self.expect(rest == (0, 0, 0, 0), &format!("not everything came home: {totals:?}"));
        for ticket in 1..=self.tickets {
            let answers = self.answers.get(&ticket).copied();
            let gone = self.left.contains(&ticket);
            let answered = answers.is_none_or(|count| count == 1 || (count == 0 && gone));
            self.expect(answered, &format!("caller {ticket} got {answers:?} answers"));
        }
        self.forget_all();
    }

    /// After their time, finished executions, their keys and their timers are gone; dead letters stay.
    fn forget_all(&mut self) {
        for _ in 0..4 {
            self.pass(TTL_MS.max(ACCEPTED_TTL_MS).max(KEYS_TTL_MS) + SWEEP_MS, 0);
            self.step(Step::Turn);
        }
        let totals = self.shard.totals();
        let letters = self.oracle.letters().len();
        let rest =
            (totals.executions, totals.dead_letters, totals.keys, totals.timers, totals.retained_bytes);
        self.expect(rest == (letters, letters, 0, 0, 0), &format!("something is kept for ever: {totals:?}"));
        self.expect(self.shard.next_deadline_us().is_none(), "a deadline is left");
        self.expect(!self.shard.has_ready(), "ready work is left");
        self.expect(self.shard.room_held() == limits().room, "room is held for nothing");
    }

    fn step(&mut self, step: Step) {
        let _ = write!(self.trace, "\n{} {step:?}", self.oracle.now_ms);
        if !matches!(step, Step::Turn) {
            self.steps.push(format!("{} {step:?}", self.oracle.now_ms));
        }
        // A turn comes first whenever time has passed: a probe may cause nothing itself.
        let turn = matches!(step, Step::Turn);
        let known: Vec<u64> = self.oracle.executions.keys().copied().filter(|_| !turn).collect();
        let kept: Vec<u64> = known.into_iter().filter(|ticket| self.probe(*ticket).is_some()).collect();
        if let Step::Crash { lost } = step {
            return self.crash(lost);
        }
        self.grant(&step);
        let functions_before = self.oracle.functions.len();
        let Some(input) = self.input(&step) else { return };
        let expected = self.oracle.step(&step, |ticket| kept.contains(&ticket));
        for unused in self.oracle.unused.drain(..) {
            self.dispatched.remove(&unused);
        }
        let mut effects = Effects::default();
        self.handle(input, &mut effects);
        let mut provisioned = (functions_before..self.oracle.functions.len())
            .filter(|at| self.oracle.provisioned_functions().contains(at))
            .collect::<Vec<_>>()
            .into_iter();
        let (real, written) = self.settle(effects, &mut provisioned);
        self.same(expected, real);
        self.learn_replicas();
        self.keep_safe_point(written);
        self.compare();
    }

    /// Takes note of effects, and has records written as soon as something waits for one. Returns what happened, and whether
    /// records were written.
    pub(super) fn settle(
        &mut self,
        mut effects: Effects,
        provisioned: &mut impl Iterator<Item = usize>,
    ) -> (Vec<String>, bool) {
        let (mut real, mut written, mut waited) = (Vec::new(), false, false);
        loop {
            let before = self.records.len();
            let mut reads = Vec::new();
            for effect in effects.drain() {
                let _ = write!(self.trace, "\n  {effect:?}");
                match effect {
                    Effect::ReadResult { ticket, id } => reads.push(self.read(ticket, id)),
                    effect => real.extend(self.learn(effect, provisioned)),
                }
            }
            reads.into_iter().for_each(|read| self.handle(read, &mut effects));
            waited |= self.records[before..].iter().any(|entry| is_waited_for(&entry.record));
            if !effects.is_empty() {
                continue;
            }
            if !std::mem::take(&mut waited) {
                return (real, written);
            }
            written = true;
            self.handle(Input::Journal(JournalEvent::Safe { through: self.written }), &mut effects);
        }
    }

    pub(super) fn same(&self, mut expected: Vec<String>, mut real: Vec<String>) {
        // Only dispatches of one function are in order.
        let rank = |line: &String| (!line.starts_with("dispatch")).then(|| line.clone());
        let function = |line: &String| line.split(" ").nth(1).map(str::to_owned);
        for lines in [&mut expected, &mut real] {
            lines.sort_by_key(|line| (rank(line), rank(line).is_none().then(|| function(line))));
        }
        self.expect(expected == real, &format!("expected {expected:#?}, but it did {real:#?}"));
    }

    /// Leases calls always, and bytes when the call says so.
    fn grant(&mut self, step: &Step) {
        if let Step::Replay { execution, .. } = step {
            let mut effects = Effects::default();
            let wanted = self.shard.wanted_bytes(self.oracle.executions[execution].bytes);
            self.oracle.granted_bytes += wanted;
            self.shard.handle(self.now, Input::Lease(Lease::Bytes(wanted)), &mut effects);
        }
        let Step::Call { call, .. } = step else { return };
        let mut effects = Effects::default();
        if self.shard.wants_calls(self.now) {
            let grant = Input::Lease(Lease::Calls { second: self.now.second(), calls: 1000 });
            self.shard.handle(self.now, grant, &mut effects);
        }
        let wanted = self.shard.wanted_bytes(u64::from(call.bytes));
        if call.lease && wanted > 0 {
            self.oracle.granted_bytes += wanted;
            self.shard.handle(self.now, Input::Lease(Lease::Bytes(wanted)), &mut effects);
        }
        assert!(effects.is_empty(), "a lease causes nothing");
    }

    fn input(&mut self, step: &Step) -> Option<Input> {
        if let Step::Call { ticket, .. }
        | Step::Callback { ticket, .. }
        | Step::Cancel { ticket, .. }
        | Step::Replay { ticket, .. }
        | Step::Purge { ticket, .. }
        | Step::Register { ticket, .. }
        | Step::Remove { ticket, .. }
        | Step::Scale { ticket, .. } = step
        {
            self.answers.insert(*ticket, 0);
        }
        let ask = |ticket: &u64, request| Input::Ask(Ticket(*ticket), request);
        Some(match step {
            Step::Turn => Input::Turn,
            Step::Call { ticket, call } if call.accepted => {
                ask(ticket, Request::Enqueue(invoke(*ticket, call)))
            }
            Step::Call { ticket, call } => ask(ticket, Request::Invoke(invoke(*ticket, call))),
            Step::Answer { execution, number, result } => {
                let attempt = self.attempts[&(*execution, *number)];
                let accepted = self.oracle.executions.get(execution).is_some_and(|one| one.accepted);
                let output = accepted.then(|| output_of(*execution));
                Input::Dispatch(attempt, dispatch_event(*result, output))
            }
            Step::Callback { ticket, execution, number, result } => ask(
                ticket,
                Request::Complete { id: id(*execution), attempt: *number, outcome: outcome(*result) },
            ),
            Step::Connecting { execution, number, connecting } => {
                let attempt = self.attempts[&(*execution, *number)];
                let event = if *connecting { DispatchEvent::Connecting } else { DispatchEvent::Sent };
                Input::Dispatch(attempt, event)
            }
            Step::Leave { ticket } => {
                self.left.push(*ticket);
                Input::Abandon { ticket: Ticket(*ticket), id: Some(id(*ticket)) }
            }
            Step::Cancel { ticket, execution } => ask(ticket, Request::Cancel(id(*execution))),
            Step::Replay { ticket, name: which, execution } => {
                ask(ticket, Request::Replay { name: name(*which), id: id(*execution) })
            }
            Step::Purge { ticket, name: which, execution } => {
                ask(ticket, Request::Purge { name: name(*which), id: id(*execution) })
            }
            Step::Register { ticket, registration } => {
                let spec = FunctionSpec {
                    name: name(registration.name),
                    policy: registration.policy.clone(),
                    target: match (registration.backend, registration.jobs) {
                        (true, _) => Target::Backend,
                        (false, true) => Target::Jobs,
                        (false, false) => Target::Endpoint(Arc::from("fixed")),
                    },
                    scaling: None,
                    document: Bytes::new(),
                };
                ask(ticket, Request::Register(Box::new(spec)))
            }
            Step::Remove { ticket, name: which } => ask(ticket, Request::Remove(name(*which))),
            Step::Scale { ticket, name: which, replicas } => {
                ask(ticket, Request::Scale { name: name(*which), replicas: *replicas })
            }
            Step::Provisioned { function, provisioning } => Input::Backend(
                *self.functions.get(function)?,
                BackendEvent::Provisioned(provisioned(*provisioning)),
            ),
            Step::TornDown { function, done } => Input::Backend(
                *self.functions.get(function)?,
                BackendEvent::TornDown(done.then_some(()).ok_or_else(backend_failure)),
            ),
            Step::Scaled { function, replicas } => Input::Backend(
                *self.functions.get(function)?,
                BackendEvent::Scaled(replicas.ok_or_else(backend_failure)),
            ),
            Step::Endpoints { function, ready, desired } => Input::Backend(
                *self.functions.get(function)?,
                BackendEvent::EndpointsChanged { endpoints: addresses(*ready), desired: *desired },
            ),
            Step::Probed { function, bit, reachable } => self.probe_input(*function, *bit, *reachable)?,
            Step::Drain { finally } => Input::Control(Control::Drain { finally: *finally }),
            Step::Crash { .. } => return None,
        })
    }

    /// Takes note of an effect; says it the way the model does, if it is one that the model predicts.
    fn learn(&mut self, effect: Effect, provisioned: &mut impl Iterator<Item = usize>) -> Option<String> {
        match effect {
            Effect::Reply { ticket: Ticket(ticket), answer } => {
                *self.answers.entry(ticket).or_default() += 1;
                Some(format!("reply {ticket}: {}", answer_text(answer)))
            }
            Effect::Dispatch(dispatch) => {
                let ticket = ticket_of(dispatch.id);
                self.attempts.insert((ticket, dispatch.number), dispatch.attempt);
                let first = self.dispatched.insert((ticket, dispatch.number));
                self.expect(first, "an attempt has the number of one from before");
                match dispatch.destination {
                    Destination::Endpoint(endpoint) => {
                        let address = self.open.get(&endpoint).cloned();
                        self.expect(address.is_some(), "a call goes to an endpoint that is closed");
                        self.addressed.extend(address.map(|address| (ticket, dispatch.number, address)));
                    }
                    Destination::Job(_) => {}
                    Destination::Local => panic!("nothing is local"),
                }
                let known = self.oracle.executions.get(&ticket);
                self.expect(known.is_some(), "a call is dispatched that should have been refused");
                let name = known.map(|execution| self.oracle.functions[execution.function].name)?;
                let keyed = dispatch.extra.is_some_and(|extra| extra.idempotency.is_some());
                let key = if keyed { " with key" } else { "" };
                let (number, remaining_ms) = (dispatch.number, dispatch.remaining_ms);
                Some(format!("dispatch f{name} {ticket}#{number} for {remaining_ms}{key}"))
            }
            Effect::AdoptJob { attempt, id, number, .. } => {
                let ticket = ticket_of(id);
                self.attempts.insert((ticket, number), attempt);
                Some(format!("adopt {ticket}#{number}"))
            }
            Effect::Abort { attempt } => {
                let (ticket, number) = *self.attempts.iter().find(|(_, key)| **key == attempt)?.0;
                Some(format!("abort {ticket}#{number}"))
            }
            Effect::OpenEndpoint { endpoint, address, .. } => {
                self.open.insert(endpoint, address);
                None
            }
            Effect::CloseEndpoint { endpoint } => {
                let open = self.open.remove(&endpoint).is_some();
                self.expect(open, "an endpoint is closed that was not open");
                None
            }
            Effect::Probe { function, endpoint } => self.learn_probe(function, endpoint),
            Effect::Provision { function, spec } => {
                // Unless it is asked for once more.
                if !self.functions.values().any(|known| *known == function) {
                    self.functions.insert(provisioned.next()?, function);
                }
                Some(format!("provision {}", spec.name))
            }
            Effect::Teardown { name, .. } => Some(format!("teardown {name}")),
            Effect::Scale { name, replicas, first_to_go, .. } => {
                Some(format!("scale {name} {replicas} {first_to_go:?}"))
            }
            Effect::ReturnBytes(bytes) => {
                self.oracle.granted_bytes -= bytes;
                None
            }
            Effect::ReturnRoom(room) => {
                self.take_back(room);
                None
            }
            Effect::Journal { number, entry } => {
                self.written = number;
                self.records.push(entry);
                None
            }
            Effect::ReadResult { .. } | Effect::Deliver { .. } | Effect::Note(_) => None,
        }
    }

    /// What comes of reading a result.
    fn read(&self, ticket: Ticket, id: ExecutionId) -> Input {
        let result = self.records.iter().rev().find_map(|entry| match &entry.record {
            Record::Ended { id: of, end, .. } | Record::Kept { id: of, end, .. } if *of == id => {
                Some(end.result.clone())
            }
            _ => None,
        });
        Input::Journal(JournalEvent::Read { ticket, id, result: result.ok_or(ReadFailure::Missing) })
    }

    /// State, attempt, error and last error of a record that is kept.
    pub(super) fn probe(&mut self, ticket: u64) -> Option<String> {
        let mut effects = Effects::default();
        self.shard.handle(
            self.now,
            Input::Ask(PROBE, Request::GetExecution { id: id(ticket), wait_ms: 0 }),
            &mut effects,
        );
        if let [Effect::ReadResult { ticket, id }] = effects.as_slice() {
            let read = self.read(*ticket, *id);
            effects = Effects::default();
            self.shard.handle(self.now, read, &mut effects);
        }
        let [Effect::Reply { answer, .. }] = effects.as_slice() else { panic!("a probe causes one answer") };
        let Answer::Execution(view) = answer else { return None };
        let is_its_own = view.output.as_ref().is_none_or(|output| is_output_of(output, ticket));
        self.expect(is_its_own, &format!("execution {ticket} has the output of another one"));
        let code = |failure: &Option<Failure>| {
            failure.as_ref().map_or(String::new(), |failure| failure.code.to_string())
        };
        let (state, error, last) = (view.state.as_str(), code(&view.error), code(&view.last_error));
        Some(format!("{state} {} {error:?} {last:?}", view.attempt))
    }

    pub(super) fn expect(&self, holds: bool, what: &str) {
        assert!(holds, "{what}\nafter\n{}", self.steps.join("\n"));
    }
}
