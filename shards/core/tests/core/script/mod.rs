//! Scripts: lines of a time, an input and the effects it must cause, readable as documentation.
//!
//! ```text
//! 0 a invoke f timeout=500   -> dispatch a#1 to f.1 for 500
//! 10 answer a#1 ok           -> note f 0+10=10, a: success a
//! ```
//!
//! Times are milliseconds. A caller is named by a word (`a`), and so is the execution it starts; `a#1` is its first
//! attempt. Inputs are read in `input`, effects written in `text`. Leases of calls and bytes are given as wanted,
//! unless a script gives them itself (`calls 5`, `bytes 100`). The server has no more room for what has ended than the shard starts
//! with (`limits executions=2`), unless the script says so (`room executions=2`); `recall executions=2` asks for some of it back. Records are safe at once, unless the script says
//! `store waits`: then they are written out as `write …` and wait for `store safe` (`but 2`: all but the newest two), `store fails` or,
//! the newest alone, `store refuses`. `crash` goes on with another shard of the same settings, which is given what the records add up to that were safe.
//! The audit runs after every step.
//!
//! `UPDATE=1 cargo test -p shard-core` rewrites what stands behind the arrows (`update`); read the diff before you commit it.

mod input;
mod text;
mod update;

use std::{collections::BTreeMap, env, panic::Location};

use shard_core::{
    AttemptKey, Control, Effect, Effects, EndpointId, Entry, ExecutionId, FunctionKey, Input, JournalEvent,
    Lease, Limits, Now, Record, Recovery, Request, Room, RoomRequest, Settings, Shard, Ticket, invariant,
    journal::EndResult,
};

/// Epoch milliseconds at time 0 of a script; the start of a second.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// Runs a script and compares each line's effects with what stands behind its arrow. Without an arrow, nothing
/// may happen. With `UPDATE=1` in the environment, a script that expects something else is rewritten where it stands.
#[track_caller]
pub(crate) fn check(script: &str) {
    let played = play(script);
    if played.is_expected {
        return;
    }
    let caller = Location::caller();
    if env::var_os("UPDATE").is_none_or(|value| value != "1") {
        panic!("{}", played.log);
    }
    let path = update::path(caller.file()).expect("the sources are there");
    if let Err(why) = update::update(&path, caller.line(), script, &played.effects) {
        panic!("{}:{}: {why}\n{}", caller.file(), caller.line(), played.log);
    }
}

/// What a script did.
struct Played {
    /// One for each line of the script that is not empty.
    effects: Vec<String>,
    is_expected: bool,
    /// The whole script as it went, with what was expected instead.
    log: String,
}

#[track_caller]
fn play(script: &str) -> Played {
    let mut run = Run::new();
    let mut log = String::from("(`!` marks what was expected instead; UPDATE=1 takes what happened)\n");
    let mut is_expected = true;
    let mut all = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (input, expected) = line.split_once("->").unwrap_or((line, ""));
        let (input, expected) = (input.trim(), expected.trim());
        let effects = run.step(input);
        if effects != expected {
            log.push_str(&format!("!       {input} -> {expected}\n"));
            is_expected = false;
        }
        let arrow = if effects.is_empty() { "" } else { " -> " };
        log.push_str(&format!("        {input}{arrow}{effects}\n"));
        if let Err(what) = invariant::check(&run.shard) {
            panic!("{what}, after the last line of\n{log}");
        }
        all.push(effects);
    }
    Played { effects: all, is_expected, log }
}

/// A shard and the names that a script gives to its keys.
pub(crate) struct Run {
    pub(crate) shard: Shard,
    limits: Limits,
    /// What the server has for the shard beside what that has, and needs of it.
    room: Room,
    recalled: Room,
    now: Now,
    clock_shift_ms: i64,
    lease_calls: bool,
    lease_bytes: bool,
    /// Records are safe only when the script says so.
    store_waits: bool,
    /// Number of the newest record, and whether somebody waits for one.
    written: u64,
    promised: bool,
    /// What a crash leaves, as records, and how many of them are safe.
    records: Vec<Entry>,
    safe: usize,
    /// Callers and their executions, by position.
    callers: Vec<String>,
    functions: BTreeMap<FunctionKey, String>,
    endpoints: BTreeMap<EndpointId, String>,
    /// Addresses that were probed, oldest first.
    probes: Vec<(FunctionKey, EndpointId)>,
    attempts: BTreeMap<String, AttemptKey>,
    /// Numbers of the results that were handed over for delivery.
    handed_over: BTreeMap<ExecutionId, Vec<u32>>,
    /// Results that are being read, oldest first.
    reads: Vec<(Ticket, ExecutionId)>,
}

