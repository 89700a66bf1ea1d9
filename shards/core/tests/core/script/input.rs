//! Inputs from text. Options are `name=value` words.

use std::{str::FromStr, sync::Arc};

use bytes::Bytes;
use shard_core::{
    BackendEvent, Control, Delivery, DeliveryStatus, DispatchEvent, Extra, Failure, FunctionSpec,
    Idempotency, Input, Invoke, JournalEvent, Lease, Limits, Name, Outcome, Output, OutputKind, Payload,
    Policy, Provisioned, ReadFailure, ReplicaAddress, Report, Request, Room, Settings, Target,
    answer::{BackendFailure, BackendFailureKind},
    scaling::{ConcurrencyControl, Metric, MetricTarget, Scaling},
    settings::{Autoscaler, SyncQueue},
};

use super::Run;

impl Run {
    /// Reads what comes after the time. `None`: it concerned the script itself.
    pub(super) fn input(&mut self, words: &[&str]) -> Option<Input> {
        Some(match words {
            ["clock", shift_ms] => {
                self.clock_shift_ms = shift_ms.parse().expect("milliseconds");
                return None;
            }
            ["turn"] => Input::Turn,
            ["store", "waits"] => {
                self.store_waits = true;
                return None;
            }
            ["store", "safe"] => Input::Journal(JournalEvent::Safe { through: self.written }),
            // All but the newest so many.
            ["store", what, "but", newest] => {
                let through = self.written - newest.parse::<u64>().expect("a number of records");
                match *what {
                    "safe" => Input::Journal(JournalEvent::Safe { through }),
                    _ => Input::Journal(JournalEvent::Failed { through }),
                }
            }
            ["store", "refuses"] => Input::Journal(JournalEvent::NotTaken { number: self.written }),
            ["store", "fails"] => Input::Journal(JournalEvent::Failed { through: self.written }),
            // The disk holds what it reported as failed.
            ["store", "fails", "keeping"] => {
                self.safe = self.records.len();
                Input::Journal(JournalEvent::Failed { through: self.written })
            }
            ["autoscaler", "off"] => Input::Control(Control::Configure(Settings::default())),
            ["autoscaler", rest @ ..] => Input::Control(Control::Configure(Settings {
                autoscaler: Some(Autoscaler {
                    poll_interval_us: option::<u64>(rest, "poll").unwrap_or(5000) * 1000,
                    upscale_cooldown_us: option::<u64>(rest, "up").unwrap_or(30_000) * 1000,
                    downscale_cooldown_us: option::<u64>(rest, "down").unwrap_or(60_000) * 1000,
                }),
                ..Settings::default()
            })),
            ["scheduler", on] => Input::Control(Control::Configure(Settings {
                background_scheduler: *on == "on",
                ..Settings::default()
            })),
            ["sync", words @ ..] => Input::Control(Control::Configure(Settings {
                sync_queue: sync_queue(words),
                ..Settings::default()
            })),
            ["delivered", execution, how @ ..] => {
                let id = self.id(execution);
                let numbers = self.handed_over.get(&id).map_or(&[][..], Vec::as_slice);
                let before = usize::from(how.contains(&"before"));
                let number = numbers.iter().nth_back(before).expect("a result");
                let status = match how.contains(&"failed") {
                    true => DeliveryStatus::Failed,
                    false => DeliveryStatus::Delivered,
                };
                let delivery = Delivery { status, attempts: 1, last_error: None };
                Input::Delivered { id, number: *number, delivery }
            }
            // The oldest read of an execution comes to its end: with what is on record, or not.
            ["result", execution, how @ ..] => {
                let id = self.id(execution);
                let place = self.reads.iter().position(|(_, of)| *of == id).expect("a read");
                let (ticket, _) = self.reads.remove(place);
                let result = match how {
                    ["fails"] => Err(ReadFailure::Unreadable),
                    _ => self.result_on_record(id).ok_or(ReadFailure::Missing),
                };
                Input::Journal(JournalEvent::Read { ticket, id, result })
            }
            ["end-watches"] => Input::Control(Control::EndWatches),
            ["hold"] => Input::Control(Control::Hold),
            ["drain"] => Input::Control(Control::Drain { finally: false }),
            ["drain", "finally"] => Input::Control(Control::Drain { finally: true }),
            ["calls", calls] => {
                self.lease_calls = false;
                Input::Lease(Lease::Calls { second: self.now.second(), calls: calls.parse().expect("calls") })
            }
            ["bytes", bytes] => {
                self.lease_bytes = false;
                Input::Lease(Lease::Bytes(bytes.parse().expect("bytes")))
            }
            // What another shard needs of it.
            ["recall", words @ ..] => {
                self.recalled = room(words);
                Input::Lease(Lease::CheckRoom)
            }
            ["lend", bytes] => Input::Lease(Lease::LentBytes(bytes.parse().expect("bytes"))),
            ["answer", attempt, outcome @ ..] => {
                Input::Dispatch(self.attempts[*attempt], DispatchEvent::Finished(report(outcome)))
            }
            ["connecting", attempt] => Input::Dispatch(self.attempts[*attempt], DispatchEvent::Connecting),
            ["created", attempt] => Input::Dispatch(self.attempts[*attempt], DispatchEvent::JobCreated),
            ["ended", attempt] => {
                let failure = Box::new(Failure::new("JOB_FAILED", "It ended"));
                Input::Dispatch(self.attempts[*attempt], DispatchEvent::JobEnded(failure))
            }
            ["lost", attempt] => Input::Dispatch(self.attempts[*attempt], DispatchEvent::JobLost),
            ["sent", attempt] => Input::Dispatch(self.attempts[*attempt], DispatchEvent::Sent),
            ["leave", caller] => {
                let id = Some(self.id(caller));
                Input::Abandon { ticket: self.ticket(caller), id }
            }
            ["leave-read", reader, execution] => {
                Input::Abandon { ticket: self.ticket(reader), id: Some(self.id(execution)) }
            }
            ["provisioned", name, result @ ..] => {
                Input::Backend(self.function(name), BackendEvent::Provisioned(provisioned(result)))
            }
            ["torn-down", name, result] => {
                let result = if *result == "ok" { Ok(()) } else { Err(backend_failure(result)) };
                Input::Backend(self.function(name), BackendEvent::TornDown(result))
            }
            ["scaled", name, result] => {
                let result = result.parse().map_err(|_| backend_failure(result));
                Input::Backend(self.function(name), BackendEvent::Scaled(result))
            }
            ["probed", address, result] => {
                let mut probes = self.probes.iter().rev();
                let probe = probes.find(|(_, endpoint)| self.endpoints[endpoint] == *address);
                let (function, endpoint) = *probe.unwrap_or_else(|| panic!("{address} was not probed"));
                Input::Probed { function, endpoint, reachable: *result == "ok" }
            }
            ["endpoints", name, desired, rest @ ..] => Input::Backend(
                self.function(name),
                BackendEvent::EndpointsChanged {
                    endpoints: addresses(rest),
                    desired: desired.parse().expect("a number"),
                },
            ),
            [caller, rest @ ..] => Input::Ask(self.ticket(caller), self.request(caller, rest)),
            [] => panic!("an input is missing"),
        })
    }

