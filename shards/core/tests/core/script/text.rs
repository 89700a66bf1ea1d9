//! Effects as text.

use std::fmt::Write;

use shard_core::{
    Answer, Destination, Dispatch, Effect, ExecutionView, Output, OutputKind, Partition, Payload, Record,
    Refusal, Room, Shard, Ticket,
    answer::{DeadLetterView, Stage},
    effect::Note,
};

use super::{EPOCH_MS, Run};

impl Run {
    pub(super) fn text(&mut self, effect: Effect) -> String {
        self.learn(&effect);
        match effect {
            Effect::Reply { ticket, answer } => {
                let Ticket(caller) = ticket;
                format!("{}: {}", self.callers[caller as usize], self.answer(answer))
            }
            Effect::Dispatch(dispatch) => self.dispatch(&dispatch),
            Effect::AdoptJob { attempt, .. } => format!("adopt {}", self.attempt_name(attempt)),
            Effect::Abort { attempt } => format!("abort {}", self.attempt_name(attempt)),
            Effect::OpenEndpoint { address, .. } => format!("open {address}"),
            Effect::CloseEndpoint { endpoint } => format!("close {}", self.endpoints[&endpoint]),
            Effect::Probe { endpoint, .. } => format!("probe {}", self.endpoints[&endpoint]),
            Effect::Provision { spec, .. } => format!("provision {}", spec.name),
            Effect::Teardown { name, .. } => format!("teardown {name}"),
            Effect::Scale { name, replicas, first_to_go, .. } => {
                let names: Vec<String> =
                    first_to_go.iter().map(|number| format!(" -{}", replica_name(*number))).collect();
                format!("scale {name} {replicas}{}", names.concat())
            }
            // Once for all: of each partition there is one.
            Effect::Journal { entry, .. } if matches!(entry.record, Record::Started { partition, .. } if partition != Partition(0)) => {
                String::new()
            }
            Effect::Journal { entry, .. } if self.store_waits => {
                format!("write {}", self.record(entry.record))
            }
            Effect::Journal { .. } => String::new(),
            Effect::Deliver { id, url, view, .. } => {
                format!("deliver {} {} to {url}", self.name_of(id), view.state.as_str())
            }
            Effect::ReadResult { id, .. } => format!("read {}", self.name_of(id)),
            Effect::ReturnBytes(bytes) => format!("return {bytes} bytes"),
            Effect::ReturnRoom(returned) => {
                self.room = more(self.room, returned);
                format!("return {}", room(returned))
            }
            Effect::Note(note) => self.note(note),
        }
    }

    fn dispatch(&self, dispatch: &Dispatch) -> String {
        let to = match dispatch.destination {
            Destination::Local => "local",
            Destination::Job(_) => "a job",
            Destination::Endpoint(endpoint) => &self.endpoints[&endpoint],
        };
        let name = self.name_of(dispatch.id);
        let mut text = format!("dispatch {name}#{} to {to} for {}", dispatch.number, dispatch.remaining_ms);
        let extra = dispatch.extra.as_ref();
        if let Some(idempotency) = extra.and_then(|extra| extra.idempotency.as_ref()) {
            let _ = write!(text, " key={}", idempotency.key);
        }
        if let Some(trace) = extra.and_then(|extra| extra.trace_id.as_ref()) {
            let _ = write!(text, " trace={trace}");
        }
        let Payload { input, .. } = &dispatch.payload;
        if !input.is_empty() {
            let _ = write!(text, " body={}", String::from_utf8_lossy(input));
        }
        text
    }

