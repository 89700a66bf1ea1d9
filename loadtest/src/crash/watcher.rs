//! Waiters: ask for the end of executions that were accepted just now, and are answered at the moment when they end.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{
    asking::{ASK_TIMEOUT, look},
    caller::Office,
};
use crate::client::exchange::Client;

/// Executions that are waited for: so many of the latest.
const RECENT: usize = 64;
/// Pause between two questions: what has ended already is answered at once.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits for ends until the office is closed.
pub(super) fn run(office: &Office, mut random: fastrand::Rng) {
    let mut client = None;
    while !office.is_closed.load(Ordering::Relaxed) {
        let (id, ticket) = {
            let ledger = office.ledger();
            let count = ledger.len();
            let place = random.usize(count.saturating_sub(RECENT)..count.max(1));
            (ledger.id(place).map(str::to_owned), ledger.ticket())
        };
        if client.is_none() {
            client = Client::connect(office.address, ASK_TIMEOUT).ok();
        }
        thread::sleep(POLL_INTERVAL);
        let (Some(id), Some(connected)) = (id, client.as_mut()) else { continue };
        match look(connected, &id, "?wait=1s") {
            Ok(seen) => office.ledger().see(&id, seen, ticket),
            Err(_) => client = None,
        }
    }
}

/// Begins the thread of a waiter.
pub(super) fn start(office: &Arc<Office>, random: fastrand::Rng) -> std::io::Result<thread::JoinHandle<()>> {
    let office = Arc::clone(office);
    thread::Builder::new().name("watcher".to_owned()).spawn(move || run(&office, random))
}
