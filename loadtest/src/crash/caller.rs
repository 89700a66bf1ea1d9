//! A caller: enqueues and invokes at a constant rate, whether the server lives or not, and writes down what was promised.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    endpoint::DELIVERED,
    ledger::Ledger,
    registrar::{Known, removable},
};
use crate::{
    client::exchange::{Answered, Client, FetchError},
    report::crash::Calls,
};

/// How long an answer may take; a server that was killed is noticed at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an enqueue waits at most: a store that takes nothing for 5 s is given up.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// A caller that is so far behind its times begins anew.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// What became of an enqueue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// Under this id.
    Accepted(String),
    /// It cannot be written down.
    NotStored,
    /// Its function is not registered.
    NoFunction,
    /// Anything else.
    Refused,
}

/// What all callers share.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) address: SocketAddr,
    pub(super) functions: u64,
    /// Tells the keys of this run from those of others.
    pub(super) seed: u64,
    /// Of the functions, and of those who receive their results.
    pub(super) endpoint: SocketAddr,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// Which functions there are.
    pub(super) known: Mutex<Vec<Known>>,
    pub(super) numbers: AtomicU64,
    pub(super) is_closed: AtomicBool,
}

impl Office {
    pub(super) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idempotency key of a call; most have none. A function that is removed forgets its keys.
    pub(super) fn key(&self, number: u64) -> Option<String> {
        let is_kept = removable(self.functions) != Some(function_of(number, self.functions));
        (number.is_multiple_of(4) && is_kept).then(|| format!("{:x}-{number}", self.seed))
    }

    /// Enqueues a call.
    pub(super) fn enqueue(
        &self,
        client: &mut Client,
        number: u64,
        key: Option<&str>,
    ) -> Result<Enqueued, FetchError> {
        let receiver = has_callback(number).then(|| format!("http://{}{DELIVERED}", self.endpoint));
        let headers = [("Idempotency-Key", key), ("X-Callback-Url", receiver.as_deref())];
        let headers: Vec<(&str, &str)> =
            headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let answer = self.post(client, number, "enqueue", &headers)?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(match (answer.status, body["executionId"].as_str(), body["error"].as_str()) {
            (202, Some(id), _) => Enqueued::Accepted(id.to_owned()),
            (503, _, Some("STORE_UNAVAILABLE")) => Enqueued::NotStored,
            (404, ..) => Enqueued::NoFunction,
            _ => Enqueued::Refused,
        })
    }

    /// Adds what the book counted.
    pub(super) fn count(&self, calls: &mut Calls) {
        let counts = self.ledger().counts;
        calls.ends_shown = counts.shown;
        calls.delivered = counts.delivered;
        calls.cancelled = counts.cancels;
        calls.purged = counts.purges;
        calls.replayed = counts.replays;
        calls.uncertain = counts.uncertain;
    }

    fn post(
        &self,
        client: &mut Client,
        number: u64,
        operation: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answered, FetchError> {
        let path = format!("/v1/functions/{}:{operation}", name(function_of(number, self.functions)));
        client.send_with("POST", &path, headers, Some(&format!(r#"{{"input":{number}}}"#)))
    }
}

/// The name of a function.
pub(super) fn name(function: u64) -> String {
    format!("crash-{function}")
}

/// The function of a call.
pub(super) fn function_of(number: u64, functions: u64) -> u64 {
    number % functions
}

/// Whether the result of an accepted call is delivered.
pub(super) fn has_callback(number: u64) -> bool {
    number % 6 == 1
}

/// The caller.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) office: Arc<Office>,
    pub(super) interval: Duration,
    pub(super) first: Instant,
}

impl Caller {
    /// Calls until the office is closed.
    pub(super) fn run(self) -> Calls {
        let mut calls = Calls::default();
        let mut client = None;
        // Calls with a key whose answer did not come: the key is there so that they can be made again.
        let mut again: Vec<u64> = Vec::new();
        let mut next = self.first;
        while !self.office.is_closed.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += self.interval;
            if next.elapsed() > BEHIND_MAX {
                next = Instant::now();
            }
            if client.is_none() {
                client = Client::connect(self.office.address, ANSWER_TIMEOUT).ok();
            }
            let Some(connected) = client.as_mut() else {
                calls.not_connected += 1;
                continue;
            };
            let number = again.pop().unwrap_or_else(|| self.office.numbers.fetch_add(1, Ordering::Relaxed));
            let key = self.office.key(number);
            let is_answered = if number % 5 == 3 && key.is_none() {
                calls.invokes += 1;
                let answer = self.office.post(connected, number, "invoke", &[]);
                calls.invokes_answered += u64::from(answer.is_ok());
                answer.is_ok()
            } else {
                calls.enqueues += 1;
                let begun = Instant::now();
                let answer = self.office.enqueue(connected, number, key.as_deref());
                let took = begun.elapsed();
                calls.enqueue_ms_max = calls.enqueue_ms_max.max(took.as_secs_f64() * 1000.0);
                calls.answered_late += u64::from(took > ANSWER_MAX);
                match &answer {
                    Ok(Enqueued::Accepted(id)) => {
                        calls.accepted += 1;
                        self.office.ledger().accept(id, number, key.as_deref());
                    }
                    Ok(Enqueued::NotStored) => calls.not_stored += 1,
                    Ok(Enqueued::NoFunction) => calls.no_function += 1,
                    Ok(Enqueued::Refused) => calls.refused += 1,
                    Err(_) => {
                        calls.unanswered += 1;
                        again.extend(key.map(|_| number));
                    }
                }
                answer.is_ok()
            };
            if !is_answered {
                client = None;
            }
        }
        calls
    }
}
