//! A sending thread: one poll, its connections, its shares of the loads.
//!
//! One turn of the loop: do what is due, wait for events, handle them. A connection that gets an answer sends the next
//! request at once; in an open loop only if one is due. All times are nanoseconds since the start of the run.

mod answers;
mod sockets;
mod timeouts;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Instant,
};

use mio::{Events, Token, Waker, event::Event};

use super::{
    agenda::{Agenda, Later},
    alarm::{Alarm, TIMER},
    call::{Call, CallStep, Exchange, Out},
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
/// How long after the end calls are sent that were due before it: this thread may have had no core at that moment.
const LATE_NS: u64 = 100_000_000;

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

/// The state of a thread.
pub(super) struct Worker {
    plan: Arc<Plan>,
    epoch: Instant,
    alarm: Alarm,
    mailbox: Receiver<CallbackResult>,
    recorder: Recorder,
    streams: Vec<Stream>,
    connections: Vec<Connection>,
    agenda: Agenda,
    pending: Pending,
    timeout_ns: u64,
    end_ns: u64,
    /// The same for all threads; it comes nearer when the run is interrupted.
    shared_end_ns: Arc<AtomicU64>,
    next_scan_ns: u64,
}

impl Worker {
    pub(super) fn new(
        plan: Arc<Plan>,
        thread: usize,
        epoch: Instant,
        collector: Sender<Interval>,
        post: Post,
        shared_end_ns: Arc<AtomicU64>,
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
            agenda: Agenda::default(),
            pending: Pending::new(thread),
            timeout_ns,
            end_ns,
            shared_end_ns,
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
                self.end_ns = self.shared_end_ns.load(Ordering::Relaxed);
                self.recorder.end_at(self.end_ns);
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
        if now_ns < self.end_ns {
            return false;
        }
        let is_due = || self.streams.iter().any(Stream::is_due);
        let is_busy = || self.connections.iter().any(|connection| matches!(connection.state, State::Busy(_)));
        let is_done =
            || self.pending.is_empty() && !is_busy() && (now_ns >= self.end_ns + LATE_NS || !is_due());
        now_ns >= self.end_ns + grace_ns || is_done()
    }

    /// When a request is due that can be sent, and when anything else is.
    fn next_wake_ns(&self) -> (Option<u64>, u64) {
        let arrivals = self.streams.iter().filter(|stream| !stream.idle.is_empty());
        let arrival = arrivals.filter_map(|stream| stream.schedule.as_ref()?.next_ns()).min();
        let rough = self.next_scan_ns.min(self.recorder.next_tick_ns());
        (arrival.filter(|at_ns| *at_ns < self.end_ns), rough.min(self.agenda.next_ns()))
    }

    /// Sends what is due as long as connections are free.
    fn pump(&mut self, stream_index: usize) {
        let stream = &mut self.streams[stream_index];
        if !stream.is_open_loop() || stream.idle.is_empty() {
            return;
        }
        loop {
            let now_ns = self.now_ns();
            if now_ns >= self.end_ns + LATE_NS {
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
                    let Some(call) = stream.due(now_ns.min(self.end_ns)) else { return };
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
        let step =
            if matches!(mode, Mode::Async | Mode::Callback) { CallStep::Enqueue } else { CallStep::Invoke };
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

    fn do_later(&mut self, now_ns: u64) {
        while let Some((at_ns, what)) = self.agenda.pop(now_ns) {
            match what {
                Later::Reopen(index) => self.open(index),
                Later::Write(index) => self.write(index),
                Later::Again { .. } if now_ns >= self.end_ns => {}
                Later::Again { stream, connection, mut call } => {
                    call.retries += 1;
                    call.phase = self.streams[stream].phase_at(at_ns);
                    call.intended_ns = at_ns;
                    if call.retries == 1 {
                        self.recorder.tally(call.target, call.told_phase).counts.retried += 1;
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

    fn read(&mut self, index: usize, is_closing: bool) {
        loop {
            let before = self.connections[index].reader.bytes;
            match self.connections[index].read() {
                Ok(reader::ReadStep::Complete) => return self.finish(index, is_closing),
                Ok(reader::ReadStep::Again) => {}
                // The end of the stream is announced once, maybe together with the last bytes.
                Ok(reader::ReadStep::Wait) if is_closing && self.connections[index].reader.bytes > before => {
                }
                Ok(reader::ReadStep::Wait) => return,
                Ok(reader::ReadStep::Closed(_)) => return self.break_off(index, "connection_closed"),
                Err(reader::ReadError::Io(_)) => return self.break_off(index, "connection_closed"),
                Err(reader::ReadError::Malformed(_)) => return self.break_off(index, "bad_answer"),
            }
        }
    }
}
