//! What a run is made of: sizes, limits, which faults exist and how often. All of it follows from the seed.
//!
//! Every run leaves out about half of what could go wrong (Groce, Zhang, Eide, Chen, Regehr: "Swarm Testing", ISSTA
//! 2012). A world in which everything fails all the time is a uniform one: no queue ever fills while half of its calls
//! hang, and no back-off lasts while its function is removed every second.

use shard_core::{
    Limits, Room, Settings,
    settings::{Autoscaler, SyncQueue},
};
use shard_runtime::Budgets;

use crate::{
    clients::Kind,
    random::{Random, Stream},
};

/// Most shards of a run.
pub(crate) const SHARDS_MAX: u16 = 5;

/// See the module. Chances are per mille; 0: it does not happen in this run.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// Threads, each with a shard.
    pub shards: u16,
    /// Names that functions may have.
    pub names: u32,
    /// Mean time between two requests, in microseconds.
    pub gap_us: u64,
    /// Calls per second of the whole server.
    pub calls_per_second: u32,
    /// Bytes of payloads that wait, over all shards.
    pub queued_bytes_max: u64,
    /// Room for finished executions and idempotency keys, over all shards.
    pub room: Room,
    /// Bounds of every shard, but for room.
    pub limits: Limits,
    /// What every shard starts with.
    pub settings: Settings,
    /// How often each kind of request comes, relative to the others.
    pub requests: [u32; Kind::ALL.len()],
    /// What callers do.
    pub callers: CallerFaults,
    /// What functions do.
    pub functions: FunctionFaults,
    /// What backends do.
    pub backend: BackendFaults,
    /// What happens between threads.
    pub network: NetworkFaults,
    /// What disks do.
    pub disk: DiskFaults,
    /// Longest time between a deadline and the shard's look at it, in microseconds.
    pub turn_late_us: u64,
    /// Furthest that the clock that people read is set to either side, in milliseconds.
    pub clock_shift_ms_max: u64,
}

/// What callers do.
#[derive(Debug, Clone)]
pub struct CallerFaults {
    /// Largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// Calls with an idempotency key.
    pub keyed: u32,
    /// Keys per function that callers choose from.
    pub keys: u64,
    /// Calls with a key that was used for another payload.
    pub key_reused: u32,
    /// Calls with a deadline of their own.
    pub deadline: u32,
    /// Longest such deadline, in milliseconds.
    pub deadline_ms_max: u64,
    /// Callers that leave before they are answered.
    pub leaves: u32,
    /// Accepted calls that must not wait for long.
    pub max_age: u32,
    /// Accepted calls whose result is delivered.
    pub delivery: u32,
    /// Requests about dead letters that are about one that somebody listed, and calls with a key that take the key of one.
    pub insists: u32,
}

/// What functions do, and how they are registered.
#[derive(Debug, Clone)]
pub struct FunctionFaults {
    /// Mean time to an answer, in microseconds.
    pub service_us: u64,
    /// Longest attempt that a registration allows, in milliseconds.
    pub timeout_ms_max: u64,
    /// Most slots of a registration.
    pub concurrency_max: u64,
    /// Longest queue of a registration.
    pub queue_max: u64,
    /// Most attempts of a registration.
    pub attempts_max: u64,
    /// Longest base of the back-off, in milliseconds.
    pub backoff_ms_max: u64,
    /// Registrations with a rate limit.
    pub rate_limited: u32,
    /// Attempts that fail and may be made again.
    pub fails: u32,
    /// Attempts that fail for good.
    pub refuses: u32,
    /// Failures that ask to be left alone for a while.
    pub retry_after: u32,
    /// Attempts that get no answer.
    pub hangs: u32,
    /// Attempts that are answered by callback.
    pub defers: u32,
    /// Promises that are not kept.
    pub forgets: u32,
    /// Callbacks that come twice.
    pub calls_back_twice: u32,
    /// Callbacks that nobody was told of, before the answer.
    pub calls_back_unasked: u32,
    /// Callbacks that come after the attempt's time.
    pub calls_back_late: u32,
    /// Callbacks that do not say which attempt they are about.
    pub calls_back_vaguely: u32,
    /// Answers that the dispatcher reports although it was told to stop.
    pub reports_aborted: u32,
    /// Answers that the dispatcher reports twice.
    pub reports_twice: u32,
    /// Answers of a replica that had just started.
    pub cold: u32,
    /// Calls whose attempts end the replica that runs them, every time.
    pub poisons: u32,
    /// Attempts that end it by accident.
    pub crashes: u32,
    /// Mean time until such a replica is back, in microseconds.
    pub restart_us: u64,
}