    fn answer(&self, answer: Answer) -> String {
        match answer {
            Answer::Finished { id, result: Ok(output) } => {
                format!("success {}{}", self.name_of(id), output_text(&output))
            }
            Answer::Finished { id, result: Err(failure) } => {
                format!("error {} {}", self.name_of(id), failure.code)
            }
            Answer::TimedOut { id, stage, limit_ms } => {
                // On the wire both are the queue; the message tells them apart.
                let stage = if stage == Stage::Replica { "replica" } else { stage.as_str() };
                format!("timeout {} {stage} {limit_ms}", self.name_of(id))
            }
            Answer::Accepted { id } => format!("accepted {}", self.name_of(id)),
            Answer::Refused(refusal) => format!("refused {}", refusal_text(refusal)),
            Answer::Execution(view) => self.view(&view),
            Answer::Callback { applied: true } => "applied".to_owned(),
            Answer::Callback { applied: false } => "ignored".to_owned(),
            Answer::Replicas { desired, ready } => format!("replicas {ready}/{desired}"),
            Answer::Scaled { replicas } => format!("scaled {replicas}"),
            Answer::DeadLetters(letters) => {
                let letters: Vec<_> = letters.iter().map(|letter| self.letter(letter)).collect();
                format!("letters [{}]", letters.join("; "))
            }
            Answer::Scaling(report) => {
                let (slots, _) = report.concurrency;
                let made = report.decision.map_or("none".to_owned(), |(decision, _)| {
                    format!("{} {}/{}", decision.rule.as_str(), decision.before, decision.result)
                });
                let failure = report.failure.map_or(String::new(), |failure| format!(" failed={failure}"));
                format!("scaling {made} slots={slots}{failure}")
            }
            Answer::Drained { dispatched } => format!("drained {dispatched}"),
            Answer::Removed => "removed".to_owned(),
            Answer::Registered(_) => "registered".to_owned(),
            Answer::Function(_) => "function".to_owned(),
        }
    }

    /// State, attempt, result; times since the start of the script.
    fn view(&self, view: &ExecutionView) -> String {
        let mut text = format!("{} {} attempt={}", self.name_of(view.id), view.state.as_str(), view.attempt);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(text, " {name}={value}");
            }
        };
        let time = |at_ms: u64| at_ms.wrapping_sub(EPOCH_MS).to_string();
        add("output", view.output.as_ref().map(|output| String::from_utf8_lossy(&output.body).into_owned()));
        add("error", view.error.as_ref().map(|failure| failure.code.to_string()));
        add("last", view.last_error.as_ref().map(|failure| failure.code.to_string()));
        add("cold", view.cold_start.then(|| view.init_ms.map_or("?".to_owned(), |ms| ms.to_string())));
        add("created", Some(time(view.created_ms)));
        add("dispatched", view.dispatched_ms.map(time));
        add("finished", view.finished_ms.map(time));
        add("delivery", view.delivery.as_ref().map(|delivery| delivery.status.as_str().to_owned()));
        text
    }

    fn note(&self, note: Note) -> String {
        match note {
            // From queueing to dispatch, from there to the end; from acceptance to the end.
            Note::Finished { queue_wait_us, latency_us, e2e_us, .. } => {
                format!("note {}+{} of {} ms", queue_wait_us / 1000, latency_us / 1000, e2e_us / 1000)
            }
            Note::SyncDispatched { wait_us, .. } => format!("note sync {} ms", wait_us / 1000),
            Note::DeadLetterDropped { id } => format!("note dropped {}", self.name_of(id)),
            Note::FunctionGone { .. } => "note gone".to_owned(),
            Note::Late { id, .. } => format!("note late {}", self.name_of(id)),
            Note::NotReconciled { name, message } => format!("note {name} not reconciled: {message}"),
            Note::NotRun { id, attempt } => format!("note not run {}#{attempt}", self.name_of(id)),
            Note::JobLost { id, attempt } => format!("note lost {}#{attempt}", self.name_of(id)),
            Note::Retry { id, attempt, code } => format!("note retry {}#{attempt} {code}", self.name_of(id)),
        }
    }

    fn letter(&self, letter: &DeadLetterView) -> String {
        let view = &letter.execution;
        let code = view.error.as_ref().map_or("", |failure| &*failure.code);
        let at_ms = letter.dead_ms.wrapping_sub(EPOCH_MS);
        format!("{}#{} {code} at {at_ms} of {}", self.name_of(view.id), view.attempt, letter.payload_bytes)
    }

    fn record(&self, record: Record) -> String {
        match record {
            Record::Accepted { id, function, .. } => format!("accepted {} of {function}", self.name_of(id)),
            Record::Kept { id, function, end, dead, .. } => {
                let dead = if dead { " dead" } else { "" };
                let state = end.result.state().as_str();
                format!("kept {} of {function} {state}{dead}", self.name_of(id))
            }
            Record::Attempted { id, attempt } => format!("attempted {}#{attempt}", self.name_of(id)),
            Record::JobOrdered { id, attempt, until_ms } => {
                format!("ordered {}#{attempt} until {}", self.name_of(id), until_ms.wrapping_sub(EPOCH_MS))
            }
            Record::JobLost { id } => format!("lost {}", self.name_of(id)),
            Record::Registered { spec } => format!("registered {}", spec.name),
            Record::Removed { name } => format!("removed {name}"),
            Record::Reinstated { spec } => format!("reinstated {}", spec.name),
            Record::Delivered { id, delivery } => {
                format!("delivered {} {}", self.name_of(id), delivery.status.as_str())
            }
            Record::Forgotten { id } => format!("forgotten {}", self.name_of(id)),
            Record::Requeued { id, failure } => format!("requeued {} {}", self.name_of(id), failure.code),
            Record::Ended { id, end, dead } => {
                let dead = if dead { " dead" } else { "" };
                format!("ended {} {}{dead}", self.name_of(id), end.result.state().as_str())
            }
            Record::Replayed { id, .. } => format!("replayed {}", self.name_of(id)),
            Record::Purged { id } => format!("purged {}", self.name_of(id)),
            Record::Started { epoch, .. } => format!("started {epoch}"),
        }
    }

    fn attempt_name(&self, attempt: shard_core::AttemptKey) -> String {
        let mut names = self.attempts.iter().filter(|(_, key)| **key == attempt).map(|(name, _)| name);
        names.next().expect("a dispatched attempt").clone()
    }
}