    /// What a caller asks for.
    fn request(&mut self, caller: &str, words: &[&str]) -> Request {
        match words {
            ["register", name, rest @ ..] => Request::Register(Box::new(spec(name, rest))),
            ["remove", name] => Request::Remove(function_name(name)),
            ["function", name] => Request::GetFunction(function_name(name)),
            ["replicas", name] => Request::GetReplicas(function_name(name)),
            ["scale", name, replicas] => {
                Request::Scale { name: function_name(name), replicas: replicas.parse().expect("a number") }
            }
            ["invoke", name, rest @ ..] => Request::Invoke(self.call(caller, name, rest)),
            ["enqueue", name, rest @ ..] => Request::Enqueue(self.call(caller, name, rest)),
            ["get", execution, rest @ ..] => {
                Request::GetExecution { id: self.id(execution), wait_ms: option(rest, "wait").unwrap_or(0) }
            }
            ["scaling", name] => Request::GetScaling(function_name(name)),
            ["dead", name, rest @ ..] => Request::ListDeadLetters {
                name: function_name(name),
                limit: option(rest, "limit").unwrap_or(100),
            },
            ["replay", name, execution] => {
                Request::Replay { name: function_name(name), id: self.id(execution) }
            }
            ["purge", name, execution] => {
                Request::Purge { name: function_name(name), id: self.id(execution) }
            }
            ["drain-once", name] => Request::DrainOnce(function_name(name)),
            ["cancel", execution] => Request::Cancel(self.id(execution)),
            ["callback", execution, rest @ ..] => Request::Complete {
                id: self.id(execution),
                attempt: option(rest, "attempt"),
                outcome: report(rest).outcome,
            },
            _ => panic!("unknown input {words:?}"),
        }
    }