/// What backends do.
#[derive(Debug, Clone)]
pub struct BackendFaults {
    /// Registrations that a backend runs.
    pub managed: u32,
    /// Registrations that the server answers itself.
    pub local: u32,
    /// Registrations with a fixed address whose attempts have jobs instead.
    pub jobs: u32,
    /// Jobs that cannot be created.
    pub job_refused: u32,
    /// Jobs that end before their callback.
    pub job_breaks: u32,
    /// Jobs of an earlier server that a list does not show.
    pub job_unlisted: u32,
    /// Mean time for an order, in microseconds.
    pub delay_us: u64,
    /// Orders that fail.
    pub fails: u32,
    /// Provisioning that ends with a fixed address instead of replicas.
    pub degrades: u32,
    /// Reports of replicas that arrive after the function was removed.
    pub reports_late: u32,
    /// Managed registrations that the autoscaler decides about.
    pub scaled: u32,
}

/// What happens between threads.
#[derive(Debug, Clone)]
pub struct NetworkFaults {
    /// Mean time of a message, in microseconds.
    pub delay_us: u64,
    /// New work that may wait in one mailbox.
    pub mailbox_max: usize,
}

/// What disks do.
#[derive(Debug, Clone)]
pub struct DiskFaults {
    /// Records are safe at once: nothing is kept over a crash.
    pub ephemeral: bool,
    /// Mean time of a group commit, in microseconds.
    pub delay_us: u64,
    /// Commits that fail.
    pub fails: u32,
    /// Commits with which the disk becomes full.
    pub fills: u32,
    /// How long it stays full, in microseconds.
    pub full_us: u64,
}

impl Swarm {
    /// The one that belongs to a seed.
    pub fn of(seed: u64) -> Swarm {
        let mut random = Random::of(seed, Stream::Swarm, 0);
        let random = &mut random;
        let shards = random.between(1, u64::from(SHARDS_MAX)) as u16;
        let mut swarm = Swarm {
            shards,
            names: random.between(1, 12) as u32,
            gap_us: one_of(random, &[50, 200, 1000, 10_000]),
            calls_per_second: one_of(random, &[20, 2000, 100_000, 100_000]) as u32,
            queued_bytes_max: one_of(random, &[500, 5000, 1 << 30]),
            room: Room::default(),
            limits: limits(random),
            settings: settings(random),
            requests: requests(random),
            callers: CallerFaults {
                payload_bytes_max: one_of(random, &[16, 100]),
                keyed: maybe(random, 500),
                keys: one_of(random, &[2, 20, 2000]),
                key_reused: maybe(random, 100),
                deadline: maybe(random, 600),
                deadline_ms_max: one_of(random, &[20, 500, 10_000]),
                leaves: maybe(random, 200),
                max_age: maybe(random, 300),
                delivery: maybe(random, 300),
                // With the last of what is drawn.
                insists: 0,
            },
            functions: function_faults(random),
            backend: BackendFaults {
                managed: maybe(random, 700),
                local: maybe(random, 200),
                // With the last of what is drawn.
                jobs: 0,
                job_refused: 0,
                job_breaks: 0,
                job_unlisted: 0,
                delay_us: one_of(random, &[100, 20_000, 500_000]),
                fails: maybe(random, 300),
                degrades: maybe(random, 200),
                reports_late: maybe(random, 300),
                scaled: maybe(random, 700),
            },
            network: NetworkFaults {
                delay_us: one_of(random, &[1, 20, 2000]),
                mailbox_max: one_of(random, &[3, 100, 100_000]) as usize,
            },
            disk: DiskFaults {
                ephemeral: random.chance(200),
                delay_us: one_of(random, &[50, 2000, 50_000]),
                fails: maybe(random, 100),
                fills: maybe(random, 20),
                full_us: one_of(random, &[10_000, 1_000_000]),
            },
            turn_late_us: one_of(random, &[0, 100, 5000]),
            // Seconds, as when a time server corrects it, or a little more than an hour.
            clock_shift_ms_max: one_of(random, &[5000, 3_700_000]),
        };
        let ttl_us = swarm.limits.executions_ttl_us;
        swarm.limits.accepted_ttl_us = one_of(random, &[ttl_us, 3 * ttl_us, ttl_us / 2]);
        // From numbers of their own: runs without this are what they were before there was any of it.
        let random = &mut Random::of(seed, Stream::Swarm, "second part");
        if random.chance(200) {
            // Of a few functions: a document has four bytes and more.
            swarm.limits.specs_bytes_max = random.between(10, 60);
        }
        if random.chance(200) {
            swarm.insist(random);
        }
        if random.chance(400) && !swarm.disk.ephemeral {
            swarm.overflow(random);
        }
        let random = &mut Random::of(seed, Stream::Swarm, "third part");
        if random.chance(300) {
            swarm.backend.jobs = random.between(200, 1000) as u32;
            swarm.backend.job_refused = maybe(random, 200);
            swarm.backend.job_breaks = maybe(random, 300);
            swarm.backend.job_unlisted = maybe(random, 300);
        }
        swarm.room = Room::of(swarm.limits.room.amounts().map(|share| share * u64::from(shards)));
        let random = &mut Random::of(seed, Stream::Swarm, "fourth part");
        if random.chance(300) {
            swarm.crowd(random);
        }
        swarm.limits.room = Budgets::room_floor(swarm.room, shards);
        swarm
    }
}

