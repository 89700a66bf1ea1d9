//! Somebody who looks after the calls: cancels what waits, reads the lists of dead letters, replays some and gives some up.
//!
//! One thread, so that two changes of one execution never cross. What is answered is written down as promised, refused or
//! uncertain (`ledger`).

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{
    asking::{ASK_TIMEOUT, LETTERS_MAX, dead_letters},
    caller::{Office, function_of, name},
    endpoint::Behaviour,
    ledger::{Change, RequestOutcome},
};
use crate::client::exchange::{Client, FetchError};

/// Pause between two things.
const ACTION_INTERVAL: Duration = Duration::from_millis(10);
/// Executions that may be cancelled: so many of the latest.
const RECENT: usize = 200;
/// Letters of one list that are replayed or given up.
const LETTERS: usize = 6;
/// Share of the lists; the rest are cancels.
const LISTS: f64 = 0.15;
/// Share of the letters that are replayed; the rest are given up.
const REPLAYS: f64 = 0.4;
/// A list that is about to drop its oldest.
const LETTERS_MANY: usize = LETTERS_MAX * 9 / 10;

/// The operator.
struct Operator {
    office: Arc<Office>,
    random: fastrand::Rng,
}

/// Begins the operator's thread.
pub(super) fn start(office: &Arc<Office>, random: fastrand::Rng) -> io::Result<thread::JoinHandle<()>> {
    let mut operator = Operator { office: Arc::clone(office), random };
    thread::Builder::new().name("operator".to_owned()).spawn(move || operator.run())
}

impl Operator {
    fn run(&mut self) {
        let mut client = None;
        while !self.office.is_closed.load(Ordering::Relaxed) {
            thread::sleep(ACTION_INTERVAL);
            if client.is_none() {
                client = Client::connect(self.office.address, ASK_TIMEOUT).ok();
            }
            let Some(connected) = client.as_mut() else { continue };
            let done = if self.random.f64() < LISTS { self.list(connected) } else { self.cancel(connected) };
            if done.is_err() {
                client = None;
            }
        }
    }

    /// Cancels something that is likely to wait: where functions are slow, or between two attempts.
    fn cancel(&mut self, client: &mut Client) -> Result<(), FetchError> {
        let id = {
            let ledger = self.office.ledger();
            let count = ledger.len();
            let place = self.random.usize(count.saturating_sub(RECENT)..count.max(1));
            ledger
                .id(place)
                .filter(|id| may_wait(ledger.entries[*id].number, self.office.functions))
                .map(str::to_owned)
        };
        let Some(id) = id else { return Ok(()) };
        self.change(client, &id, Change::Cancel, "DELETE", &format!("/v1/executions/{id}"))
    }

    fn list(&mut self, client: &mut Client) -> Result<(), FetchError> {
        let function = self.random.u64(0..self.office.functions);
        let ticket = self.office.ledger().ticket();
        let Some(mut letters) = dead_letters(client, function)? else { return Ok(()) };
        {
            let mut ledger = self.office.ledger();
            if letters.len() >= LETTERS_MANY {
                ledger.overflowed.insert(function);
            }
            for (id, end) in &letters {
                ledger.list(id, end.clone(), ticket);
            }
        }
        self.random.shuffle(&mut letters);
        for (id, _) in letters.iter().take(LETTERS) {
            let is_replayed = self.random.f64() < REPLAYS;
            {
                let ledger = self.office.ledger();
                let entry = ledger.entries.get(id);
                // Who gives up a call with a key may use the key again: that would be told from a broken one only with difficulty.
                if entry.is_none_or(|entry| entry.is_purged || !is_replayed && entry.key.is_some()) {
                    continue;
                }
            }
            let path = format!("/v1/functions/{}/dead-letters/{id}", name(function));
            if is_replayed {
                self.change(client, id, Change::Replay, "POST", &format!("{path}:replay"))?;
            } else {
                self.change(client, id, Change::Purge, "DELETE", &path)?;
            }
        }
        Ok(())
    }

    fn change(
        &self,
        client: &mut Client,
        id: &str,
        change: Change,
        method: &str,
        path: &str,
    ) -> Result<(), FetchError> {
        self.office.ledger().ask(id, change);
        let answer = client.send(method, path, None);
        let outcome = match answer.as_ref().map(|answer| answer.status) {
            Ok(202 | 204) => RequestOutcome::Promised,
            Ok(404 | 409 | 429) => RequestOutcome::Refused,
            _ => RequestOutcome::Uncertain,
        };
        self.office.ledger().answer(id, change, outcome);
        answer.map(|_| ())
    }
}

fn may_wait(number: u64, functions: u64) -> bool {
    let fails = matches!(Behaviour::of(number), Behaviour::Fails | Behaviour::FailsOnce);
    fails || super::registrar::is_slow(function_of(number, functions))
}
