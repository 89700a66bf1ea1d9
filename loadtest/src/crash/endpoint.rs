//! The functions of a crash run, and the receiver of their results: an endpoint that writes down what comes.
//!
//! What a call is numbered decides what becomes of it, so that one run has fast and slow functions, failures that a retry mends,
//! failures that none does, and promises of a callback. The answer says which run of this execution it belongs to, so that
//! a result can be held against its request. A thread per connection and per callback: slow answers are part of
//! the plan, speed is not.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{asking::end, ledger::Ledger, runs::Runs};
use crate::{client::exchange::Client, serve::parse};

/// Where results are delivered.
pub(super) const DELIVERED: &str = "/delivered";
/// How long a callback waits for the next kill.
const KILL_PATIENCE: Duration = Duration::from_millis(1500);
/// How long it waits then for the attempt that takes the place of its own.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(4);
/// How long it is tried to call back.
const CALLBACK_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers after this time.
    Succeeds(Duration),
    /// Fails the first time.
    FailsOnce,
    /// Fails every time.
    Fails,
    /// Promises a callback, and calls back after this time.
    CallsBack(Duration),
    /// The first time it does so after the next kill, when its attempt is made again, if there is one soon.
    CallsBackLate,
}

impl Behaviour {
    /// What call number `number` does.
    pub(super) fn of(number: u64) -> Behaviour {
        match number % 20 {
            0 | 10 => Behaviour::FailsOnce,
            1 | 11 => Behaviour::Fails,
            2 | 3 | 12 | 13 => Behaviour::Succeeds(Duration::from_millis(100 + number % 7 * 30)),
            4 | 14 => Behaviour::CallsBack(Duration::from_millis(10 + number % 11 * 20)),
            5 => Behaviour::CallsBackLate,
            _ => Behaviour::Succeeds(Duration::from_millis(number % 5)),
        }
    }

    /// How often it is run when nothing interrupts it.
    pub(super) fn runs(self, attempts_max: u32) -> u32 {
        match self {
            Behaviour::FailsOnce => attempts_max.min(2),
            Behaviour::Fails => attempts_max,
            Behaviour::Succeeds(_) | Behaviour::CallsBack(_) | Behaviour::CallsBackLate => 1,
        }
    }
}

/// An attempt that came.
#[derive(Debug, Clone)]
struct Attempt {
    id: String,
    number: u64,
    attempt: u32,
    run: u32,
    life: u64,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Result(u16, String),
    Promise,
}

