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

use super::ledger::Ledger;
use crate::{
    client::exchange::{Answered, Client, FetchError},
    report::crash::Calls,
};

/// How long an answer may take; a server that was killed is noticed at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A caller that is so far behind its times begins anew.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// What became of an enqueue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// Under this id.
    Accepted(String),
    /// It cannot be written down.
    NotStored,
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
    pub(super) ledger: Mutex<Ledger>,
    pub(super) numbers: AtomicU64,
    pub(super) is_closed: AtomicBool,
}

impl Office {
    pub(super) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idempotency key of a call; most have none.
    pub(super) fn key(&self, number: u64) -> Option<String> {
        number.is_multiple_of(4).then(|| format!("{:x}-{number}", self.seed))
    }

    /// Enqueues a call.
    pub(super) fn enqueue(
        &self,
        client: &mut Client,
        number: u64,
        key: Option<&str>,
    ) -> Result<Enqueued, FetchError> {
        let headers: Vec<(&str, &str)> = key.map(|key| ("Idempotency-Key", key)).into_iter().collect();
        let answer = self.post(client, number, "enqueue", &headers)?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(match (answer.status, body["executionId"].as_str(), body["error"].as_str()) {
            (202, Some(id), _) => Enqueued::Accepted(id.to_owned()),
            (503, _, Some("STORE_UNAVAILABLE")) => Enqueued::NotStored,
            _ => Enqueued::Refused,
        })
    }

    fn post(
        &self,
        client: &mut Client,
        number: u64,
        operation: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answered, FetchError> {
        let path = format!("/v1/functions/{}:{operation}", name(number % self.functions));
        client.send_with("POST", &path, headers, Some(&format!(r#"{{"input":{number}}}"#)))
    }
}

/// The name of a function.
pub(super) fn name(function: u64) -> String {
    format!("crash-{function}")
}

/// The caller.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) office: Arc<Office>,
    pub(super) interval: Duration,
}

impl Caller {
    /// Calls until the office is closed.
    pub(super) fn run(self) -> Calls {
        let mut calls = Calls::default();
        let mut client = None;
        // Calls with a key whose answer did not come: the key is there so that they can be made again.
        let mut again: Vec<u64> = Vec::new();
        let mut next = Instant::now();
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
                let answer = self.office.enqueue(connected, number, key.as_deref());
                match &answer {
                    Ok(Enqueued::Accepted(id)) => {
                        calls.accepted += 1;
                        self.office.ledger().accept(id, number, key.as_deref());
                    }
                    Ok(Enqueued::NotStored) => calls.not_stored += 1,
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
