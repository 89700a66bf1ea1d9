//! Listening sockets that a supervisor holds and hands over (`LISTEN_FDS`): nobody is refused while one server makes room
//! for the next, whether that one is there already or not yet.

use std::{
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::support::{Client, Server, client::encode, eventually};

/// A socket to hand over.
struct Supervisor {
    listener: TcpListener,
    /// A copy that children inherit.
    handed: OwnedFd,
}

impl Supervisor {
    fn new() -> Supervisor {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let handed = rustix::io::dup(&listener).expect("a copy");
        Supervisor { listener, handed }
    }

    fn start(&self) -> Server {
        let first = self.handed.as_raw_fd();
        let server = Server::start_limited(&[], &format!("export LISTEN_FDS=1 LISTEN_FDS_FIRST_FD={first}"));
        assert_eq!(server.api, self.listener.local_addr().expect("an address"), "not a socket of its own");
        server.logged(&["handed over", &format!("\"address\":\"{}\"", server.api)]);
        server
    }
}

#[test]
fn who_connects_while_there_is_no_server_is_answered_by_the_next() {
    let supervisor = Supervisor::new();
    let mut server = supervisor.start();
    assert_eq!(server.get("/v1/functions").status, 200);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
    let mut waiting = server.client();
    waiting.write(&encode("GET", "/v1/functions", &[], b""));
    let next = supervisor.start();
    assert_eq!(waiting.read().expect("an answer").text(), "[]");
    assert_eq!(next.get("/v1/functions").status, 200);
}

#[test]
fn under_load_no_request_fails_while_servers_are_replaced() {
    let supervisor = Supervisor::new();
    let mut server = supervisor.start();
    let (answered, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let address = server.api;
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (answered, done) = (Arc::clone(&answered), Arc::clone(&done));
            // Every other client keeps its connection; the others open one per call.
            thread::spawn(move || {
                let mut kept: Option<Client> = None;
                while !done.load(Ordering::SeqCst) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(address));
                    let response = client.send("GET", "/v1/functions", &[], b"");
                    assert_eq!(response.status, 200, "{}", response.text());
                    answered.fetch_add(1, Ordering::SeqCst);
                    if number % 2 == 0 && response.header("connection") != Some("close") {
                        kept = Some(client);
                    }
                }
            })
        })
        .collect();
    let more = |count: usize| {
        let before = answered.load(Ordering::SeqCst);
        eventually("there is load", || answered.load(Ordering::SeqCst) > before + count);
    };
    for overlaps in [true, false, true, false] {
        more(100);
        let next = overlaps.then(|| supervisor.start());
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0), "{:#?}", server.log());
        server = next.unwrap_or_else(|| supervisor.start());
    }
    more(100);
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
}

#[test]
fn what_is_no_socket_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_nanofaas"))
        .args(["serve", "--ephemeral", "--port", "0", "--management-port", "0"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", "0")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("not a socket") && text.contains("server.port"), "{text}");
}