/// The endpoint. It serves until the process ends: its connections end with the server that is killed.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Where callbacks go to; known when the first server serves.
    pub(super) api: Arc<OnceLock<SocketAddr>>,
    /// How often the server was killed. It is dead when this changes.
    pub(super) lives: Arc<AtomicU64>,
    runs: Arc<Mutex<Runs>>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Endpoint {
    /// Serves. What is delivered goes into `ledger`.
    pub(super) fn start(ledger: Arc<Mutex<Ledger>>) -> io::Result<Endpoint> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (api, lives, runs) = (Arc::default(), Arc::default(), Arc::default());
        let endpoint = Endpoint { address, api, lives, runs, ledger };
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

    fn life(&self) -> u64 {
        self.lives.load(Ordering::SeqCst)
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
            if incoming.path == DELIVERED {
                self.take(incoming.body);
                bytes.drain(..size);
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                continue;
            }
            let attempt = incoming.attempt.and_then(|attempt| attempt.parse().ok()).unwrap_or_default();
            let (number, id) = (number(incoming.body), incoming.execution_id.unwrap_or_default().to_owned());
            bytes.drain(..size);
            let (status, header, body) = match self.answer(number, id, attempt) {
                Reply::Result(status, body) => (status, "", body),
                Reply::Promise => (202, "X-Nanofaas-Async: true\r\n", String::new()),
            };
            let text = format!(
                "HTTP/1.1 {status} X\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(text.as_bytes())?;
        }
    }

    /// A result was delivered.
    fn take(&self, body: &[u8]) {
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(body) else { return };
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(id), Some(end)) = (status["executionId"].as_str(), end(&status)) {
            ledger.deliver(id, end);
        }
    }

    fn answer(&self, number: u64, id: String, attempt: u32) -> Reply {
        let life = self.life();
        let run = self.runs().came(&id, number, attempt, life);
        match Behaviour::of(number) {
            Behaviour::Succeeds(after) => thread::sleep(after),
            Behaviour::FailsOnce if run == 1 => return Reply::Result(500, "not the first time".to_owned()),
            Behaviour::FailsOnce => {}
            Behaviour::Fails => return Reply::Result(500, format!("never, run {run}")),
            behaviour @ (Behaviour::CallsBack(_) | Behaviour::CallsBackLate) => {
                let (endpoint, promised) = (self.clone(), Attempt { id, number, attempt, run, life });
                let calling = thread::Builder::new().spawn(move || endpoint.call_back(&promised, behaviour));
                // Without a thread it is not called back: the attempt times out, and another is made.
                drop(calling);
                return Reply::Promise;
            }
        }
        Reply::Result(200, output(number, run))
    }

    /// Keeps the promise of a callback, also when the server has been killed meanwhile: a function does not know that.
    fn call_back(&self, promised: &Attempt, behaviour: Behaviour) {
        match behaviour {
            Behaviour::CallsBack(after) => thread::sleep(after),
            // Once only: a server that is killed again and again could never end it.
            _ if promised.run == 1 => self.wait_for_the_next(promised),
            _ => {}
        }
        let end = Instant::now() + CALLBACK_PATIENCE;
        while !self.has_called_back(promised) && Instant::now() < end {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until the server was killed and makes the attempt again.
    fn wait_for_the_next(&self, promised: &Attempt) {
        let wait = |patience: Duration, is_over: &dyn Fn() -> bool| {
            let end = Instant::now() + patience;
            while !is_over() && Instant::now() < end {
                thread::sleep(LOOK_INTERVAL);
            }
        };
        wait(KILL_PATIENCE, &|| self.life() > promised.life);
        if self.life() > promised.life {
            wait(ATTEMPT_PATIENCE, &|| self.runs().of(&promised.id).len() > promised.run as usize);
        }
    }

    fn has_called_back(&self, promised: &Attempt) -> bool {
        let Some(api) = self.api.get() else { return false };
        // Looked at before it is sent: then the server of that life, or of a later one, gets it.
        let life = self.life();
        let Ok(mut client) = Client::connect(*api, CALLBACK_PATIENCE) else { return false };
        self.runs().calls_back(&promised.id, promised.run, life);
        let path = format!("/v1/internal/executions/{}:complete", promised.id);
        let body = format!(r#"{{"success":true,"output":{}}}"#, output(promised.number, promised.run));
        let attempt = promised.attempt.to_string();
        let answer = client.send_with("POST", &path, &[("X-Dispatch-Attempt", &attempt)], Some(&body));
        answer.is_ok_and(|answer| answer.status < 500)
    }
}

fn output(number: u64, run: u32) -> String {
    format!(r#"{{"number":{number},"run":{run}}}"#)
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
        assert_eq!(Behaviour::of(25), Behaviour::CallsBackLate);
    }

    #[test]
    fn executions_are_counted() {
        let endpoint = Endpoint {
            address: ([127, 0, 0, 1], 1).into(),
            api: Arc::default(),
            lives: Arc::default(),
            runs: Arc::default(),
            ledger: Arc::default(),
        };
        let answer = |id: &str, attempt: u32| endpoint.answer(10, id.to_owned(), attempt);
        assert_eq!(answer("a", 1), Reply::Result(500, "not the first time".to_owned()));
        assert_eq!(answer("a", 2), Reply::Result(200, r#"{"number":10,"run":2}"#.to_owned()));
        assert_eq!(answer("b", 1), Reply::Result(500, "not the first time".to_owned()));
        let runs = endpoint.runs();
        let attempts: Vec<u32> = runs.of("a").iter().map(|request| request.attempt).collect();
        assert_eq!((attempts, runs.ids(10)), (vec![1, 2], 2));
    }
}
