//! The naive model: plain lists, searched from the front, no optimisation. What it says must happen is compared
//! with what the shard does.

use std::collections::BTreeMap;

use super::{registry::Function, step::Step};

/// The limits that the model knows of; milliseconds.
pub(super) const TTL_MS: u64 = 60_000;
/// The same for those that were accepted for later.
pub(super) const ACCEPTED_TTL_MS: u64 = 100_000;
pub(super) const SWEEP_MS: u64 = 5_000;
pub(super) const KEYS_TTL_MS: u64 = 30_000;
pub(super) const RETRY_WAIT_MS_MAX: u64 = 60_000;
pub(super) const DEAD_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    Running,
    Success,
    Error,
    Timeout,
}

#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) deadline_ms: u64,
    pub(super) limit_ms: u32,
    pub(super) order: u64,
    pub(super) gone: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) function: usize,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) accepted: bool,
    pub(super) waiters: Vec<Waiter>,
    pub(super) latest_deadline_ms: u64,
    /// End of its back-off, with its place among timers.
    pub(super) backoff: Option<(u64, u64)>,
    pub(super) bytes: u64,
    pub(super) key: Option<(u8, u8)>,
    pub(super) digest: u8,
    pub(super) code: &'static str,
    pub(super) last_code: &'static str,
    pub(super) stage: &'static str,
    pub(super) limit_ms: u32,
    pub(super) finished_ms: u64,
    /// From when on its record is kept for its time.
    pub(super) kept_from_ms: u64,
    /// It was accepted after it had ended.
    pub(super) joined_late: bool,
    pub(super) attempts_before: u32,
    /// Was a dead letter and was tried again.
    pub(super) revived: bool,
    pub(super) max_age_ms: Option<u32>,
    /// When it may no longer wait, and the timer for that with its place.
    pub(super) expires_ms: Option<u64>,
    pub(super) expiry: Option<(u64, u64)>,
    /// Left no record.
    pub(super) discarded: bool,
    /// An attempt was made, as far as is known: the key went with it. The same before the current one.
    pub(super) tried: bool,
    pub(super) was_tried: bool,
    /// Its place among what waits for its function, also while it runs.
    pub(super) place: u64,
    /// Replicas that ended with it, and until when it is not to go to the last one.
    pub(super) crashes: u32,
    pub(super) careful_until_ms: u64,
    /// What its last record says: attempt, attempts that do not count, whether one goes on, and how many servers had started.
    pub(super) on_record: OnRecord,
    /// When the time of its last job that is on record is over, on the clock that people read.
    pub(super) job_until_unix_ms: u64,
    /// Its place among what a crash gives back: by its acceptance, or what came of it last.
    pub(super) record: u64,
    /// Its place among those with its key: by its acceptance, or its replay.
    pub(super) claimed: u64,
    /// Since when its key stands for it, after a crash.
    pub(super) key_written_ms: u64,
    /// When it was accepted or replayed, and when it ended, on the clock that people read.
    pub(super) queued_unix_ms: u64,
    pub(super) finished_unix_ms: u64,
    /// It had ended when a crash gave it back: its age is on a clock that may have been set.
    pub(super) recovered: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OnRecord {
    pub(super) attempt: u32,
    pub(super) attempts_before: u32,
    pub(super) running: bool,
    /// That one has a job.
    pub(super) job: bool,
    /// An attempt is on record, or was when it was replayed: it has had its key.
    pub(super) tried: bool,
    pub(super) starts: u32,
    pub(super) crashes: u32,
    /// Attempts that were not run, and which nothing tells from others since it was replayed.
    pub(super) not_run: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) execution: u64,
    pub(super) number: u32,
    pub(super) function: usize,
    pub(super) timeout_ms: u64,
    pub(super) order: u64,
    /// Still holds its slot.
    pub(super) holds: bool,
    /// The dispatcher still has it.
    pub(super) exchange: bool,
    pub(super) connecting: bool,
    /// Its job was created.
    pub(super) promised: bool,
    /// It was made before a crash.
    pub(super) adopted: bool,
    /// What is said of it once it is on record, or once everything is back: until then its time has not begun.
    pub(super) unrecorded: Option<String>,
    /// The replica that it went to, once that is known: the model does not choose.
    pub(super) replica: Option<u64>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Oracle {
    pub(super) now_ms: u64,
    pub(super) second: u64,
    pub(super) unix_ms: u64,
    pub(super) granted_bytes: u64,
    pub(super) functions: Vec<Function>,
    pub(super) names: BTreeMap<u8, usize>,
    pub(super) executions: BTreeMap<u64, Execution>,
    pub(super) attempts: Vec<Attempt>,
    /// Function name and key, to execution, digest and when it was written.
    pub(super) keys: BTreeMap<(u8, u8), (u64, u8, u64)>,
    /// Dead letters of each name, oldest first.
    pub(super) dead: BTreeMap<u8, Vec<u64>>,
    /// When each name was removed last, in the order of records, and what waited then.
    pub(super) removed: BTreeMap<u8, u64>,
    pub(super) rooms: BTreeMap<u8, usize>,
    /// A shard is being given back what was there before.
    pub(super) restoring: bool,
    /// Executions in the order in which their records go.
    pub(super) finished: Vec<u64>,
    /// Numbers of attempts that were not run, and are used again.
    pub(super) unused: Vec<(u64, u32)>,
    /// Executions that wait for a record: of the attempt before, or of their end.
    pub(super) recorded: Vec<u64>,
    /// Attempts whose jobs are ordered when they are on record.
    pub(super) ordered: Vec<(u64, u32)>,
    pub(super) drained: bool,
    /// Servers that took over what had not ended, with this one and without it.
    pub(super) starts: u32,
    pub(super) starts_before: u32,
    pub(super) order: u64,
    pub(super) out: Vec<String>,
}

