//! What one request is, by its number.

use bytes::Bytes;
use shard_core::{
    ExecutionId, Extra, FunctionSpec, Idempotency, Invoke, Name, Payload, Policy, Request, Scaling, Target,
    Ticket,
    scaling::{ConcurrencyControl, Metric, MetricTarget},
};

use super::{Act, Clients, Kind, Outgoing, unique_address};
use crate::{
    random::{Random, Stream},
    swarm::{Swarm, settings},
};

impl Clients {
    /// What request `number` is. `None`: there is nothing yet that it could be about.
    pub(crate) fn act(&mut self, seed: u64, number: u64, swarm: &Swarm) -> Option<Act> {
        let mut random = Random::of(seed, Stream::Request, number);
        let random = &mut random;
        let ticket = Ticket(number);
        // Functions come first: without them, a run would begin with refusals only.
        let first = (number as usize) < self.names.len();
        let kind = if first { Kind::Register } else { Kind::ALL[random.weighted(&swarm.requests)] };
        let wants_back = self.rivalled.is_some() && random.chance(swarm.callers.insists);
        let kind = if wants_back { Kind::Replay } else { kind };
        let at = if first { number as usize } else { self.names_pick(random) };
        let (thread, name) = (random.below(u64::from(swarm.shards)) as u16, self.name(at)?);
        let request = match kind {
            Kind::Invoke | Kind::Enqueue => {
                return Some(Act::Ask(self.call(random, number, at, thread, kind, swarm)?));
            }
            Kind::Configure => {
                let mut settings = settings(random);
                settings.calls_per_second = match random.chance(300) {
                    // None at all, in some.
                    true => Some(random.between(0, 2000) as u32).filter(|calls| *calls >= 200).unwrap_or(0),
                    false => swarm.calls_per_second,
                };
                return Some(Act::Configure(settings));
            }
            Kind::SetClock => {
                let most = swarm.clock_shift_ms_max;
                return Some(Act::SetClock(random.between(0, 2 * most) as i64 - most as i64));
            }
            Kind::Restart => return Some(Act::Restart(random.around(swarm.functions.service_us * 10))),
            Kind::Crash => return Some(Act::Crash),
            Kind::Flap => {
                return Some(Act::Flap { pick: random.bits(), ready: random.below(4) as u32 });
            }
            Kind::Read | Kind::Watch | Kind::Cancel | Kind::Replay | Kind::Purge => {
                let about_letter =
                    wants_back || (matches!(kind, Kind::Replay | Kind::Purge) && self.insists(random, swarm));
                let known = if about_letter { &self.letters } else { &self.known };
                let one = *known.get(random.below(known.len() as u64) as usize)?;
                let (id, at) = self.rivalled.take_if(|_| about_letter && kind == Kind::Replay).unwrap_or(one);
                let name = self.name(at)?;
                let request = match kind {
                    Kind::Read => Request::GetExecution { id, wait_ms: 0 },
                    Kind::Watch => Request::GetExecution { id, wait_ms: random.between(1, 2000) as u32 },
                    Kind::Cancel => Request::Cancel(id),
                    Kind::Replay => Request::Replay { name, id },
                    _ => Request::Purge { name, id },
                };
                let leaves = (kind == Kind::Watch).then(|| leaves_after(random, swarm)).flatten();
                let asked = outgoing(thread, id.owner_hash(), ticket, request);
                return Some(Act::Ask(Outgoing { id: leaves.map(|_| id), leaves_after_us: leaves, ..asked }));
            }
            Kind::ListDead => Request::ListDeadLetters { name, limit: random.between(1, 5) as usize },
            Kind::DrainOnce => Request::DrainOnce(name),
            Kind::Register => Request::Register(Box::new(registration(random, number, name, swarm))),
            Kind::Remove => Request::Remove(name),
            Kind::Scale => Request::Scale { name, replicas: random.below(4) as u32 },
            Kind::GetFunction => Request::GetFunction(name),
            Kind::GetReplicas => Request::GetReplicas(name),
            Kind::GetScaling => Request::GetScaling(name),
        };
        Some(Act::Ask(outgoing(thread, name.owner_hash(), ticket, request)))
    }

    /// Few functions get most of the calls.
    fn names_pick(&self, random: &mut Random) -> usize {
        let count = self.names.len() as u64;
        random.below(count).min(random.below(count)) as usize
    }

    /// Whether a request is about a dead letter.
    fn insists(&self, random: &mut Random, swarm: &Swarm) -> bool {
        swarm.callers.insists > 0 && !self.letters.is_empty() && random.chance(swarm.callers.insists)
    }

    /// A dead letter of a function that was called with a key.
    fn letter_with_key(&self, random: &mut Random, at: usize) -> Option<(ExecutionId, u64)> {
        let of_function = self.letters.iter().filter(|(_, of)| *of == at);
        let keyed = of_function.filter_map(|(id, _)| Some((*id, *self.keys.get(id)?)));
        random.pick(&keyed.collect::<Vec<_>>()).copied()
    }

