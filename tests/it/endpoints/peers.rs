//! Peers that are broken, one row each, and the function that they play.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::support::{Function, function::read_call, pace};

/// Attempts by execution and number: none may be executed twice.
pub(super) type Seen = Arc<Mutex<HashMap<(String, String), usize>>>;

/// One connection to a hostile function.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) reader: BufReader<TcpStream>,
    pub(super) seen: Seen,
}

impl Peer {
    /// Reads a whole request; `false` when there is none.
    pub(super) fn read(&mut self) -> bool {
        let Some(call) = read_call(&mut self.reader) else { return false };
        let header = |name| call.header(name).unwrap_or_default().to_owned();
        let attempt = (header("x-execution-id"), header("x-dispatch-attempt"));
        *self.seen.lock().expect("no panic").entry(attempt).or_default() += 1;
        true
    }

    /// Writes what the server is willing to take; `false` when it is gone.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits until the server closes the connection.
    pub(super) fn hold(&mut self) {
        let _ = self.reader.read_to_end(&mut Vec::new());
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset(&mut self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("socket option");
    }

    /// Answers every request as one should.
    pub(super) fn behave(&mut self) {
        while self.read() && self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n\"tame\"") {}
    }
}

/// A function that misbehaves until it is tamed.
pub(super) struct Hostile {
    pub(super) function: Function,
    pub(super) tame: Arc<AtomicBool>,
    pub(super) seen: Seen,
    pub(super) open: Arc<AtomicUsize>,
}