impl Oracle {
    /// Says what a step causes. `exists` tells whether the record of an execution is still kept: when old ones
    /// go is checked apart.
    pub(super) fn step(&mut self, step: &Step, exists: impl Fn(u64) -> bool) -> Vec<String> {
        self.fire_timers();
        match step {
            Step::Turn => {}
            Step::Call { ticket, call } => self.call(*ticket, call, exists),
            Step::Answer { execution, number, result } => self.answer(*execution, *number, *result),
            Step::Callback { ticket, execution, number, result } => {
                if exists(*execution) {
                    self.callback(*ticket, *execution, *number, *result);
                } else {
                    self.reply(*ticket, "refused ExecutionNotFound");
                }
            }
            Step::Connecting { execution, number, connecting } => {
                if let Some(at) = self.attempt_at(*execution, *number) {
                    self.attempts[at].connecting = *connecting;
                }
            }
            Step::Leave { ticket } => self.leave(*ticket),
            Step::Cancel { ticket, execution } => self.cancel(*ticket, *execution, exists),
            Step::Replay { ticket, name, execution } => self.replay(*ticket, *name, *execution),
            Step::Purge { ticket, name, execution } => self.purge(*ticket, *name, *execution),
            Step::Probed { function, bit, reachable } => self.probed(*function, *bit, *reachable),
            Step::Drain { .. } => self.give_up(),
            registry => self.registry_step(registry),
        }
        self.settle()
    }

    /// What follows once all records of a step are safe.
    pub(super) fn settle(&mut self) -> Vec<String> {
        self.dispatch_all();
        while !(self.recorded.is_empty() && self.ordered.is_empty()) {
            let ordered = std::mem::take(&mut self.ordered);
            for ticket in std::mem::take(&mut self.recorded) {
                let execution = &self.executions[&ticket];
                let at = execution.function;
                if execution.is_terminal() {
                    self.show(ticket);
                    continue;
                }
                if execution.state != State::Queued || execution.discarded {
                    continue;
                }
                self.dispatch_or_enqueue(at, ticket);
            }
            ordered.into_iter().for_each(|(ticket, number)| self.order_job(ticket, number));
            self.dispatch_all();
        }
        std::mem::take(&mut self.out)
    }

    fn dispatch_all(&mut self) {
        for function in 0..self.functions.len() {
            while self.dispatch_next(function) {}
        }
    }