    fn call(
        &mut self,
        random: &mut Random,
        number: u64,
        at: usize,
        thread: u16,
        kind: Kind,
        swarm: &Swarm,
    ) -> Option<Outgoing> {
        let name = self.name(at)?;
        let faults = &swarm.callers;
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&random.bits().to_be_bytes());
        bits[8..].copy_from_slice(&random.bits().to_be_bytes());
        let id = ExecutionId::new(bits, name.owner_hash());
        let accepted = kind == Kind::Enqueue;
        let is_keyed = random.chance(faults.keyed);
        let rivalled =
            (is_keyed && self.insists(random, swarm)).then(|| self.letter_with_key(random, at)).flatten();
        if let Some((letter, _)) = rivalled {
            self.rivalled = Some((letter, at));
        }
        let key = rivalled.map(|(_, key)| key).or_else(|| is_keyed.then(|| random.below(faults.keys)));
        let idempotency = key.map(|key| {
            let digest = if random.chance(faults.key_reused) { [255; 16] } else { [key as u8; 16] };
            Idempotency { key: format!("k{key}").into(), digest }
        });
        let extra = Extra {
            idempotency,
            trace_id: None,
            traceparent: None,
            max_age_ms: (accepted && random.chance(faults.max_age)).then(|| random.between(1, 2000) as u32),
            callback_url: (accepted && random.chance(faults.delivery))
                .then(|| format!("url/{number}").into()),
        };
        let padding = random.below(faults.payload_bytes_max) as usize;
        let call = Invoke {
            id,
            name,
            payload: Payload::json(Bytes::from(format!("{number}:{}", "x".repeat(padding)))),
            timeout_ms: random
                .chance(faults.deadline)
                .then(|| random.between(1, faults.deadline_ms_max) as u32),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
        };
        self.remember(id, at);
        if let Some(key) = key {
            self.keys.insert(id, key);
        }
        let leaves_after_us = leaves_after(random, swarm);
        let request = if accepted { Request::Enqueue(call) } else { Request::Invoke(call) };
        Some(Outgoing {
            id: Some(id),
            leaves_after_us,
            ..outgoing(thread, name.owner_hash(), Ticket(number), request)
        })
    }
}

fn outgoing(thread: u16, hash: u16, ticket: Ticket, request: Request) -> Outgoing {
    Outgoing { thread, hash, ticket, request, id: None, leaves_after_us: None }
}

fn leaves_after(random: &mut Random, swarm: &Swarm) -> Option<u64> {
    random.chance(swarm.callers.leaves).then(|| random.around(swarm.functions.service_us * 2))
}

fn registration(random: &mut Random, number: u64, name: Name, swarm: &Swarm) -> FunctionSpec {
    let faults = &swarm.functions;
    let policy = Policy {
        timeout_ms: random.between(1, faults.timeout_ms_max) as u32,
        concurrency: random.between(1, faults.concurrency_max) as u32,
        queue_size: random.between(1, faults.queue_max) as u32,
        attempts_max: random.between(1, faults.attempts_max) as u32,
        sync_attempts_max: 1,
        retry_backoff_ms: random.between(0, faults.backoff_ms_max) as u32,
        rate_limit_per_second: random.chance(faults.rate_limited).then(|| random.between(1, 200) as u32),
    };
    let named = random.chance(700);
    let sync_attempts_max = if named { policy.attempts_max } else { policy.sync_attempts_max };
    let policy = Policy { sync_attempts_max, ..policy };
    let target = if random.chance(swarm.backend.managed) {
        Target::Backend
    } else if random.chance(swarm.backend.local) {
        Target::Local
    } else if random.fork("jobs").chance(swarm.backend.jobs) {
        Target::Jobs
    } else {
        Target::Endpoint(unique_address(name.as_str(), number))
    };
    let scaled = target == Target::Backend && random.chance(swarm.backend.scaled);
    FunctionSpec {
        name,
        policy,
        target,
        scaling: scaled.then(|| Box::new(scaling(random))),
        document: Bytes::from(format!("{name}#{number}")),
    }
}

fn scaling(random: &mut Random) -> Scaling {
    let metrics = [Metric::QueueDepth, Metric::InFlight, Metric::Rps];
    let target = random.between(1, 4) as u32;
    let control = match random.below(3) {
        0 => ConcurrencyControl::Fixed,
        1 => ConcurrencyControl::StaticPerPod { target },
        _ => ConcurrencyControl::AdaptivePerPod {
            target,
            target_min: 1,
            target_max: target + random.below(4) as u32,
            upscale_cooldown_us: random.below(1_000_000),
            downscale_cooldown_us: random.below(1_000_000),
            high_load: 0.8,
            low_load: 0.4,
        },
    };
    let min_replicas = random.below(2) as u32;
    Scaling {
        min_replicas,
        max_replicas: min_replicas + random.between(1, 4) as u32,
        metrics: vec![MetricTarget {
            metric: metrics[random.below(3) as usize],
            target: random.between(1, 20) as f64,
        }],
        control,
    }
}
