//! What a thread does when a connection opens, cannot be opened, or breaks.

use std::mem;

use mio::Token;

use super::Worker;
use crate::run::{agenda::Later, connection::State};

/// First wait before a connection is opened again that could not be opened; doubles up to a hundred times that.
const REOPEN_NS: u64 = 10_000_000;

impl Worker {
    pub(super) fn open(&mut self, index: usize) {
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
            self.agenda.push(now_ns + wait_ns, Later::Reopen(index));
        }
    }

    pub(super) fn finish_opening(&mut self, index: usize) {
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

    /// The connection is of no use any more; a call on it has no answer.
    pub(super) fn break_off(&mut self, index: usize, code: &str) {
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
            self.agenda.push(now_ns + REOPEN_NS, Later::Reopen(index));
        }
    }
}
