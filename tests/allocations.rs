//! What one call allocates, bounded: memory is asked for again and again only where somebody decided so.
//!
//! The server runs in this process and is called over loopback by a client that allocates nothing, as the function
//! behind it does, so whatever is counted is the server's. Counted are calls of the allocator that ask for memory,
//! growing included. The figure is the median over many windows of calls: tables that double, and the audits of debug
//! builds, fall into few of them. `cargo test --test allocations -- --nocapture` prints it.
//!
//! A bound that is broken says that something on the path of every call allocates that did not before. Where that is
//! wanted, the bound is raised here, with docs/internals/measurements.md.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "../benches/support/function.rs"]
mod function;
#[path = "../benches/support/shard.rs"]
mod shard;

use std::{
    alloc::System,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use function::{Function, Stream};
use nanofaas::{
    config::Config,
    server::{self, ServeError},
};
use rustix::process::{Signal, getpid, kill_process};
use shard::Rig;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls before anything is counted: more than the server remembers.
const WARM_UP_CALLS: usize = 3 * REMEMBERED;
/// Finished executions that the server keeps.
const REMEMBERED: usize = 512;
const WINDOWS: usize = 101;
const WINDOW_CALLS: usize = 16;
/// Time for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn calls_over_http() {
    let _alone = alone();
    let server = Server::start();
    let function = Function::start();
    let mut client = Client::connect(server.api);
    let pool = format!(
        r#"{{"name":"pool","executionMode":"POOL","endpointUrl":"http://{}/invoke"}}"#,
        function.address
    );
    for spec in [r#"{"name":"local","executionMode":"LOCAL"}"#, &pool] {
        client.exchange(&request("/v1/functions", spec), b"201");
    }
    // Figures of 2026-11: 12, 13, 32 and 33.
    for (what, path, status, bound) in [
        ("LOCAL call", "/v1/functions/local:invoke", b"200", 13.0),
        ("POOL call", "/v1/functions/pool:invoke", b"200", 14.0),
        ("enqueued LOCAL call", "/v1/functions/local:enqueue", b"202", 20.0),
        ("enqueued POOL call", "/v1/functions/pool:enqueue", b"202", 21.0),
    ] {
        let request = request(path, r#"{"input":{"page":42},"metadata":{"tenant":"a"}}"#);
        let calls_function = path.contains("pool");
        let mut served = function.served();
        let count = per_call(|| {
            client.exchange(&request, status);
            if calls_function {
                served += 1;
                wait_until("the function is called", || function.served() >= served);
            }
        });
        assert_bound(what, count, bound);
    }
    drop(client);
    server.stop();
}

#[test]
fn calls_of_a_shard() {
    let _alone = alone();
    let mut rig = Rig::new(REMEMBERED);
    // Figures of 2026-11: 1 and 4.
    let count = per_call(|| {
        rig.invoke();
    });
    assert_bound("call of a shard", count, 2.0);
    let count = per_call(|| {
        rig.enqueue();
    });
    assert_bound("enqueued call of a shard", count, 5.0);
}

fn alone() -> MutexGuard<'static, ()> {
    // One that failed has nothing to do with the other.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations of one call.
fn per_call(mut call: impl FnMut()) -> f64 {
    let mut counts = [0; WINDOWS];
    (0..WARM_UP_CALLS).for_each(|_| call());
    for count in &mut counts {
        let before = allocated();
        (0..WINDOW_CALLS).for_each(|_| call());
        *count = allocated() - before;
    }
    counts.sort_unstable();
    counts[WINDOWS / 2] as f64 / WINDOW_CALLS as f64
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

fn assert_bound(what: &str, count: f64, bound: f64) {
    println!("{what}: {count:.2} allocations, bound {bound}");
    assert!(count <= bound, "{what}: {count:.2} allocations; no more than {bound} are allowed");
}

fn request(path: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// The server, on a thread of this process.
struct Server {
    thread: JoinHandle<Result<ExitCode, ServeError>>,
    api: SocketAddr,
}

impl Server {
    fn start() -> Server {
        // Nothing tells which free ports it took, so it is told.
        let ports = [free_port(), free_port()].map(|socket| socket.local_addr().expect("bound").port());
        let mut config = Config { workers: 1, ephemeral: true, ..Config::default() };
        [config.server.port, config.management.port] = ports;
        config.async_queue.enabled = true;
        config.rate.max_per_second = 100_000_000;
        config.executions.max_count = REMEMBERED as u64;
        let thread = thread::spawn(|| server::run(config, |_| ()));
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
        wait_until("the server listens", || thread.is_finished() || TcpStream::connect(api).is_ok());
        assert!(!thread.is_finished(), "the server ended: {:?}", thread.join());
        Server { thread, api }
    }

    /// Ends it as an operator would.
    fn stop(self) {
        kill_process(getpid(), Signal::TERM).expect("our own process");
        let ended = self.thread.join().expect("no panic").expect("it served");
        assert_eq!(ended, ExitCode::SUCCESS);
    }
}

fn free_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// A caller over one connection. Allocates nothing.
struct Client {
    stream: Stream,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        Client { stream: Stream::new(TcpStream::connect(address).expect("it listens")) }
    }

    fn exchange(&mut self, request: &[u8], status: &[u8; 3]) {
        self.stream.write(request);
        let answered = self.stream.read_message();
        let answer = self.stream.message();
        assert!(answered && &answer[9..12] == status, "{}", String::from_utf8_lossy(answer));
    }
}
