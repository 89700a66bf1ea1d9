//! A replica in memory: a small HTTP server, which answers calls and can drain.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nanofaas_backends::{LogLine, LogRequest, LogSender, ReplicaId};
use serde_json::{Value, json};

/// Numbers of servers, which stand for process ids.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Listens until it is killed. `{"sleep": s}` takes a while, `{"print": text}` writes.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    number: u64,
    address: SocketAddr,
    state: Mutex<Load>,
    changed: Condvar,
}

#[derive(Default)]
struct Load {
    in_flight: usize,
    lines: Vec<Arc<str>>,
    followers: Vec<(ReplicaId, LogSender)>,
    is_killed: bool,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let server = Server(shared);
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.0.state.lock().unwrap().is_killed {
                    return;
                }
                let server = accepting.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        server
    }

    pub(crate) fn endpoint(&self) -> Arc<str> {
        format!("http://{}/invoke", self.0.address).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// Waits until no call is in flight, at most so long, and ends.
    pub(crate) fn drain(&self, limit: Duration) {
        let state = self.0.state.lock().unwrap();
        drop(self.0.changed.wait_timeout_while(state, limit, |state| state.in_flight > 0).unwrap());
        self.kill();
    }

    /// Ends at once, in the middle of calls.
    pub(crate) fn kill(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.is_killed = true;
        state.followers.clear();
        drop(state);
        self.0.changed.notify_all();
        // Wakes the one that accepts.
        drop(TcpStream::connect(self.0.address));
    }

    /// Sends what it wrote as this replica, and what it will write.
    pub(crate) fn read(&self, replica: &ReplicaId, request: &LogRequest, sender: &LogSender) {
        let mut state = self.0.state.lock().unwrap();
        for text in state.lines.iter().skip(state.lines.len().saturating_sub(request.tail)) {
            sender.send(LogLine { replica: replica.clone(), text: Arc::clone(text) });
        }
        if request.follow {
            state.followers.push((replica.clone(), sender.clone()));
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.0.state.lock().unwrap().is_killed
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or_default() == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let text = if head.starts_with("GET") {
            format!("in_flight {}\n", self.0.state.lock().unwrap().in_flight)
        } else {
            let call: Value = serde_json::from_slice(&body).unwrap();
            let takes = call["input"]["sleep"].as_f64().unwrap_or_default();
            let mut state = self.0.state.lock().unwrap();
            state.in_flight += 1;
            if let Some(text) = call["input"]["print"].as_str().map(Arc::<str>::from) {
                for (replica, follower) in &state.followers {
                    follower.send(LogLine { replica: replica.clone(), text: Arc::clone(&text) });
                }
                state.lines.push(text);
            }
            let takes = Duration::from_secs_f64(takes);
            let mut state =
                self.0.changed.wait_timeout_while(state, takes, |state| !state.is_killed).unwrap().0;
            state.in_flight -= 1;
            // The answer is sent under the lock: a server that was drained has sent its own.
            if state.is_killed {
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                send(&stream, &json!({ "pid": self.0.number }).to_string());
            }
            drop(state);
            self.0.changed.notify_all();
            return;
        };
        send(&stream, &text);
    }
}

fn send(mut stream: &TcpStream, text: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    let _ = stream.write_all((head + text).as_bytes());
}