impl Hostile {
    pub(super) fn start(act: impl Fn(&mut Peer) + Send + Sync + 'static) -> Hostile {
        let (tame, seen, open) =
            (Arc::<AtomicBool>::default(), Seen::default(), Arc::<AtomicUsize>::default());
        let function = Function::raw({
            let (tame, seen, open) = (Arc::clone(&tame), Arc::clone(&seen), Arc::clone(&open));
            move |stream| {
                open.fetch_add(1, Ordering::SeqCst);
                let reader = BufReader::new(stream.try_clone().expect("a socket"));
                let mut peer = Peer { stream, reader, seen: Arc::clone(&seen) };
                if tame.load(Ordering::SeqCst) {
                    peer.behave()
                } else {
                    act(&mut peer)
                }
                // First: who sees that nothing is open must find it closed.
                drop(peer);
                open.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Hostile { function, tame, seen, open }
    }

    /// Attempts of which the function saw a whole request.
    pub(super) fn attempts(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    pub(super) fn expect_no_repetition(&self, name: &str) {
        for (attempt, times) in self.seen.lock().expect("no panic").iter() {
            assert_eq!(*times, 1, "{name}: attempt {attempt:?} was executed {times} times");
        }
    }
}

/// What is expected of a row's calls.
pub(super) enum Expected {
    /// Success with this output, at the first attempt.
    Output(Value),
    /// This code after so many attempts.
    Code(&'static str, u64),
}
use Expected::{Code, Output};

/// Name of the row and function, what the function does with a connection, what its caller is told.
pub(super) type Row = (&'static str, fn(&mut Peer), Expected);

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
pub(super) const TIMEOUT: &str = "FUNCTION_TIMEOUT";
pub(super) const UNREACHABLE: &str = "FUNCTION_UNREACHABLE";
pub(super) const TOO_LARGE: &str = "FUNCTION_RESPONSE_TOO_LARGE";
/// More than `limits.response-bytes`.
pub(super) const LARGE_BYTES: usize = 17 << 20;

/// Reads a request, answers with fixed bytes, and closes.
macro_rules! answers {
    ($bytes:expr) => {
        |peer: &mut Peer| {
            peer.read();
            peer.write($bytes.as_ref());
        }
    };
}

/// Reads a request, answers with fixed bytes, and keeps the connection open.
macro_rules! answers_and_holds {
    ($bytes:expr) => {
        |peer: &mut Peer| {
            peer.read();
            peer.write($bytes.as_ref());
            peer.hold();
        }
    };
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        ("hangs-before-the-head", answers_and_holds!(""), Code(TIMEOUT, 2)),
        ("hangs-in-the-head", answers_and_holds!("HTTP/1.1 200 OK\r\ncontent-le"), Code(TIMEOUT, 2)),
        (
            "hangs-in-the-body",
            answers_and_holds!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,"),
            Code(TIMEOUT, 2),
        ),
        (
            "hangs-in-a-chunk",
            answers_and_holds!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n[1,"),
            Code(TIMEOUT, 2),
        ),
        ("never-reads", Peer::hold_without_reading, Code(TIMEOUT, 2)),
        ("closes-at-once", |_| {}, Code(UNREACHABLE, 2)),
        ("resets-at-once", Peer::reset, Code(UNREACHABLE, 2)),
        (
            "resets-before-reading",
            |peer| {
                let _ = peer.stream.peek(&mut [0]);
                peer.reset();
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "resets-after-reading",
            |peer| {
                peer.read();
                peer.reset();
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "half-closes-after-reading",
            |peer| {
                peer.read();
                let _ = peer.stream.shutdown(Shutdown::Write);
                peer.hold();
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "half-closes-after-answering",
            |peer| {
                peer.read();
                peer.write(OK);
                let _ = peer.stream.shutdown(Shutdown::Write);
                peer.hold();
            },
            Output(json!([])),
        ),
        ("closes-after-answering", answers!(OK), Output(json!([]))),
        ("answers-garbage", answers!(b"\0\xff\r\n\r\n200 OK\r\n\r\n"), Code(UNREACHABLE, 2)),
        ("answers-http-0.9", answers!("<html>hello</html>"), Code(UNREACHABLE, 2)),
        ("answers-status-0", answers!("HTTP/1.1 000 No\r\ncontent-length: 0\r\n\r\n"), Code(UNREACHABLE, 2)),
        (
            "hints-without-end",
            |peer| {
                peer.read();
                while peer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n") {}
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-101",
            answers_and_holds!("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"),
            Code("FUNCTION_ERROR", 2),
        ),
        (
            "answers-two-lengths",
            answers!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n[]"),
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-negative-length",
            answers!("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n[]"),
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-huge-length",
            answers!("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n[]"),
            Code(TOO_LARGE, 1),
        ),
        (
            "answers-bad-chunks",
            answers_and_holds!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n"),
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-less-than-announced",
            answers!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[]"),
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-more-than-announced",
            answers_and_holds!(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"stolen\""
            ),
            Output(json!([])),
        ),
        (
            "answers-with-huge-headers",
            |peer| {
                peer.read();
                let line = format!("x-filler: {}\r\n", "a".repeat(8000));
                peer.write(b"HTTP/1.1 200 OK\r\n");
                while peer.write(line.as_bytes()) {}
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-with-too-many-headers",
            |peer| {
                peer.read();
                peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n");
                peer.write("a: b\r\n".repeat(5000).as_bytes());
                peer.write(b"\r\n[]");
            },
            Code(UNREACHABLE, 2),
        ),
        (
            "answers-100-and-103-first",
            answers!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"
            ),
            Output(json!([])),
        ),
        (
            "answers-100-forever",
            |peer| {
                peer.read();
                while peer.write(b"HTTP/1.1 100 Continue\r\n\r\n") {
                    pace(Duration::from_millis(1));
                }
            },
            Code(TIMEOUT, 2),
        ),
        (
            "trickles",
            |peer| {
                peer.read();
                peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
                while peer.write(b" ") {
                    pace(Duration::from_millis(5));
                }
            },
            Code(TIMEOUT, 2),
        ),
        (
            "announces-too-much",
            |peer| {
                peer.read();
                peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n").as_bytes());
                peer.write(&vec![b' '; LARGE_BYTES]);
                peer.hold();
            },
            Code(TOO_LARGE, 1),
        ),
        (
            "answers-too-many-chunks",
            |peer| {
                peer.read();
                peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                let chunk = [b"10000\r\n", vec![b' '; 0x10000].as_slice(), b"\r\n"].concat();
                while peer.write(&chunk) {}
            },
            Code(TOO_LARGE, 1),
        ),
        (
            "answers-without-an-end",
            |peer| {
                peer.read();
                peer.write(b"HTTP/1.1 200 OK\r\n\r\n");
                while peer.write(&[b' '; 0x10000]) {}
            },
            Code(TOO_LARGE, 1),
        ),
        (
            "answers-before-reading",
            |peer| {
                while peer.stream.peek(&mut [0]).is_ok_and(|read| read > 0) {
                    peer.write(OK);
                    peer.read();
                }
            },
            Output(json!([])),
        ),
    ]
}

impl Peer {
    pub(super) fn hold_without_reading(&mut self) {
        // The server gives up by closing; what it sent stays unread until then.
        let mut buffer = [0; 1 << 20];
        loop {
            match self.stream.peek(&mut buffer) {
                Ok(read) if read > 0 && !self.hung_up() => pace(Duration::from_millis(5)),
                _ => return,
            }
        }
    }

    pub(super) fn hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut sockets = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let polled = poll(&mut sockets, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_err() || !sockets[0].revents().is_empty()
    }
}
