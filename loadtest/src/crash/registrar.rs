//! Functions: registers them, and removes and registers one of them again and again.
//!
//! What was registered has to be there after a restart, and what was removed must not. Accepted calls that waited for the
//! removed one are dead letters then.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{
    ATTEMPTS_MAX, CrashError,
    asking::ASK_TIMEOUT,
    caller::{Office, name},
};
use crate::client::exchange::{Client, FetchError};

/// Longest time that the function stays registered, and is removed.
const REGISTERED_MS_MAX: u64 = 2000;
const REMOVED_MS_MAX: u64 = 200;
/// How long an attempt may take: a callback that was lost is not waited for longer.
const TIMEOUT_MS: u64 = 3000;
/// Base of the pauses between attempts: long enough for something to be cancelled in.
const BACKOFF_MS: u64 = 200;

/// What is known of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was registered with 201.
    Registered,
    /// It was removed with 204, or never registered.
    Removed,
    /// A request about it had no answer, or could not be written down.
    Uncertain,
}

/// What was found after a restart.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Functions that are not there, although they were registered.
    pub(super) lost: u64,
    /// Functions that are there, although they were removed.
    pub(super) came_back: u64,
}

/// Whether calls of a function wait for one another.
pub(super) fn is_slow(function: u64) -> bool {
    function % 4 == 3
}

/// The function that is removed and registered again, if there is more than one.
pub(super) fn removable(functions: u64) -> Option<u64> {
    (functions > 1).then_some(functions - 1)
}

/// Holds every function against what is known of it, and registers what is missing.
pub(super) fn check(address: SocketAddr, office: &Office) -> Result<Checked, CrashError> {
    let failed = |error: FetchError| CrashError::Register(error.to_string());
    let mut functions = functions(office);
    let mut client = Client::connect(address, ASK_TIMEOUT)?;
    let mut checked = Checked::default();
    for (function, known) in (0..).zip(functions.iter_mut()) {
        let answer =
            client.send("GET", &format!("/v1/functions/{}", name(function)), None).map_err(failed)?;
        if answer.status == 200 {
            checked.came_back += u64::from(*known == Known::Removed);
            *known = Known::Registered;
            continue;
        }
        checked.lost += u64::from(*known == Known::Registered);
        let answer = client.send("POST", "/v1/functions", Some(&spec(office, function))).map_err(failed)?;
        *known = match answer.status {
            201 => Known::Registered,
            // The disk takes nothing: it is tried again later.
            503 => Known::Uncertain,
            _ => return Err(CrashError::Register(String::from_utf8_lossy(&answer.body).into_owned())),
        };
    }
    Ok(checked)
}

/// Begins the thread that removes and registers.
pub(super) fn start(office: &Arc<Office>, random: fastrand::Rng) -> io::Result<thread::JoinHandle<u64>> {
    let office = Arc::clone(office);
    thread::Builder::new().name("registrar".to_owned()).spawn(move || run(&office, random))
}

/// How often a function was removed.
fn run(office: &Office, mut random: fastrand::Rng) -> u64 {
    let (mut removals, mut client) = (0, None);
    let Some(function) = removable(office.functions) else { return 0 };
    let mut pause = REGISTERED_MS_MAX;
    while !office.is_closed.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(random.u64(0..pause)));
        if client.is_none() {
            client = Client::connect(office.address, ASK_TIMEOUT).ok();
        }
        let Some(connected) = client.as_mut() else { continue };
        // Held while it is asked: what is found after a restart is held against what is known then.
        let mut functions = functions(office);
        let Some(known) = functions.get_mut(function as usize) else { return removals };
        let (answer, done) = match known {
            Known::Registered => {
                let path = format!("/v1/functions/{}", name(function));
                (connected.send("DELETE", &path, None), Known::Removed)
            }
            Known::Removed | Known::Uncertain => {
                (connected.send("POST", "/v1/functions", Some(&spec(office, function))), Known::Registered)
            }
        };
        *known = match answer.as_ref().map(|answer| answer.status) {
            Ok(201 | 204) => done,
            // It is there already: what had no answer had not happened.
            Ok(409) => Known::Registered,
            Ok(_) => Known::Uncertain,
            Err(_) => {
                client = None;
                Known::Uncertain
            }
        };
        removals += u64::from(*known == Known::Removed);
        pause = if *known == Known::Registered { REGISTERED_MS_MAX } else { REMOVED_MS_MAX };
    }
    removals
}

fn functions(office: &Office) -> MutexGuard<'_, Vec<Known>> {
    office.known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spec(office: &Office, function: u64) -> String {
    let concurrency = if is_slow(function) { 3 } else { 16 };
    format!(
        r#"{{"name":"{}","executionMode":"POOL","endpointUrl":"http://{}/invoke","concurrency":{concurrency},"queueSize":100000,"maxRetries":{ATTEMPTS_MAX},"retryBackoffMs":{BACKOFF_MS},"timeoutMs":{TIMEOUT_MS}}}"#,
        name(function),
        office.endpoint
    )
}
