//! A sending thread: one poll, its connections, its shares of the loads.
//!
//! One turn of the loop: do what is due, wait for events, handle them. A connection that gets an answer sends the next
//! request at once; in an open loop only if one is due. All times are nanoseconds since the start of the run.

mod answers;
mod timeouts;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io, mem,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    time::Instant,
};

use mio::{Events, Token, Waker, event::Event};

use super::{
    alarm::{Alarm, TIMER},
    call::{Call, Exchange, Out, Step},
    connection::{Connection, State},
    pending::{CallbackResult, Pending},
    stream::Stream,
};
use crate::{
    client::reader,
    plan::{Mode, Plan},
    record::recorder::{Interval, Recorder},
};

/// Event of the mailbox.
const MAILBOX: Token = Token(usize::MAX - 1);
/// Events per turn.
const EVENTS: usize = 256;
/// How often timeouts are looked for.
const SCAN_NS: u64 = 50_000_000;
/// Longest time after the end in which answers are waited for.
const GRACE_NS_MAX: u64 = 10_000_000_000;
/// First wait before a connection is opened again that could not be opened; doubles up to a hundred times that.
const REOPEN_NS: u64 = 10_000_000;

/// Where results of callbacks go.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    sender: Sender<CallbackResult>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// Hands a result to the thread; does nothing when it has ended.
    pub(crate) fn send(&self, result: CallbackResult) {
        if self.sender.send(result).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// What a thread waits on. It is made before the thread, so that what cannot be made is found out before the start.
#[derive(Debug)]
pub(super) struct Post {
    alarm: Alarm,
    mailbox: Receiver<CallbackResult>,
}

impl Post {
    pub(super) fn new() -> io::Result<(Post, Mailbox)> {
        let alarm = Alarm::new()?;
        let waker = Arc::new(Waker::new(alarm.poll.registry(), MAILBOX)?);
        let (sender, mailbox) = mpsc::channel();
        Ok((Post { alarm, mailbox }, Mailbox { sender, waker }))
    }
}

/// Something that is due later.
#[derive(Debug)]
enum Later {
    /// Open the connection again.
    Reopen(usize),
    /// Call again, in a closed loop on the same connection.
    Again { stream: usize, connection: Option<usize>, call: Call },
    /// Ask for the result again.
    Write(usize),
}

/// The heap's order: time, then age.
#[derive(Debug)]
struct Due {
    at_ns: u64,
    number: u64,
    what: Later,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at_ns, self.number) == (other.at_ns, other.number)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

/// The state of a thread.
pub(super) struct Worker {
    plan: Arc<Plan>,
    epoch: Instant,
    alarm: Alarm,
    mailbox: Receiver<CallbackResult>,
    recorder: Recorder,
    streams: Vec<Stream>,
    connections: Vec<Connection>,
    later: BinaryHeap<Reverse<Due>>,
    later_count: u64,
    pending: Pending,
    timeout_ns: u64,
    end_ns: u64,
    next_scan_ns: u64,
}

impl Worker {
    pub(super) fn new(
        plan: Arc<Plan>,
        thread: usize,
        epoch: Instant,
        collector: Sender<Interval>,
        post: Post,
    ) -> Worker {
        let (mut streams, mut connections) = (Vec::new(), Vec::new());
        for load in 0..plan.loads.len() {
            if let Some(stream) = Stream::new(&plan, load, thread, connections.len()) {
                connections.extend(stream.connections.clone().map(|_| Connection::new(streams.len())));
                streams.push(stream);
            }
        }
        let phases: Vec<usize> = plan.targets.iter().map(|target| plan.phases(target.load).len()).collect();
        let end_ns = plan.length().as_nanos() as u64;
        let recorder = Recorder::new(&phases, plan.warm_up.as_nanos() as u64..end_ns, collector);
        let timeout_ns = plan.timeout.as_nanos() as u64;
        Worker {
            plan,
            epoch,
            alarm: post.alarm,
            mailbox: post.mailbox,
            recorder,
            streams,
            connections,
            later: BinaryHeap::new(),
            later_count: 0,
            pending: Pending::new(thread),
            timeout_ns,
            end_ns,
            next_scan_ns: SCAN_NS,
        }
    }

    /// Sends until the end, waits for the last answers.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        for connection in 0..self.connections.len() {
            self.open(connection);
        }
        loop {
            let now_ns = self.now_ns();
            self.do_later(now_ns);
            self.recorder.tick(now_ns);
            if now_ns >= self.next_scan_ns {
                self.scan(now_ns);
                self.next_scan_ns = now_ns + SCAN_NS;
            }
            if self.is_over(now_ns) {
                break;
            }
            for stream in 0..self.streams.len() {
                self.pump(stream);
            }
            let (exact_ns, rough_ns) = self.next_wake_ns();
            self.alarm.wait(&mut events, self.now_ns(), exact_ns, rough_ns)?;
            for event in &events {
                self.handle(event);
            }
        }
        self.give_up();
        self.recorder.finish();
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let grace_ns = self.timeout_ns.min(GRACE_NS_MAX);
        let is_busy = || self.connections.iter().any(|connection| matches!(connection.state, State::Busy(_)));
        now_ns >= self.end_ns && (now_ns >= self.end_ns + grace_ns || (self.pending.is_empty() && !is_busy()))
    }

    /// When a request is due that can be sent, and when anything else is.
    fn next_wake_ns(&self) -> (Option<u64>, u64) {
        let arrivals = self.streams.iter().filter(|stream| !stream.idle.is_empty());
        let arrival = arrivals.filter_map(|stream| stream.schedule.as_ref()?.next_ns()).min();
        let later = self.later.peek().map(|Reverse(due)| due.at_ns);
        let rough = self.next_scan_ns.min(self.recorder.next_tick_ns());
        (arrival.filter(|at_ns| *at_ns < self.end_ns), rough.min(later.unwrap_or(u64::MAX)))
    }

    /// Sends what is due as long as connections are free.
    fn pump(&mut self, stream_index: usize) {
        let stream = &mut self.streams[stream_index];
        if !stream.is_open_loop() || stream.idle.is_empty() {
            return;
        }
        loop {
            let now_ns = self.now_ns();
            if now_ns >= self.end_ns {
                return;
            }
            let stream = &mut self.streams[stream_index];
            while let Some(front) = stream.idle.front() {
                let connection = &mut self.connections[*front];
                if matches!(connection.state, State::Idle) {
                    break;
                }
                connection.is_listed = false;
                stream.idle.pop_front();
            }
            let Some(front) = stream.idle.front().copied() else { return };
            let again = stream.again.pop_front();
            let call = match again {
                Some(call) => call,
                None => {
                    let Some(call) = stream.due(now_ns) else { return };
                    self.recorder.tally(call.target, call.phase).counts.intended += 1;
                    call
                }
            };
            let stream = &mut self.streams[stream_index];
            stream.idle.pop_front();
            self.connections[front].is_listed = false;
            self.start(front, call, now_ns);
        }
    }

    /// Makes a connection available for the next call.
    fn release(&mut self, index: usize, now_ns: u64) {
        let connection = &mut self.connections[index];
        if !connection.has_socket() {
            return self.open(index);
        }
        connection.state = State::Idle;
        let stream_index = connection.stream;
        let stream = &mut self.streams[stream_index];
        if !stream.is_open_loop() {
            if now_ns < self.end_ns {
                let call = stream.call(now_ns);
                self.start(index, call, now_ns);
            }
            return;
        }
        if !connection.is_listed {
            connection.is_listed = true;
            stream.idle.push_back(index);
        }
        self.pump(stream_index);
    }

    /// Sends a call on an idle connection.
    fn start(&mut self, index: usize, mut call: Call, now_ns: u64) {
        call.sent_ns = now_ns;
        let mode = self.streams[self.connections[index].stream].mode;
        let counts = &mut self.recorder.tally(call.target, call.phase).counts;
        counts.sent += 1;
        counts.bytes_sent += call.request.bytes.len() as u64;
        let step = if matches!(mode, Mode::Async | Mode::Callback) { Step::Enqueue } else { Step::Invoke };
        let token = (mode == Mode::Callback).then(|| self.pending.add(call.clone()));
        let out = match token {
            Some(token) => Out::Own(call.request.with_token(token)),
            None => Out::Built(std::rc::Rc::clone(&call.request)),
        };
        let exchange = Exchange { call, step, out, written: 0, begun_ns: now_ns, token };
        self.connections[index].state = State::Busy(exchange);
        self.write(index);
    }

    /// Sends a call of a closed loop, which has no intended time that it could be late for.
    fn start_now(&mut self, index: usize, call: Call, now_ns: u64) {
        self.start(index, Call { intended_ns: now_ns, ..call }, now_ns);
    }

    fn write(&mut self, index: usize) {
        if self.connections[index].write().is_err() {
            self.break_off(index, "connection_closed");
        }
    }

    fn open(&mut self, index: usize) {
        let stream = self.connections[index].stream;
        let socket = self.plan.loads[self.streams[stream].load].socket;
        let registry = self.alarm.poll.registry();
        if self.connections[index].open(socket, registry, Token(index)).is_err() {
            self.fail_to_open(index);
        }
    }

    /// A connection could not be opened: that is the failure of a call, if one is due.
    fn fail_to_open(&mut self, index: usize) {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[index];
        connection.close();
        connection.failures += 1;
        let wait_ns = REOPEN_NS << connection.failures.min(7);
        let stream = &mut self.streams[connection.stream];
        if now_ns < self.end_ns {
            let call = match connection.next.take() {
                Some(call) => Some(call),
                None if stream.is_open_loop() => stream.due(now_ns),
                None => Some(stream.call(now_ns)),
            };
            if let Some(call) = call {
                let is_open_loop = stream.is_open_loop();
                self.recorder.tally(call.target, call.phase).counts.intended += u64::from(is_open_loop);
                self.recorder.unanswered(call.times_unsent(), now_ns, "connect_failed");
            }
            self.push_later(now_ns + wait_ns, Later::Reopen(index));
        }
    }

    fn push_later(&mut self, at_ns: u64, what: Later) {
        self.later_count += 1;
        self.later.push(Reverse(Due { at_ns, number: self.later_count, what }));
    }

    fn do_later(&mut self, now_ns: u64) {
        while self.later.peek().is_some_and(|Reverse(due)| due.at_ns <= now_ns) {
            let Some(Reverse(due)) = self.later.pop() else { return };
            match due.what {
                Later::Reopen(index) => self.open(index),
                Later::Write(index) => self.write(index),
                Later::Again { .. } if now_ns >= self.end_ns => {}
                Later::Again { stream, connection, mut call } => {
                    call.retries += 1;
                    call.phase = self.streams[stream].phase_at(due.at_ns);
                    call.intended_ns = due.at_ns;
                    if call.retries == 1 {
                        self.recorder.tally(call.target, call.phase).counts.retried += 1;
                    }
                    match connection {
                        None => self.streams[stream].again.push_back(call),
                        Some(index) if self.connections[index].has_socket() => {
                            self.start_now(index, call, now_ns);
                        }
                        Some(index) => {
                            self.connections[index].next = Some(call);
                            self.open(index);
                        }
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: &Event) {
        match event.token() {
            TIMER => {}
            MAILBOX => self.take_callbacks(),
            Token(index) => match self.connections[index].state {
                State::Closed => {}
                State::Connecting => self.finish_opening(index),
                State::Idle | State::Parked | State::Busy(_) => {
                    if event.is_writable() && !self.is_written(index) {
                        self.write(index);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.read(index, event.is_read_closed());
                    }
                }
            },
        }
    }

    fn is_written(&self, index: usize) -> bool {
        match &self.connections[index].state {
            State::Busy(exchange) => exchange.written == exchange.out.bytes().len(),
            _ => true,
        }
    }

    fn finish_opening(&mut self, index: usize) {
        match self.connections[index].is_open() {
            Ok(false) => {}
            Ok(true) => {
                let now_ns = self.now_ns();
                match self.connections[index].next.take() {
                    Some(call) => self.start_now(index, call, now_ns),
                    None => self.release(index, now_ns),
                }
            }
            Err(_) => self.fail_to_open(index),
        }
    }

    fn read(&mut self, index: usize, is_closing: bool) {
        loop {
            let before = self.connections[index].reader.bytes;
            match self.connections[index].read() {
                Ok(reader::Step::Complete) => return self.finish(index, is_closing),
                Ok(reader::Step::Again) => {}
                // The end of the stream is announced once, maybe together with the last bytes.
                Ok(reader::Step::Wait) if is_closing && self.connections[index].reader.bytes > before => {}
                Ok(reader::Step::Wait) => return,
                Ok(reader::Step::Closed(_)) => return self.break_off(index, "connection_closed"),
                Err(reader::ReadError::Io(_)) => return self.break_off(index, "connection_closed"),
                Err(reader::ReadError::Malformed(_)) => return self.break_off(index, "bad_answer"),
            }
        }
    }

    /// The connection is of no use any more; a call on it has no answer.
    fn break_off(&mut self, index: usize, code: &str) {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[index];
        let state = mem::replace(&mut connection.state, State::Closed);
        connection.close();
        match state {
            State::Parked => {
                // It waits all the same, and is opened when it has something to send.
                connection.state = State::Parked;
                return;
            }
            State::Busy(exchange) => {
                if let Some(token) = exchange.token {
                    self.pending.remove(token);
                }
                self.recorder.unanswered(exchange.call.times(), now_ns, code);
            }
            State::Closed | State::Connecting | State::Idle => {}
        }
        let connection = &mut self.connections[index];
        connection.failures += 1;
        if connection.failures == 1 || code == "client_timeout" {
            self.open(index);
        } else if now_ns < self.end_ns {
            // A server that hangs up on everything must not make this thread spin.
            self.push_later(now_ns + REOPEN_NS, Later::Reopen(index));
        }
    }
}
