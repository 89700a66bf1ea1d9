//! Receivers on real sockets, a service that reports to the test, and names that lead where the test says.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use shard_core::{Delivery, DeliveryStatus, ExecutionId, ExecutionView, Input, Output, OutputKind, State};
use shard_runtime::Inbox;

use crate::delivery::{
    Deliveries, DeliveryOptions, DeliveryOrder,
    address::permit,
    resolve::{Lookup, Resolver},
    signature::Signer,
};

/// Longest wait for something that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const KEY: &[u8] = b"open sesame";

/// What a receiver was sent, and when.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) at: Instant,
    pub(super) request_line: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// A receiver. Its threads end with the test's process.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    posts: mpsc::Receiver<Post>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// Answers every POST with the bytes that `answer` makes of its number, from 1; nothing at all for `None`.
    pub(super) fn start(answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Receiver {
        Receiver::start_at(Ipv4Addr::LOCALHOST, answer)
    }

    pub(super) fn start_at(
        host: Ipv4Addr,
        answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, posts) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (Arc::clone(&connections), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &sender, || answer(number)));
            }
        });
        Receiver { address, posts, connections }
    }

    /// Answers with this status.
    pub(super) fn of_status(status: u16) -> Receiver {
        Receiver::start(move |_| Some(answer(status)))
    }

    /// Takes connections and never answers.
    pub(super) fn silent() -> Receiver {
        Receiver::start(|_| None)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/results?of=test", self.address)
    }

    /// The next POST.
    #[track_caller]
    pub(super) fn post(&self) -> Post {
        self.posts.recv_timeout(PATIENCE).expect("a POST")
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The bytes of an answer without a body.
pub(super) fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n")
}

fn serve(stream: TcpStream, posts: &mpsc::Sender<Post>, answer: impl Fn() -> Option<String>) {
    let mut reader = BufReader::new(stream);
    while let Ok(post) = read(&mut reader) {
        let _ = posts.send(post);
        match answer() {
            Some(answer) => drop(reader.get_mut().write_all(answer.as_bytes())),
            // Until the sender loses patience.
            None => drop(reader.read(&mut [0])),
        }
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Post> {
    let mut request_line = String::new();
    if reader.read_line(&mut request_line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Post { at: Instant::now(), request_line: request_line.trim_end().to_owned(), headers, body })
}

/// Leads names where it is told; the nth look-up of a name to the nth list, and then to the last one again.
#[derive(Clone, Default)]
pub(super) struct Names {
    lists: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    lookups: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub(super) fn with(mut self, name: &'static str, lists: &[&[[u8; 4]]]) -> Names {
        let lists = lists.iter().map(|list| list.iter().map(|address| (*address).into()).collect());
        self.lists.insert(name, lists.collect());
        self
    }

    pub(super) fn lookups(&self) -> Vec<String> {
        self.lookups.lock().expect("nothing panics with it").clone()
    }
}

impl Resolver for Names {
    fn look_up<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        let mut lookups = self.lookups.lock().expect("nothing panics with it");
        let number = lookups.iter().filter(|earlier| *earlier == name).count();
        lookups.push(name.to_owned());
        let lists = self.lists.get(name);
        let list = lists.and_then(|lists| lists.get(number.min(lists.len() - 1)).cloned());
        Box::pin(async move { list.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A service and what it reports.
pub(super) struct Rig {
    pub(super) deliveries: Deliveries,
    reports: mpsc::Receiver<(u16, ExecutionId, Delivery)>,
}

/// Quick, and with permission for this machine.
pub(super) fn options() -> DeliveryOptions {
    DeliveryOptions {
        permit: permit(true),
        attempts_max: 3,
        timeout: PATIENCE,
        backoff_min: Duration::from_millis(40),
        backoff_max: Duration::from_secs(1),
        ..DeliveryOptions::default()
    }
}

impl Rig {
    pub(super) fn start(options: DeliveryOptions) -> Rig {
        Rig::with_names(options, Names::default())
    }

    pub(super) fn with_names(options: DeliveryOptions, names: Names) -> Rig {
        let (sender, reports) = mpsc::channel();
        let inbox = Inbox::new(move |shard, input| {
            let Input::Delivered { id, delivery, .. } = input else { panic!("{input:?}") };
            let _ = sender.send((shard, id, delivery));
        });
        let deliveries = Deliveries::start(options, Signer::new(KEY), names, inbox);
        Rig { deliveries: deliveries.expect("a thread"), reports }
    }

    /// Gives an order that is taken.
    #[track_caller]
    pub(super) fn deliver(&self, id: u8, url: &str) {
        assert!(self.deliveries.deliver(order(id, url)).is_none(), "there is room");
    }

    /// The next report.
    #[track_caller]
    pub(super) fn report(&self) -> (u16, ExecutionId, Delivery) {
        self.reports.recv_timeout(PATIENCE).expect("a report")
    }

    /// The next report, as far as most tests look.
    #[track_caller]
    pub(super) fn outcome(&self) -> (DeliveryStatus, u32, String) {
        let (_, _, delivery) = self.report();
        (delivery.status, delivery.attempts, delivery.last_error.unwrap_or_default().into_string())
    }

    /// Whether nothing more was reported so far.
    pub(super) fn is_quiet(&self) -> bool {
        self.reports.try_recv().is_err()
    }

    pub(super) fn drain(&self, patience: Duration) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(self.deliveries.drain(Instant::now() + patience))
    }
}

pub(super) fn id(number: u8) -> ExecutionId {
    ExecutionId::new([number; 16], 7)
}

pub(super) fn view(number: u8) -> ExecutionView {
    ExecutionView {
        id: id(number),
        function: "f".into(),
        state: State::Success,
        attempt: 1,
        output: Some(Output { body: Bytes::from_static(b"{\"a\": 1}"), kind: OutputKind::Json }),
        error: None,
        last_error: None,
        cold_start: false,
        init_ms: None,
        created_ms: 1,
        dispatched_ms: Some(2),
        finished_ms: Some(3),
        delivery: None,
    }
}

pub(super) fn order(number: u8, url: &str) -> DeliveryOrder {
    DeliveryOrder { shard: 5, id: id(number), number: 1, url: url.into(), view: Box::new(view(number)) }
}
