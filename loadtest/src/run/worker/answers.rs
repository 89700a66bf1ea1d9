//! What a thread does with a complete answer or a callback.

use std::mem;

use super::Worker;
use crate::{
    plan::Mode,
    run::{
        agenda::Later,
        call::{Call, CallStep, Exchange, Out},
        connection::State,
        verdict::{self, CallFailure, CallVerdict},
    },
};

/// A result that is asked for again after a shorter time than this was not waited for by the server.
const POLL_NS_MIN: u64 = 20_000_000;

impl Worker {
    /// A connection has a complete answer.
    pub(super) fn finish(&mut self, index: usize, is_closing: bool) {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[index];
        if !matches!(connection.state, State::Busy(_)) {
            // Nobody asked: the peer says why it closes.
            return self.break_off(index, "bad_answer");
        }
        let State::Busy(exchange) = mem::replace(&mut connection.state, State::Idle) else { return };
        connection.failures = 0;
        let mode = self.streams[connection.stream].mode;
        let bytes = connection.reader.bytes;
        // Complete is what `read` said.
        let Some(answer) = connection.reader.answer() else { return };
        let keep_alive = answer.head.keep_alive && !is_closing;
        let verdict = verdict::judge(mode, exchange.step, &answer);
        connection.reader.reset();
        self.recorder.tally(exchange.call.target, exchange.call.phase).counts.bytes_received += bytes;
        match verdict {
            CallVerdict::Success => self.succeed(exchange.call, now_ns),
            CallVerdict::Accepted(id) if mode == Mode::Async && keep_alive => {
                return self.poll(index, exchange, &id, now_ns);
            }
            CallVerdict::Unfinished if keep_alive => return self.poll_again(index, exchange, now_ns),
            CallVerdict::Accepted(_) if mode == Mode::Callback => {
                if self.park_for_callback(index, &exchange) {
                    return;
                }
            }
            CallVerdict::Accepted(_) | CallVerdict::Unfinished => {
                self.recorder.unanswered(exchange.call.times(), now_ns, "connection_closed");
            }
            CallVerdict::Failure(failure) => {
                if let Some(token) = exchange.token {
                    self.pending.remove(token);
                }
                if self.fail(index, exchange.call, failure, now_ns) {
                    if !keep_alive {
                        // It is opened again when the call is due.
                        self.break_off(index, "connection_closed");
                    }
                    return;
                }
            }
        }
        if keep_alive {
            self.release(index, now_ns);
        } else {
            self.connections[index].close();
            self.open(index);
        }
    }

    fn succeed(&mut self, call: Call, now_ns: u64) {
        self.count_admission(&call);
        self.recorder.answer(call.times(), now_ns, true);
    }

    /// Counts the failure; true when the connection has to wait with the call.
    fn fail(&mut self, index: usize, mut call: Call, failure: CallFailure, now_ns: u64) -> bool {
        self.recorder.answer(call.times(), now_ns, false);
        let tally = self.recorder.tally(call.target, call.phase);
        *tally.by_status.entry(failure.status).or_default() += 1;
        if let Some(code) = &failure.code {
            tally.count_code(code, 1);
        }
        if !matches!(failure.status, 429 | 503) {
            self.count_admission(&call);
        }
        let stream_index = self.connections[index].stream;
        let stream = &self.streams[stream_index];
        let Some(wait_s) = failure.retry_after_s.filter(|_| stream.obeys) else { return false };
        if call.retries == 0 {
            call.told_phase = call.phase;
            let counts = &mut self.recorder.tally(call.target, call.phase).counts;
            counts.told_to_wait += 1;
            counts.told_seconds += u64::from(wait_s);
        }
        let is_closed_loop = !stream.is_open_loop();
        let connection = is_closed_loop.then_some(index);
        let again = Later::Again { stream: stream_index, connection, call };
        self.agenda.push(now_ns + u64::from(wait_s) * 1_000_000_000, again);
        if is_closed_loop {
            self.connections[index].state = State::Parked;
        }
        is_closed_loop
    }

    fn count_admission(&mut self, call: &Call) {
        let counts = &mut self.recorder.tally(call.target, call.told_phase).counts;
        match call.retries {
            0 => {}
            1 => counts.first_retry_admitted += 1,
            _ => counts.later_retry_admitted += 1,
        }
    }

    /// Asks for the result of an accepted execution, on the same connection.
    fn poll(&mut self, index: usize, exchange: Exchange, id: &str, now_ns: u64) {
        let host = &self.plan.targets[exchange.call.target].host;
        let request = format!("GET /v1/executions/{id}?wait=5s HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let out = Out::Own(request.into_bytes());
        let exchange = Exchange { step: CallStep::Poll, out, written: 0, begun_ns: now_ns, ..exchange };
        self.connections[index].state = State::Busy(exchange);
        self.write(index);
    }

    fn poll_again(&mut self, index: usize, exchange: Exchange, now_ns: u64) {
        let is_early = now_ns - exchange.begun_ns < POLL_NS_MIN;
        self.connections[index].state = State::Busy(Exchange { written: 0, begun_ns: now_ns, ..exchange });
        if is_early {
            self.agenda.push(now_ns + POLL_NS_MIN, Later::Write(index));
        } else {
            self.write(index);
        }
    }

    /// The server has promised a callback. True when the connection waits for it, which only a closed loop does.
    fn park_for_callback(&mut self, index: usize, exchange: &Exchange) -> bool {
        let is_closed_loop = !self.streams[self.connections[index].stream].is_open_loop();
        // It may have come already.
        let waiting = exchange.token.and_then(|token| self.pending.get_mut(token));
        match waiting {
            Some(waiting) if is_closed_loop => {
                waiting.connection = Some(index);
                self.connections[index].state = State::Parked;
                true
            }
            _ => false,
        }
    }

    /// Takes what the listener for callbacks has put into the mailbox.
    pub(super) fn take_callbacks(&mut self) {
        while let Ok(message) = self.mailbox.try_recv() {
            // A second callback for the same call, or one that came after its timeout.
            let Some(waiting) = self.pending.remove(message.token) else { continue };
            let now_ns = self.now_ns();
            match message.result {
                Ok(()) => self.succeed(waiting.call, now_ns),
                Err(code) => {
                    self.count_admission(&waiting.call);
                    self.recorder.answer(waiting.call.times(), now_ns, false);
                    let tally = self.recorder.tally(waiting.call.target, waiting.call.phase);
                    tally.count_code(code.as_deref().unwrap_or("error"), 1);
                }
            }
            if let Some(index) = waiting.connection {
                self.release(index, now_ns);
            }
        }
    }
}