impl Run {
    fn new() -> Run {
        let limits = Limits { queued_bytes_chunk: 1000, ..Limits::default() };
        Run {
            shard: Shard::new(limits.clone(), 1, Settings::default()),
            limits,
            room: Room::default(),
            recalled: Room::default(),
            now: Now { mono_us: 0, unix_ms: EPOCH_MS },
            clock_shift_ms: 0,
            lease_calls: true,
            lease_bytes: true,
            store_waits: false,
            written: 0,
            promised: false,
            records: Vec::new(),
            safe: 0,
            callers: Vec::new(),
            functions: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            probes: Vec::new(),
            attempts: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            reads: Vec::new(),
        }
    }

    /// Runs one line; returns its effects as text.
    fn step(&mut self, line: &str) -> String {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "limits" => {
                input::set_limits(&mut self.limits, &words[1..]);
                self.shard = Shard::new(self.limits.clone(), 1, Settings::default());
                return String::new();
            }
            // What the server has for the shard beside what that has.
            "room" => {
                self.room = input::room(&words[1..]);
                return String::new();
            }
            "show" => return self.show(&words[1..]),
            _ => {}
        }
        let time_ms: f64 = words.remove(0).parse().unwrap_or_else(|_| panic!("no time: {line}"));
        self.now.mono_us = (time_ms * 1000.0) as u64;
        self.now.unix_ms = (EPOCH_MS + self.now.mono_us / 1000).wrapping_add_signed(self.clock_shift_ms);
        if words == ["crash"] {
            return self.crash();
        }
        match self.input(&words) {
            Some(input) => self.handle(input),
            None => String::new(),
        }
    }

    /// Another shard takes over what was safe.
    fn crash(&mut self) -> String {
        let mut recovery = match self.limits.results_on_disk {
            false => Recovery::default(),
            true => Recovery::default().with_results_max(self.limits.room.bytes),
        };
        self.reads.clear();
        self.attempts.clear();
        self.records.truncate(self.safe);
        self.records.iter().cloned().for_each(|entry| recovery.apply(entry));
        self.shard = Shard::new(self.limits.clone(), 1, self.shard.settings().clone());
        self.written = 0;
        let inputs =
            recovery.into_stored().map(Control::Restore).chain([Control::Restored]).map(Input::Control);
        let texts: Vec<String> = inputs.map(|input| self.handle(input)).collect();
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        texts.join(", ")
    }

    fn handle(&mut self, input: Input) -> String {
        match input {
            Input::Journal(JournalEvent::Safe { through }) => {
                self.safe = self.records.len() - (self.written - through) as usize;
            }
            Input::Journal(JournalEvent::Failed { through }) => {
                // Facts are written before anything that comes after.
                let decided = self.records.len() - (self.written - through) as usize;
                let newer = self.records.split_off(decided);
                let failed = self.records.split_off(self.safe);
                let is_fact = |entry: &Entry| !matches!(entry.record, Record::Accepted { .. });
                self.records.extend(failed.into_iter().filter(is_fact).chain(newer));
            }
            Input::Journal(JournalEvent::NotTaken { .. }) => drop(self.records.pop()),
            _ => {}
        }
        let mut effects = Effects::default();
        if matches!(input, Input::Ask(_, Request::Invoke(_) | Request::Enqueue(_)))
            && self.lease_calls
            && self.shard.wants_calls(self.now)
        {
            let grant = Input::Lease(Lease::Calls { second: self.now.second(), calls: 1000 });
            self.shard.handle(self.now, grant, &mut effects);
        }
        let need = self.shard.needed_bytes(&input);
        let wanted = self.shard.wanted_bytes(need);
        if self.lease_bytes && need > 0 && wanted > 0 {
            self.shard.handle(self.now, Input::Lease(Lease::Bytes(wanted)), &mut effects);
        }
        self.shard.handle(self.now, input, &mut effects);
        let mut texts: Vec<String> = Vec::new();
        loop {
            while let Some(request) = self.shard.room_request() {
                texts.extend(effects.drain().map(|effect| self.text(effect)).filter(|text| !text.is_empty()));
                texts.extend(self.lease_room(request, &mut effects));
            }
            texts.extend(effects.drain().map(|effect| self.text(effect)).filter(|text| !text.is_empty()));
            if !self.store_waits {
                self.safe = self.records.len();
            }
            // Only what somebody waits for: another step would give other functions another turn.
            if self.store_waits || !std::mem::take(&mut self.promised) {
                return texts.join(", ");
            }
            self.shard.handle(
                self.now,
                Input::Journal(JournalEvent::Safe { through: self.written }),
                &mut effects,
            );
        }
    }

    /// Answers with what is lacking, as far as the server has it. Tells what was granted, if anything.
    fn lease_room(&mut self, request: RoomRequest, effects: &mut Effects) -> Option<String> {
        let (lacks, free) = (request.lacks.amounts(), self.room.amounts());
        let granted = Room::of([0, 1, 2, 3].map(|part| lacks[part].min(free[part])));
        self.room = text::less(self.room, granted);
        let recalled = std::mem::take(&mut self.recalled);
        self.shard.handle(self.now, Input::Lease(Lease::Room { granted, recalled }), effects);
        (granted != Room::default()).then(|| format!("lease {}", text::room(granted)))
    }

    fn ticket(&mut self, caller: &str) -> Ticket {
        Ticket(self.caller(caller) as u64)
    }

    fn id(&mut self, caller: &str) -> ExecutionId {
        let mut bytes = [0; 16];
        bytes[0] = self.caller(caller) as u8;
        ExecutionId::new(bytes, 0)
    }

    fn caller(&mut self, name: &str) -> usize {
        match self.callers.iter().position(|caller| caller == name) {
            Some(position) => position,
            None => {
                self.callers.push(name.to_owned());
                self.callers.len() - 1
            }
        }
    }

    fn function(&self, name: &str) -> FunctionKey {
        let mut keys = self.functions.iter().filter(|(_, function)| *function == name).map(|(key, _)| *key);
        keys.next_back().unwrap_or_else(|| panic!("no backend was asked about {name}"))
    }

    fn show(&self, words: &[&str]) -> String {
        match words {
            ["totals"] => text::totals(&self.shard),
            ["next"] => format!("{:?}", self.shard.next_deadline_us().map(|at_us| at_us / 1000)),
            ["ready"] => self.shard.has_ready().to_string(),
            ["startable"] => text::startable(&self.shard),
            ["wants-calls"] => self.shard.wants_calls(self.now).to_string(),
            ["room"] => text::room(self.shard.room_held()),
            ["owed"] => self.shard.owed_bytes().to_string(),
            ["letters", function] => text::letters(&self.shard, function).to_string(),
            ["wanted", bytes] => self.shard.wanted_bytes(bytes.parse().expect("bytes")).to_string(),
            [function] => text::counters(&self.shard, function),
            _ => panic!("cannot show {words:?}"),
        }
    }

    fn learn(&mut self, effect: &Effect) {
        match effect {
            Effect::Journal { number, entry } => {
                assert_eq!(*number, self.written + 1, "records are numbered without a gap");
                self.written = *number;
                self.records.push(entry.clone());
                self.promised |= matches!(
                    entry.record,
                    Record::Accepted { .. }
                        | Record::Kept { .. }
                        | Record::Replayed { .. }
                        | Record::Registered { .. }
                        | Record::Removed { .. }
                        | Record::Ended { .. }
                        | Record::Requeued { .. }
                        | Record::JobOrdered { .. }
                        | Record::Purged { .. }
                        | Record::Started { .. }
                );
            }
            Effect::Provision { function, spec } => {
                self.functions.insert(*function, spec.name.to_string());
            }
            Effect::OpenEndpoint { endpoint, address, .. } => {
                self.endpoints.insert(*endpoint, address.to_string());
            }
            Effect::Probe { function, endpoint } => self.probes.push((*function, *endpoint)),
            Effect::Deliver { id, number, .. } => self.handed_over.entry(*id).or_default().push(*number),
            Effect::ReadResult { ticket, id } => self.reads.push((*ticket, *id)),
            Effect::Dispatch(dispatch) => {
                let id = self.name_of(dispatch.id);
                self.attempts.insert(format!("{id}#{}", dispatch.number), dispatch.attempt);
            }
            Effect::AdoptJob { attempt, id, number, .. } => {
                self.attempts.insert(format!("{}#{number}", self.name_of(*id)), *attempt);
            }
            _ => {}
        }
    }

    /// How an execution ended, as what is safe says.
    fn result_on_record(&self, id: ExecutionId) -> Option<EndResult> {
        self.records[..self.safe].iter().rev().find_map(|entry| match &entry.record {
            Record::Ended { id: of, end, .. } | Record::Kept { id: of, end, .. } if *of == id => {
                Some(end.result.clone())
            }
            _ => None,
        })
    }

    fn name_of(&self, id: ExecutionId) -> String {
        let position = u8::from_str_radix(&id.to_string()[..2], 16).expect("hexadecimal");
        self.callers[usize::from(position)].clone()
    }
}
