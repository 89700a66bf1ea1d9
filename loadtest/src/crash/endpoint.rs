//! The functions of a crash run: an endpoint that counts how often each execution came.
//!
//! What a call is numbered decides what becomes of it, so that one run has fast and slow functions, failures that a retry mends
//! and failures that none does. The answer says how often this execution has run, so that a result that is not the first one
//! can be told from it. A thread per connection: slow answers are part of the plan, speed is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::serve::parse;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers after this time.
    Succeeds(Duration),
    /// Fails the first time.
    FailsOnce,
    /// Fails every time.
    Fails,
}

impl Behaviour {
    /// What call number `number` does.
    pub(super) fn of(number: u64) -> Behaviour {
        match number % 10 {
            0 => Behaviour::FailsOnce,
            1 => Behaviour::Fails,
            2 | 3 => Behaviour::Succeeds(Duration::from_millis(100 + number % 7 * 30)),
            _ => Behaviour::Succeeds(Duration::from_millis(number % 5)),
        }
    }

    /// How often it is run when nothing interrupts it.
    pub(super) fn runs(self, attempts_max: u32) -> u32 {
        match self {
            Behaviour::Succeeds(_) => 1,
            Behaviour::FailsOnce => attempts_max.min(2),
            Behaviour::Fails => attempts_max,
        }
    }
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// How often, by execution id.
    pub(super) by_execution: BTreeMap<String, u32>,
    /// Execution ids by the number of the call.
    pub(super) by_number: BTreeMap<u64, BTreeSet<String>>,
}

/// The endpoint. It serves until the process ends: its connections end with the server that is killed.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    runs: Arc<Mutex<Runs>>,
}

impl Endpoint {
    pub(super) fn start() -> io::Result<Endpoint> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = Endpoint { address: listener.local_addr()?, runs: Arc::default() };
        let serving = endpoint.clone();
        thread::Builder::new().name("endpoint".to_owned()).spawn(move || {
            for socket in listener.incoming().flatten() {
                let serving = serving.clone();
                // Without a thread the call fails, and is tried again.
                let _ = thread::Builder::new().spawn(move || serving.serve(socket));
            }
        })?;
        Ok(endpoint)
    }

    /// What has come so far.
    pub(super) fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let Ok(parsed) = parse(&bytes) else { return Ok(()) };
            let Some((incoming, size)) = parsed else {
                match socket.read(&mut chunk)? {
                    0 => return Ok(()),
                    count => bytes.extend_from_slice(&chunk[..count]),
                }
                continue;
            };
            let (number, id) = (number(incoming.body), incoming.execution_id.unwrap_or_default().to_owned());
            bytes.drain(..size);
            let (status, body) = self.answer(number, id);
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(text.as_bytes())?;
        }
    }

    fn answer(&self, number: u64, id: String) -> (u16, String) {
        let run = {
            let mut runs = self.runs();
            runs.by_number.entry(number).or_default().insert(id.clone());
            let count = runs.by_execution.entry(id).or_default();
            *count += 1;
            *count
        };
        match Behaviour::of(number) {
            Behaviour::Succeeds(after) => thread::sleep(after),
            Behaviour::FailsOnce if run == 1 => return (500, "not the first time".to_owned()),
            Behaviour::FailsOnce => {}
            Behaviour::Fails => return (500, format!("never, run {run}")),
        }
        (200, format!(r#"{{"number":{number},"run":{run}}}"#))
    }
}

/// The number in `{"input":NUMBER,…}`.
fn number(body: &[u8]) -> u64 {
    let text = str::from_utf8(body).unwrap_or_default();
    let digits = text.split_once("\"input\":").map(|(_, rest)| rest.trim_start()).unwrap_or_default();
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        assert_eq!(number(br#"{"input":17,"metadata":{}}"#), 17);
        assert_eq!(number(br#"{"metadata":{},"input": 4}"#), 4);
        assert_eq!(number(b"nonsense"), 0);
        assert_eq!(Behaviour::of(10).runs(3), 2);
        assert_eq!(Behaviour::of(11).runs(3), 3);
        assert_eq!(Behaviour::of(14).runs(3), 1);
    }

    #[test]
    fn executions_are_counted() {
        let endpoint = Endpoint { address: ([127, 0, 0, 1], 1).into(), runs: Arc::default() };
        assert_eq!(endpoint.answer(10, "a".to_owned()).0, 500);
        assert_eq!(endpoint.answer(10, "a".to_owned()), (200, r#"{"number":10,"run":2}"#.to_owned()));
        assert_eq!(endpoint.answer(10, "b".to_owned()).0, 500);
        assert_eq!(endpoint.runs().by_execution["a"], 2);
        assert_eq!(endpoint.runs().by_number[&10].len(), 2);
    }
}