    fn call(&mut self, caller: &str, name: &str, words: &[&str]) -> Invoke {
        let idempotency = option::<String>(words, "key").map(|key| {
            let digest: u8 = option(words, "digest").unwrap_or(0);
            Idempotency { key: key.into(), digest: [digest; 16] }
        });
        let trace_id = option::<String>(words, "trace").map(Box::from);
        let extra = Extra {
            idempotency,
            trace_id,
            traceparent: None,
            max_age_ms: option(words, "max-age"),
            callback_url: option::<String>(words, "url").map(Box::from),
        };
        Invoke {
            id: self.id(caller),
            name: function_name(name),
            payload: Payload::json(option::<String>(words, "body").unwrap_or_default()),
            timeout_ms: option(words, "timeout"),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
        }
    }
}

pub(super) fn room(words: &[&str]) -> Room {
    let amount = |name| option(words, name).unwrap_or(0);
    Room {
        executions: amount("executions"),
        bytes: amount("retained"),
        disk_bytes: amount("disk"),
        keys: amount("keys"),
    }
}

pub(super) fn set_limits(limits: &mut Limits, words: &[&str]) {
    for word in words {
        let (name, value) = word.split_once('=').expect("name=value");
        let number: u64 = value.parse().expect("a number");
        match name {
            "functions" => limits.functions_max = number as usize,
            "specs" => limits.specs_bytes_max = number,
            "pending" => limits.pending_max = number as usize,
            "waiters" => limits.waiters_max = number as usize,
            "concealed" => limits.concealed_bytes_max = number,
            "executions" => limits.room.executions = number,
            "retained" => limits.room.bytes = number,
            "disk" => (limits.room.disk_bytes, limits.results_on_disk) = (number, true),
            "reads" => limits.reads_max = number as usize,
            "ttl" => limits.executions_ttl_us = number * 1000,
            "accepted-ttl" => limits.accepted_ttl_us = number * 1000,
            "payload-ttl" => limits.payload_ttl_us = number * 1000,
            "sweep" => limits.sweep_interval_us = number * 1000,
            "dead" => limits.dead_letters_max = number as usize,
            "dead-bytes" => limits.dead_letters_bytes_max = number,
            "keys" => limits.room.keys = number,
            "keys-ttl" => limits.keys_ttl_us = number * 1000,
            "batch" => limits.batch_max = number as usize,
            "turn" => limits.turn_max = number as usize,
            "chunk" => limits.queued_bytes_chunk = number,
            _ => panic!("unknown limit {name}"),
        }
    }
}

/// `off`, or bounds in milliseconds; without them, none is in the way.
fn sync_queue(words: &[&str]) -> Option<SyncQueue> {
    let time_us = |name| option::<u64>(words, name).map(|ms| ms * 1000);
    (words != ["off"]).then(|| SyncQueue {
        admission_enabled: !words.contains(&"depth-only"),
        max_depth: option(words, "depth").unwrap_or(1000),
        max_estimated_wait_us: time_us("wait").unwrap_or(1_000_000_000),
        max_queue_wait_us: time_us("queue-wait").unwrap_or(1_000_000_000),
        retry_after_s_min: option(words, "retry").unwrap_or(1),
        throughput_window_us: time_us("window").unwrap_or(16_000_000),
        min_samples: option(words, "samples").unwrap_or(50),
    })
}