    /// Executions that still live or ended lately, with their attempt.
    pub(super) fn latest_executions(&self, count: usize) -> Vec<(u64, u32)> {
        let newest = self.executions.iter().rev().take(count);
        newest.map(|(ticket, execution)| (*ticket, execution.attempt)).collect()
    }

    /// Attempts that the dispatcher has not reported yet.
    pub(super) fn exchanges(&self) -> Vec<(u64, u32)> {
        let open = self.attempts.iter().filter(|attempt| attempt.exchange);
        open.map(|attempt| (attempt.execution, attempt.number)).collect()
    }

    /// The same of those that were made before a crash.
    pub(super) fn adopted(&self) -> Vec<(u64, u32)> {
        let open = self.attempts.iter().filter(|attempt| attempt.adopted);
        open.map(|attempt| (attempt.execution, attempt.number)).collect()
    }

    pub(super) fn waiting_tickets(&self) -> Vec<u64> {
        let all = self.executions.values().flat_map(|execution| &execution.waiters);
        all.filter(|waiter| !waiter.gone).map(|waiter| waiter.ticket).collect()
    }

    pub(super) fn in_flight(&self, function: usize) -> usize {
        self.attempts.iter().filter(|attempt| attempt.function == function && attempt.holds).count()
    }

    /// Executions that wait for a slot or for the end of a back-off.
    pub(super) fn waiting(&self, function: usize) -> Vec<u64> {
        let all = self.executions.iter().filter(|(_, execution)| {
            execution.function == function && execution.state == State::Queued && !execution.discarded
        });
        all.map(|(ticket, _)| *ticket).collect()
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        let all = self.executions.values();
        all.filter(|execution| execution.state == State::Queued && !execution.discarded)
            .map(|execution| execution.bytes)
            .sum()
    }

    /// Whether a key's execution may or may not have been renewed by now: the model does not know.
    pub(super) fn key_is_uncertain(&self, name: u8, key: u8) -> bool {
        let Some((execution, _, written_ms)) = self.keys.get(&(name, key)) else { return false };
        let execution = &self.executions[execution];
        let renewed_ms = if execution.is_terminal() { execution.finished_ms } else { self.now_ms };
        let expired = self.now_ms >= written_ms + KEYS_TTL_MS;
        // While it was dead its key may have gone, or not yet.
        let renewed = execution.is_terminal() && self.now_ms < renewed_ms + KEYS_TTL_MS;
        expired && (renewed || execution.revived)
    }

    pub(super) fn attempt_at(&self, execution: u64, number: u32) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.execution == execution && attempt.number == number)
    }

    pub(super) fn get(&mut self, ticket: u64) -> &mut Execution {
        self.executions.get_mut(&ticket).expect("executions stay in the model")
    }

    /// Something is written about an execution, if it was accepted.
    pub(super) fn write(&mut self, ticket: u64) {
        let starts = self.starts;
        let jobs = self.functions[self.executions[&ticket].function].jobs;
        let execution = self.get(ticket);
        if !execution.accepted {
            return;
        }
        let Execution { attempt, attempts_before, state, tried, crashes, .. } = *execution;
        let OnRecord { attempt: known, tried: known_tried, not_run, .. } = execution.on_record;
        execution.on_record = OnRecord {
            // No record says that an attempt was not run.
            attempt: attempt.max(known),
            attempts_before: attempts_before + not_run,
            running: state == State::Running,
            job: jobs && state == State::Running,
            tried: tried || known_tried,
            starts,
            crashes,
            not_run,
        };
    }

    pub(super) fn reply(&mut self, ticket: u64, answer: &str) {
        self.out.push(format!("reply {ticket}: {answer}"));
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

impl Execution {
    pub(super) fn is_terminal(&self) -> bool {
        !matches!(self.state, State::Queued | State::Running)
    }

    pub(super) fn answer(&self, ticket: u64) -> String {
        match self.state {
            State::Success => format!("success {ticket}"),
            State::Timeout => format!("timeout {ticket} {} {}", self.stage, self.limit_ms),
            _ => format!("error {ticket} {}", self.code),
        }
    }
}