fn output_text(output: &Output) -> String {
    match output {
        Output { body, kind: OutputKind::Json } if body == "null" => String::new(),
        Output { body, .. } => format!(" {}", String::from_utf8_lossy(body)),
    }
}

fn refusal_text(refusal: Refusal) -> String {
    match refusal {
        Refusal::QueueFull { queue_depth, est_wait_us, retry_after_s } => {
            let wait = wait_ms(est_wait_us);
            format!("QueueFull depth={queue_depth} wait={wait} retry={retry_after_s}")
        }
        Refusal::SyncQueueRejected { reason, queue_depth, est_wait_us, retry_after_s } => {
            let (reason, wait) = (reason.as_str(), wait_ms(est_wait_us));
            format!("SyncQueue {reason} depth={queue_depth} wait={wait} retry={retry_after_s}")
        }
        Refusal::RateLimited { function, limit_per_second, retry_after_s } => {
            let scope = if function { "function" } else { "server" };
            format!("RateLimited {scope} {limit_per_second} retry={retry_after_s}")
        }
        Refusal::Overloaded { what, retry_after_s } => format!("Overloaded {what} retry={retry_after_s}"),
        Refusal::KeyInUse { .. } => "KeyInUse".to_owned(),
        Refusal::Backend(failure) => format!("Backend {}", failure.message),
        Refusal::NotCancellable(state) => format!("NotCancellable {}", state.as_str()),
        other => format!("{other:?}"),
    }
}

/// What is not zero.
pub(super) fn room(room: Room) -> String {
    let fields = [
        ("executions", room.executions),
        ("retained", room.bytes),
        ("disk", room.disk_bytes),
        ("keys", room.keys),
    ];
    fields_text(&fields)
}