/// `local`, `backend`, `jobs`, or one fixed address, which is named after the function.
fn spec(name: &str, words: &[&str]) -> FunctionSpec {
    let target = if words.contains(&"backend") {
        Target::Backend
    } else if words.contains(&"local") {
        Target::Local
    } else if words.contains(&"jobs") {
        Target::Jobs
    } else {
        Target::Endpoint(Arc::from(name.to_uppercase()))
    };
    let policy = Policy {
        timeout_ms: option(words, "timeout").unwrap_or(1000),
        concurrency: option(words, "slots").unwrap_or(1),
        queue_size: option(words, "queue").unwrap_or(10),
        attempts_max: option(words, "attempts").unwrap_or(3),
        sync_attempts_max: option(words, "sync").or_else(|| option(words, "attempts")).unwrap_or(3),
        retry_backoff_ms: option(words, "backoff").unwrap_or(0),
        rate_limit_per_second: option(words, "rate"),
    };
    let document = Bytes::from_static(b"{}");
    // Replicas from `min` to `max`, one for each `target` executions that wait, or for `rps` dispatches per second; `per-pod`
    // slots for each, or `adaptive` to start from.
    let scaling = option(words, "min").map(|min_replicas| {
        let metric = match option(words, "rps") {
            Some(target) => MetricTarget { metric: Metric::Rps, target },
            None => {
                MetricTarget { metric: Metric::QueueDepth, target: option(words, "target").unwrap_or(5.0) }
            }
        };
        let adaptive = option(words, "adaptive").map(|target| ConcurrencyControl::AdaptivePerPod {
            target,
            target_min: 1,
            target_max: 100,
            upscale_cooldown_us: 0,
            downscale_cooldown_us: 5_000_000,
            high_load: 1.0,
            low_load: 0.5,
        });
        Box::new(Scaling {
            min_replicas,
            max_replicas: option(words, "max").unwrap_or(10),
            metrics: vec![metric],
            control: match option(words, "per-pod") {
                Some(target) => ConcurrencyControl::StaticPerPod { target },
                None => adaptive.unwrap_or(ConcurrencyControl::Fixed),
            },
        })
    });
    FunctionSpec { name: function_name(name), policy, target, scaling, document }
}

/// `ok`, `fail` (may be retried), `refuse` (may not), `promise`, `refused` (not run), `crash`, each with options.
fn report(words: &[&str]) -> Report {
    let outcome = match words[0] {
        "ok" => Outcome::Success(match option::<String>(words, "out") {
            Some(out) => Output { body: Bytes::from(out), kind: OutputKind::Json },
            None => Output::null(),
        }),
        "promise" => Outcome::Deferred,
        "refused" => Outcome::NotRun(Box::new(Failure::new("UNREACHABLE", "Nobody listens"))),
        "crash" => Outcome::Crashed(Box::new(Failure::new("UNREACHABLE", "It broke off"))),
        word => Outcome::Failure {
            failure: Box::new(Failure::new("FAILED", "It failed")),
            retryable: word == "fail",
            retry_after_ms: option(words, "after"),
        },
    };
    let init_ms: Option<u32> = option(words, "cold");
    let bad_output = words.contains(&"bad");
    Report { outcome, cold_start: init_ms.is_some(), init_ms, bad_output }
}

fn provisioned(words: &[&str]) -> Result<Provisioned, BackendFailure> {
    let target = match words[0] {
        "ok" => Target::Backend,
        "local" => Target::Local,
        "jobs" => Target::Jobs,
        "pool" => Target::Endpoint(Arc::from(words[1])),
        other => return Err(backend_failure(other)),
    };
    let endpoints = if target == Target::Backend { addresses(&words[1..]) } else { Vec::new() };
    Ok(Provisioned {
        document: Bytes::from_static(b"{}"),
        target,
        desired: endpoints.len() as u32,
        endpoints,
    })
}

/// Each is a replica of its own; `p.2` is another one at the address of `p`.
fn addresses(words: &[&str]) -> Vec<ReplicaAddress> {
    let number = |word: &str| word.bytes().fold(0, |number, byte| number << 8 | u64::from(byte));
    let address = |word: &str| Arc::from(word.split('.').next().unwrap_or_default());
    words.iter().map(|word| ReplicaAddress { replica: number(word), address: address(word) }).collect()
}

fn backend_failure(message: &str) -> BackendFailure {
    BackendFailure { kind: BackendFailureKind::Unavailable, message: message.into() }
}

fn function_name(text: &str) -> Name {
    Name::new(text).expect("a function name")
}

fn option<T: FromStr>(words: &[&str], name: &str) -> Option<T> {
    let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}