impl Swarm {
    /// Dead letters are listed, tried again and given up often, and their keys are used again while they are dead.
    fn insist(&mut self, random: &mut Random) {
        self.callers.insists = random.between(300, 900) as u32;
        self.callers.keyed = self.callers.keyed.max(300);
        self.limits.room.keys = one_of(random, &[2, 2, self.limits.room.keys]);
        for (kind, weight) in Kind::ALL.iter().zip(&mut self.requests) {
            if matches!(kind, Kind::ListDead | Kind::Replay) {
                *weight = (*weight).max(3 * kind.usual_weight());
            }
        }
    }

    /// Memory holds few results of what has ended, or none; the others are read from disk.
    fn overflow(&mut self, random: &mut Random) {
        self.limits.room.disk_bytes = one_of(random, &[1000, 1 << 30, 1 << 30]);
        self.limits.results_on_disk = true;
        self.limits.reads_max = one_of(random, &[2, 256]) as usize;
        self.limits.room.bytes = one_of(random, &[0, 200, 2000]);
        if random.chance(500) {
            self.limits.room.executions = 1_000_000;
        }
        for (kind, weight) in Kind::ALL.iter().zip(&mut self.requests) {
            if matches!(kind, Kind::Read | Kind::Watch) {
                *weight = (*weight).max(3 * kind.usual_weight());
            }
        }
    }

    /// There is room for few, or for what a few shards need that are busier than the others.
    fn crowd(&mut self, random: &mut Random) {
        self.room.executions = one_of(random, &[3, 40, 200, 700]);
        self.room.keys = one_of(random, &[3, 40, 200, 700]);
        self.room.bytes = one_of(random, &[self.room.bytes, self.room.bytes, 5000]);
        for (kind, weight) in Kind::ALL.iter().zip(&mut self.requests) {
            if matches!(kind, Kind::Read) {
                *weight = (*weight).max(2 * kind.usual_weight());
            }
        }
    }

    /// Whether settings may change during the run.
    pub(crate) fn may_configure(&self) -> bool {
        self.has(Kind::Configure)
    }

    /// Furthest that the clock that people read may be from one time to another, in microseconds.
    pub(crate) fn clock_steps_us_max(&self) -> u64 {
        if self.has(Kind::SetClock) { 2 * self.clock_shift_ms_max * 1000 } else { 0 }
    }

    fn has(&self, kind: Kind) -> bool {
        Kind::ALL.iter().zip(self.requests).any(|(of, weight)| *of == kind && weight > 0)
    }
}

fn one_of(random: &mut Random, values: &[u64]) -> u64 {
    random.pick(values).copied().unwrap_or_default()
}

/// The chance of a fault that exists in every second run.
fn maybe(random: &mut Random, most: u64) -> u32 {
    if random.chance(500) { random.between(1, most) as u32 } else { 0 }
}