pub(super) fn more(room: Room, added: Room) -> Room {
    let (room, added) = (room.amounts(), added.amounts());
    Room::of([0, 1, 2, 3].map(|part| room[part] + added[part]))
}

pub(super) fn less(room: Room, taken: Room) -> Room {
    let (room, taken) = (room.amounts(), taken.amounts());
    Room::of([0, 1, 2, 3].map(|part| room[part] - taken[part]))
}

/// What is not zero.
pub(super) fn totals(shard: &Shard) -> String {
    let totals = shard.totals();
    let fields = [
        ("functions", totals.functions as u64),
        ("executions", totals.executions as u64),
        ("finished", totals.finished as u64),
        ("retained", totals.retained_bytes),
        ("on-disk", totals.retained_disk_bytes),
        ("reads", totals.reads as u64),
        ("attempts", totals.attempts as u64),
        ("timers", totals.timers as u64),
        ("keys", totals.keys as u64),
        ("bytes", totals.queued_bytes),
        ("accepted", totals.accepted as u64),
        ("dead", totals.dead_letters as u64),
        ("drift", totals.drift),
        ("impossible", totals.impossible),
    ];
    fields_text(&fields)
}

/// What is not zero.
pub(super) fn counters(shard: &Shard, name: &str) -> String {
    let Some((_, view)) = shard.functions().find(|(_, view)| view.name == name) else {
        return "invisible".to_owned();
    };
    let counters = view.counters;
    let fields = [
        ("queued", u64::from(view.queue_depth)),
        ("running", u64::from(view.in_flight)),
        ("invocations", counters.invocations),
        ("enqueued", counters.enqueued),
        ("dispatches", counters.dispatches),
        ("successes", counters.successes),
        ("errors", counters.errors),
        ("retries", counters.retries),
        ("timeouts", counters.timeouts),
        ("rejections", counters.queue_rejections),
        ("cold", counters.cold_starts),
        ("warm", counters.warm_starts),
        ("orphans", counters.orphans),
        ("jobs", counters.jobs_created),
        ("crashes", counters.crashes),
        ("bad", counters.bad_outputs),
        ("late", counters.late_completions),
        ("dead", counters.dead_letters),
        ("expired", counters.expired),
        ("sync-queued", u64::from(view.sync_queue_depth)),
        ("sync-admitted", counters.sync_admitted),
        ("sync-depth", counters.sync_rejected_depth),
        ("sync-wait", counters.sync_rejected_wait),
        ("sync-timeout", counters.sync_rejected_timeout),
        ("sync-timeouts", counters.sync_timeouts),
    ];
    fields_text(&fields)
}

fn fields_text(fields: &[(&str, u64)]) -> String {
    let known: Vec<String> = fields
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    known.join(" ")
}

/// An expected wait, in milliseconds.
fn wait_ms(est_wait_us: Option<u64>) -> String {
    est_wait_us.map_or_else(|| "unknown".to_owned(), |us| (us / 1000).to_string())
}

/// Functions that could dispatch something now, with the attempts that they sent so far.
pub(super) fn startable(shard: &Shard) -> String {
    let ready = shard.readiness_from(0).filter_map(|readiness| Some((readiness.function, readiness.ready?)));
    let names = ready.map(|(key, sent)| {
        let view = shard.functions().find(|(function, _)| *function == key);
        format!("{} after {sent}", view.map_or("?", |(_, view)| view.name))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Dead letters of a function, as metrics tell them.
pub(super) fn letters(shard: &Shard, name: &str) -> u32 {
    shard.functions().find(|(_, view)| view.name == name).map_or(0, |(_, view)| view.dead_letters)
}

/// What a script calls the replica with this number.
fn replica_name(number: u64) -> String {
    let bytes = number.to_be_bytes();
    bytes.into_iter().filter(|byte| *byte != 0).map(char::from).collect()
}