fn limits(random: &mut Random) -> Limits {
    let roomy = random.chance(500);
    let tight = |random: &mut Random, small: u64, large: u64| {
        if roomy { large } else { one_of(random, &[small, large]) }
    };
    // In the order in which they are drawn.
    let functions_max = tight(random, 5, 1000) as usize;
    let pending_max = tight(random, 2, 64) as usize;
    let waiters_max = tight(random, 2, 4096) as usize;
    let (executions, bytes) = (tight(random, 20, 1_000_000), tight(random, 2000, 256 << 20));
    let executions_ttl_us = tight(random, 2_000_000, 300_000_000);
    let payload_ttl_us = tight(random, 500_000, 120_000_000);
    let sweep_interval_us = tight(random, 100_000, 5_000_000);
    let keys = tight(random, 10, 1_000_000);
    Limits {
        concealed_bytes_max: 1 << 20,
        functions_max,
        // Documents here are a few bytes: mostly, the number of functions is the bound that is reached.
        specs_bytes_max: 256 << 20,
        pending_max,
        waiters_max,
        // Until all is drawn, this is the share of a shard.
        room: Room { executions, bytes, disk_bytes: 0, keys },
        results_on_disk: false,
        reads_max: 256,
        executions_ttl_us,
        // With the last of what is drawn.
        accepted_ttl_us: 0,
        payload_ttl_us,
        sweep_interval_us,
        dead_letters_max: tight(random, 3, 1000) as usize,
        dead_letters_bytes_max: tight(random, 5000, 64 << 20),
        removed_letters_bytes_max: 256 << 20,
        keys_ttl_us: tight(random, 1_000_000, 300_000_000),
        batch_max: one_of(random, &[2, 16, 256]) as usize,
        turn_max: one_of(random, &[1, 2, 8]) as usize,
        retry_wait_us_max: one_of(random, &[50_000, 5_000_000]),
        queued_bytes_chunk: one_of(random, &[64, 1000, 1 << 20]),
    }
}

/// Settings that a server may start with, or be changed to.
pub(crate) fn settings(random: &mut Random) -> Settings {
    let sync_queue = random.chance(400).then(|| SyncQueue {
        admission_enabled: random.chance(500),
        max_depth: one_of(random, &[1, 5, 200]) as u32,
        max_estimated_wait_us: one_of(random, &[10_000, 2_000_000]),
        max_queue_wait_us: one_of(random, &[20_000, 2_000_000]),
        retry_after_s_min: random.between(1, 3) as u32,
        throughput_window_us: one_of(random, &[1_000_000, 30_000_000]),
        min_samples: one_of(random, &[3, 50]) as u32,
    });
    let autoscaler = random.chance(400).then(|| Autoscaler {
        poll_interval_us: one_of(random, &[50_000, 1_000_000]),
        upscale_cooldown_us: one_of(random, &[0, 500_000]),
        downscale_cooldown_us: one_of(random, &[0, 1_000_000]),
    });
    let calls_per_second = 1000;
    Settings { calls_per_second, background_scheduler: random.chance(850), sync_queue, autoscaler }
}

fn requests(random: &mut Random) -> [u32; Kind::ALL.len()] {
    Kind::ALL.map(|kind| {
        let usual = kind.usual_weight();
        // Calls are what everything else is about.
        if usual >= 100 || random.chance(600) { usual * random.between(1, 4) as u32 } else { 0 }
    })
}

fn function_faults(random: &mut Random) -> FunctionFaults {
    FunctionFaults {
        service_us: one_of(random, &[200, 2000, 50_000]),
        timeout_ms_max: one_of(random, &[20, 500, 10_000]),
        concurrency_max: one_of(random, &[1, 3, 20]),
        queue_max: one_of(random, &[1, 10, 200]),
        attempts_max: random.between(1, 5),
        backoff_ms_max: one_of(random, &[0, 10, 1000]),
        rate_limited: maybe(random, 500),
        fails: maybe(random, 400),
        refuses: maybe(random, 100),
        retry_after: maybe(random, 300),
        hangs: maybe(random, 100),
        defers: maybe(random, 400),
        forgets: maybe(random, 300),
        calls_back_twice: maybe(random, 300),
        calls_back_unasked: maybe(random, 200),
        calls_back_late: maybe(random, 300),
        calls_back_vaguely: maybe(random, 300),
        reports_aborted: maybe(random, 500),
        reports_twice: maybe(random, 100),
        cold: maybe(random, 200),
        poisons: maybe(random, 300),
        crashes: maybe(random, 300),
        restart_us: one_of(random, &[1000, 300_000]),
    }
}
